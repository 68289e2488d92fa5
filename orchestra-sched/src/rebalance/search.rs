//! Looking for cheaper assignments: simulated annealing over moves of one process and swaps of two.

use rand::Rng as _;
use rand_pcg::Pcg64;

use super::excess::Excess;
use super::exchange::EXCHANGED_MAX;
use super::model::NONE;
use super::schedule::{LOGS, Schedule};
use super::state::State;
use super::{Model, Variant};
use crate::rng::PlanRng;

/// How many differences are sampled to find the first temperature.
const SAMPLES: usize = 2_000;

/// On machines with about so many processes changes are tried before others have their turn: so few
/// that what is known of them stays in a processor's cache.
const FOCUS_PROCESSES: usize = 2_000;

/// On how many machines at least.
const FOCUS_MACHINES_MIN: usize = 20;

/// So many of four changes move several processes, where exchanges are asked for.
const EXCHANGES_OF_4: u64 = 3;

/// How many changes are tried for each process on them.
const FOCUS_STEPS: u64 = 20;

/// A search for a cheaper assignment, that can be stopped and gone on with at any step.
///
/// Same model, same seed and same calls: same answer, on every machine.
///
/// The method is simulated annealing (Kirkpatrick, Gelatt and Vecchi 1983), which Portal, Ritt,
/// Borba and Buriol used on this problem ("Simulated annealing for the machine reassignment
/// problem", 2016): a random process moves or two change places, always if that is cheaper, and
/// otherwise the seldomer the more it costs and the further the time is along.
///
/// Where a resource is transient, what moves away goes on holding it, so that every machine has
/// only so much room for newcomers, however much leaves. The first small improvements that come
/// along would take it all. While the search is hot, holding room on two machines therefore has a
/// price of its own, that falls to nothing: what gains most for the room it takes moves first.
#[derive(Debug)]
pub struct Search<'a> {
    state: State<'a>,
    rng: Pcg64,
    schedule: Schedule,
    variant: Variant,
    /// All machines; changes are tried on the first `focused` of them for now.
    focus: Vec<u32>,
    focused: usize,
    /// By neighbourhood: those of them in it.
    nearby: Vec<Vec<u32>>,
    /// How many more changes until others have their turn.
    focus_left: u64,
    best: Vec<u32>,
    best_cost: i64,
    /// What moved since the best was found; too long to be of use once it is longer than `best`.
    changed: Vec<u32>,
    steps: u64,
}

impl<'a> Search<'a> {
    /// A search from what runs now, at its hottest.
    pub fn new(model: &'a Model, rng: PlanRng) -> Self {
        Self::with(model, rng, Variant::Plain)
    }

    /// The same, with other changes or fewer constraints on the way.
    pub fn with(model: &'a Model, rng: PlanRng, variant: Variant) -> Self {
        let mut state = State::new(model, &model.origin);
        let mut rng = rng.stream("rebalance");
        let schedule = Schedule::new(model, mean_difference(&state, &mut rng), variant);
        if variant == Variant::Overfull {
            let mut excess = Excess::new(model);
            excess.set_progress(0);
            state.excess = Some(excess);
        }
        Self {
            best: state.at.clone(),
            best_cost: state.cost,
            schedule,
            variant,
            state,
            rng,
            focused: focused(model),
            focus: (0..model.machines as u32).collect(),
            nearby: vec![Vec::new(); model.hoods],
            focus_left: 0,
            changed: Vec::new(),
            steps: 0,
        }
    }

    /// Says how far along the time is, in millionths. The further, the fewer changes for the worse
    /// are tried; from [`PROGRESS_DONE`](super::PROGRESS_DONE) on none is.
    pub fn set_progress(&mut self, progress: u32) {
        self.schedule.set_progress(progress);
        if let Some(excess) = &mut self.state.excess {
            excess.set_progress(progress);
            if excess.is_over(progress) {
                self.state.excess = None;
            }
        }
    }

    /// Tries so many changes.
    pub fn advance(&mut self, steps: u64) {
        let model = self.state.model;
        self.steps += steps;
        if model.processes == 0 || model.machines < 2 {
            return;
        }
        for _ in 0..steps {
            if self.focus_left == 0 {
                self.look_elsewhere();
            }
            self.focus_left -= 1;
            if let Some(excess) = &mut self.state.excess {
                excess.tick();
            }
            let draw = self.rng.next_u64();
            let allowed = self.schedule.allowed(draw as usize & (LOGS - 1));
            let Some(p) = self.someone(draw) else {
                continue;
            };
            let to = self.somewhere(p);
            if to == self.state.at[p] {
                continue;
            }
            if self.variant == Variant::Exchanges && (draw >> 13) & 3 < EXCHANGES_OF_4 {
                self.try_exchange(p, to, allowed, draw >> 15);
                continue;
            }
            match draw & LOGS as u64 == 0 {
                true => self.try_shift(p, to, allowed),
                false => self.try_swap(p, to, allowed),
            }
        }
    }

    /// The cheapest assignment so far, in the problem's order.
    pub fn best(&self) -> Vec<u32> {
        self.state.model.to_outside(&self.best)
    }

    /// What it costs.
    pub fn best_cost(&self) -> i64 {
        self.best_cost
    }

    /// What the assignment costs that the search is at.
    pub fn cost(&self) -> i64 {
        self.state.cost
    }

    /// How many changes were tried.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Puts other machines into focus, at random.
    fn look_elsewhere(&mut self) {
        let all = self.focus.len();
        let some = self.focused;
        if some < all {
            for at in 0..some {
                let other = at + below(self.rng.next_u64(), all - at);
                self.focus.swap(at, other);
            }
        }
        self.nearby.iter_mut().for_each(Vec::clear);
        let mut processes = 0;
        for &machine in &self.focus[..some] {
            self.nearby[self.state.model.hood[machine as usize] as usize].push(machine);
            processes += self.state.on(machine).len() as u64;
        }
        self.focus_left = (processes * FOCUS_STEPS).max(1);
    }

    /// A random process on a machine in focus; `None` if the machine is empty.
    fn someone(&mut self, draw: u64) -> Option<usize> {
        if self.focused == self.focus.len() {
            return Some(below(draw, self.state.at.len()));
        }
        let on = self.state.on(self.focus[below(draw, self.focused)]);
        let p = on.get(below(self.rng.next_u64(), on.len()))?;
        Some(*p as usize)
    }

    /// A random machine in focus; mostly of the same neighbourhood where the service has dependencies, as
    /// others hardly ever allow it.
    fn somewhere(&mut self, p: usize) -> u32 {
        let model = self.state.model;
        let draw = self.rng.next_u64();
        if model.hood_row[model.service[p] as usize] == NONE || draw & 15 == 0 {
            return self.focus[below(draw, self.focused)];
        }
        let nearby = &self.nearby[model.hood[self.state.at[p] as usize] as usize];
        nearby
            .get(below(draw, nearby.len()))
            .copied()
            .unwrap_or(self.state.at[p])
    }

    fn try_shift(&mut self, p: usize, to: u32, allowed: i64) {
        let allowed = allowed - self.held(p, to);
        if self
            .state
            .shift(p, to, allowed)
            .is_some_and(|by| by <= allowed)
        {
            self.state.apply_shift(p, to);
            self.changed.push(p as u32);
            self.look();
        }
    }

    /// With a random process of that machine.
    fn try_swap(&mut self, p: usize, to: u32, allowed: i64) {
        let on = self.state.on(to);
        if on.is_empty() {
            return;
        }
        let q = on[below(self.rng.next_u64(), on.len())] as usize;
        let allowed = allowed - self.held(p, to) - self.held(q, self.state.at[p]);
        if self
            .state
            .swap(p, q, allowed)
            .is_some_and(|by| by <= allowed)
        {
            self.state.apply_swap(p, q);
            self.changed.extend([p as u32, q as u32]);
            self.look();
        }
    }

    /// One or two of its machine with none to three of that.
    fn try_exchange(&mut self, p: usize, to: u32, allowed: i64, draw: u64) {
        let (of_here, of_there) = (1 + (draw as usize & 1), (draw >> 1) as usize & 3);
        if of_here == 1 && of_there < 2 {
            return;
        }
        let from = self.state.at[p];
        let (here, there) = (self.state.on(from), self.state.on(to));
        if here.len() < of_here || there.len() < of_there {
            return;
        }
        let mut all = [p as u32; EXCHANGED_MAX];
        for n in 1..of_here + of_there {
            let (on, others) = match n < of_here {
                true => (here, 0..n),
                false => (there, of_here..n),
            };
            let q = on[below(self.rng.next_u64(), on.len())];
            if all[others].contains(&q) {
                return;
            }
            all[n] = q;
        }
        let (some, others) = all[..of_here + of_there].split_at(of_here);
        let held = |all: &[u32], to| all.iter().map(|&p| self.held(p as usize, to)).sum::<i64>();
        let allowed = allowed - held(some, to) - held(others, from);
        if self.state.exchange(some, others, to, allowed) {
            self.changed.extend(some.iter().chain(others));
            self.look();
        }
    }

    /// By how much the price of held room changes if `p` goes to `to`.
    fn held(&self, p: usize, to: u32) -> i64 {
        self.state.moves(p, to) * self.schedule.held(p)
    }

    /// Keeps the assignment if it is the cheapest so far.
    fn look(&mut self) {
        if self.state.cost < self.best_cost && self.state.fits() {
            self.best_cost = self.state.cost;
            if self.changed.len() > self.best.len() {
                self.best.copy_from_slice(&self.state.at);
            }
            for p in self.changed.drain(..) {
                self.best[p as usize] = self.state.at[p as usize];
            }
        } else if self.changed.len() > 2 * self.best.len() {
            self.changed.truncate(self.best.len() + 1);
        }
    }
}

/// How many machines are in focus at a time. Where resources are transient it is all of them: room for
/// newcomers is scarce then, and should go to who needs it most anywhere.
fn focused(model: &Model) -> usize {
    let all = model.machines;
    match model.transient.contains(&true) {
        true => all,
        false => {
            (FOCUS_PROCESSES * all / model.processes.max(1)).clamp(FOCUS_MACHINES_MIN.min(all), all)
        }
    }
}

/// By how much a random move that is allowed changes the cost, on average, up or down.
fn mean_difference(state: &State<'_>, rng: &mut Pcg64) -> i64 {
    let model = state.model;
    let (mut sum, mut count) = (0, 0);
    for _ in 0..SAMPLES {
        let p = below(rng.next_u64(), model.processes);
        let to = below(rng.next_u64(), model.machines) as u32;
        if state.at.get(p).is_some_and(|&at| at != to)
            && let Some(by) = state.shift(p, to, i64::MAX)
        {
            sum += i128::from(by.unsigned_abs());
            count += 1;
        }
    }
    (sum / count.max(1)) as i64
}

/// A number below `n`, or 0, from the upper 32 of 64 random bits.
fn below(draw: u64, n: usize) -> usize {
    (((draw >> 32) * n as u64) >> 32) as usize
}

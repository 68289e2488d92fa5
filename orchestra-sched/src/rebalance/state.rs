//! An assignment with everything at hand that tells what one change costs: exact, by differences.

use super::Model;
use super::excess::Excess;
use super::model::NONE;

/// Two processes that would change places, or one that would move: the difference it makes to the
/// cost; `None` if it is not allowed or found to be more than was asked for.
pub(super) type Difference = Option<i64>;

/// An allowed assignment. Every change keeps it allowed, but for capacities while there may be an
/// excess.
#[derive(Clone, Debug)]
pub(super) struct State<'a> {
    pub(super) model: &'a Model,
    /// By process.
    pub(super) at: Vec<u32>,
    /// By process: what it costs that it moved, the service's share left out.
    paid: Vec<i64>,
    /// By machine: its capacity less its use, then the same less what moved away still holds.
    room: Vec<i64>,
    /// By machine: what its use costs.
    price: Vec<i64>,
    /// By machine: its processes, in no order.
    on: Vec<Vec<u32>>,
    /// By process: where in its machine's list it stands.
    slot: Vec<u32>,
    /// By row of spread services and location: how many processes.
    in_location: Vec<u32>,
    /// By row of spread services: in how many locations.
    spread: Vec<u32>,
    /// By row of services with dependencies and neighbourhood: how many processes.
    in_hood: Vec<u32>,
    /// By service: how many processes moved.
    moved_of: Vec<u32>,
    /// By number: how many services have so many processes moved.
    services_moved: Vec<u32>,
    /// The most processes moved of one service.
    moved_most: u32,
    /// How many processes moved.
    pub(super) moved: u32,
    /// What it costs, an excess left out.
    pub(super) cost: i64,
    /// While machines may be too full: by how much they are.
    pub(super) excess: Option<Excess>,
}

impl<'a> State<'a> {
    /// `at` is by process as the model numbers them, and allowed.
    pub(super) fn new(model: &'a Model, at: &[u32]) -> Self {
        let r = model.resources;
        let mut room = vec![0; model.machines * r * 2];
        for (m, cell) in room.chunks_exact_mut((r * 2).max(1)).enumerate() {
            let (room, free) = cell.split_at_mut(r);
            room.copy_from_slice(&model.capacity[m * r..][..r]);
            free.copy_from_slice(&model.capacity[m * r..][..r]);
        }
        let mut services_moved = vec![0; model.processes + 1];
        services_moved[0] = model.services as u32;
        let mut state = Self {
            model,
            at: model.origin.clone(),
            paid: vec![0; model.processes],
            room,
            price: vec![0; model.machines],
            on: vec![Vec::new(); model.machines],
            slot: vec![0; model.processes],
            in_location: vec![0; model.spread_rows * model.locations],
            spread: vec![0; model.spread_rows],
            in_hood: vec![0; model.hood_rows * model.hoods],
            moved_of: vec![0; model.services],
            services_moved,
            moved_most: 0,
            moved: 0,
            cost: 0,
            excess: None,
        };
        for p in 0..model.processes {
            let machine = model.origin[p];
            let (room, free) = state.amounts(machine);
            for ((room, free), need) in { room.iter_mut().zip(free) }.zip(model.needs(p)) {
                *room -= need;
                *free -= need;
            }
            state.list(p, machine);
            state.count_in(p, machine);
        }
        for m in 0..model.machines {
            state.price[m] = model.price(m, |r| state.room_of(m)[r]);
            state.cost += state.price[m];
        }
        for (p, &machine) in at.iter().enumerate() {
            if machine != model.origin[p] {
                state.relocate(p, machine);
            }
        }
        for m in 0..model.machines {
            state.reprice(m);
        }
        state
    }

    /// The processes of a machine.
    pub(super) fn on(&self, machine: u32) -> &[u32] {
        &self.on[machine as usize]
    }

    /// What changes if `p` moves to `to`, where it is not; of interest only up to `limit`.
    ///
    /// What is quick to tell comes first: the rules of services and the prices of moves lie all over
    /// the memory.
    pub(super) fn shift(&self, p: usize, to: u32, limit: i64) -> Difference {
        let model = self.model;
        let from = self.at[p];
        let free = self.free_of(to as usize);
        let enters = model.enters(p, to);
        let excess = match &self.excess {
            None if enters.iter().zip(free).all(|(enters, free)| enters <= free) => 0,
            None => return None,
            Some(excess) => {
                let (leaves, free_from) = (model.enters(p, from), self.free_of(from as usize));
                let left = (from, |r| free_from[r] + leaves[r]);
                excess.change(left, (to, |r| free[r] - enters[r]))
            }
        };
        let needs = model.needs(p);
        let (room_from, room_to) = (self.room_of(from as usize), self.room_of(to as usize));
        let used = excess
            + model.price(from as usize, |r| room_from[r] + needs[r])
            + model.price(to as usize, |r| room_to[r] - needs[r])
            - self.price[from as usize]
            - self.price[to as usize];
        if used - self.paid[p] - model.weights.service_move > limit {
            return None;
        }
        let service = model.service[p] as usize;
        if !self.service_allows(service, from, to) || self.meets_own(service, to) {
            return None;
        }
        let moves = self.moves(p, to);
        if self.moved as i64 + moves > i64::from(model.moves_max) {
            return None;
        }
        let moving = model.move_price(p, to) - self.paid[p];
        Some(used + moving + self.most_moved([(service, moves), (service, 0)]))
    }

    /// What changes if `p` and `q`, on different machines, change places; of interest only up to
    /// `limit`.
    pub(super) fn swap(&self, p: usize, q: usize, limit: i64) -> Difference {
        let model = self.model;
        let (a, b) = (self.at[p], self.at[q]);
        let (p_a, p_b) = (model.enters(p, a), model.enters(p, b));
        let (q_a, q_b) = (model.enters(q, a), model.enters(q, b));
        let (free_a, free_b) = (self.free_of(a as usize), self.free_of(b as usize));
        let fits = |enters: &[i64], leaves: &[i64], free: &[i64]| {
            let all = enters.iter().zip(leaves).zip(free);
            { all }.all(|((enters, leaves), free)| enters - leaves <= *free)
        };
        let excess = match &self.excess {
            None if fits(p_b, q_b, free_b) && fits(q_a, p_a, free_a) => 0,
            None => return None,
            Some(excess) => excess.change(
                (a, |r| free_a[r] + p_a[r] - q_a[r]),
                (b, |r| free_b[r] + q_b[r] - p_b[r]),
            ),
        };
        let (needs_p, needs_q) = (model.needs(p), model.needs(q));
        let (room_a, room_b) = (self.room_of(a as usize), self.room_of(b as usize));
        let used = excess
            + model.price(a as usize, |r| room_a[r] + needs_p[r] - needs_q[r])
            + model.price(b as usize, |r| room_b[r] + needs_q[r] - needs_p[r])
            - self.price[a as usize]
            - self.price[b as usize];
        if used - self.paid[p] - self.paid[q] - 2 * model.weights.service_move > limit {
            return None;
        }
        let (s, t) = (model.service[p] as usize, model.service[q] as usize);
        if s != t
            && (!self.service_allows(s, a, b)
                || !self.service_allows(t, b, a)
                || self.meets_own(s, b)
                || self.meets_own(t, a)
                || (model.hood[a as usize] != model.hood[b as usize]
                    && (model.depends_on[s].binary_search(&(t as u32)).is_ok()
                        || model.depends_on[t].binary_search(&(s as u32)).is_ok())))
        {
            return None;
        }
        let (moves_p, moves_q) = (self.moves(p, b), self.moves(q, a));
        if self.moved as i64 + moves_p + moves_q > i64::from(model.moves_max) {
            return None;
        }
        let moving = model.move_price(p, b) - self.paid[p] + model.move_price(q, a) - self.paid[q];
        Some(used + moving + self.most_moved([(s, moves_p), (t, moves_q)]))
    }

    /// Moves `p` to `to`, which [`shift`](Self::shift) allowed.
    pub(super) fn apply_shift(&mut self, p: usize, to: u32) {
        let from = self.at[p];
        self.relocate(p, to);
        self.reprice(from as usize);
        self.reprice(to as usize);
    }

    /// Lets `p` and `q` change places, which [`swap`](Self::swap) allowed.
    pub(super) fn apply_swap(&mut self, p: usize, q: usize) {
        let (a, b) = (self.at[p], self.at[q]);
        self.relocate(p, b);
        self.relocate(q, a);
        self.reprice(a as usize);
        self.reprice(b as usize);
    }

    /// Whether another process of the service is on that machine.
    pub(super) fn meets_own(&self, service: usize, machine: u32) -> bool {
        let all = self.model.first[service] as usize..self.model.first[service + 1] as usize;
        self.at[all].contains(&machine)
    }

    /// Whether spread and dependencies let one process of the service go from one machine to the
    /// other.
    pub(super) fn service_allows(&self, service: usize, from: u32, to: u32) -> bool {
        let model = self.model;
        let (from, to) = (from as usize, to as usize);
        let row = model.spread_row[service];
        if row != NONE && model.location[from] != model.location[to] {
            let row = row as usize;
            let count =
                |m: usize| self.in_location[row * model.locations + model.location[m] as usize];
            let spread = self.spread[row] - u32::from(count(from) == 1) + u32::from(count(to) == 0);
            if spread < model.spread_min[service] {
                return false;
            }
        }
        let row = model.hood_row[service];
        if row != NONE && model.hood[from] != model.hood[to] {
            let count = |s: usize, m: usize| {
                self.in_hood[model.hood_row[s] as usize * model.hoods + model.hood[m] as usize]
            };
            let is_lonely = |s: &u32| count(*s as usize, to) == 0;
            if count(service, to) == 0 && model.depends_on[service].iter().any(is_lonely) {
                return false;
            }
            let stays = |s: &u32| count(*s as usize, from) > 0;
            if count(service, from) == 1 && model.needed_by[service].iter().any(stays) {
                return false;
            }
        }
        true
    }

    /// By how many the number of moved processes changes if `p` goes to `to`.
    pub(super) fn moves(&self, p: usize, to: u32) -> i64 {
        let origin = self.model.origin[p];
        i64::from(to != origin) - i64::from(self.at[p] != origin)
    }

    /// By how much the weighted largest number of moved processes of a service changes, if the
    /// numbers of two services, or twice the same, change so.
    fn most_moved(&self, changes: [(usize, i64); 2]) -> i64 {
        let [(s, mut by), (t, mut also)] = changes;
        if s == t {
            (by, also) = (by + also, 0);
        }
        let (now, most) = (&self.moved_of, i64::from(self.moved_most));
        let (of_s, of_t) = (i64::from(now[s]), i64::from(now[t]));
        let larger = match s == t {
            true => of_s + by,
            false => (of_s + by).max(of_t + also),
        };
        let after = if larger >= most {
            larger
        } else {
            let leaving = u32::from(by < 0 && of_s == most) + u32::from(also < 0 && of_t == most);
            if leaving < self.services_moved[most as usize] {
                most
            } else if self.services_moved[most as usize - 1] > 0 {
                most - 1
            } else {
                larger
            }
        };
        (after - most) * self.model.weights.service_move
    }

    pub(super) fn relocate(&mut self, p: usize, to: u32) {
        let model = self.model;
        let from = self.at[p];
        let service = model.service[p] as usize;
        let price = model.move_price(p, to);
        let (moves, change) = (self.moves(p, to), price - self.paid[p]);
        self.paid[p] = price;
        self.give(p, from);
        self.take(p, to);
        self.unlist(p, from);
        self.list(p, to);
        self.count_out(p, from);
        self.count_in(p, to);
        self.cost += change + self.most_moved([(service, moves), (service, 0)]);
        if moves != 0 {
            let count = &mut self.moved_of[service];
            self.services_moved[*count as usize] -= 1;
            *count = count.wrapping_add_signed(moves as i32);
            self.services_moved[*count as usize] += 1;
            self.moved = self.moved.wrapping_add_signed(moves as i32);
            self.moved_most = self.moved_most.max(*count);
            while self.moved_most > 0 && self.services_moved[self.moved_most as usize] == 0 {
                self.moved_most -= 1;
            }
        }
        self.at[p] = to;
    }

    pub(super) fn reprice(&mut self, machine: usize) {
        let price = self.model.price(machine, |r| self.room_of(machine)[r]);
        self.cost += price - self.price[machine];
        self.price[machine] = price;
        if let Some(excess) = &mut self.excess {
            let r = self.model.resources;
            excess.set(machine, &self.room[(machine * 2 + 1) * r..][..r]);
        }
    }

    /// What the use of a machine costs.
    pub(super) fn price_of(&self, machine: u32) -> i64 {
        self.price[machine as usize]
    }

    /// What it costs that a process moved, the service's share left out.
    pub(super) fn paid(&self, process: usize) -> i64 {
        self.paid[process]
    }

    /// Whether no machine is too full.
    pub(super) fn fits(&self) -> bool {
        self.excess.as_ref().is_none_or(Excess::is_none)
    }

    pub(super) fn room_of(&self, machine: usize) -> &[i64] {
        let r = self.model.resources;
        &self.room[machine * 2 * r..][..r]
    }

    pub(super) fn free_of(&self, machine: usize) -> &[i64] {
        let r = self.model.resources;
        &self.room[(machine * 2 + 1) * r..][..r]
    }

    /// What is left on a machine of each resource, and what is free for who enters.
    fn amounts(&mut self, machine: u32) -> (&mut [i64], &mut [i64]) {
        let r = self.model.resources;
        self.room[machine as usize * 2 * r..][..2 * r].split_at_mut(r)
    }

    fn take(&mut self, p: usize, machine: u32) {
        let (needs, enters) = (self.model.needs(p), self.model.enters(p, machine));
        let (room, free) = self.amounts(machine);
        for ((room, free), (need, enter)) in
            { room.iter_mut().zip(free) }.zip(needs.iter().zip(enters))
        {
            *room -= need;
            *free -= enter;
        }
    }

    fn give(&mut self, p: usize, machine: u32) {
        let (needs, enters) = (self.model.needs(p), self.model.enters(p, machine));
        let (room, free) = self.amounts(machine);
        for ((room, free), (need, enter)) in
            { room.iter_mut().zip(free) }.zip(needs.iter().zip(enters))
        {
            *room += need;
            *free += enter;
        }
    }

    fn list(&mut self, p: usize, machine: u32) {
        let on = &mut self.on[machine as usize];
        self.slot[p] = on.len() as u32;
        on.push(p as u32);
    }

    fn unlist(&mut self, p: usize, machine: u32) {
        let on = &mut self.on[machine as usize];
        let slot = self.slot[p];
        on.swap_remove(slot as usize);
        if let Some(&moved) = on.get(slot as usize) {
            self.slot[moved as usize] = slot;
        }
    }

    fn count_in(&mut self, p: usize, machine: u32) {
        let model = self.model;
        let service = model.service[p] as usize;
        let row = model.spread_row[service];
        if row != NONE {
            let location = model.location[machine as usize] as usize;
            let count = &mut self.in_location[row as usize * model.locations + location];
            *count += 1;
            self.spread[row as usize] += u32::from(*count == 1);
        }
        let row = model.hood_row[service];
        if row != NONE {
            let hood = model.hood[machine as usize] as usize;
            self.in_hood[row as usize * model.hoods + hood] += 1;
        }
    }

    fn count_out(&mut self, p: usize, machine: u32) {
        let model = self.model;
        let service = model.service[p] as usize;
        let row = model.spread_row[service];
        if row != NONE {
            let location = model.location[machine as usize] as usize;
            let count = &mut self.in_location[row as usize * model.locations + location];
            *count -= 1;
            self.spread[row as usize] -= u32::from(*count == 0);
        }
        let row = model.hood_row[service];
        if row != NONE {
            let hood = model.hood[machine as usize] as usize;
            self.in_hood[row as usize * model.hoods + hood] -= 1;
        }
    }
}

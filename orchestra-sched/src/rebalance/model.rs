//! A problem that has been checked, in columns.

use super::cost::Violation;
use super::{Balance, Problem, Weights};

/// No row.
pub(super) const NONE: u32 = u32::MAX;

/// No sum of costs in a model may reach this.
const COST_MAX: i128 = 1 << 61;

/// A problem that makes no sense.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// A number that must be from 0 is not.
    #[error("{what} {at} has a negative {field}; amounts, costs and weights are from 0")]
    Negative {
        /// Resource, machine, process, balance or the weights.
        what: &'static str,
        /// Which of them.
        at: usize,
        /// Which number.
        field: &'static str,
    },
    /// A list has the wrong length.
    #[error("{what} {at} has {found} entries in {field}, not {wanted}")]
    Length {
        /// Machine, process, or the model itself.
        what: &'static str,
        /// Which of them.
        at: usize,
        /// Which list.
        field: &'static str,
        /// How long it should be.
        wanted: usize,
        /// How long it is.
        found: usize,
    },
    /// Something is named that does not exist.
    #[error("{what} {at} names {field} {found}; there are {len}, counted from 0")]
    Unknown {
        /// Service, process, balance or assignment.
        what: &'static str,
        /// Which of them.
        at: usize,
        /// What it names.
        field: &'static str,
        /// The number it gives.
        found: u64,
        /// How many there are.
        len: usize,
    },
    /// Costs could exceed what a 64-bit integer holds.
    #[error("the largest possible cost is 2^61 or more; scale amounts or weights down")]
    TooLarge,
    /// More machines, services, processes or rows for them than a 32-bit number counts.
    #[error("too many {what}: at most 4294967294")]
    TooMany {
        /// Of what.
        what: &'static str,
    },
    /// What runs now breaks a constraint already.
    #[error("the assignment to start from is not allowed: {first}")]
    NotAllowed {
        /// The first constraint that it breaks.
        first: Violation,
    },
}

/// A [`Problem`] and the assignment that runs now, checked, in columns.
///
/// Within, processes are numbered service by service, so that a service's processes lie side by
/// side.
#[derive(Clone, Debug)]
pub struct Model {
    pub(super) resources: usize,
    pub(super) machines: usize,
    pub(super) services: usize,
    pub(super) processes: usize,
    pub(super) transient: Vec<bool>,
    pub(super) load_weight: Vec<i64>,
    pub(super) balances: Vec<Balance>,
    pub(super) weights: Weights,
    pub(super) moves_max: u32,
    /// By machine and resource.
    pub(super) capacity: Vec<i64>,
    /// By machine and resource: capacity less safety capacity; below zero where safety is larger.
    pub(super) slack: Vec<i64>,
    pub(super) location: Vec<u32>,
    pub(super) locations: usize,
    pub(super) hood: Vec<u32>,
    pub(super) hoods: usize,
    /// Weighted, by machine of origin and machine; empty if moves between machines cost nothing.
    pub(super) machine_moves: Vec<u32>,
    pub(super) spread_min: Vec<u32>,
    /// By service: its row in tables by location; [`NONE`] where one location is enough.
    pub(super) spread_row: Vec<u32>,
    pub(super) spread_rows: usize,
    /// By service: its row in tables by neighbourhood; [`NONE`] where nothing depends.
    pub(super) hood_row: Vec<u32>,
    pub(super) hood_rows: usize,
    /// By service: the services it depends on, itself left out.
    pub(super) depends_on: Vec<Vec<u32>>,
    /// By service: the services that depend on it, itself left out.
    pub(super) needed_by: Vec<Vec<u32>>,
    /// By service: its first process; one more entry at the end.
    pub(super) first: Vec<u32>,
    /// By process.
    pub(super) service: Vec<u32>,
    /// By process and resource.
    pub(super) needs: Vec<i64>,
    /// By process and resource: what it takes anew where it comes from, 0 for what it still holds.
    pub(super) returns: Vec<i64>,
    /// Weighted, by process.
    pub(super) move_cost: Vec<i64>,
    /// By process: where it runs.
    pub(super) origin: Vec<u32>,
    /// By process within: its number in the problem.
    pub(super) outside: Vec<u32>,
}

impl Model {
    /// Checks a problem and where its processes run now: `assignment[p]` is the machine of
    /// process `p`.
    ///
    /// # Errors
    ///
    /// What is wrong with it. That includes an assignment that breaks a constraint.
    pub fn new(problem: &Problem, assignment: &[u32]) -> Result<Self, ModelError> {
        check(problem, assignment)?;
        let resources = problem.resources.len();
        let services = problem.services.len();

        let mut outside: Vec<u32> = (0..problem.processes.len() as u32).collect();
        outside.sort_by_key(|&p| problem.processes[p as usize].service);
        let inside = |p: &u32| &problem.processes[*p as usize];
        let service: Vec<u32> = outside.iter().map(|p| inside(p).service).collect();
        let first = (0..=services as u32)
            .map(|s| service.partition_point(|&other| other < s) as u32)
            .collect();
        let needs: Vec<i64> = outside
            .iter()
            .flat_map(|p| inside(p).needs.iter().copied())
            .collect();
        let transient: Vec<bool> = problem.resources.iter().map(|r| r.transient).collect();
        let returns = needs
            .iter()
            .enumerate()
            .map(|(at, &need)| if transient[at % resources] { 0 } else { need })
            .collect();

        let mut depends_on = Vec::with_capacity(services);
        let mut needed_by = vec![Vec::new(); services];
        for (s, one) in problem.services.iter().enumerate() {
            let mut others: Vec<u32> = one.depends_on.clone();
            others.sort_unstable();
            others.dedup();
            others.retain(|&other| other as usize != s);
            for &other in &others {
                needed_by[other as usize].push(s as u32);
            }
            depends_on.push(others);
        }
        let rows = |wanted: &dyn Fn(usize) -> bool| {
            let mut count = 0;
            let rows: Vec<u32> = (0..services)
                .map(|s| match wanted(s) {
                    true => (count, count += 1).0,
                    false => NONE,
                })
                .collect();
            (rows, count as usize)
        };
        let (spread_row, spread_rows) = rows(&|s| problem.services[s].spread_min > 1);
        let (hood_row, hood_rows) =
            rows(&|s| !depends_on[s].is_empty() || !needed_by[s].is_empty());
        let (location, locations) = ranks(problem.machines.iter().map(|m| m.location));
        let (hood, hoods) = ranks(problem.machines.iter().map(|m| m.neighbourhood));

        let capacity: Vec<i64> = problem
            .machines
            .iter()
            .flat_map(|m| m.capacity.iter().copied())
            .collect();
        let safety = problem.machines.iter().flat_map(|m| &m.safety);
        let model = Self {
            resources,
            machines: problem.machines.len(),
            services,
            processes: problem.processes.len(),
            transient,
            load_weight: problem.resources.iter().map(|r| r.load_weight).collect(),
            balances: problem.balances.clone(),
            weights: problem.weights,
            moves_max: problem.moves_max.unwrap_or(u32::MAX),
            slack: capacity.iter().zip(safety).map(|(c, s)| c - s).collect(),
            capacity,
            location,
            locations,
            hood,
            hoods,
            machine_moves: problem.machine_moves.clone(),
            spread_min: problem.services.iter().map(|s| s.spread_min).collect(),
            spread_row,
            spread_rows,
            hood_row,
            hood_rows,
            depends_on,
            needed_by,
            first,
            service,
            needs,
            returns,
            move_cost: outside
                .iter()
                .map(|p| inside(p).move_cost * problem.weights.process_move)
                .collect(),
            origin: outside.iter().map(|&p| assignment[p as usize]).collect(),
            outside,
        };
        match model.violations(assignment).into_iter().next() {
            Some(first) => Err(ModelError::NotAllowed { first }),
            None => Ok(model),
        }
    }

    /// How many processes there are.
    pub fn processes(&self) -> usize {
        self.processes
    }

    /// How many machines there are.
    pub fn machines(&self) -> usize {
        self.machines
    }

    /// Where everything runs now, in the problem's order.
    pub fn origin(&self) -> Vec<u32> {
        self.to_outside(&self.origin)
    }

    pub(super) fn to_outside(&self, at: &[u32]) -> Vec<u32> {
        let mut assignment = vec![0; at.len()];
        for (&machine, &p) in at.iter().zip(&self.outside) {
            assignment[p as usize] = machine;
        }
        assignment
    }

    pub(super) fn to_inside(&self, assignment: &[u32]) -> Vec<u32> {
        let outside = self.outside.iter();
        outside.map(|&p| assignment[p as usize]).collect()
    }

    pub(super) fn needs(&self, process: usize) -> &[i64] {
        &self.needs[process * self.resources..][..self.resources]
    }

    /// What the process takes anew on a machine that it enters.
    pub(super) fn enters(&self, process: usize, machine: u32) -> &[i64] {
        let taken = match self.origin[process] == machine {
            true => &self.returns,
            false => &self.needs,
        };
        &taken[process * self.resources..][..self.resources]
    }

    /// What it costs that a process is on that machine, the service's share left out.
    pub(super) fn move_price(&self, process: usize, machine: u32) -> i64 {
        let origin = self.origin[process];
        if origin == machine {
            return 0;
        }
        let way = origin as usize * self.machines + machine as usize;
        let way = self.machine_moves.get(way).copied().unwrap_or(0);
        self.move_cost[process] + i64::from(way) * self.weights.machine_move
    }

    /// What a machine's use costs, with so much of each resource left.
    pub(super) fn price(&self, machine: usize, room: impl Fn(usize) -> i64) -> i64 {
        let slack = &self.slack[machine * self.resources..][..self.resources];
        let mut price = 0;
        for (r, (&slack, &weight)) in slack.iter().zip(&self.load_weight).enumerate() {
            price += weight * (slack - room(r)).max(0);
        }
        for balance in &self.balances {
            let missing = balance.target * room(balance.first) - room(balance.second);
            price += balance.weight * missing.max(0);
        }
        price
    }
}

/// Dense numbers for what is named by any numbers, and how many there are.
fn ranks(names: impl Iterator<Item = u32> + Clone) -> (Vec<u32>, usize) {
    let mut known: Vec<u32> = names.clone().collect();
    known.sort_unstable();
    known.dedup();
    let rank = |name| known.partition_point(|&other| other < name) as u32;
    (names.map(rank).collect(), known.len())
}

fn check(problem: &Problem, assignment: &[u32]) -> Result<(), ModelError> {
    let Problem {
        resources,
        machines,
        services,
        processes,
        balances,
        machine_moves,
        weights,
        ..
    } = problem;
    for (what, len) in [
        ("machines", machines.len()),
        ("services", services.len()),
        ("processes", processes.len()),
    ] {
        if len >= NONE as usize {
            return Err(ModelError::TooMany { what });
        }
    }
    let length = |what, at, field, wanted, found| match wanted == found {
        true => Ok(()),
        false => Err(ModelError::Length {
            what,
            at,
            field,
            wanted,
            found,
        }),
    };
    let positive = |what, at, field, numbers: &[i64]| match numbers.iter().any(|&n| n < 0) {
        true => Err(ModelError::Negative { what, at, field }),
        false => Ok(()),
    };
    let known = |what, at, field, found: u64, len| match found < len as u64 {
        true => Ok(()),
        false => Err(ModelError::Unknown {
            what,
            at,
            field,
            found,
            len,
        }),
    };
    for (at, one) in resources.iter().enumerate() {
        positive("resource", at, "load weight", &[one.load_weight])?;
    }
    for (at, one) in machines.iter().enumerate() {
        length(
            "machine",
            at,
            "capacity",
            resources.len(),
            one.capacity.len(),
        )?;
        length("machine", at, "safety", resources.len(), one.safety.len())?;
        positive("machine", at, "capacity", &one.capacity)?;
        positive("machine", at, "safety capacity", &one.safety)?;
    }
    if !machine_moves.is_empty() {
        let wanted = machines.len() * machines.len();
        length("model", 0, "machine moves", wanted, machine_moves.len())?;
    }
    for (at, one) in services.iter().enumerate() {
        for &other in &one.depends_on {
            known("service", at, "service", other.into(), services.len())?;
        }
    }
    for (at, one) in processes.iter().enumerate() {
        known("process", at, "service", one.service.into(), services.len())?;
        length("process", at, "needs", resources.len(), one.needs.len())?;
        positive("process", at, "need", &one.needs)?;
        positive("process", at, "move cost", &[one.move_cost])?;
    }
    for (at, one) in balances.iter().enumerate() {
        for resource in [one.first, one.second] {
            known("balance", at, "resource", resource as u64, resources.len())?;
        }
        positive("balance", at, "target or weight", &[one.target, one.weight])?;
    }
    let Weights {
        process_move,
        service_move,
        machine_move,
    } = *weights;
    let all = [process_move, service_move, machine_move];
    positive("weights", 0, "weight", &all)?;
    length(
        "assignment",
        0,
        "machines",
        processes.len(),
        assignment.len(),
    )?;
    for (at, &machine) in assignment.iter().enumerate() {
        known("process", at, "machine", machine.into(), machines.len())?;
    }
    match worst(problem) {
        Some(worst) if worst < COST_MAX => Ok(()),
        _ => Err(ModelError::TooLarge),
    }
}

/// More than any assignment costs; `None` if that is more than 128 bits hold.
fn worst(problem: &Problem) -> Option<i128> {
    let mut worst = 0i128;
    let mut add = |weight: i64, amount: i128| {
        worst = i128::from(weight.max(1))
            .checked_mul(amount)
            .and_then(|cost| cost.checked_add(worst))
            .unwrap_or(i128::MAX);
    };
    for (r, resource) in problem.resources.iter().enumerate() {
        let needs: i128 = problem
            .processes
            .iter()
            .map(|p| i128::from(p.needs[r]))
            .sum();
        let all: i128 = (problem.machines.iter())
            .map(|m| i128::from(m.capacity[r]) + i128::from(m.safety[r]))
            .sum();
        add(resource.load_weight, needs + all);
    }
    for balance in &problem.balances {
        let of = |amounts: &[i64]| {
            i128::from(amounts[balance.first]) + i128::from(amounts[balance.second])
        };
        let all: i128 = problem
            .machines
            .iter()
            .map(|m| of(&m.capacity))
            .sum::<i128>()
            + problem.processes.iter().map(|p| of(&p.needs)).sum::<i128>();
        add(
            balance.weight,
            all.checked_mul(i128::from(balance.target.max(1)))?,
        );
    }
    let weights = &problem.weights;
    let moves = problem.processes.iter().map(|p| i128::from(p.move_cost));
    add(weights.process_move, moves.sum());
    let count = problem.processes.len() as i128;
    let way = problem.machine_moves.iter().copied().max().unwrap_or(0);
    add(weights.machine_move, count * i128::from(way));
    add(weights.service_move, count);
    (worst < i128::MAX).then_some(worst)
}

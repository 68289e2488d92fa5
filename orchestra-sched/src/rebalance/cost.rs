//! Price and check of a whole assignment, from nothing: plain, slow, and what everything faster
//! is tested against.

use std::collections::BTreeSet;
use std::fmt;

use super::{Balance, Model};

/// What an assignment costs, by term. Weighted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Cost {
    /// Use above safety capacities.
    pub load: i64,
    /// What is free out of proportion.
    pub balance: i64,
    /// Moving processes.
    pub process_move: i64,
    /// The most processes moved of one service.
    pub service_move: i64,
    /// Moving between machines.
    pub machine_move: i64,
    /// How many processes are elsewhere than they were. No cost.
    pub moved: usize,
}

impl Cost {
    /// All terms together.
    pub fn total(&self) -> i64 {
        self.load + self.balance + self.process_move + self.service_move + self.machine_move
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, amount) in [
            ("load", self.load),
            ("balance", self.balance),
            ("process moves", self.process_move),
            ("service moves", self.service_move),
            ("machine moves", self.machine_move),
            ("total", self.total()),
        ] {
            writeln!(f, "{name:<16}{amount:>20}")?;
        }
        write!(f, "{:<16}{:>20}", "processes moved", self.moved)
    }
}

/// A constraint that an assignment breaks. Everything is named by its position in the problem.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Violation {
    /// A machine has too little of a resource, what moves away counted in.
    Capacity {
        /// Which machine.
        machine: usize,
        /// Which resource.
        resource: usize,
        /// How much of it is used.
        used: i64,
        /// How much there is.
        capacity: i64,
    },
    /// Two processes of a service share a machine.
    Conflict {
        /// Which service.
        service: usize,
        /// Which machine.
        machine: usize,
    },
    /// A service runs in too few locations.
    Spread {
        /// Which service.
        service: usize,
        /// In how many.
        found: usize,
        /// In how many it must.
        wanted: usize,
    },
    /// A service runs in a neighbourhood without one that it depends on.
    Dependency {
        /// Which service.
        service: usize,
        /// What it depends on.
        on: usize,
        /// A machine of its in that neighbourhood.
        machine: usize,
    },
    /// More moved than allowed.
    Moves {
        /// How many.
        moved: usize,
        /// How many may.
        allowed: usize,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capacity {
                machine,
                resource,
                used,
                capacity,
            } => write!(
                f,
                "machine {machine} uses {used} of resource {resource} and has {capacity}"
            ),
            Self::Conflict { service, machine } => {
                write!(f, "service {service} runs twice on machine {machine}")
            }
            Self::Spread {
                service,
                found,
                wanted,
            } => write!(
                f,
                "service {service} runs in {found} locations and needs {wanted}"
            ),
            Self::Dependency {
                service,
                on,
                machine,
            } => write!(
                f,
                "service {service} on machine {machine} has no service {on} in its neighbourhood"
            ),
            Self::Moves { moved, allowed } => {
                write!(f, "{moved} processes moved, of at most {allowed}")
            }
        }
    }
}

impl Model {
    /// What an assignment costs. Looks at everything.
    ///
    /// # Panics
    ///
    /// If `assignment` has not one machine for each process.
    pub fn cost(&self, assignment: &[u32]) -> Cost {
        assert_eq!(assignment.len(), self.processes, "one machine a process");
        let at = self.to_inside(assignment);
        let used = self.used(&at);
        let room = |m: usize, r: usize| {
            self.capacity[m * self.resources + r] - used[m * self.resources + r]
        };
        let mut cost = Cost::default();
        for m in 0..self.machines {
            for r in 0..self.resources {
                let over = self.slack[m * self.resources + r] - room(m, r);
                cost.load += self.load_weight[r] * over.max(0);
            }
            for b in &self.balances {
                let missing = b.target * room(m, b.first) - room(m, b.second);
                cost.balance += b.weight * missing.max(0);
            }
        }
        let mut moved_of = vec![0i64; self.services];
        for (p, &machine) in at.iter().enumerate() {
            if machine != self.origin[p] {
                cost.moved += 1;
                moved_of[self.service[p] as usize] += 1;
                cost.process_move += self.move_cost[p];
                cost.machine_move += self.move_price(p, machine) - self.move_cost[p];
            }
        }
        cost.service_move = self.weights.service_move * moved_of.into_iter().max().unwrap_or(0);
        cost
    }

    /// What every assignment costs at least: all machines taken for one, and nothing moved.
    pub fn lower_bound(&self) -> i64 {
        let needed = |r: usize| (0..self.processes).map(|p| self.needs(p)[r]).sum::<i64>();
        let all = |amounts: &[i64], r| amounts.iter().skip(r).step_by(self.resources).sum::<i64>();
        let room: Vec<i64> = (0..self.resources)
            .map(|r| all(&self.capacity, r) - needed(r))
            .collect();
        let load = |(r, weight)| weight * (all(&self.slack, r) - room[r]).max(0);
        let load = self.load_weight.iter().enumerate().map(load).sum::<i64>();
        let missing = |b: &Balance| b.weight * (b.target * room[b.first] - room[b.second]).max(0);
        load + self.balances.iter().map(missing).sum::<i64>()
    }

    /// Every constraint that an assignment breaks. Looks at everything.
    ///
    /// # Panics
    ///
    /// If `assignment` has not one known machine for each process.
    pub fn violations(&self, assignment: &[u32]) -> Vec<Violation> {
        assert_eq!(assignment.len(), self.processes, "one machine a process");
        let at = self.to_inside(assignment);
        let mut found = Vec::new();
        let mut used = self.used(&at);
        let mut moved = 0;
        for (p, &machine) in at.iter().enumerate() {
            if machine != self.origin[p] {
                moved += 1;
                for r in (0..self.resources).filter(|&r| self.transient[r]) {
                    used[self.origin[p] as usize * self.resources + r] += self.needs(p)[r];
                }
            }
        }
        for (cell, (&used, &capacity)) in used.iter().zip(&self.capacity).enumerate() {
            if used > capacity {
                found.push(Violation::Capacity {
                    machine: cell / self.resources,
                    resource: cell % self.resources,
                    used,
                    capacity,
                });
            }
        }
        let machines_of = |s: usize| &at[self.first[s] as usize..self.first[s + 1] as usize];
        for s in 0..self.services {
            let mut seen = BTreeSet::new();
            for &machine in machines_of(s) {
                if !seen.insert(machine) {
                    found.push(Violation::Conflict {
                        service: s,
                        machine: machine as usize,
                    });
                }
            }
            let locations: BTreeSet<u32> =
                seen.iter().map(|&m| self.location[m as usize]).collect();
            if locations.len() < self.spread_min[s] as usize {
                found.push(Violation::Spread {
                    service: s,
                    found: locations.len(),
                    wanted: self.spread_min[s] as usize,
                });
            }
            for &on in &self.depends_on[s] {
                let hoods: BTreeSet<u32> = machines_of(on as usize)
                    .iter()
                    .map(|&m| self.hood[m as usize])
                    .collect();
                let lonely = seen
                    .iter()
                    .find(|&&m| !hoods.contains(&self.hood[m as usize]));
                found.extend(lonely.map(|&machine| Violation::Dependency {
                    service: s,
                    on: on as usize,
                    machine: machine as usize,
                }));
            }
        }
        if moved > self.moves_max as usize {
            found.push(Violation::Moves {
                moved,
                allowed: self.moves_max as usize,
            });
        }
        found
    }

    /// What is used, by machine and resource.
    fn used(&self, at: &[u32]) -> Vec<i64> {
        let mut used = vec![0; self.machines * self.resources];
        for (p, &machine) in at.iter().enumerate() {
            for (r, need) in self.needs(p).iter().enumerate() {
                used[machine as usize * self.resources + r] += need;
            }
        }
        used
    }
}

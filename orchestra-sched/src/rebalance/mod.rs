//! From a running assignment to a better one, with every constraint kept.
//!
//! * [`Problem`]: machines, services, processes and what everything costs, in the terms of the
//!   machine reassignment problem (ROADEF/EURO challenge 2012, set by Google). [`Model`] is a
//!   problem that has been checked, in columns, with the assignment that runs now.
//! * [`Search`]: looks for a cheaper assignment, a number of steps at a time. It knows no clock:
//!   whoever calls says how far along the time is.
//! * [`Variant`]: other ways to search, for where machines hold few processes each.
//! * [`pods`]: moves of pods between the nodes of a snapshot, each explained, every rule kept.
//! * [`Model::cost`] and [`Model::violations`] price and check a whole assignment from nothing,
//!   slowly and plainly.
//!
//! ```
//! use orchestra_sched::rebalance::{Machine, Model, Problem, Process, Resource, Search, Service, Weights};
//! use orchestra_sched::rng::PlanRng;
//!
//! // Two machines that are best not more than half full, and all the work is on the first.
//! let machine = Machine { capacity: vec![100], safety: vec![50], ..Machine::default() };
//! let process = |service| Process { service, needs: vec![30], move_cost: 1 };
//! let problem = Problem {
//!     resources: vec![Resource { transient: false, load_weight: 10 }],
//!     machines: vec![machine.clone(), machine],
//!     services: vec![Service::default(), Service::default()],
//!     processes: vec![process(0), process(1)],
//!     weights: Weights { process_move: 1, service_move: 1, machine_move: 1 },
//!     ..Problem::default()
//! };
//! let model = Model::new(&problem, &[0, 0])?;
//! assert_eq!(model.cost(&[0, 0]).total(), 100);
//!
//! let mut search = Search::new(&model, PlanRng::new(7));
//! search.advance(1_000);
//! assert_eq!(search.best_cost(), 2, "one process moved, of one service");
//! assert!(model.violations(&search.best()).is_empty());
//! # Ok::<(), orchestra_sched::rebalance::ModelError>(())
//! ```

mod cost;
mod excess;
mod exchange;
mod model;
pub mod pods;
mod problem;
mod schedule;
mod search;
mod state;
#[cfg(test)]
mod tests;
mod variant;

pub use cost::{Cost, Violation};
pub use model::{Model, ModelError};
pub use problem::{Balance, Machine, Problem, Process, Resource, Service, Weights};
pub use schedule::PROGRESS_DONE;
pub use search::Search;
pub use variant::Variant;

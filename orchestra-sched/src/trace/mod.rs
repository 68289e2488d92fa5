//! Workload traces in, placement quality out.
//!
//! A [`Trace`] is a cluster and pods in the order in which they come. [`play`] lets a [`Policy`] place
//! each when it comes, without knowledge of those to come; a pod stays for ever, and one that fits
//! nowhere is dropped. The [`Outcome`] says where each pod went, and how much of the accelerators was
//! used and how much lay in fragments, against the load that had come.
//!
//! ```
//! use orchestra_sched::trace::{Policies, Trace, play};
//!
//! let trace = Trace::generated(7);
//! let policies = Policies::known();
//! let percent = |name: &str| {
//!     let policy = policies.make(name, &trace).unwrap();
//!     play(&trace, &policy, 1, |_| {}).allocated_percent()
//! };
//! assert!(percent("best-fit") > percent("random"));
//! ```

mod csv;
mod game;
mod generate;
mod measure;
mod openb;
mod policy;

pub use csv::CsvError;
pub use game::{Place, play};
pub use measure::{Outcome, Point, Unplaced};
pub use openb::{Trace, TracePod};
pub use policy::{Learner, Policies, Policy, Ties, UnknownPolicy};

//! Every decision of an orchestrator, as a pure function: no clock, no chance but what is handed
//! in, no I/O, no async, no hash order.
//!
//! * [`snapshot`], [`fits`], [`place`], [`explain`]: where pods go, and why.
//! * [`whatif`]: questions about a cluster that is not so yet.
//! * [`rebalance`]: from a running assignment to a better one.
//! * [`rollout`]: how a new revision replaces an old one.
//! * [`health`], [`budget`]: what is well, when to try again, what can be spared.
//! * [`order`]: what starts before what. [`balance`]: who answers.
//! * [`rng`]: seeded chance, one stream for each purpose.
//! * `trace` (feature `trace`): workload traces in, placement quality out.
//! * [`fixture`]: clusters written as a few lines of text, for tests.
//!
//! ```
//! use orchestra_core::time::Timestamp;
//! use orchestra_sched::fixture::Cluster;
//! use orchestra_sched::order::{Order, Unit};
//! use orchestra_sched::place::{Framework, PlanInputs, Scheduler};
//! use orchestra_sched::rng::PlanRng;
//!
//! let cluster: Cluster = "
//!     node small cpu=2 memory=4Gi
//!     node large cpu=8 memory=16Gi taint=dedicated=db:NoSchedule
//!     pod web*2 cpu=1500m memory=1Gi
//!     pod db cpu=4 memory=8Gi tolerate=dedicated=db
//! ".parse()?;
//!
//! // A decision is a function of what is known: ask again, and the answer is the same.
//! let (snapshot, pending) = (cluster.snapshot(), cluster.pending());
//! let inputs = PlanInputs { now: Timestamp::EPOCH, rng: PlanRng::new(7) };
//! let plan = Framework::default().plan(&snapshot, &pending, inputs);
//! assert_eq!(plan, Framework::default().plan(&snapshot, &pending, inputs));
//!
//! // It says who goes where, and why somebody goes nowhere.
//! let nodes: Vec<_> = plan.placed.iter().map(|placed| placed.node.as_str()).collect();
//! assert_eq!(nodes, ["small", "large"]);
//! assert_eq!(
//!     plan.unplaced[0].why.to_string(),
//!     "0/2 nodes fit: 1 has untolerated taint dedicated=db, 1 lacks cpu (nearest small misses 1)"
//! );
//!
//! // What needs what is a decision too.
//! let order = Order::of(&[Unit::new("web", ["db"]), Unit::new("db", [""; 0])])?;
//! assert_eq!(order.start_waves(), [["db"], ["web"]]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod balance;
pub mod budget;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod explain;
pub mod fits;
pub mod fixture;
pub mod health;
pub mod order;
pub mod place;
pub mod rebalance;
pub mod rng;
pub mod rollout;
pub mod snapshot;
#[cfg(feature = "trace")]
pub mod trace;
pub mod whatif;

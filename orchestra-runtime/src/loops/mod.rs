//! The controllers, one a file: read, ask sched, act.

mod budget;
mod caches;
mod deployment;
mod endpoints;
mod gangs;
mod garbage;
mod nodes;
mod owners;
mod pace;
mod placement;
mod proxy;
mod quota;
pub(crate) mod unready;

pub use budget::BudgetLoop;
pub use caches::{BY_GANG, BY_NODE, BY_OWNER, BY_READY_POD, BY_SERVICE, Caches};
pub use deployment::{DeploymentLoop, MEMO_ANNOTATION, STEPS_ANNOTATION};
pub use endpoints::EndpointsLoop;
pub(crate) use endpoints::{answers, selects};
pub use gangs::GangsLoop;
pub use garbage::{COLLECTED, GarbageLoop, Suspect};
pub use nodes::NodesLoop;
pub(crate) use nodes::pod_range;
pub use placement::{COMMIT_GUARDS_MAX, PlacementLoop};
pub(crate) use proxy::{Listening, serve};
pub use quota::QuotaLoop;

//! The typed API over a store.
//!
//! * [`Client`]: a process's hold on it; [`Api`]: the objects of one kind.
//! * [`Commit`]: several typed writes in one transaction. Every write goes through it.
//! * [`Admission`]: hooks that change or refuse writes.
//! * [`ApiError`]: what failed, about what, and what to do next.

mod admission;
mod apply;
mod client;
mod commit;
mod deletion;
mod error;
#[cfg(test)]
pub(crate) mod fixture;
mod history;
mod list;
#[cfg(feature = "manifest")]
mod manifests;
mod merge;
mod object;
mod params;
mod shelf;
mod stage;
#[cfg(test)]
mod tests;
mod typed;
mod watch;

pub(crate) use admission::gates;
pub use admission::{
    Admission, AdmissionRequest, GateAdmission, PRIORITY_CLASSES_BUILT_IN, PriorityAdmission,
    QuotaAdmission, TolerationAdmission,
};
pub use apply::ANNOTATION_LAST_APPLIED;
pub use client::Client;
pub use commit::{Commit, Landed};
pub use error::{ApiError, ApiErrorKind};
pub use history::PastTemplate;
pub use list::{List, ListParams};
pub(crate) use object::decode;
pub use object::{object_key, store_key, store_prefix};
pub use params::{
    DeleteParams, FINALIZER_FOREGROUND, FINALIZER_ORPHAN, NAMESPACE_DEFAULT, NAMESPACES_BUILT_IN,
    Propagation,
};
#[cfg(feature = "sim")]
pub(crate) use shelf::Shelf;
pub use typed::{Api, Deleted};
pub use watch::{ApiWatch, WatchEvent};

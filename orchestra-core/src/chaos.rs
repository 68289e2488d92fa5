//! Wrappers that inject faults: lost, delayed, duplicated and ambiguous calls.
//!
//! A wrapper looks to its caller like the port on a bad day, and still keeps the port's contract:
//! what a caller may rely on there, it may rely on here. What goes wrong is decided by
//! [`Faults`], which several wrappers may share.
//!
//! ```
//! # use std::time::Duration;
//! use orchestra_core::chaos::{Faults, Rates};
//!
//! # fn tokio_sleep(_: Duration) -> std::future::Ready<()> { std::future::ready(()) }
//! let faults = Faults::seeded(7, Rates { unavailable: 0.1, ..Rates::NONE }, tokio_sleep);
//! // let store = ChaosStore::new(store, faults.clone());
//! faults.heal();
//! assert_eq!(faults.injected().total(), 0);
//! ```

mod driver;
mod faults;
mod probe;
mod registry;
mod secret;
mod store;

pub use driver::ChaosDriver;
pub use faults::{Fault, Faults, Injected, Rates};
pub use probe::ChaosProber;
pub use registry::ChaosRegistry;
pub use secret::ChaosSecrets;
pub use store::ChaosStore;

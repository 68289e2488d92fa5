//! What exists, and what can be plugged in. No I/O, no runtime, no clock.
//!
//! * [`kind`]: the objects, in the JSON shape of their Kubernetes namesakes.
//! * [`port`]: the traits behind which everything can be replaced.
//! * [`error`], [`meta`], [`time`], [`quantity`], [`selector`], [`int_or`]: what both are made of.
//! * [`codec`]: objects as bytes. `manifest`: objects from YAML and JSON.
//! * `conformance` and `chaos`, behind the feature `conformance`: a suite per port, and wrappers
//!   that inject faults. How to write and test a port of your own is in the repository's
//!   `docs/ports.md`.
//!
//! ```
//! use orchestra_core::codec;
//! use orchestra_core::error::{ErrorKind, Retry};
//! use orchestra_core::kind::{Container, Deployment, Resource};
//! use orchestra_core::port::store::{Guard, Key, StoreErrorKind, Txn, Write};
//! use orchestra_core::quantity::Quantity;
//!
//! // An object: what a manifest says, or a builder. Defaults and rules are its kind's own.
//! let container = Container::new("web", "shop/web:1").port(8080).cpu_milli(250);
//! let mut web = Deployment::new("web").replicas(3).container(container);
//! web.set_defaults();
//! web.validate()?;
//! let requests = &web.spec.template.spec.containers[0].resources.requests;
//! assert_eq!(requests["cpu"], "0.25".parse::<Quantity>()?);
//!
//! // Its bytes, and the one transaction that creates it and nothing twice.
//! let key = Key::from(format!("deployments/{}", web.key()));
//! let txn = Txn::new()
//!     .when(Guard::Absent(key.clone()))
//!     .then(Write::put(key, codec::encode(&web)?));
//! txn.check()?;
//!
//! // Whichever store it is handed to: an error says what to do next.
//! assert_eq!(StoreErrorKind::Conflict.retry(), Retry::AfterRefresh);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "conformance")]
pub mod chaos;
pub mod codec;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod error;
pub mod int_or;
pub mod kind;
#[cfg(feature = "manifest")]
pub mod manifest;
pub mod meta;
pub mod port;
pub mod quantity;
pub mod selector;
pub mod time;

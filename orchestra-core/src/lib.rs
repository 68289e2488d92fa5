//! What exists, and what can be plugged in.
//!
//! * [`kind`]: the objects, in the JSON shape of their Kubernetes namesakes.
//! * [`port`]: the traits behind which everything can be replaced.
//! * [`error`], [`meta`], [`time`], [`quantity`], [`selector`], [`int_or`]: what both are made of.
//! * [`codec`]: objects as bytes. `manifest`: objects from YAML and JSON.
//! * `conformance` and `chaos`, behind the feature `conformance`: a suite per port, and wrappers
//!   that inject faults.

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

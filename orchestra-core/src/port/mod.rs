//! The ports: everything that can be replaced, one trait a file, with its contract on the trait.
//!
//! Each async port is dyn-compatible and held as `Arc<dyn Port>`; none has default methods, so
//! that a wrapper can never forget to forward one. The suites in `conformance` (behind the
//! feature of that name) test each sentence of a contract.

pub mod clock;
pub mod driver;
pub mod lease;
pub mod meter;
pub mod probe;
pub mod registry;
pub mod secret;
pub mod store;

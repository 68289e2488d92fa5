//! Everything that waits.
//!
//! * [`Orchestra`]: all parts in one process. Start here; [`prelude`] has what you need.
//! * [`api`]: typed objects over a store. [`cache`]: live copies. [`control`]: control loops.
//!   [`loops`]: the controllers. [`events`]: what happened, for people.
//! * [`agent`]: a pod's life on its node. [`driver`]: what runs containers. [`probe`]: what looks
//!   at them. [`net`]: addresses, endpoints, the proxy. [`secret`]: where secrets come from.
//! * [`store`]: the store in memory. [`clock`], [`ids`], [`meter`]: time, identity, numbers.
//! * [`control_plane`]: all controllers of one process. `sim`, behind the feature of that name: a
//!   cluster in virtual time, on one seed.
//!
//! Each part can be replaced by way of the [builder](orchestra::Builder): see
//! [`orchestra_core::port`] for the traits, and the repository's `docs/ports.md` for how.

/// `Debug` as people read an error, with all its causes: that is what a `main` that returns it prints.
macro_rules! debug_as_report {
    ($error:ty) => {
        impl std::fmt::Debug for $error {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}", orchestra_core::error::report(self))
            }
        }
    };
}
pub(crate) use debug_as_report;

pub mod agent;
pub mod api;
pub mod cache;
pub mod clock;
pub mod control;
pub mod control_plane;
pub mod driver;
pub mod events;
pub mod ids;
pub mod loops;
pub mod meter;
pub mod net;
pub mod orchestra;
pub mod prelude;
pub mod probe;
pub mod secret;
#[cfg(feature = "sim")]
pub mod sim;
pub mod store;

pub use orchestra::Orchestra;

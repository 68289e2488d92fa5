//! Everything that waits.

pub mod agent;
pub mod api;
pub mod cache;
pub mod clock;
pub mod control;
pub mod driver;
pub mod events;
pub mod ids;
pub mod loops;
pub mod meter;
pub mod net;
pub mod probe;
pub mod secret;
pub mod store;

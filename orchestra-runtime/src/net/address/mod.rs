//! An address for each pod and each service, out of the loopback range.
//!
//! On Linux all of 127.0.0.0/8 is local, so that every pod gets an address of its own and may
//! listen on the port its manifest names. Where only 127.0.0.1 exists ([`LoopbackSpan::Single`])
//! pods share it and get ports instead, handed over in the environment: see [`PodAddresses`].
//! Services share it too, each on the ports its manifest names.

mod plan;
mod pods;
mod pool;
mod range;

pub use plan::{AddressPlan, LoopbackSpan, NODE_PREFIX, POD_RANGE, SERVICE_RANGE, SHARES};
pub use pods::{PodAddress, PodAddresses, free_port};
pub use pool::AddressPool;
pub use range::{AddressError, AddressRange};

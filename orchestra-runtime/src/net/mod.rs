//! How workloads are reached: addresses, who answers for a service, and the proxies before it.
//!
//! * [`address`]: an address for each pod and each service out of the loopback range.
//! * [`registry`]: the endpoint sets of one process, behind the port `ServiceRegistry`.
//! * [`l4`]: a TCP proxy on the stable addresses of services.

pub mod address;
pub mod l4;
pub mod ports;
pub mod registry;
pub mod slices;
pub mod traffic;

//! How workloads are reached: addresses, who answers for a service, and the proxies before it.
//!
//! * [`address`]: an address for each pod and each service out of the loopback range.
//! * [`registry`]: the endpoint sets of one process, behind the port `ServiceRegistry`.

pub mod address;
pub mod registry;

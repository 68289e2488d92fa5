//! Addresses, the registry of endpoints, and the L4 proxy.

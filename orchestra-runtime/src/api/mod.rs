//! The typed API over a store.

//! Stores that need nothing but memory.

mod memory;

pub use memory::{
    HISTORY_BYTES_MAX, HISTORY_ENTRIES_MAX, MemoryStats, MemoryStore, MemoryStoreBuilder,
};

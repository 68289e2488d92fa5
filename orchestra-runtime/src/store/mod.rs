//! Stores that need nothing but memory.

//! Control loops: a queue of keys, and passes over them.

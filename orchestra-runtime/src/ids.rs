//! Identity, from a seed.

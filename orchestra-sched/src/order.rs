//! Start and stop waves from dependencies.

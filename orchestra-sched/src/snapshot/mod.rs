//! The cluster at one instant: immutable, in columns, built by change.

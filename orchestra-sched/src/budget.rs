//! How many pods a disruption budget can spare.

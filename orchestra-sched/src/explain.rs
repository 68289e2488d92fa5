//! Why here, why not there, what would help.

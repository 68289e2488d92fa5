//! The suite of the port of that name.

//! The controllers, one a file: read, ask sched, act.

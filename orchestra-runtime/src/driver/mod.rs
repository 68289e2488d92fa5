//! Drivers that come with the runtime: task, process, sim.

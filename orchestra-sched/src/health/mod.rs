//! Whether pods, nodes and zones are well, and what follows.
//!
//! * [`tracker`]: from single probes to the health of a container.
//! * [`backoff`]: whether and when an ended container starts again.
//! * [`nodes`]: whether a node is there, its taints, and when pods must leave it.
//! * [`zones`]: how fast nodes may be emptied when many are lost at once.

pub mod backoff;
pub mod nodes;
pub mod tracker;
pub mod zones;

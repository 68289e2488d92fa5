//! Whether pods, nodes and zones are well, and what follows.

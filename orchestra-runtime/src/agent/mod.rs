//! A pod's life on one node.

//! A live, indexed copy of one kind: list, then watch.

//! Wrappers that inject faults: lost, delayed, duplicated and ambiguous calls.

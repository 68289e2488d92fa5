//! Probers, and the wheel that paces them.

//! Moving from one revision to the next.

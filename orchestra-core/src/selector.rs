//! Selecting objects by label, and nodes by label and field.

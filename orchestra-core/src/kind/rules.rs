//! Rules that several kinds share.

use std::fmt;

use smol_str::SmolStr;

use super::{FieldError, Invalid};

/// The most bytes that the values of one config map or secret may hold in all.
const DATA_BYTES_MAX: usize = 1 << 20;

impl Invalid {
    /// Adds a broken rule.
    pub(crate) fn refuse(
        &mut self,
        path: impl Into<String>,
        value: impl fmt::Display,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.errors
            .push(FieldError::new(path, value, problem, remedy));
    }
}

/// Checks the keys of a config map or secret.
pub(super) fn data_keys<'a>(
    invalid: &mut Invalid,
    path: &str,
    keys: impl Iterator<Item = &'a SmolStr>,
) {
    for key in keys {
        let known = key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if key.is_empty() || key.len() > 253 || !known || key == "." || key.starts_with("..") {
            invalid.refuse(
                format!("{path}[{key}]"),
                key,
                "is not a usable key",
                "write 1 to 253 letters, digits, '-', '_' and '.', not starting with '..'",
            );
        }
    }
}

/// Checks the size of a config map or secret.
pub(super) fn data_size(invalid: &mut Invalid, path: &str, bytes: usize) {
    if bytes > DATA_BYTES_MAX {
        invalid.refuse(
            path,
            format!("{bytes} bytes"),
            format!("is more than {DATA_BYTES_MAX} bytes in all"),
            "split it over several objects, or mount a volume",
        );
    }
}

//! Rules that several kinds share: names, labels, quantities, and how a broken one is reported.

use std::collections::BTreeSet;
use std::fmt;

use smol_str::SmolStr;

use super::{FieldError, Invalid};
use crate::meta::Labels;
use crate::quantity::ResourceList;
use crate::selector::{label_key_problem, label_value_problem};

/// The most labels of one object, and the most entries of one selector.
pub const LABELS_MAX: usize = 1_000;
/// The annotation in which the API remembers which fields an apply set. It is no user's, and does
/// not count towards [`ANNOTATIONS_BYTES_MAX`]; the size of the object as a whole bounds it.
pub const ANNOTATION_LAST_APPLIED: &str = "orchestra.dev/last-applied";
/// The most bytes that the keys and values of all annotations of one object may have.
pub const ANNOTATIONS_BYTES_MAX: usize = 256 << 10;
/// The most bytes that the values of one config map or secret may hold in all.
pub const DATA_BYTES_MAX: usize = 1 << 20;

/// Where a field is. Made of borrowed steps: it costs nothing until a rule is broken.
#[derive(Clone, Copy)]
pub(super) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    pub(super) const fn root(field: &'a str) -> Self {
        Self {
            parent: None,
            step: Step::Field(field),
        }
    }

    pub(super) const fn field(&'a self, field: &'a str) -> Self {
        Self {
            parent: Some(self),
            step: Step::Field(field),
        }
    }

    pub(super) const fn index(&'a self, index: usize) -> Self {
        Self {
            parent: Some(self),
            step: Step::Index(index),
        }
    }

    pub(super) const fn key(&'a self, key: &'a str) -> Self {
        Self {
            parent: Some(self),
            step: Step::Key(key),
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Field(field) if self.parent.is_some() => write!(f, ".{field}"),
            Step::Field(field) => f.write_str(field),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{key}]"),
        }
    }
}

impl Invalid {
    /// The most errors that are collected of one object: after that many, more do not help.
    const ERRORS_MAX: usize = 100;

    /// Adds a broken rule.
    pub(super) fn refuse(
        &mut self,
        path: impl fmt::Display,
        value: impl fmt::Display,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        if self.errors.len() < Self::ERRORS_MAX {
            self.errors
                .push(FieldError::new(path.to_string(), value, problem, remedy));
        }
    }

    /// Adds that something is not there.
    pub(super) fn missing(&mut self, path: impl fmt::Display, remedy: impl Into<String>) {
        self.refuse(path, "", "is missing", remedy);
    }
}

/// Up to 63 lower-case letters, digits and `-`, a letter or digit at both ends.
pub(super) fn is_dns_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let outer = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    bytes.len() <= 63
        && outer(bytes.first())
        && outer(bytes.last())
        && bytes
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

/// Up to 253 characters: DNS labels (here of any length) with dots between them.
pub(super) fn is_dns_subdomain(text: &str) -> bool {
    let part = |part: &str| {
        let bytes = part.as_bytes();
        let fits = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        bytes.first().is_some_and(fits)
            && bytes.last().is_some_and(fits)
            && bytes.iter().all(|b| fits(b) || *b == b'-')
    };
    text.len() <= 253 && text.split('.').all(part)
}

/// The name of a port: up to 15 lower-case letters, digits and single `-` between them, with a
/// letter among them.
pub(super) fn is_port_name(text: &str) -> bool {
    text.len() <= 15
        && is_dns_label(text)
        && !text.contains("--")
        && text.bytes().any(|b| b.is_ascii_lowercase())
}

pub(super) fn dns_label(invalid: &mut Invalid, path: Path<'_>, text: &str) {
    if !is_dns_label(text) {
        let remedy = "write 1 to 63 lower-case letters, digits and '-', a letter or digit at both \
                      ends";
        invalid.refuse(path, text, "is not a DNS label", remedy);
    }
}

pub(super) fn dns_subdomain(invalid: &mut Invalid, path: Path<'_>, text: &str) {
    if !is_dns_subdomain(text) {
        let remedy = "write 1 to 253 lower-case letters, digits, '-' and '.', a letter or digit \
                      at both ends of each part";
        invalid.refuse(path, text, "is not a DNS subdomain", remedy);
    }
}

/// A key as labels, annotations, taints and finalizers have it.
pub(super) fn label_key(invalid: &mut Invalid, path: Path<'_>, key: &str) {
    if let Some(problem) = label_key_problem(key) {
        let problem = format!("is not a qualified name: {problem}");
        invalid.refuse(path, key, problem, "write it like example.com/name or name");
    }
}

pub(super) fn labels(invalid: &mut Invalid, path: Path<'_>, labels: &Labels) {
    if labels.len() > LABELS_MAX {
        let count = format!("{} entries", labels.len());
        let remedy = "keep labels for selecting, and put the rest into annotations or a ConfigMap";
        invalid.refuse(path, count, format!("has more than {LABELS_MAX}"), remedy);
        return;
    }
    for (key, value) in labels {
        label_key(invalid, path.key(key), key);
        if let Some(problem) = label_value_problem(value) {
            let remedy = "write up to 63 letters, digits, '-', '_' and '.', or use an annotation";
            invalid.refuse(
                path.key(key),
                value,
                format!("is not a label value: {problem}"),
                remedy,
            );
        }
    }
}

pub(super) fn annotations(invalid: &mut Invalid, path: Path<'_>, annotations: &Labels) {
    let bytes: usize = annotations
        .iter()
        .filter(|(key, _)| *key != ANNOTATION_LAST_APPLIED)
        .map(|(key, value)| key.len() + value.len())
        .sum();
    if bytes > ANNOTATIONS_BYTES_MAX {
        let size = format!("{} entries, {bytes} bytes", annotations.len());
        let problem = format!("is more than {ANNOTATIONS_BYTES_MAX} bytes in all");
        invalid.refuse(path, size, problem, "put large values into a ConfigMap");
        return;
    }
    for key in annotations.keys() {
        // Annotations in the wild have upper-case prefixes.
        if key.bytes().any(|b| b.is_ascii_uppercase()) {
            label_key(invalid, path.key(key), &key.to_ascii_lowercase());
        } else {
            label_key(invalid, path.key(key), key);
        }
    }
}

/// A port that is not zero.
pub(super) fn port(invalid: &mut Invalid, path: Path<'_>, number: u16) {
    if number == 0 {
        invalid.refuse(
            path,
            number,
            "is not a port",
            "write a number from 1 to 65535",
        );
    }
}

/// Tells of names that come twice, at the second.
pub(super) fn unique<'a>(
    invalid: &mut Invalid,
    path: Path<'_>,
    field: &str,
    names: impl Iterator<Item = &'a str>,
) {
    let mut seen = BTreeSet::new();
    for (index, name) in names.enumerate() {
        if !name.is_empty() && !seen.insert(name) {
            invalid.refuse(
                path.index(index).field(field),
                name,
                "is already taken by an earlier entry",
                "give each its own",
            );
        }
    }
}

/// Amounts of resources: known names, nothing negative, whole numbers where nothing can be split.
pub(super) fn resources(invalid: &mut Invalid, path: Path<'_>, list: &ResourceList) {
    for (name, amount) in list {
        label_key(invalid, path.key(name), name);
        if amount.is_negative() {
            invalid.refuse(path.key(name), amount, "is negative", "write 0 or more");
        } else if !is_divisible(name) && amount.as_milli() % 1_000 != 0 {
            let remedy = "write a whole number: nothing but cpu comes in parts";
            invalid.refuse(path.key(name), amount, "is not whole", remedy);
        }
    }
}

/// Memory and storage may be written as fractions of a unit and are rounded up to bytes.
fn is_divisible(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "storage" | "ephemeral-storage")
        || name.ends_with(".cpu")
        || name.ends_with(".memory")
        || name.ends_with("-storage")
        || name.ends_with(".storage")
}

/// Whether a resource is one that applications name, or that cannot be overcommitted.
pub(super) fn is_exact(name: &str) -> bool {
    name.contains('/') || name.starts_with("hugepages-")
}

/// Checks the keys of a config map or secret.
pub(super) fn data_keys<'a>(
    invalid: &mut Invalid,
    path: Path<'_>,
    keys: impl Iterator<Item = &'a SmolStr>,
) {
    for key in keys {
        data_key(invalid, path.key(key), key);
    }
}

/// Checks one key of a config map or secret: it may become the name of a file.
pub(super) fn data_key(invalid: &mut Invalid, path: Path<'_>, key: &str) {
    let known = key
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if key.is_empty() || key.len() > 253 || !known || key == "." || key.starts_with("..") {
        invalid.refuse(
            path,
            key,
            "is not a usable key",
            "write 1 to 253 letters, digits, '-', '_' and '.', not starting with '..'",
        );
    }
}

/// Checks the size of a config map or secret.
pub(super) fn data_size(invalid: &mut Invalid, path: Path<'_>, bytes: usize) {
    if bytes > DATA_BYTES_MAX {
        invalid.refuse(
            path,
            format!("{bytes} bytes"),
            format!("is more than {DATA_BYTES_MAX} bytes in all"),
            "split it over several objects, or mount a volume",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_like_the_manifest() {
        let spec = Path::root("spec");
        let containers = spec.field("containers");
        let first = containers.index(0);
        assert_eq!(first.field("name").to_string(), "spec.containers[0].name");
        assert_eq!(Path::root("data").key("a.b").to_string(), "data[a.b]");
    }

    #[test]
    fn names_are_told_from_what_is_none() {
        let long_label = "a".repeat(64);
        let long_name = format!("{}.b", "a".repeat(252));
        for (text, label, subdomain, port) in [
            ("web", true, true, true),
            ("3", true, true, false),
            ("a-1", true, true, true),
            ("a--b", true, true, false),
            ("a.b", false, true, false),
            ("a..b", false, false, false),
            ("-a", false, false, false),
            ("a-", false, false, false),
            ("Web", false, false, false),
            ("", false, false, false),
            ("sixteen-letters-", false, false, false),
            ("sixteen-letters1", true, true, false),
            (&long_label, false, true, false),
            (&long_name, false, false, false),
        ] {
            assert_eq!(is_dns_label(text), label, "label {text:?}");
            assert_eq!(is_dns_subdomain(text), subdomain, "subdomain {text:?}");
            assert_eq!(is_port_name(text), port, "port {text:?}");
        }
    }
}

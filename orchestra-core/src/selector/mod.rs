//! Selecting objects by label, and nodes by label and field.

mod label;
mod node;
mod parse;

pub use label::{LabelSelector, LabelSelectorRequirement, SelectorOperator};
pub use node::{
    NodeSelector, NodeSelectorOperator, NodeSelectorRequirement, NodeSelectorTerm,
    PreferredSchedulingTerm,
};
pub use parse::ParseSelectorError;

/// Why a text cannot be the key of a label, if it cannot: `name` or `prefix/name`, where the name
/// has up to 63 letters, digits, `-`, `_` and `.`, letters or digits at both ends, and the prefix
/// is a DNS subdomain of up to 253 characters.
pub fn label_key_problem(key: &str) -> Option<&'static str> {
    let name = match key.split_once('/') {
        Some((prefix, name)) => {
            if !is_dns_subdomain(prefix) {
                return Some("its prefix is not a DNS subdomain");
            }
            name
        }
        None => key,
    };
    if name.is_empty() {
        return Some("its name is empty");
    }
    label_text_problem(name)
}

/// Why a text cannot be the value of a label, if it cannot: empty, or up to 63 letters, digits,
/// `-`, `_` and `.`, letters or digits at both ends.
pub fn label_value_problem(value: &str) -> Option<&'static str> {
    if value.is_empty() {
        None
    } else {
        label_text_problem(value)
    }
}

fn label_text_problem(text: &str) -> Option<&'static str> {
    let bytes = text.as_bytes();
    let inner = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let outer = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    if bytes.len() > 63 {
        Some("it has more than 63 characters")
    } else if !bytes.iter().all(inner) {
        Some("it has a character other than letters, digits, '-', '_' and '.'")
    } else if !outer(bytes.first()) || !outer(bytes.last()) {
        Some("it does not start and end with a letter or digit")
    } else {
        None
    }
}

fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|part| {
            let bytes = part.as_bytes();
            let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
            bytes.iter().all(inner)
                && bytes.first().is_some_and(|b| *b != b'-')
                && bytes.last().is_some_and(|b| *b != b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_keys_and_values() {
        for good in ["app", "app.kubernetes.io/name", "A_b-c.9", &"x".repeat(63)] {
            assert_eq!(label_key_problem(good), None, "{good}");
        }
        for bad in [
            "",
            "/",
            "a/",
            "/b",
            "Upper/x",
            "a/b/c",
            "-a",
            "a b",
            "ä",
            &"x".repeat(64),
        ] {
            assert!(label_key_problem(bad).is_some(), "{bad}");
        }
        assert_eq!(label_value_problem(""), None);
        assert!(label_value_problem("a/b").is_some());
    }
}

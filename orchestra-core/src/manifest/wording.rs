//! What a person is told of a wrong type, or of YAML that cannot be read.

use serde_saphyr::Error;
use serde_saphyr::budget::BudgetBreach;

use super::text::{ALIAS_DEPTH_MAX, ALIASED_VALUES_MAX, DEPTH_MAX, TEXT_BYTES_MAX, VALUES_MAX};
use super::tree::{Node, Value};

/// What is wrong with a value, and what to write instead.
pub(super) struct Said {
    /// The value, where the message knows it better than the tree.
    pub(super) value: Option<String>,
    pub(super) problem: String,
    pub(super) remedy: String,
}

/// Says what a reader's message means for the value that it is about.
pub(super) fn wrong_type(message: &str, found: Option<&Node>) -> Said {
    // Our own types begin with the value as it was written, and say the remedy themselves.
    let (value, message) = match message.strip_prefix('"').and_then(|m| m.split_once("\" ")) {
        Some((value, rest)) => (Some(value.to_owned()), rest),
        None => (None, message),
    };
    let said = |problem: &str, remedy: &str| Said {
        value: value.clone(),
        problem: problem.to_owned(),
        remedy: remedy.to_owned(),
    };
    if let Some((problem, remedy)) = message.split_once("; ") {
        return said(problem, remedy);
    }
    let Some((_, wanted)) = message.split_once(", expected ") else {
        let remedy = match message {
            m if m.starts_with("missing field") => "add it",
            _ => "write what is expected, or leave the field out",
        };
        return said(message, remedy);
    };
    let value = found.map_or(&Value::Null, |node| &node.value);
    let (wanted, remedy) = wanted_in_words(wanted, value);
    said(&format!("{} {wanted}", is_not(value, &wanted)), &remedy)
}

/// What is wanted, and what to write.
fn wanted_in_words(wanted: &str, found: &Value) -> (String, String) {
    let unsigned = |most: &str| {
        let wanted = format!("a whole number from 0 to {most}");
        let remedy = match found {
            Value::String(text) if text.parse::<u64>().is_ok() => "write it without quotes",
            _ => "write such a number",
        };
        (wanted, remedy.to_owned())
    };
    match wanted {
        "u8" => unsigned("255"),
        "u16" => unsigned("65535"),
        "u32" => unsigned("4294967295"),
        "u64" => unsigned("18446744073709551615"),
        _ if wanted.starts_with("a port") => {
            let (_, remedy) = unsigned("65535");
            ("a port from 1 to 65535".into(), remedy)
        }
        "i32" | "i64" => {
            let remedy = match found {
                Value::String(text) if text.parse::<i64>().is_ok() => "write it without quotes",
                _ => "write such a number",
            };
            ("a whole number in range".into(), remedy.into())
        }
        "a boolean" => {
            let remedy = match found {
                Value::String(text) if matches!(text.as_str(), "true" | "false") => {
                    "write it without quotes"
                }
                _ => "write true or false",
            };
            ("true or false".into(), remedy.into())
        }
        "a string" => ("a text".into(), "write it in quotes".into()),
        "a sequence" => {
            let remedy = "write each entry on a line of its own, after '- '";
            ("a list".into(), remedy.into())
        }
        "a map" => ("a mapping".into(), "write lines like key: value".into()),
        _ if wanted.starts_with("struct ") => {
            ("a mapping".into(), "write lines like key: value".into())
        }
        "a value in base64" => {
            let remedy = "encode it, or put it under stringData";
            (wanted.into(), remedy.into())
        }
        _ if wanted.starts_with("one of ") => (wanted.into(), "write one of these".into()),
        _ => (wanted.into(), "write that, or leave the field out".into()),
    }
}

/// How to say that a value is not the thing wanted.
fn is_not(found: &Value, wanted: &str) -> &'static str {
    let kind_wanted = matches!(wanted, "a text" | "a list" | "a mapping");
    match found {
        Value::Int(number) if *number < 0 && !kind_wanted => "is negative, not",
        Value::Null => "is nothing, not",
        Value::Bool(_) => "is a truth value, not",
        Value::Int(_) | Value::UInt(_) | Value::Float(_) if kind_wanted => "is a number, not",
        Value::String(_) if !wanted.starts_with("one of ") => "is a text, not",
        _ => "is not",
    }
}

/// Follows a key that comes twice in one mapping.
pub(super) const TWICE: &str = " stands there twice";

/// A document is nested too deep.
pub(super) fn too_deep() -> String {
    format!("it goes deeper than {DEPTH_MAX} levels")
}

/// A document holds too much.
pub(super) fn too_many() -> String {
    format!("it has more than {VALUES_MAX} values")
}

/// What to do about a template.
pub(super) const TEMPLATE: &str = "it looks like a template: fill it in first, for instance with \
                                   helm template, kustomize build or envsubst, and load what \
                                   comes out";

/// Whether a text has a place to be filled in.
pub(super) fn is_template(text: &str) -> bool {
    ["{{", "{%", "${"].iter().any(|open| text.contains(open))
}

/// What to do about a key that comes twice.
fn twice(key: &str) -> &'static str {
    match key {
        "apiVersion" | "kind" | "metadata" | "spec" => {
            "put a line with --- between two objects, or keep one of the two"
        }
        _ => "keep one of the two",
    }
}

/// Says what is wrong with JSON, and what to do about it. `line` is the text of the line where it
/// was found.
pub(super) fn malformed_json(error: &serde_json::Error, line: &str) -> (String, &'static str) {
    let said = error.to_string();
    if error.is_data() {
        // Ours: the place is told beside it.
        let said = said
            .rsplit_once(" at line ")
            .map_or(said.as_str(), |(said, _)| said);
        let key = said
            .strip_suffix(TWICE)
            .and_then(|key| key.trim().strip_prefix('"'));
        let remedy = match key.and_then(|key| key.strip_suffix('"')) {
            Some(key) => twice(key),
            None if said == too_deep() => "nest it less deep",
            None => "load it in parts",
        };
        return (said.to_owned(), remedy);
    }
    let problem = format!("it is not readable JSON: {said}");
    let remedy = if is_template(line) {
        TEMPLATE
    } else if error.is_eof() {
        "close what is open, or load the file as a whole: its end is missing"
    } else if said.starts_with("trailing comma") {
        "leave out the comma before the closing bracket"
    } else if said.starts_with("key must be a string") {
        "put keys in double quotes"
    } else if said.starts_with("control character") {
        "write \\n for a line break within a text, and \\t for a tab"
    } else if said.starts_with("invalid escape") || said.contains("surrogate") {
        "write \\\\ for a backslash"
    } else if said.starts_with("number out of range") {
        "write a smaller number, or put it in quotes if it is a text"
    } else if said.starts_with("expected `,`") || said.starts_with("expected `:`") {
        "write what is missing just before it"
    } else {
        "put texts in double quotes; only numbers, true, false and null go without"
    };
    (problem, remedy)
}

/// Says what is wrong with YAML, and what to do about it. `line` is the text of the line where it
/// was found.
pub(super) fn malformed(error: &Error, line: &str) -> (String, &'static str) {
    const SYNTAX: &str = "correct the syntax there, or the indentation and quotes just above";
    if is_template(line) {
        return (format!("it is not readable YAML: {error}"), TEMPLATE);
    }
    if let Some(said) = too_large(error) {
        return said;
    }
    match error {
        Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or("a key");
            (format!("{key:?}{TWICE}"), twice(key))
        }
        Error::NullIntoString { .. } => (
            "a key is missing".to_owned(),
            "write the key before the colon, in quotes if it is the word null",
        ),
        Error::Unexpected { expected, .. } if expected.contains("string scalar") => (
            "a key is a list or a mapping".to_owned(),
            "write a text before the colon; quote it if it begins with { or [",
        ),
        Error::NonFiniteFloat { .. } => (
            "a number is not finite".to_owned(),
            "write a finite number, or put it in quotes if it is a text",
        ),
        Error::UnknownAnchor { .. } => (
            format!("it is not readable YAML: {error}"),
            "name the anchor with & before it is used, or quote a text that begins with *",
        ),
        _ => {
            let message = error.to_string();
            let remedy = if message.contains("recursion limit") {
                "nest it less deep"
            } else if message.contains("found a tab") || message.contains("tabs disallowed") {
                "indent with spaces, not with tabs"
            } else if message.contains("unexpected character") {
                "put the text in quotes; if there is no text, it may be no manifest at all"
            } else {
                SYNTAX
            };
            (format!("it is not readable YAML: {message}"), remedy)
        }
    }
}

/// Says which bound of a document was passed, if that is what is wrong.
fn too_large(error: &Error) -> Option<(String, &'static str)> {
    const ALIASES: &str = "write out what an alias, such as *name, stands for, or use fewer";
    let (by_alias, error) = match error {
        Error::AliasError { error, .. } => (true, error.as_ref()),
        error => (false, error),
    };
    let swollen = || {
        let problem = format!(
            "it swells by its aliases: all together they may stand for {ALIASED_VALUES_MAX} \
             values and {TEXT_BYTES_MAX} bytes, and hold one another {ALIAS_DEPTH_MAX} deep"
        );
        (problem, ALIASES)
    };
    Some(match error {
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => swollen(),
        Error::Budget { breach, .. } => match breach {
            BudgetBreach::Depth { .. } => (too_deep(), "nest it less deep"),
            BudgetBreach::Aliases { .. } | BudgetBreach::Anchors { .. } => {
                (format!("it uses too many aliases: {breach:?}"), ALIASES)
            }
            _ if by_alias => swollen(),
            _ => (too_many(), "load it in parts"),
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use crate::manifest::{Loader, load};

    fn first(text: &str) -> String {
        let error = load(text).unwrap_err();
        error.problems[0].to_string()
    }

    #[test]
    fn wrong_types_are_told_in_words() {
        for (line, told) in [
            (
                "replicas: -1",
                "spec.replicas: \"-1\" is negative, not a whole number from 0 to 4294967295; write such a number",
            ),
            (
                "replicas: \"3\"",
                "spec.replicas: \"3\" is a text, not a whole number from 0 to 4294967295; write it without quotes",
            ),
            ("replicas: 1.5", "\"1.5\" is not a whole number"),
            ("replicas: [1]", "\"a list of 1\" is not a whole number"),
            (
                "paused: 1",
                "spec.paused: \"1\" is not true or false; write true or false",
            ),
            (
                "paused: \"true\"",
                "is a text, not true or false; write it without quotes",
            ),
            (
                "template: x",
                "spec.template: \"x\" is a text, not a mapping; write lines like key: value",
            ),
            (
                "strategy: {type: rolling}",
                "\"rolling\" is not one of RollingUpdate, Recreate; write one of these",
            ),
            (
                "strategy: {rollingUpdate: {maxSurge: -1}}",
                "spec.strategy.rollingUpdate.maxSurge: \"-1\" is negative, not a count of 0",
            ),
            (
                "template: {spec: {containers: {name: a}}}",
                "spec.template.spec.containers: \"a mapping of 1\" is not a list; write each entry",
            ),
            (
                "template: {spec: {containers: [null]}}",
                "containers[0]: \"null\" is nothing, not a mapping",
            ),
            (
                "template: {spec: {containers: [{args: [1]}]}}",
                "args[0]: \"1\" is a number, not a text; write it in quotes",
            ),
            (
                "template: {spec: {overhead: {cpu: 1e300}}}",
                "[cpu]: \"1e300\" is not a quantity: it is too large; the largest",
            ),
            (
                "template: {spec: {overhead: {cpu: 2 GB}}}",
                "[cpu]: \"2 GB\" is not a quantity: ",
            ),
        ] {
            let said = first(&format!(
                "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: a}}\nspec:\n  {line}\n"
            ));
            assert!(
                said.starts_with("document 1, line 5, Deployment a: spec."),
                "{said}"
            );
            assert!(said.contains(told), "{said}\n{told}");
        }
    }

    #[test]
    fn unreadable_yaml_is_told_with_a_remedy() {
        for (text, line, told) in [
            ("a: 1\nb:\n\tc: 1\n", 3, "spaces, not with tabs"),
            ("a: 'x\n", 1, "unclosed quote"),
            ("a: {b: 1\n", 1, "unclosed bracket"),
            (
                "a:\n  b: 1\n c: 2\n",
                3,
                "indentation and quotes just above",
            ),
            ("a: b: c\n", 1, "mapping values are not allowed"),
            ("a: 1\nb: @x\n", 2, "put the text in quotes"),
            ("a: *x\n", 1, "name the anchor with &"),
            (
                "a: 1\na: 2\n",
                2,
                "\"a\" stands there twice; keep one of the two",
            ),
            (
                "kind: A\nspec: {}\nkind: B\n",
                3,
                "\"kind\" stands there twice; put a line with ---",
            ),
            ("a: {{ .Values.a }}\n", 1, "it looks like a template"),
            ("{{- if .a }}\na: 1\n", 1, "it looks like a template"),
            ("a: {[b]: 1}\n", 1, "a key is a list or a mapping"),
            ("a: {null: 1}\n", 1, "a key is missing"),
            ("a: .inf\n", 1, "not finite"),
            ("a: {<<: 1}\n", 1, "merge value must be mapping"),
        ] {
            let said = first(text);
            let place = format!("document 1, line {line}: ");
            assert!(
                said.starts_with(&place) && said.contains(told),
                "{text:?}: {said}"
            );
        }
        let deep: String = (0..100)
            .map(|n| format!("{}a:\n", "  ".repeat(n)))
            .collect();
        assert!(
            first(&deep).contains("it goes deeper than 64 levels; nest it less deep"),
            "{}",
            first(&deep)
        );
        let wide = format!("a: &a [{}]\n", "x, ".repeat(1_000));
        let long = format!("a: &a {}\n", "x".repeat(100_000));
        let uses = format!("b: [{}]\n", "*a, ".repeat(1_000));
        for text in [wide + &uses, long + &uses] {
            let said = first(&text);
            assert!(
                said.contains("swells by its aliases") && said.contains("what an alias"),
                "{said}"
            );
        }
    }

    #[test]
    fn nothing_is_an_empty_manifest_and_prose_is_none() {
        for text in [
            "",
            "\n",
            "# a\n# b\n",
            "---\n# a\n---\n",
            "null\n",
            "[]",
            "\u{feff}",
        ] {
            assert_eq!(
                load(text).map(|found| found.objects.len()),
                Ok(0),
                "{text:?}"
            );
        }
        for text in ["404: Not Found", "hello", "42", "{}", "services: {web: {}}"] {
            let error = Loader::new().skip_unknown_kinds().load(text).unwrap_err();
            assert!(error.to_string().contains("apiVersion"), "{text}: {error}");
        }
    }
}

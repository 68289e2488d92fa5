//! Which labels an object must have.

use std::fmt;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::{label_key_problem, label_value_problem};
use crate::kind::{FieldError, Invalid};
use crate::meta::{Labels, null_as_default};

/// Selects objects by their labels: all that is said must hold. One that says nothing selects
/// everything; where a selector may be absent, the field's own documentation says what that means.
///
/// Its text form, read by [`FromStr`](std::str::FromStr) and written by `Display`, is that of
/// `kubectl get -l`.
///
/// ```
/// use orchestra_core::selector::LabelSelector;
///
/// let selector: LabelSelector = "app=web,tier in (front,edge),!canary".parse()?;
/// let labels = [("app".into(), "web".into()), ("tier".into(), "edge".into())].into();
/// assert!(selector.matches(&labels));
/// # Ok::<(), orchestra_core::selector::ParseSelectorError>(())
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// Labels that must be there with exactly these values.
    #[serde(
        skip_serializing_if = "Labels::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub match_labels: Labels,
    /// What else must hold.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub match_expressions: Vec<LabelSelectorRequirement>,
}

impl LabelSelector {
    /// Selects what has all of `labels`.
    pub fn of(labels: Labels) -> Self {
        Self {
            match_labels: labels,
            match_expressions: Vec::new(),
        }
    }

    /// Whether it selects everything because it says nothing.
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.match_labels
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
            && self
                .match_expressions
                .iter()
                .all(|requirement| requirement.matches(labels))
    }

    /// Checks keys, values and operators, and adds each broken rule to `found`. `path` is where the
    /// selector stands, for instance `spec.selector`.
    pub fn validate(&self, path: &str, found: &mut Invalid) {
        for (key, value) in &self.match_labels {
            let at = || format!("{path}.matchLabels[{key}]");
            check_key(key, at, found);
            check_value(value, at, found);
        }
        for (n, requirement) in self.match_expressions.iter().enumerate() {
            requirement.validate(&format!("{path}.matchExpressions[{n}]"), found);
        }
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (key, value) in &self.match_labels {
            write!(f, "{separator}{key}={value}")?;
            separator = ",";
        }
        for requirement in &self.match_expressions {
            write!(f, "{separator}{requirement}")?;
            separator = ",";
        }
        Ok(())
    }
}

/// One condition on one label.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelectorRequirement {
    /// The key of the label.
    pub key: SmolStr,
    /// How it is compared.
    pub operator: SelectorOperator,
    /// What it is compared with: at least one value for `In` and `NotIn`, none otherwise.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub values: Vec<SmolStr>,
}

/// How a label is compared.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub enum SelectorOperator {
    /// The label is there and its value is one of those named.
    #[default]
    In,
    /// The label is absent, or its value is none of those named.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
}

impl LabelSelectorRequirement {
    /// Whether an object with these labels meets it.
    pub fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            SelectorOperator::In => value.is_some_and(|value| self.values.contains(value)),
            SelectorOperator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            SelectorOperator::Exists => value.is_some(),
            SelectorOperator::DoesNotExist => value.is_none(),
        }
    }

    fn validate(&self, path: &str, found: &mut Invalid) {
        check_key(&self.key, || format!("{path}.key"), found);
        let takes_values = matches!(
            self.operator,
            SelectorOperator::In | SelectorOperator::NotIn
        );
        check_count(
            self.values.len(),
            takes_values,
            format!("{:?}", self.operator),
            path,
            found,
        );
        for (n, value) in self.values.iter().enumerate() {
            check_value(value, || format!("{path}.values[{n}]"), found);
        }
    }
}

impl fmt::Display for LabelSelectorRequirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.operator, self.values.as_slice()) {
            (SelectorOperator::In, [value]) => write!(f, "{}={value}", self.key),
            (SelectorOperator::NotIn, [value]) => write!(f, "{}!={value}", self.key),
            (SelectorOperator::In, values) => write!(f, "{} in ({})", self.key, values.join(",")),
            (SelectorOperator::NotIn, values) => {
                write!(f, "{} notin ({})", self.key, values.join(","))
            }
            (SelectorOperator::Exists, _) => f.write_str(&self.key),
            (SelectorOperator::DoesNotExist, _) => write!(f, "!{}", self.key),
        }
    }
}

pub(super) fn check_key(key: &str, path: impl FnOnce() -> String, found: &mut Invalid) {
    if let Some(problem) = label_key_problem(key) {
        let problem = format!("is not a label's key: {problem}");
        let remedy = "write one like app or example.com/app";
        found
            .errors
            .push(FieldError::new(path(), key, problem, remedy));
    }
}

fn check_value(value: &str, path: impl FnOnce() -> String, found: &mut Invalid) {
    if let Some(problem) = label_value_problem(value) {
        let problem = format!("is not a label value: {problem}");
        let remedy = "write up to 63 letters, digits, '-', '_' and '.'";
        found
            .errors
            .push(FieldError::new(path(), value, problem, remedy));
    }
}

pub(super) fn check_count(
    count: usize,
    takes_values: bool,
    operator: String,
    path: &str,
    found: &mut Invalid,
) {
    let (problem, remedy) = match (takes_values, count) {
        (true, 0) => (format!("{operator} needs values"), "name at least one"),
        (false, 1..) => (format!("{operator} takes no values"), "leave them out"),
        _ => return,
    };
    found.errors.push(FieldError::new(
        format!("{path}.values"),
        "",
        problem,
        remedy,
    ));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect()
    }

    fn selector(json: &str) -> LabelSelector {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn absent_labels_meet_not_in_and_does_not_exist_only() {
        let have = labels(&[("app", "web")]);
        for (json, selected) in [
            ("{}", true),
            (r#"{"matchLabels":{"app":"web"}}"#, true),
            (r#"{"matchLabels":{"app":"db"}}"#, false),
            (r#"{"matchLabels":null,"matchExpressions":null}"#, true),
            (
                r#"{"matchExpressions":[{"key":"app","operator":"In","values":["web"]}]}"#,
                true,
            ),
            (
                r#"{"matchExpressions":[{"key":"x","operator":"In","values":["web"]}]}"#,
                false,
            ),
            (
                r#"{"matchExpressions":[{"key":"x","operator":"NotIn","values":["web"]}]}"#,
                true,
            ),
            (
                r#"{"matchExpressions":[{"key":"app","operator":"NotIn","values":["web"]}]}"#,
                false,
            ),
            (
                r#"{"matchExpressions":[{"key":"x","operator":"Exists"}]}"#,
                false,
            ),
            (
                r#"{"matchExpressions":[{"key":"x","operator":"DoesNotExist"}]}"#,
                true,
            ),
        ] {
            assert_eq!(selector(json).matches(&have), selected, "{json}");
        }
    }

    #[test]
    fn broken_rules_are_named_by_path() {
        let broken = selector(
            r#"{"matchLabels":{"a b":"c"},"matchExpressions":[
                {"key":"x","operator":"In"},{"key":"y","operator":"Exists","values":["z"]}]}"#,
        );
        let mut found = Invalid::new();
        broken.validate("spec.selector", &mut found);
        let paths: Vec<_> = found
            .errors
            .iter()
            .map(|error| error.path.as_str())
            .collect();
        assert_eq!(
            paths,
            [
                "spec.selector.matchLabels[a b]",
                "spec.selector.matchExpressions[0].values",
                "spec.selector.matchExpressions[1].values",
            ]
        );
    }

    #[test]
    fn an_unknown_or_missing_operator_is_an_error() {
        for json in [r#"{"key":"a","operator":"Gt"}"#, r#"{"key":"a"}"#] {
            assert!(
                serde_json::from_str::<LabelSelectorRequirement>(json).is_err(),
                "{json}"
            );
        }
    }
}

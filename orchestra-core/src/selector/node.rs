//! Which nodes will do.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::label::{check_count, check_key};
use super::label_value_problem;
use crate::kind::{FieldError, Invalid};
use crate::meta::{Labels, null_as_default};

/// Selects nodes that meet at least one of its terms. Without terms it selects none.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSelector {
    /// The alternatives.
    #[serde(deserialize_with = "null_as_default")]
    pub node_selector_terms: Vec<NodeSelectorTerm>,
}

impl NodeSelector {
    /// Whether a node of this name with these labels is selected.
    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        self.node_selector_terms
            .iter()
            .any(|term| term.matches(name, labels))
    }

    /// Checks keys, values and operators, and adds each broken rule to `found`. `path` is where the
    /// selector stands.
    pub fn validate(&self, path: &str, found: &mut Invalid) {
        if self.node_selector_terms.is_empty() {
            found.errors.push(FieldError::new(
                format!("{path}.nodeSelectorTerms"),
                "",
                "it has no terms and so selects no node",
                "name at least one term, or leave the selector out",
            ));
        }
        for (n, term) in self.node_selector_terms.iter().enumerate() {
            term.validate(&format!("{path}.nodeSelectorTerms[{n}]"), found);
        }
    }
}

/// Conditions that must all hold. An empty term selects nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSelectorTerm {
    /// Conditions on the node's labels.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub match_expressions: Vec<NodeSelectorRequirement>,
    /// Conditions on its fields. The only field is `metadata.name`.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub match_fields: Vec<NodeSelectorRequirement>,
}

impl NodeSelectorTerm {
    /// The one field that `match_fields` knows.
    pub const NAME_FIELD: &'static str = "metadata.name";

    /// Whether it says nothing, and so selects nothing.
    pub fn is_empty(&self) -> bool {
        self.match_expressions.is_empty() && self.match_fields.is_empty()
    }

    /// Whether a node of this name with these labels meets all of it. A term that excludes values
    /// no label can have selects nothing.
    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        let field = |requirement: &NodeSelectorRequirement| {
            requirement.key == Self::NAME_FIELD && requirement.meets(Some(name))
        };
        let label = |requirement: &NodeSelectorRequirement| {
            requirement.meets(labels.get(&requirement.key).map(SmolStr::as_str))
        };
        !self.is_empty()
            && !self
                .match_expressions
                .iter()
                .any(NodeSelectorRequirement::excludes_nonsense)
            && self.match_expressions.iter().all(label)
            && self.match_fields.iter().all(field)
    }

    /// Checks keys, values and operators, and adds each broken rule to `found`. `path` is where the
    /// term stands.
    pub fn validate(&self, path: &str, found: &mut Invalid) {
        for (n, requirement) in self.match_expressions.iter().enumerate() {
            let path = format!("{path}.matchExpressions[{n}]");
            check_key(&requirement.key, || format!("{path}.key"), found);
            requirement.validate_values(&path, found);
        }
        for (n, requirement) in self.match_fields.iter().enumerate() {
            let path = format!("{path}.matchFields[{n}]");
            if requirement.key != Self::NAME_FIELD {
                found.errors.push(FieldError::new(
                    format!("{path}.key"),
                    &requirement.key,
                    "no such field",
                    "the only field is metadata.name",
                ));
            }
            let operator = requirement.operator;
            if !matches!(
                operator,
                NodeSelectorOperator::In | NodeSelectorOperator::NotIn
            ) {
                found.errors.push(FieldError::new(
                    format!("{path}.operator"),
                    format!("{operator:?}"),
                    "a field cannot be compared this way",
                    "use In or NotIn",
                ));
            } else if requirement.values.len() != 1 {
                found.errors.push(FieldError::new(
                    format!("{path}.values"),
                    requirement.values.join(","),
                    "a field is compared with exactly one value",
                    "name one, and use several terms for several names",
                ));
            }
        }
    }
}

/// One condition on one label or field of a node.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeSelectorRequirement {
    /// The key of the label, or the name of the field.
    pub key: SmolStr,
    /// How it is compared.
    pub operator: NodeSelectorOperator,
    /// What it is compared with: at least one value for `In` and `NotIn`, one whole number for
    /// `Gt` and `Lt`, none otherwise.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub values: Vec<SmolStr>,
}

/// How a label or field of a node is compared.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub enum NodeSelectorOperator {
    /// It is there and its value is one of those named.
    #[default]
    In,
    /// It is absent, or its value is none of those named.
    NotIn,
    /// It is there.
    Exists,
    /// It is absent.
    DoesNotExist,
    /// It is there and is a whole number greater than the one named.
    Gt,
    /// It is there and is a whole number less than the one named.
    Lt,
}

impl NodeSelectorRequirement {
    /// Whether it excludes a value that no label can have: every node would meet it, and whoever
    /// wrote it meant something else.
    fn excludes_nonsense(&self) -> bool {
        let nonsense = |value: &SmolStr| label_value_problem(value).is_some();
        self.operator == NodeSelectorOperator::NotIn && self.values.iter().any(nonsense)
    }

    /// Whether a label or field with this value (`None`: absent) meets it.
    pub fn meets(&self, value: Option<&str>) -> bool {
        let named = |value: &str| self.values.iter().any(|named| named == value);
        match self.operator {
            NodeSelectorOperator::In => value.is_some_and(named),
            NodeSelectorOperator::NotIn => !value.is_some_and(named),
            NodeSelectorOperator::Exists => value.is_some(),
            NodeSelectorOperator::DoesNotExist => value.is_none(),
            NodeSelectorOperator::Gt => self.numbers(value).is_some_and(|(is, bound)| is > bound),
            NodeSelectorOperator::Lt => self.numbers(value).is_some_and(|(is, bound)| is < bound),
        }
    }

    /// The value and the one bound, if both are whole numbers.
    fn numbers(&self, value: Option<&str>) -> Option<(i64, i64)> {
        let [bound] = self.values.as_slice() else {
            return None;
        };
        Some((value?.parse().ok()?, bound.parse().ok()?))
    }

    fn validate_values(&self, path: &str, found: &mut Invalid) {
        use NodeSelectorOperator as Op;
        match self.operator {
            Op::Gt | Op::Lt => {
                if !matches!(self.values.as_slice(), [one] if one.parse::<i64>().is_ok()) {
                    found.errors.push(FieldError::new(
                        format!("{path}.values"),
                        self.values.join(","),
                        format!("{:?} compares with exactly one whole number", self.operator),
                        "write it like [\"4\"]",
                    ));
                }
            }
            operator => {
                let takes_values = matches!(operator, Op::In | Op::NotIn);
                check_count(
                    self.values.len(),
                    takes_values,
                    format!("{operator:?}"),
                    path,
                    found,
                );
            }
        }
    }
}

/// A preference for some nodes.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PreferredSchedulingTerm {
    /// How much it counts: 1 to 100.
    pub weight: i32,
    /// Which nodes are preferred. An empty term prefers none.
    #[serde(deserialize_with = "null_as_default")]
    pub preference: NodeSelectorTerm,
}

impl PreferredSchedulingTerm {
    /// Checks weight and term, and adds each broken rule to `found`. `path` is where it stands.
    pub fn validate(&self, path: &str, found: &mut Invalid) {
        if !(1..=100).contains(&self.weight) {
            found.errors.push(FieldError::new(
                format!("{path}.weight"),
                self.weight,
                "it is out of range",
                "write 1 to 100",
            ));
        }
        self.preference
            .validate(&format!("{path}.preference"), found);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn term(json: &str) -> NodeSelectorTerm {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn expressions_are_anded_and_terms_are_ored() {
        let labels: Labels = [("zone".into(), "a".into()), ("cpus".into(), "8".into())]
            .into_iter()
            .collect();
        for (json, selected) in [
            ("{}", false),
            (
                r#"{"matchExpressions":[{"key":"zone","operator":"In","values":["a","b"]}]}"#,
                true,
            ),
            (
                r#"{"matchExpressions":[{"key":"cpus","operator":"Gt","values":["7"]}]}"#,
                true,
            ),
            (
                r#"{"matchExpressions":[{"key":"cpus","operator":"Gt","values":["8"]}]}"#,
                false,
            ),
            (
                r#"{"matchExpressions":[{"key":"cpus","operator":"Lt","values":["9"]}]}"#,
                true,
            ),
            (
                r#"{"matchExpressions":[{"key":"zone","operator":"Lt","values":["9"]}]}"#,
                false,
            ),
            (
                r#"{"matchExpressions":[{"key":"none","operator":"Lt","values":["9"]}]}"#,
                false,
            ),
            (
                r#"{"matchExpressions":[{"key":"none","operator":"NotIn","values":["9"]}]}"#,
                true,
            ),
            (
                r#"{"matchExpressions":[{"key":"zone","operator":"Exists"},
                    {"key":"cpus","operator":"DoesNotExist"}]}"#,
                false,
            ),
            (
                r#"{"matchFields":[{"key":"metadata.name","operator":"In","values":["n1"]}]}"#,
                true,
            ),
            (
                r#"{"matchFields":[{"key":"metadata.name","operator":"NotIn","values":["n1"]}]}"#,
                false,
            ),
            (
                r#"{"matchFields":[{"key":"spec.x","operator":"NotIn","values":["n1"]}]}"#,
                false,
            ),
        ] {
            assert_eq!(term(json).matches("n1", &labels), selected, "{json}");
            let both = NodeSelector {
                node_selector_terms: vec![NodeSelectorTerm::default(), term(json)],
            };
            assert_eq!(both.matches("n1", &labels), selected, "{json}");
        }
        assert!(!NodeSelector::default().matches("n1", &labels));
    }

    #[test]
    fn broken_rules_are_named_by_path() {
        let preferred: PreferredSchedulingTerm = serde_json::from_str(
            r#"{"weight":101,"preference":{
                "matchExpressions":[{"key":"x","operator":"Gt","values":["many"]}],
                "matchFields":[{"key":"spec.x","operator":"In","values":["a","b"]}]}}"#,
        )
        .unwrap();
        let mut found = Invalid::new();
        preferred.validate("p", &mut found);
        NodeSelector::default().validate("s", &mut found);
        let paths: Vec<_> = found
            .errors
            .iter()
            .map(|error| error.path.as_str())
            .collect();
        assert_eq!(
            paths,
            [
                "p.weight",
                "p.preference.matchExpressions[0].values",
                "p.preference.matchFields[0].key",
                "p.preference.matchFields[0].values",
                "s.nodeSelectorTerms",
            ]
        );
    }
}

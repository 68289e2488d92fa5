//! Selectors against the plainest reading of the rules, over few keys and values so that they meet.

use orchestra_core::meta::Labels;
use orchestra_core::selector::{
    LabelSelector, LabelSelectorRequirement, NodeSelector, NodeSelectorOperator,
    NodeSelectorRequirement, NodeSelectorTerm, SelectorOperator,
};
use proptest::prelude::*;
use smol_str::SmolStr;

fn key() -> impl Strategy<Value = SmolStr> {
    prop::sample::select(vec!["a", "b", "example.com/c", "in"]).prop_map(SmolStr::new)
}

fn value() -> impl Strategy<Value = SmolStr> {
    prop::sample::select(vec!["", "x", "y", "1", "10", "3", "notin"]).prop_map(SmolStr::new)
}

fn labels() -> impl Strategy<Value = Labels> {
    prop::collection::btree_map(key(), value(), 0..4)
}

fn requirement() -> impl Strategy<Value = LabelSelectorRequirement> {
    use SelectorOperator::{DoesNotExist, Exists, In, NotIn};
    let operator = prop::sample::select(vec![In, NotIn, Exists, DoesNotExist]);
    (key(), operator, prop::collection::vec(value(), 1..4)).prop_map(|(key, operator, values)| {
        let values = if matches!(operator, In | NotIn) {
            values
        } else {
            Vec::new()
        };
        LabelSelectorRequirement {
            key,
            operator,
            values,
        }
    })
}

fn selector() -> impl Strategy<Value = LabelSelector> {
    (labels(), prop::collection::vec(requirement(), 0..3)).prop_map(
        |(match_labels, match_expressions)| LabelSelector {
            match_labels,
            match_expressions,
        },
    )
}

fn node_requirement() -> impl Strategy<Value = NodeSelectorRequirement> {
    use NodeSelectorOperator::{DoesNotExist, Exists, Gt, In, Lt, NotIn};
    let operator = prop::sample::select(vec![In, NotIn, Exists, DoesNotExist, Gt, Lt]);
    (key(), operator, prop::collection::vec(value(), 0..3)).prop_map(|(key, operator, values)| {
        NodeSelectorRequirement {
            key,
            operator,
            values,
        }
    })
}

/// One label at a time, in words of the rules.
fn holds(labels: &Labels, key: &str, operator: &str, values: &[SmolStr]) -> bool {
    let mut present = None;
    for (name, value) in labels {
        if name == key {
            present = Some(value.as_str());
        }
    }
    let listed = values.iter().any(|value| Some(value.as_str()) == present);
    let number = |text: &str| text.parse::<i64>().ok();
    let sides = match (present.and_then(number), values) {
        (Some(is), [bound]) => number(bound).map(|bound| (is, bound)),
        _ => None,
    };
    match operator {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => present.is_some(),
        "DoesNotExist" => present.is_none(),
        "Gt" => sides.is_some_and(|(is, bound)| is > bound),
        "Lt" => sides.is_some_and(|(is, bound)| is < bound),
        other => panic!("{other} is no operator"),
    }
}

proptest! {
    #[test]
    fn labels_are_selected_as_the_rules_say(selector in selector(), labels in labels()) {
        let mut wanted = true;
        for (key, value) in &selector.match_labels {
            wanted &= holds(&labels, key, "In", std::slice::from_ref(value));
        }
        for one in &selector.match_expressions {
            wanted &= holds(&labels, &one.key, &format!("{:?}", one.operator), &one.values);
        }
        prop_assert_eq!(selector.matches(&labels), wanted);
    }

    #[test]
    fn the_text_form_selects_the_same(selector in selector(), labels in labels()) {
        let text = selector.to_string();
        let read: LabelSelector = text.parse().unwrap();
        prop_assert_eq!(read.matches(&labels), selector.matches(&labels), "{}", text);
        let written = read.to_string();
        prop_assert_eq!(written.parse::<LabelSelector>().unwrap(), read);
        let json = serde_json::to_string(&selector).unwrap();
        prop_assert_eq!(serde_json::from_str::<LabelSelector>(&json).unwrap(), selector);
    }

    #[test]
    fn nodes_are_selected_as_the_rules_say(
        terms in prop::collection::vec(prop::collection::vec(node_requirement(), 0..3), 0..3),
        labels in labels(),
    ) {
        let wanted = terms.iter().any(|term| {
            !term.is_empty()
                && term.iter().all(|one| {
                    holds(&labels, &one.key, &format!("{:?}", one.operator), &one.values)
                })
        });
        let term = |match_expressions| NodeSelectorTerm { match_expressions, ..Default::default() };
        let selector =
            NodeSelector { node_selector_terms: terms.into_iter().map(term).collect() };
        prop_assert_eq!(selector.matches("n", &labels), wanted);
    }
}

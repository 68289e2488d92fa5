//! Merging JSON: the merge patch of RFC 7386, and the three-way merge behind apply.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Lists whose elements are told apart by a key, as Kubernetes merges them: field, key. All other
/// lists are replaced as a whole.
const KEYED_LISTS: [(&str, &str); 6] = [
    ("containers", "name"),
    ("initContainers", "name"),
    ("ephemeralContainers", "name"),
    ("env", "name"),
    ("volumes", "name"),
    ("volumeMounts", "mountPath"),
];

/// Applies a merge patch (RFC 7386): members replace, `null` removes, lists are replaced whole.
pub(super) fn merge_patch(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else {
        return;
    };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            merge_patch(target.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// The fields of `value` without their contents: what apply has to remember to know later what
/// was taken out. Contents stay out of it, so that it stays small and no secret is copied.
pub(super) fn shape(value: &Value, field: &str) -> Value {
    match value {
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| (name.clone(), shape(value, name)))
            .collect(),
        Value::Array(elements) => match keyed(elements, field) {
            Some(elements) => elements
                .map(|(key, element)| (key.to_owned(), shape(element, "")))
                .collect(),
            None => Value::Null,
        },
        _ => Value::Null,
    }
}

/// The same shape in fewer bytes: members that are alike share what they are, as lists of one shape
/// and the names of all that have it.
pub(super) fn terse(shape: Value) -> Value {
    let Value::Object(members) = shape else {
        return shape;
    };
    let members: Map<_, _> = members
        .into_iter()
        .map(|(name, shape)| (name, terse(shape)))
        .collect();
    let mut alike: BTreeMap<String, Vec<&String>> = BTreeMap::new();
    for (name, shape) in &members {
        alike.entry(shape.to_string()).or_default().push(name);
    }
    if members.len() < 2 * alike.len() {
        return Value::Object(members);
    }
    let list = |names: Vec<&String>| {
        let shape = names.first().and_then(|name| members.get(*name));
        let names = names.iter().map(|name| Value::String((*name).clone()));
        Value::Array(shape.cloned().into_iter().chain(names).collect())
    };
    Value::Array(alike.into_values().map(list).collect())
}

/// Takes a [`terse`] shape apart again; one that is not stays as it is.
pub(super) fn expand(shape: Value) -> Value {
    match shape {
        Value::Object(members) => members
            .into_iter()
            .map(|(name, shape)| (name, expand(shape)))
            .collect(),
        Value::Array(lists) => {
            let mut members = Map::new();
            for list in lists {
                let Value::Array(list) = list else { continue };
                let mut list = list.into_iter();
                let shape = list.next().map_or(Value::Null, expand);
                for name in list {
                    if let Value::String(name) = name {
                        members.insert(name, shape.clone());
                    }
                }
            }
            Value::Object(members)
        }
        leaf => leaf,
    }
}

/// Three-way merge: takes out of `live` what `before` (a [`shape`]) has and `wanted` has not,
/// then lays `wanted` over it. What neither names stays as it is.
pub(super) fn three_way(live: &mut Value, before: &Value, wanted: &Value) {
    prune(live, before, wanted, "");
    overlay(live, wanted, "");
}

fn prune(live: &mut Value, before: &Value, wanted: &Value, field: &str) {
    let Value::Object(before) = before else {
        return;
    };
    match live {
        Value::Object(live) => {
            for (name, before) in before {
                match (wanted.get(name), live.get_mut(name)) {
                    (Some(wanted), Some(live)) => prune(live, before, wanted, name),
                    (None, Some(_)) => {
                        live.remove(name);
                    }
                    (_, None) => {}
                }
            }
        }
        Value::Array(live) => {
            let (Some(name), Value::Array(wanted)) = (key_of(field), wanted) else {
                return;
            };
            let mut by_key = BTreeMap::new();
            for wanted in wanted {
                if let Some(key) = wanted.get(name).and_then(Value::as_str) {
                    by_key.entry(key).or_insert(wanted);
                }
            }
            live.retain_mut(|element| {
                let key = element.get(name).and_then(Value::as_str).map(str::to_owned);
                let Some((key, before)) = key.and_then(|key| before.get_key_value(&key)) else {
                    return true; // somebody else's
                };
                let wanted = by_key.get(key.as_str());
                if let Some(wanted) = wanted {
                    prune(element, before, wanted, "");
                }
                wanted.is_some()
            });
        }
        _ => {}
    }
}

fn overlay(live: &mut Value, wanted: &Value, field: &str) {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            for (name, wanted) in wanted {
                overlay(
                    live.entry(name.clone()).or_insert(Value::Null),
                    wanted,
                    name,
                );
            }
        }
        (Value::Array(live), Value::Array(wanted))
            if keyed(live, field).is_some() && keyed(wanted, field).is_some() =>
        {
            let name = key_of(field).unwrap_or_default();
            let mut rest: Vec<_> = std::mem::take(live).into_iter().map(Some).collect();
            // Backwards, so that of several with one key the first is taken first.
            let mut by_key: BTreeMap<String, Vec<usize>> = BTreeMap::new();
            for (at, element) in rest.iter().enumerate().rev() {
                if let Some(key) = element.as_ref().and_then(|it| it.get(name)?.as_str()) {
                    by_key.entry(key.to_owned()).or_default().push(at);
                }
            }
            for wanted in wanted {
                let key = wanted.get(name).and_then(Value::as_str);
                let at = key.and_then(|key| by_key.get_mut(key)?.pop());
                let mut element = at.and_then(|at| rest[at].take()).unwrap_or(Value::Null);
                overlay(&mut element, wanted, "");
                live.push(element);
            }
            live.extend(rest.into_iter().flatten());
        }
        (live, wanted) => live.clone_from(wanted),
    }
}

fn key_of(field: &str) -> Option<&'static str> {
    KEYED_LISTS
        .iter()
        .find(|(list, _)| *list == field)
        .map(|(_, key)| *key)
}

/// The elements with their keys, if the list is a keyed one and each element has its key.
fn keyed<'a>(
    elements: &'a [Value],
    field: &str,
) -> Option<impl Iterator<Item = (&'a str, &'a Value)> + use<'a>> {
    let name = key_of(field)?;
    let key = move |element: &'a Value| element.get(name).and_then(Value::as_str);
    elements
        .iter()
        .all(|element| key(element).is_some())
        .then(|| {
            elements
                .iter()
                .filter_map(move |element| Some((key(element)?, element)))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn the_examples_of_rfc_7386() {
        for (target, patch, expected) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (
                json!({"a":"b","b":"c"}),
                json!({"a":null}),
                json!({"b":"c"}),
            ),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (
                json!({"a":{"b":"c"}}),
                json!({"a":{"b":"d","c":null}}),
                json!({"a":{"b":"d"}}),
            ),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a":"b"}), json!(["c"]), json!(["c"])),
            (json!({"a":"foo"}), json!(null), json!(null)),
            (json!({"a":"foo"}), json!("bar"), json!("bar")),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!([1, 2]), json!({"a":"b","c":null}), json!({"a":"b"})),
            (
                json!({}),
                json!({"a":{"bb":{"ccc":null}}}),
                json!({"a":{"bb":{}}}),
            ),
        ] {
            let mut merged = target.clone();
            merge_patch(&mut merged, &patch);
            assert_eq!(merged, expected, "{target} + {patch}");
        }
    }

    #[test]
    fn three_ways_meet() {
        let before = json!({"spec": {"a": 1, "b": {"x": 1, "y": 2}}});
        let wanted = json!({"spec": {"b": {"x": 5}, "c": 3}});
        let mut live = json!({"spec": {"a": 1, "b": {"x": 1, "y": 2, "z": 9}, "other": 7}});
        three_way(&mut live, &shape(&before, ""), &wanted);
        assert_eq!(
            live,
            json!({"spec": {"b": {"x": 5, "z": 9}, "c": 3, "other": 7}})
        );
    }

    #[test]
    fn containers_merge_by_name_and_others_stay() {
        let before = json!({"containers": [{"name": "a", "args": ["x"]}, {"name": "b"}]});
        let wanted = json!({"containers": [{"name": "c"}, {"name": "a", "image": "2"}]});
        let mut live = json!({"containers": [
            {"name": "a", "args": ["x"], "image": "1", "port": 80}, {"name": "b"},
            {"name": "injected"},
        ]});
        three_way(&mut live, &shape(&before, ""), &wanted);
        assert_eq!(
            live,
            json!({"containers": [
                {"name": "c"}, {"name": "a", "image": "2", "port": 80}, {"name": "injected"},
            ]})
        );
    }

    #[test]
    fn what_is_remembered_has_no_contents() {
        let wanted = json!({"data": {"password": "hunter2"}, "list": ["hunter2"]});
        assert_eq!(
            shape(&wanted, ""),
            json!({"data": {"password": null}, "list": null})
        );
    }

    #[test]
    fn members_that_are_alike_share_their_shape() {
        let env: Vec<_> = (0..4)
            .map(|n| json!({"name": format!("N{n}"), "value": ""}))
            .collect();
        let plain = shape(&json!({"env": env, "image": "x", "ports": []}), "");
        let short = terse(plain.clone());
        assert_eq!(
            short,
            json!({
                "env": [[[[null, "name", "value"]], "N0", "N1", "N2", "N3"]],
                "image": null,
                "ports": null,
            })
        );
        assert_eq!(expand(short), plain);
        assert_eq!(expand(plain.clone()), plain);
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![(0_u8..3).prop_map(Value::from), Just(json!(["a"]))];
        leaf.prop_recursive(3, 24, 3, |inner| {
            prop::collection::btree_map("[a-c]", inner, 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect()))
        })
    }

    proptest! {
        /// Applied onto itself nothing changes, and what was applied alone is replaced wholly.
        #[test]
        fn apply_is_idempotent_and_exact(first in value(), second in value(), extra in value()) {
            let (first, second) = (json!({"o": first}), json!({"o": second}));
            let mut live = first.clone();
            three_way(&mut live, &shape(&first, ""), &second);
            prop_assert_eq!(&live, &second, "nobody else's fields: exactly what was asked");
            prop_assert_eq!(expand(terse(shape(&first, ""))), shape(&first, ""));
            let mut again = live.clone();
            three_way(&mut again, &shape(&second, ""), &second);
            prop_assert_eq!(&again, &live);
            let mut shared = first.clone();
            shared["other"] = extra.clone();
            three_way(&mut shared, &shape(&first, ""), &second);
            prop_assert_eq!(&shared["other"], &extra);
        }
    }
}

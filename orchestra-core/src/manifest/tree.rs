//! A document as a tree that remembers where each value stood.

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::wording::TWICE;

/// One value, and the line it began on.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// From 1; 0 where the format does not say.
    pub(super) line: u64,
    pub(super) value: Value,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    /// Above `i64::MAX` only.
    UInt(u64),
    Float(f64),
    String(String),
    Seq(Vec<Node>),
    /// In the order of the text; no key twice.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// The value of a key, if this is a mapping that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let Value::Map(entries) = &self.value else {
            return None;
        };
        entries
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, node)| node)
    }

    /// The keys, if this is a mapping.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        let entries = match &self.value {
            Value::Map(entries) => entries.as_slice(),
            _ => &[],
        };
        entries.iter().map(|(name, _)| name.as_str())
    }

    /// The text of a key's value, if there is one.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match &self.get(key)?.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// How many values it holds, itself among them.
    pub(super) fn count(&self) -> usize {
        1 + match &self.value {
            Value::Seq(items) => items.iter().map(Self::count).sum(),
            Value::Map(entries) => entries.iter().map(|(_, node)| node.count()).sum(),
            _ => 0,
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// For a person: the value itself where it is short, else what it is.
    pub(super) fn describe(&self) -> String {
        match &self.value {
            Value::Null => "null".into(),
            Value::Bool(value) => value.to_string(),
            Value::Int(value) => value.to_string(),
            Value::UInt(value) => value.to_string(),
            Value::Float(value) => value.to_string(),
            Value::String(value) => value.clone(),
            Value::Seq(items) => format!("a list of {}", items.len()),
            Value::Map(entries) => format!("a mapping of {}", entries.len()),
        }
    }

    /// The line of what stands at `path`, or of the nearest thing around it.
    pub(super) fn line_at(&self, path: &str) -> Option<u64> {
        let mut here = self;
        let mut line = self.line;
        for segment in segments(path) {
            let below = match (&here.value, segment.parse::<usize>()) {
                (Value::Seq(items), Ok(index)) => items.get(index),
                _ => here.get(segment),
            };
            let Some(below) = below else { break };
            here = below;
            if here.line > 0 {
                line = here.line;
            }
        }
        (line > 0).then_some(line)
    }

    /// What stands at `path`.
    pub(super) fn at(&self, path: &[Segment]) -> Option<&Self> {
        path.iter()
            .try_fold(self, |here, step| match (step, &here.value) {
                (Segment::Key(key) | Segment::Entry(key), _) => here.get(key),
                (Segment::Index(index), Value::Seq(items)) => items.get(*index),
                _ => None,
            })
    }

    /// What stands at `path`, to change.
    pub(super) fn at_mut(&mut self, path: &[Segment]) -> Option<&mut Self> {
        path.iter()
            .try_fold(self, |here, step| match (step, &mut here.value) {
                (Segment::Key(key) | Segment::Entry(key), Value::Map(entries)) => entries
                    .iter_mut()
                    .find(|(name, _)| name == key)
                    .map(|(_, node)| node),
                (Segment::Index(index), Value::Seq(items)) => items.get_mut(*index),
                _ => None,
            })
    }

    /// Takes out what stands at `path`, or the nearest mapping entry around it, so that the rest
    /// can be read. Returns whether anything was taken out.
    pub(super) fn take_out(&mut self, path: &[Segment]) -> bool {
        let is_key = |step: &Segment| !matches!(step, Segment::Index(_));
        let Some(last) = path.iter().rposition(is_key) else {
            return false;
        };
        let (Segment::Key(key) | Segment::Entry(key)) = &path[last] else {
            return false;
        };
        let Some(Value::Map(entries)) = self.at_mut(&path[..last]).map(|node| &mut node.value)
        else {
            return false;
        };
        let before = entries.len();
        entries.retain(|(name, _)| name != key);
        entries.len() < before
    }
}

/// One step down a tree.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Segment {
    /// A field that its kind names.
    Key(String),
    /// An entry under a key that whoever wrote the text chose.
    Entry(String),
    Index(usize),
}

/// Writes a path as Kubernetes does: `spec.containers[0].resources.requests[cpu]`. What is no
/// field, and odd characters, stand in brackets.
pub(super) fn write_path(path: &[Segment]) -> String {
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Index(index) => text.push_str(&format!("[{index}]")),
            Segment::Key(key) if key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(key);
            }
            Segment::Entry(key) if text.is_empty() => text.push_str(key),
            Segment::Key(key) | Segment::Entry(key) => text.push_str(&format!("[{key}]")),
        }
    }
    text
}

/// Takes a written path apart again, well enough to find a line.
pub(super) fn segments(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = path;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches('.');
        if rest.is_empty() {
            return None;
        }
        let (segment, after) = match rest.strip_prefix('[') {
            Some(inner) => inner.split_once(']').unwrap_or((inner, "")),
            None => rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len())),
        };
        rest = after;
        Some(segment.trim_matches('"'))
    })
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = serde_saphyr::Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self {
            line: spanned.referenced.line(),
            value: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::UInt(value), Value::Int))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Value, A::Error> {
        read_seq(items, PhantomData::<Node>)
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Value, A::Error> {
        read_map(entries, PhantomData::<Node>)
    }
}

/// Reads a list with a seed for its items.
pub(super) fn read_seq<'de, A, S>(mut items: A, seed: S) -> Result<Value, A::Error>
where
    A: SeqAccess<'de>,
    S: DeserializeSeed<'de, Value = Node> + Copy,
{
    let mut nodes = Vec::new();
    while let Some(node) = items.next_element_seed(seed)? {
        nodes.push(node);
    }
    Ok(Value::Seq(nodes))
}

/// Reads a mapping with a seed for its values.
pub(super) fn read_map<'de, A, S>(mut entries: A, seed: S) -> Result<Value, A::Error>
where
    A: MapAccess<'de>,
    S: DeserializeSeed<'de, Value = Node> + Copy,
{
    let mut nodes: Vec<(String, Node)> = Vec::new();
    let mut seen = BTreeSet::new();
    while let Some(key) = entries.next_key::<String>()? {
        if !seen.insert(key.clone()) {
            return Err(A::Error::custom(format!("{key:?}{TWICE}")));
        }
        let node = entries.next_value_seed(seed)?;
        nodes.push((key, node));
    }
    Ok(Value::Map(nodes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn lines_are_found_by_path() {
        let text = "a: 1\nb:\n- c: 2\n  x.y/z: 3\n- d: 4\n";
        let node: Node = serde_saphyr::from_str(text).unwrap();
        for (path, line) in [
            ("", 1),
            ("a", 1),
            ("b[0].c", 3),
            ("b[0][x.y/z]", 4),
            ("b[1].d", 5),
            ("b[1].missing", 5),
            ("b[7]", 3),
        ] {
            assert_eq!(node.line_at(path), Some(line), "{path}");
        }
    }

    #[test]
    fn taking_out_spares_the_rest() {
        let mut node: Node = serde_saphyr::from_str("a: {b: [1, 2], c: 3}").unwrap();
        let key = |key: &str| Segment::Key(key.into());
        assert!(node.take_out(&[key("a"), key("b"), Segment::Index(1)]));
        assert!(node.get("a").unwrap().get("b").is_none());
        assert!(node.get("a").unwrap().get("c").is_some());
        assert!(!node.take_out(&[key("a"), key("b")]));
        assert!(!node.take_out(&[]));
    }

    #[test]
    fn paths_are_written_as_people_do() {
        let path = [
            Segment::Key("spec".into()),
            Segment::Key("containers".into()),
            Segment::Index(0),
            Segment::Entry("cpu".into()),
            Segment::Key("a.b/c".into()),
        ];
        assert_eq!(write_path(&path), "spec.containers[0][cpu][a.b/c]");
        assert_eq!(write_path(&[Segment::Entry("a".into())]), "a");
    }
}

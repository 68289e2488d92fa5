//! JSON values one after another, each a tree that knows its lines.

use std::cell::Cell;
use std::fmt;
use std::io;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::text::{DEPTH_MAX, DOCUMENTS_MAX, Malformed, VALUES_MAX};
use super::tree::{Node, Value, read_map, read_seq};
use super::wording;

/// Whether a text begins as JSON does: a bracket, and then what JSON has there.
pub(super) fn begins(text: &str) -> bool {
    let mut bytes = text.bytes().filter(|byte| !byte.is_ascii_whitespace());
    match (bytes.next(), bytes.next()) {
        (Some(b'{'), next) => matches!(next, Some(b'"' | b'}')),
        (Some(b'['), next) => matches!(next, Some(b'"' | b'[' | b']' | b'{')),
        _ => false,
    }
}

/// The values of a text, up to the first that cannot be read.
pub(super) fn documents(text: &str) -> Vec<Result<Node, Malformed>> {
    let progress = Progress::default();
    let mut reader = serde_json::Deserializer::from_reader(Counted {
        rest: text.as_bytes(),
        progress: &progress,
    });
    let mut documents = Vec::new();
    while documents.len() <= DOCUMENTS_MAX && reader.end().is_err() {
        progress.values.set(0);
        match progress.deserialize(&mut reader) {
            Ok(node) => documents.push(Ok(node)),
            Err(error) => {
                documents.push(Err(malformed(documents.len() + 1, &error, text)));
                break;
            }
        }
    }
    documents
}

fn malformed(document: usize, error: &serde_json::Error, text: &str) -> Malformed {
    let line = error.line();
    let written = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let (problem, remedy) = wording::malformed_json(error, written);
    Malformed {
        document,
        line: u64::try_from(line).ok().filter(|line| *line > 0),
        problem,
        remedy,
    }
}

/// How far a text has been read. As a seed, it reads the next value.
#[derive(Default)]
struct Progress {
    /// How many lines were wholly read before the last byte.
    lines: Cell<u64>,
    /// Whether the last byte ended a line.
    ended: Cell<bool>,
    depth: Cell<usize>,
    /// How many values of this document were begun.
    values: Cell<usize>,
}

impl Progress {
    /// A value that is read at this moment. One that is read to its end, a number at most looked
    /// one byte past its own, stands on one line.
    fn node(&self, value: Value) -> Node {
        Node {
            line: self.lines.get() + 1,
            value,
        }
    }

    /// Reads what a list or a mapping holds, which began at this moment.
    fn inside<E: Error>(&self, read: impl FnOnce() -> Result<Value, E>) -> Result<Node, E> {
        let mut node = self.node(Value::Null);
        if self.depth.get() == DEPTH_MAX {
            return Err(E::custom(wording::too_deep()));
        }
        self.depth.set(self.depth.get() + 1);
        node.value = read()?;
        self.depth.set(self.depth.get() - 1);
        Ok(node)
    }
}

impl<'de> DeserializeSeed<'de> for &Progress {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        self.values.set(self.values.get() + 1);
        if self.values.get() > VALUES_MAX {
            return Err(D::Error::custom(wording::too_many()));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &Progress {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        Ok(self.node(Value::Null))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        Ok(self.node(Value::Bool(value)))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Node, E> {
        Ok(self.node(Value::Int(value)))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
        let value = i64::try_from(value).map_or(Value::UInt(value), Value::Int);
        Ok(self.node(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        Ok(self.node(Value::Float(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Node, E> {
        Ok(self.node(Value::String(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Node, A::Error> {
        self.inside(|| read_seq(items, self))
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Node, A::Error> {
        self.inside(|| read_map(entries, self))
    }
}

/// Hands out a text byte by byte, so that nothing is read ahead of what [`Progress`] counts.
struct Counted<'a> {
    rest: &'a [u8],
    progress: &'a Progress,
}

impl io::Read for Counted<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let (Some(slot), Some((byte, rest))) = (into.first_mut(), self.rest.split_first()) else {
            return Ok(0);
        };
        *slot = *byte;
        self.rest = rest;
        let Progress { lines, ended, .. } = self.progress;
        if ended.get() {
            lines.set(lines.get() + 1);
        }
        ended.set(*byte == b'\n');
        Ok(1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn json_is_told_from_yaml_by_how_it_begins() {
        for text in [
            "{}",
            " {\n\"a\": 1}",
            "[]",
            "[{",
            "[[",
            "\t{ \"a\": b, c: d }",
        ] {
            assert!(begins(text), "{text}");
        }
        for text in [
            "",
            "{",
            "{a: 1}",
            "{{ .a }}",
            "[a]",
            "[1]",
            "- {\"a\": 1}",
            "\"a\"",
        ] {
            assert!(!begins(text), "{text}");
        }
    }

    #[test]
    fn every_value_knows_its_line() {
        let text =
            "{\n \"a\": 1\n,\n\"b\"\n:\n[\ntrue\n,\n\"x\\ny\", -2.5\n, null\n]}\n\n{\"c\":\n{}}";
        let documents = documents(text);
        let line = |document: usize, path: &str| {
            let node = documents[document].as_ref().ok().unwrap();
            node.line_at(path).unwrap()
        };
        for (document, path, at) in [
            (0, "", 1),
            (0, "a", 2),
            (0, "b", 6),
            (0, "b[0]", 7),
            (0, "b[1]", 9),
            (0, "b[2]", 9),
            (0, "b[3]", 10),
            (1, "", 13),
            (1, "c", 14),
        ] {
            assert_eq!(line(document, path), at, "{document} {path}");
        }
        assert_eq!(documents.len(), 2);
    }

    #[test]
    fn the_first_value_that_cannot_be_read_is_the_last_and_says_where() {
        for (text, good, line, said) in [
            (
                "{\"a\": 1}\n{\"b\": tru}",
                1,
                2,
                "expected ident at line 2 column 10",
            ),
            (
                "{}\n\n[1 2]",
                1,
                3,
                "expected `,` or `]` at line 3 column 4",
            ),
            ("{\"a\": 1,\n\"a\": 2}", 0, 2, "\"a\" stands there twice"),
            ("{} ---\n{}", 1, 1, "invalid number"),
        ] {
            let documents = documents(text);
            assert_eq!(documents.len(), good + 1, "{text}");
            let malformed = documents[good].as_ref().err().unwrap();
            assert_eq!((malformed.document, malformed.line), (good + 1, Some(line)));
            assert!(
                malformed.problem.contains(said),
                "{text}: {}",
                malformed.problem
            );
        }
    }

    #[test]
    fn bounds_hold_for_each_document() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        let wide = format!("[{}0]", "0,".repeat(VALUES_MAX - 2));
        for (text, good) in [
            (nested(DEPTH_MAX), true),
            (nested(DEPTH_MAX + 1), false),
            (format!("{wide} {wide}"), true),
            (format!("[0,{}", &wide[1..]), false),
        ] {
            assert_eq!(documents(&text).iter().all(Result::is_ok), good);
        }
    }
}

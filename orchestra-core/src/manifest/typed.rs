//! From a tree to a typed object: the path of what fails, and of every field that nothing reads.

use std::cell::RefCell;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};

use super::loader::nearest;
use super::tree::{Node, Segment, Value};

/// So many fields that nothing reads are compared with those that something does. Nobody mistypes
/// more.
const MEANT_MAX: usize = 1_000;

/// A field that says something and that nothing reads.
#[derive(Clone, Debug)]
pub(super) struct Unread {
    pub(super) path: Vec<Segment>,
    /// From 1; 0 where the format does not say.
    pub(super) line: u64,
    /// A field of a similar name that could have stood there.
    pub(super) meant: Option<&'static str>,
}

/// Reads a `T`. `unread` gets each field that says something and that `T` does not have.
pub(super) fn read<T: DeserializeOwned>(
    node: &Node,
    unread: &mut Vec<Unread>,
) -> Result<T, TypeError> {
    let found = RefCell::new(Vec::new());
    let result = T::deserialize(Reader {
        node,
        path: &Path::Root,
        siblings: &[],
        fields: &[],
        unread: &found,
    });
    unread.append(&mut found.into_inner());
    result
}

/// A value is not what its field asks for.
#[derive(Clone, Debug)]
pub(super) struct TypeError {
    /// Where; `None` until the innermost reader has said.
    pub(super) path: Option<Vec<Segment>>,
    pub(super) message: String,
}

impl TypeError {
    fn at(mut self, path: &Path<'_>) -> Self {
        self.path.get_or_insert_with(|| path.to_segments());
        self
    }
}

impl fmt::Display for TypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TypeError {}

impl de::Error for TypeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            path: None,
            message: message.to_string(),
        }
    }
}

/// Where a reader stands, as a chain up the stack: costs nothing unless it is written.
enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'a str),
    Entry(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl Path<'_> {
    fn to_segments(&self) -> Vec<Segment> {
        let mut path = Vec::new();
        let mut here = self;
        loop {
            here = match here {
                Self::Root => break,
                Self::Key(above, key) => {
                    path.push(Segment::Key((*key).to_owned()));
                    above
                }
                Self::Entry(above, key) => {
                    path.push(Segment::Entry((*key).to_owned()));
                    above
                }
                Self::Index(above, index) => {
                    path.push(Segment::Index(*index));
                    above
                }
            };
        }
        path.reverse();
        path
    }
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    node: &'a Node,
    path: &'a Path<'a>,
    /// The fields that could stand where this one does.
    siblings: &'static [&'static str],
    /// The fields that could stand in this one.
    fields: &'static [&'static str],
    unread: &'a RefCell<Vec<Unread>>,
}

impl Reader<'_> {
    fn unexpected(&self) -> Unexpected<'_> {
        match &self.node.value {
            Value::Null => Unexpected::Unit,
            Value::Bool(value) => Unexpected::Bool(*value),
            Value::Int(value) => Unexpected::Signed(*value),
            Value::UInt(value) => Unexpected::Unsigned(*value),
            Value::Float(value) => Unexpected::Float(*value),
            Value::String(value) => Unexpected::Str(value),
            Value::Seq(_) => Unexpected::Seq,
            Value::Map(_) => Unexpected::Map,
        }
    }

    /// A number, or a text that is one to the base 8.
    fn whole_number<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        let number = match &self.node.value {
            Value::String(text) => octal(text),
            _ => None,
        };
        match number {
            Some(number) => visitor
                .visit_u64(number)
                .map_err(|error: TypeError| error.at(self.path)),
            None => self.deserialize_any(visitor),
        }
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = TypeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Int(value) => match u64::try_from(*value) {
                Ok(value) => visitor.visit_u64(value),
                Err(_) => visitor.visit_i64(*value),
            },
            Value::UInt(value) => visitor.visit_u64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::String(value) => visitor.visit_str(value),
            Value::Seq(items) => visitor.visit_seq(Items {
                reader: self,
                items,
                next: 0,
            }),
            Value::Map(entries) => visitor.visit_map(Entries {
                reader: self,
                entries,
                next: 0,
            }),
        }
        .map_err(|error| error.at(self.path))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        let read = if self.node.is_null() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        };
        read.map_err(|error| error.at(self.path))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        visitor
            .visit_newtype_struct(self)
            .map_err(|error| error.at(self.path))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        match &self.node.value {
            Value::String(name) => visitor.visit_enum(Variant {
                name,
                reader: self,
                node: None,
            }),
            Value::Map(entries) if entries.len() == 1 => {
                let (name, node) = &entries[0];
                visitor.visit_enum(Variant {
                    name,
                    reader: self,
                    node: Some(node),
                })
            }
            _ => Err(de::Error::invalid_type(
                self.unexpected(),
                &"one of a list of words",
            )),
        }
        .map_err(|error: TypeError| error.at(self.path))
    }

    /// A field that nothing reads.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        if !self.node.is_null() {
            let mut unread = self.unread.borrow_mut();
            let meant = match self.path {
                Path::Key(_, key) if unread.len() < MEANT_MAX => {
                    nearest(key.trim(), self.siblings.iter().copied())
                }
                _ => None,
            };
            unread.push(Unread {
                path: self.path.to_segments(),
                line: self.node.line,
                meant,
            });
        }
        visitor.visit_unit()
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        self.fields = fields;
        self.deserialize_any(visitor)
    }

    /// `yes`, `no`, `on` and `off` are texts, except where a truth value is wanted.
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        let old = match &self.node.value {
            Value::String(text) => old_bool(text),
            _ => None,
        };
        match old {
            Some(value) => visitor
                .visit_bool(value)
                .map_err(|error: TypeError| error.at(self.path)),
            None => self.deserialize_any(visitor),
        }
    }

    /// Texts may be left empty: `null` is the empty one, also in lists and among labels.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        if self.node.is_null() {
            return visitor
                .visit_str("")
                .map_err(|error: TypeError| error.at(self.path));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        self.whole_number(visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        self.whole_number(visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        self.whole_number(visitor)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        self.whole_number(visitor)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        self.whole_number(visitor)
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i128 u8 u128 f32 f64 char bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier
    }
}

/// A truth value as YAML 1.1 had it, and as manifests still write it.
fn old_bool(text: &str) -> Option<bool> {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

/// A number to the base 8, as file modes are written: `0644` or `0o644`.
fn octal(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0o").or_else(|| text.strip_prefix('0'))?;
    let digits_only = digits.bytes().all(|digit| digit.is_ascii_digit());
    digits_only
        .then(|| u64::from_str_radix(digits, 8).ok())
        .flatten()
}

struct Items<'a> {
    reader: Reader<'a>,
    items: &'a [Node],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = TypeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, TypeError> {
        let Some(node) = self.items.get(self.next) else {
            return Ok(None);
        };
        let path = Path::Index(self.reader.path, self.next);
        self.next += 1;
        seed.deserialize(Reader {
            node,
            path: &path,
            siblings: self.reader.fields,
            fields: &[],
            unread: self.reader.unread,
        })
        .map(Some)
        .map_err(|error| error.at(&path))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len() - self.next)
    }
}

struct Entries<'a> {
    reader: Reader<'a>,
    entries: &'a [(String, Node)],
    next: usize,
}

impl<'a> Entries<'a> {
    fn path(&self, key: &'a str) -> Path<'a> {
        let of_kind = !self.reader.fields.is_empty();
        let step = if of_kind { Path::Key } else { Path::Entry };
        step(self.reader.path, key)
    }
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = TypeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, TypeError> {
        let Some((key, _)) = self.entries.get(self.next) else {
            return Ok(None);
        };
        let reader: StrDeserializer<'_, TypeError> = key.as_str().into_deserializer();
        seed.deserialize(reader)
            .map(Some)
            .map_err(|error| error.at(&self.path(key)))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, TypeError> {
        let Some((key, node)) = self.entries.get(self.next) else {
            return Err(de::Error::custom(
                "a value was asked for where there is none",
            ));
        };
        self.next += 1;
        let path = self.path(key);
        seed.deserialize(Reader {
            node,
            path: &path,
            siblings: self.reader.fields,
            fields: &[],
            unread: self.reader.unread,
        })
        .map_err(|error| error.at(&path))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len() - self.next)
    }
}

/// One of an enum's words, with what belongs to it if it was written as a mapping.
struct Variant<'a> {
    name: &'a str,
    reader: Reader<'a>,
    node: Option<&'a Node>,
}

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = TypeError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), TypeError> {
        let name: StrDeserializer<'_, TypeError> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl Variant<'_> {
    fn inside<'de, V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        let Some(node) = self.node else {
            return Err(de::Error::custom(format!("{:?} needs details", self.name)));
        };
        let path = Path::Key(self.reader.path, self.name);
        Reader {
            node,
            path: &path,
            siblings: self.reader.fields,
            fields,
            unread: self.reader.unread,
        }
        .deserialize_any(visitor)
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = TypeError;

    fn unit_variant(self) -> Result<(), TypeError> {
        match self.node {
            None => Ok(()),
            Some(_) => Err(de::Error::custom(format!(
                "{:?} takes no details",
                self.name
            ))),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, TypeError> {
        let Some(node) = self.node else {
            return Err(de::Error::custom(format!("{:?} needs details", self.name)));
        };
        let path = Path::Key(self.reader.path, self.name);
        seed.deserialize(Reader {
            node,
            path: &path,
            siblings: self.reader.fields,
            fields: &[],
            unread: self.reader.unread,
        })
        .map_err(|error| error.at(&path))
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        self.inside(&[], visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        self.inside(fields, visitor)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;
    use crate::manifest::tree::write_path;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Sample {
        count: Option<u32>,
        labels: BTreeMap<String, String>,
        parts: Vec<Part>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Part {
        name: String,
        #[serde(default)]
        mode: Mode,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    enum Mode {
        #[default]
        Plain,
        With {
            size: u8,
        },
    }

    fn node(text: &str) -> Node {
        serde_saphyr::from_str(text).unwrap()
    }

    #[test]
    fn what_nothing_reads_is_listed_and_null_says_nothing() {
        let text = "count: null\nextra: 1\nnothing: null\nparts:\n- name: a\n  odd: {x: 1}\n- name: b\n  mode: {With: {size: 3}}\n";
        let mut unread = Vec::new();
        let read: Sample = read(&node(text), &mut unread).unwrap();
        assert_eq!(read.parts[1].mode, Mode::With { size: 3 });
        let unread: Vec<_> = unread.iter().map(|it| write_path(&it.path)).collect();
        assert_eq!(unread, ["extra", "parts[0].odd"]);
    }

    #[test]
    fn old_spellings_are_read_where_the_field_tells_what_is_meant() {
        for (text, count) in [
            ("0644", 0o644),
            ("0o17", 15),
            ("00", 0),
            ("12", 12),
            ("0x1F", 31),
        ] {
            let read: Sample =
                read(&node_as_loaded(&format!("count: {text}")), &mut Vec::new()).unwrap();
            assert_eq!(read.count, Some(count), "{text}");
        }
        for text in ["0899", "\"12\"", "1_000", "yes"] {
            assert!(
                read::<Sample>(&node_as_loaded(&format!("count: {text}")), &mut Vec::new())
                    .is_err(),
                "{text}"
            );
        }
        for (text, truth) in [("yes", true), ("Off", false), ("n", false), ("TRUE", true)] {
            assert_eq!(
                read::<bool>(&node_as_loaded(text), &mut Vec::new()).unwrap(),
                truth
            );
        }
        assert!(read::<bool>(&node_as_loaded("\"true\""), &mut Vec::new()).is_err());
        let labels = "labels: {a: , b: yes, c: 0644}";
        let read: Sample = read(&node_as_loaded(labels), &mut Vec::new()).unwrap();
        let labels: Vec<_> = read.labels.values().map(String::as_str).collect();
        assert_eq!(labels, ["", "yes", "0644"]);
    }

    fn node_as_loaded(text: &str) -> Node {
        let mut all = crate::manifest::text::documents(text);
        all.remove(0).unwrap_or_else(|_| panic!("{text}"))
    }

    #[test]
    fn failures_name_the_innermost_path() {
        for (text, path, message) in [
            ("count: -1", "count", "integer `-1`"),
            (
                "labels: {a.b/c: 80}",
                "labels[a.b/c]",
                "integer `80`, expected a string",
            ),
            ("parts: [{name: a}, {}]", "parts[1]", "missing field `name`"),
            (
                "parts: [{name: a, mode: Odd}]",
                "parts[0].mode",
                "unknown variant `Odd`",
            ),
            (
                "parts: [{name: a, mode: {With: {size: 300}}}]",
                "parts[0].mode.With.size",
                "300",
            ),
            ("parts: {}", "parts", "invalid type: map"),
        ] {
            let error = read::<Sample>(&node(text), &mut Vec::new()).unwrap_err();
            assert_eq!(write_path(error.path.as_deref().unwrap()), path, "{text}");
            assert!(error.message.contains(message), "{text}: {}", error.message);
        }
    }
}

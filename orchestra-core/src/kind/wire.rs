//! How the parts of all kinds are read and written: what is empty is left out, and `null` reads as
//! nothing said, wherever it stands.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use smol_str::SmolStr;

use crate::int_or::IntOrString;
use crate::meta::{ObjectMeta, Uid};
use crate::quantity::Quantity;
use crate::selector::{LabelSelector, NodeSelector, NodeSelectorTerm};

pub(crate) use crate::meta::null_as_default;

/// What a field of a [`part!`] can be.
pub(crate) trait Field: Default {
    /// Whether the value says nothing and is left out when written. Words of a fixed list are
    /// always written, even when they are the default.
    fn is_blank(&self) -> bool;

    /// Reads the value; `null` is the default.
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>
    where
        Self: Deserialize<'de>,
    {
        null_as_default(deserializer)
    }
}

pub(crate) fn is_blank<T: Field>(value: &T) -> bool {
    value.is_blank()
}

pub(crate) fn read<'de, D: Deserializer<'de>, T>(deserializer: D) -> Result<T, D::Error>
where
    T: Field + Deserialize<'de>,
{
    T::read(deserializer)
}

impl Field for u16 {
    fn is_blank(&self) -> bool {
        *self == 0
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::<Port>::deserialize(deserializer)?.map_or(0, |port| port.0))
    }
}

impl<T> Field for Option<T> {
    fn is_blank(&self) -> bool {
        self.is_none()
    }
}

impl<T> Field for Vec<T> {
    fn is_blank(&self) -> bool {
        self.is_empty()
    }
}

impl<K, V> Field for BTreeMap<K, V> {
    fn is_blank(&self) -> bool {
        self.is_empty()
    }
}

impl Field for SmolStr {
    fn is_blank(&self) -> bool {
        self.is_empty()
    }
}

impl Field for String {
    fn is_blank(&self) -> bool {
        self.is_empty()
    }
}

macro_rules! blank_when_default {
    ($($type:ty),*) => {$(
        impl Field for $type {
            fn is_blank(&self) -> bool {
                *self == Self::default()
            }
        }
    )*};
}

blank_when_default!(
    bool,
    u32,
    u64,
    i32,
    i64,
    Quantity,
    LabelSelector,
    NodeSelector
);
blank_when_default!(NodeSelectorTerm, ObjectMeta, Uid, serde_json::Value);

macro_rules! never_blank {
    ($($type:ty),*) => {$(
        impl Field for $type {
            fn is_blank(&self) -> bool {
                false
            }
        }
    )*};
}

never_blank!(IntOrString);

/// Declares a part of a kind: camelCase names, absent and `null` fields read as their default,
/// blank fields are not written.
macro_rules! part {
    ($(
        $(#[$outer:meta])*
        pub struct $name:ident {
            $($(#[$inner:meta])* pub $field:ident: $type:ty,)*
        }
    )*) => {$(
        $(#[$outer])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name {
            $(
                $(#[$inner])*
                #[serde(
                    skip_serializing_if = "crate::kind::wire::is_blank",
                    deserialize_with = "crate::kind::wire::read"
                )]
                pub $field: $type,
            )*
        }

        impl crate::kind::wire::Field for $name {
            fn is_blank(&self) -> bool {
                *self == Self::default()
            }
        }
    )*};
}
pub(crate) use part;

/// Declares a kind: a [`part!`] that begins with `apiVersion`, `kind` and `metadata`.
macro_rules! kind {
    (
        $(#[$outer:meta])*
        pub struct $name:ident {
            $($(#[$inner:meta])* pub $field:ident: $type:ty,)*
        }
    ) => {
        $(#[$outer])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name {
            /// The kind's API version, always the same.
            pub api_version: crate::kind::ApiVersion<Self>,
            /// The kind's name, always the same.
            pub kind: crate::kind::KindName<Self>,
            /// What every object has.
            #[serde(deserialize_with = "crate::kind::wire::read")]
            pub metadata: crate::meta::ObjectMeta,
            $(
                $(#[$inner])*
                #[serde(
                    skip_serializing_if = "crate::kind::wire::is_blank",
                    deserialize_with = "crate::kind::wire::read"
                )]
                pub $field: $type,
            )*
        }
    };
}
pub(crate) use kind;

/// Declares a word of a fixed list. The empty text reads as the default; an unknown one is an
/// error that names the choices.
macro_rules! words {
    ($(
        $(#[$outer:meta])*
        pub enum $name:ident {
            $($(#[$inner:meta])* $variant:ident = $text:literal,)*
        }
    )*) => {$(
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum $name {
            $($(#[$inner])* $variant,)*
        }

        impl $name {
            /// The word as manifests write it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(crate::kind::wire::OneOf::new(
                    &[$($text),*],
                    &[$(Self::$variant),*],
                ))
            }
        }

        impl crate::kind::wire::Field for $name {
            fn is_blank(&self) -> bool {
                false
            }
        }
    )*};
}
pub(crate) use words;

/// Reads one of a list of words.
pub(crate) struct OneOf<T: 'static> {
    words: &'static [&'static str],
    values: &'static [T],
}

impl<T> OneOf<T> {
    pub(crate) fn new(words: &'static [&'static str], values: &'static [T]) -> Self {
        Self { words, values }
    }
}

impl<T: Copy + Default> Visitor<'_> for OneOf<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "one of {}", self.words.join(", "))
    }

    fn visit_str<E: Error>(self, found: &str) -> Result<T, E> {
        if found.is_empty() {
            return Ok(T::default());
        }
        match self.words.iter().position(|word| *word == found) {
            Some(at) => Ok(self.values[at]),
            None => Err(E::invalid_value(Unexpected::Str(found), &self)),
        }
    }
}

/// Reads a port. Zero passes here, as it often means "none"; the rules see to the rest.
struct Port(u16);

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PortVisitor;
        impl Visitor<'_> for PortVisitor {
            type Value = Port;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port, a number from 1 to 65535")
            }

            fn visit_u64<E: Error>(self, found: u64) -> Result<Port, E> {
                match u16::try_from(found) {
                    Ok(port) => Ok(Port(port)),
                    Err(_) => Err(E::invalid_value(Unexpected::Unsigned(found), &self)),
                }
            }
        }
        deserializer.deserialize_u16(PortVisitor)
    }
}

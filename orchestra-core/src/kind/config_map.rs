//! A config map: settings that workloads read.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serializer};
use smol_str::SmolStr;

use super::rules::{Path, data_keys, data_size};
use super::wire::{Field, kind};
use super::{Invalid, Resource, Scope};
use crate::meta::ObjectMeta;

kind! {
    /// Settings that workloads read as files or environment.
    pub struct ConfigMap {
        /// The texts by key. No key is in `binary_data` too.
        pub data: BTreeMap<SmolStr, String>,
        /// Values that are not text, by key; base64 in JSON.
        pub binary_data: BTreeMap<SmolStr, Bytes>,
        /// Once set it stays set, and the data can no longer change.
        pub immutable: Option<bool>,
    }
}

/// Bytes, written as base64.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Bytes(pub Vec<u8>);

impl serde::Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let packed: String = text.split_ascii_whitespace().collect();
        STANDARD.decode(packed).map(Self).map_err(|_| {
            D::Error::custom("not base64; encode the value, or put plain text under data")
        })
    }
}

impl Field for Bytes {
    fn is_blank(&self) -> bool {
        self.0.is_empty()
    }
}

impl ConfigMap {
    /// An empty map of that name.
    pub fn new(name: impl Into<SmolStr>) -> Self {
        Self {
            metadata: ObjectMeta::named(name),
            ..Self::default()
        }
    }

    /// Sets a text.
    #[must_use]
    pub fn entry(mut self, key: impl Into<SmolStr>, value: impl Into<String>) -> Self {
        self.data.insert(key.into(), value.into());
        self
    }

    /// The value of a key as bytes, whichever way it is held.
    pub fn bytes(&self, key: &str) -> Option<&[u8]> {
        let text = self.data.get(key).map(|text| text.as_bytes());
        text.or_else(|| self.binary_data.get(key).map(|bytes| bytes.0.as_slice()))
    }
}

impl Resource for ConfigMap {
    const API_VERSION: &'static str = "v1";
    const KIND: &'static str = "ConfigMap";
    const PLURAL: &'static str = "configmaps";
    const SCOPE: Scope = Scope::Namespaced;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }

    fn set_defaults(&mut self) {}

    fn validate(&self) -> Result<(), Invalid> {
        let mut invalid = Invalid::new();
        data_keys(&mut invalid, Path::root("data"), self.data.keys());
        data_keys(
            &mut invalid,
            Path::root("binaryData"),
            self.binary_data.keys(),
        );
        for key in self
            .binary_data
            .keys()
            .filter(|key| self.data.contains_key(*key))
        {
            invalid.refuse(
                format!("binaryData[{key}]"),
                "",
                "is also in data",
                "keep the key in one of the two",
            );
        }
        let texts = self.data.values().map(String::len);
        let bytes = self.binary_data.values().map(|value| value.0.len());
        data_size(&mut invalid, Path::root("data"), texts.chain(bytes).sum());
        invalid.into_result()
    }

    fn take_status(&mut self, _current: &Self) {}

    fn same_spec(&self, other: &Self) -> bool {
        self.data == other.data
            && self.binary_data == other.binary_data
            && self.immutable == other.immutable
    }
}

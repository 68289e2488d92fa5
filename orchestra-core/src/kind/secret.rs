//! A secret: values that must not leak.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error as _, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;
use zeroize::Zeroizing;

use super::rules::{Path, data_keys, data_size};
use super::wire::{is_blank, read};
use super::{ApiVersion, Invalid, KindName, Resource, Scope};
use crate::meta::ObjectMeta;
use crate::port::secret::SecretBytes;

/// Values that must not leak. `Debug` shows their keys and sizes only.
///
/// Its JSON holds the values in base64, as its namesake does: whoever stores or sends it seals it
/// first. `stringData`, plain text in a manifest, is merged into `data` when read.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, from = "Wire")]
pub struct Secret {
    /// The kind's API version, always the same.
    pub api_version: ApiVersion<Self>,
    /// The kind's name, always the same.
    pub kind: KindName<Self>,
    /// What every object has.
    pub metadata: ObjectMeta,
    /// The values by key.
    #[serde(skip_serializing_if = "is_blank", serialize_with = "write_base64")]
    pub data: BTreeMap<SmolStr, SecretBytes>,
    /// What the values are for, for instance `Opaque` or `kubernetes.io/tls`.
    #[serde(rename = "type", skip_serializing_if = "is_blank")]
    pub purpose: SmolStr,
    /// Once set it stays set, and the data can no longer change.
    #[serde(skip_serializing_if = "is_blank")]
    pub immutable: Option<bool>,
}

/// A secret as manifests have it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Wire {
    api_version: ApiVersion<Secret>,
    kind: KindName<Secret>,
    #[serde(deserialize_with = "read")]
    metadata: ObjectMeta,
    #[serde(deserialize_with = "read")]
    data: BTreeMap<SmolStr, Base64>,
    #[serde(deserialize_with = "read")]
    string_data: BTreeMap<SmolStr, Plain>,
    #[serde(rename = "type", deserialize_with = "read")]
    purpose: SmolStr,
    immutable: Option<bool>,
}

impl From<Wire> for Secret {
    fn from(wire: Wire) -> Self {
        let packed = wire.data.into_iter().map(|(key, value)| (key, value.0));
        let plain = wire
            .string_data
            .into_iter()
            .map(|(key, value)| (key, value.0));
        Self {
            api_version: wire.api_version,
            kind: wire.kind,
            metadata: wire.metadata,
            data: packed.chain(plain).collect(), // the later wins, as manifests expect
            purpose: wire.purpose,
            immutable: wire.immutable,
        }
    }
}

fn write_base64<S: Serializer>(
    data: &BTreeMap<SmolStr, SecretBytes>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(data.len()))?;
    for (key, value) in data {
        let text = Zeroizing::new(STANDARD.encode(value.expose()));
        map.serialize_entry(key, text.as_str())?;
    }
    map.end()
}

/// Reads base64, and says nothing of the value when it is none.
struct Base64(SecretBytes);

/// Reads plain text.
struct Plain(SecretBytes);

struct Base64Visitor;

impl Visitor<'_> for Base64Visitor {
    type Value = Base64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value in base64")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Base64, E> {
        let packed: Zeroizing<Vec<u8>> = Zeroizing::new(
            text.bytes()
                .filter(|byte| !byte.is_ascii_whitespace())
                .collect(),
        );
        match STANDARD.decode(packed.as_slice()) {
            Ok(bytes) => Ok(Base64(SecretBytes::new(bytes))),
            Err(_) => Err(E::custom(
                "a value is not base64; encode it, or put it under stringData",
            )),
        }
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Base64, E> {
        Ok(Base64(SecretBytes::default()))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Base64Visitor)
    }
}

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer).map_err(|_| {
            D::Error::custom("a value under stringData is not text; put it in quotes")
        })?);
        Ok(Self(SecretBytes::new(text.as_bytes())))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("metadata", &self.metadata)
            .field("data", &self.data) // SecretBytes keeps its bytes to itself
            .field("type", &self.purpose)
            .field("immutable", &self.immutable)
            .finish()
    }
}

/// Compares the values too: an unchanged secret must be told from a changed one.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.metadata == other.metadata && self.same_spec(other)
    }
}

impl Secret {
    /// An empty secret of that name and the type `Opaque`.
    pub fn new(name: impl Into<SmolStr>) -> Self {
        Self {
            metadata: ObjectMeta::named(name),
            purpose: "Opaque".into(),
            ..Self::default()
        }
    }

    /// Sets a value.
    #[must_use]
    pub fn entry(mut self, key: impl Into<SmolStr>, value: impl Into<Vec<u8>>) -> Self {
        self.data.insert(key.into(), SecretBytes::new(value));
        self
    }
}

impl Resource for Secret {
    const API_VERSION: &'static str = "v1";
    const KIND: &'static str = "Secret";
    const PLURAL: &'static str = "secrets";
    const SCOPE: Scope = Scope::Namespaced;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }

    fn set_defaults(&mut self) {
        if self.purpose.is_empty() {
            self.purpose = "Opaque".into();
        }
    }

    fn validate(&self) -> Result<(), Invalid> {
        let mut invalid = Invalid::new();
        data_keys(&mut invalid, Path::root("data"), self.data.keys());
        let needed: &[&str] = match self.purpose.as_str() {
            "kubernetes.io/tls" => &["tls.crt", "tls.key"],
            "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
            "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
            _ => &[],
        };
        for key in needed.iter().filter(|key| !self.data.contains_key(**key)) {
            let remedy = format!("a Secret of type {} needs it", self.purpose);
            invalid.missing(Path::root("data").key(key), remedy);
        }
        data_size(
            &mut invalid,
            Path::root("data"),
            self.data.values().map(SecretBytes::len).sum(),
        );
        invalid.into_result()
    }

    fn take_status(&mut self, _current: &Self) {}

    fn same_spec(&self, other: &Self) -> bool {
        self.purpose == other.purpose
            && self.immutable == other.immutable
            && self.data.len() == other.data.len()
            && self
                .data
                .iter()
                .zip(&other.data)
                .all(|((key, mine), (other_key, theirs))| {
                    key == other_key && mine.expose() == theirs.expose()
                })
    }
}

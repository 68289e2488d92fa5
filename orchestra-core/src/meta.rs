//! What every object has: a name, labels, owners, versions.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;

use crate::port::store::Revision;
use crate::time::Timestamp;

/// Identifies one life of one object: a later object of the same name has another. Written as a
/// UUID.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Uid(pub u128);

impl Uid {
    /// No object's.
    pub const NIL: Self = Self(0);
}

impl Uid {
    /// By hand: every stored object carries some of these.
    fn with_text<T>(self, then: impl FnOnce(&str) -> T) -> T {
        let mut text = [b'-'; UUID_BYTES];
        let mut rest = self.0.to_be_bytes().into_iter();
        for (from, to) in UUID_GROUPS {
            for pair in text[from..to].chunks_exact_mut(2) {
                let byte = rest.next().unwrap_or(0);
                pair[0] = DIGITS[usize::from(byte >> 4)];
                pair[1] = DIGITS[usize::from(byte & 0xf)];
            }
        }
        then(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_text(|text| f.write_str(text))
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Where the digits of a UUID stand in its text.
const UUID_GROUPS: [(usize, usize); 5] = [(0, 8), (9, 13), (14, 18), (19, 23), (24, UUID_BYTES)];

/// How long a UUID is as text, and where its dashes stand.
const UUID_BYTES: usize = 36;
const UUID_DASHES: [usize; 4] = [8, 13, 18, 23];

/// A text is not a UUID.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text:?} is not a UUID; write it like 123e4567-e89b-12d3-a456-426614174000")]
pub struct ParseUidError {
    text: String,
}

impl FromStr for Uid {
    type Err = ParseUidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseUidError {
            text: text.to_owned(),
        };
        if text.len() != UUID_BYTES {
            return Err(error());
        }
        let mut number = 0_u128;
        for (at, byte) in text.bytes().enumerate() {
            if UUID_DASHES.contains(&at) {
                if byte != b'-' {
                    return Err(error());
                }
                continue;
            }
            let digit = char::from(byte).to_digit(16).ok_or_else(error)?;
            number = number << 4 | u128::from(digit);
        }
        Ok(Self(number))
    }
}

impl Serialize for Uid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.with_text(|text| serializer.serialize_str(text))
    }
}

impl<'de> Deserialize<'de> for Uid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_text(deserializer, "a UUID", |text| {
            if text.is_empty() {
                Ok(Self::NIL)
            } else {
                text.parse()
            }
        })
    }
}

/// Names an object among those of its kind. `namespace` is empty for cluster-wide kinds.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct ObjectKey {
    /// Its namespace; empty for a cluster-wide kind.
    pub namespace: SmolStr,
    /// Its name.
    pub name: SmolStr,
}

impl ObjectKey {
    /// The object `name` in `namespace`.
    pub fn namespaced(namespace: impl Into<SmolStr>, name: impl Into<SmolStr>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The object `name` of a cluster-wide kind.
    pub fn cluster(name: impl Into<SmolStr>) -> Self {
        Self {
            namespace: SmolStr::default(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// Labels or annotations, ordered by key.
pub type Labels = BTreeMap<SmolStr, SmolStr>;

/// What every object has.
///
/// Set by people: `name` (or `generate_name`), `namespace`, `labels`, `annotations`,
/// `finalizers`, `owner_references`. The rest is set by the API and refused or ignored from
/// others.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectMeta {
    /// Unique among the objects of its kind in its namespace: a DNS subdomain name.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub name: SmolStr,
    /// If `name` is empty, the API makes one of this and a random suffix.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub generate_name: SmolStr,
    /// The namespace; empty for cluster-wide kinds, and `default` where nothing is said.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub namespace: SmolStr,
    /// For selecting.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub labels: Labels,
    /// For everything else.
    #[serde(
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub annotations: Labels,
    /// This life of this name.
    #[serde(skip_serializing_if = "is_default")]
    pub uid: Uid,
    /// The commit that last wrote the object: the token of optimistic concurrency. Zero in an
    /// object that was never stored. Written as a string, as Kubernetes does.
    #[serde(skip_serializing_if = "is_default", with = "resource_version")]
    pub resource_version: Revision,
    /// Counts the changes of the spec, from 1.
    #[serde(skip_serializing_if = "is_default")]
    pub generation: u64,
    /// When it was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<Timestamp>,
    /// When somebody asked for its deletion. It goes once its finalizers are gone, and for a pod
    /// once its agent has stopped it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<Timestamp>,
    /// How long a graceful end may take, in seconds; set with `deletion_timestamp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_grace_period_seconds: Option<u64>,
    /// Who must agree before it goes.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub finalizers: Vec<SmolStr>,
    /// Whose part it is; with the last owner it is collected.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_as_default"
    )]
    pub owner_references: Vec<OwnerReference>,
}

impl ObjectMeta {
    /// Metadata with a name and nothing else.
    pub fn named(name: impl Into<SmolStr>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// The object's key.
    pub fn key(&self) -> ObjectKey {
        ObjectKey {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }

    /// The owner that controls it, if one does.
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owner_references
            .iter()
            .find(|owner| owner.controller == Some(true))
    }
}

/// Names an owner, in the same namespace or cluster-wide.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    /// The owner's API version.
    pub api_version: SmolStr,
    /// Its kind.
    pub kind: SmolStr,
    /// Its name.
    pub name: SmolStr,
    /// Which life of that name.
    pub uid: Uid,
    /// Whether this owner controls the object; at most one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controller: Option<bool>,
    /// Whether the owner, when deleted in the foreground, waits for this object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_owner_deletion: Option<bool>,
}

/// One aspect of an object's state, as of when it last changed.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// Which aspect, for instance `Ready`. Unique within one object.
    #[serde(rename = "type")]
    pub kind: SmolStr,
    /// `True`, `False` or `Unknown`.
    pub status: ConditionStatus,
    /// When `status` last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Timestamp>,
    /// When it was last looked at, where that matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update_time: Option<Timestamp>,
    /// Why, in a word for machines.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub reason: SmolStr,
    /// Why, for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The generation of the object that this speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<u64>,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Nobody knows.
    #[default]
    Unknown,
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// The condition of that type, if the list has it.
pub fn condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.kind == kind)
}

/// Whether the condition of that type is `True`.
pub fn condition_holds(conditions: &[Condition], kind: &str) -> bool {
    condition(conditions, kind).is_some_and(|found| found.status == ConditionStatus::True)
}

/// Sets a condition, and moves its transition time only if its status changed. Returns whether
/// anything but times changed.
pub fn set_condition(conditions: &mut Vec<Condition>, mut new: Condition, now: Timestamp) -> bool {
    match conditions.iter_mut().find(|old| old.kind == new.kind) {
        Some(old) => {
            let flipped = old.status != new.status;
            new.last_transition_time = if flipped {
                Some(now)
            } else {
                old.last_transition_time
            };
            let changed = flipped
                || old.reason != new.reason
                || old.message != new.message
                || old.observed_generation != new.observed_generation;
            *old = new;
            changed
        }
        None => {
            new.last_transition_time = Some(now);
            conditions.push(new);
            true
        }
    }
}

/// Reads a value from a text where it stands, without a copy of the text.
pub(crate) fn read_text<'de, D, T, E>(
    deserializer: D,
    expected: &'static str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    E: fmt::Display,
{
    struct Text<P>(&'static str, P);

    impl<T, E: fmt::Display, P: FnOnce(&str) -> Result<T, E>> Visitor<'_> for Text<P> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<X: serde::de::Error>(self, text: &str) -> Result<T, X> {
            (self.1)(text).map_err(X::custom)
        }
    }

    deserializer.deserialize_str(Text(expected, parse))
}

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Reads `null` as nothing said: manifests in the wild write `labels: null`.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

mod resource_version {
    use super::Revision;
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        revision: &Revision,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(revision)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Revision, D::Error> {
        super::read_text(deserializer, "a number in quotes", |text| {
            if text.is_empty() {
                return Ok(Revision(0));
            }
            text.parse().map(Revision).map_err(|_| {
                format!(
                    "resourceVersion {text:?} is not a number; leave it out, or take it from a read"
                )
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_reads_what_it_writes() {
        let uid = Uid(0x123e_4567_e89b_12d3_a456_4266_1417_4000);
        assert_eq!(uid.to_string(), "123e4567-e89b-12d3-a456-426614174000");
        assert_eq!(uid.to_string().parse(), Ok(uid));
        for bad in [
            "",
            "123e4567e89b12d3a456426614174000",
            "123e4567-e89b-12d3-a456-42661417400g",
        ] {
            assert!(bad.parse::<Uid>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_condition_keeps_its_transition_time_until_its_status_flips() {
        let at = Timestamp::from_secs;
        let ready = |status: bool, reason: &str| Condition {
            kind: "Ready".into(),
            status: status.into(),
            reason: reason.into(),
            ..Condition::default()
        };
        let mut all = Vec::new();
        assert!(set_condition(&mut all, ready(true, "A"), at(1)));
        assert!(!set_condition(&mut all, ready(true, "A"), at(2)));
        assert!(set_condition(&mut all, ready(true, "B"), at(3)));
        assert_eq!(all[0].last_transition_time, Some(at(1)));
        assert!(set_condition(&mut all, ready(false, "B"), at(4)));
        assert_eq!(all[0].last_transition_time, Some(at(4)));
        assert!(!condition_holds(&all, "Ready"));
    }
}

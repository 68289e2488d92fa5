//! The two fields with which every manifest begins. They take no room: the type says it all.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::Resource;

/// The `apiVersion` of a kind. Written as [`Resource::API_VERSION`]; reads nothing else.
pub struct ApiVersion<K>(PhantomData<fn() -> K>);

/// The `kind` of a kind. Written as [`Resource::KIND`]; reads nothing else.
pub struct KindName<K>(PhantomData<fn() -> K>);

/// Reads one text and no other.
struct Exactly {
    field: &'static str,
    wanted: &'static str,
    kind: &'static str,
}

impl Visitor<'_> for Exactly {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the text {:?}", self.wanted)
    }

    fn visit_str<E: Error>(self, found: &str) -> Result<(), E> {
        if found == self.wanted {
            return Ok(());
        }
        Err(E::custom(format!(
            "{} is {found:?} where a {} has {:?}; write that, or read it as another kind",
            self.field, self.kind, self.wanted
        )))
    }
}

macro_rules! fixed_text {
    ($name:ident, $field:literal, $text:ident) => {
        impl<K: Resource> Serialize for $name<K> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(K::$text)
            }
        }

        impl<'de, K: Resource> Deserialize<'de> for $name<K> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let exactly = Exactly {
                    field: $field,
                    wanted: K::$text,
                    kind: K::KIND,
                };
                deserializer.deserialize_str(exactly)?;
                Ok(Self::default())
            }
        }

        impl<K: Resource> fmt::Debug for $name<K> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(K::$text)
            }
        }

        impl<K> Default for $name<K> {
            fn default() -> Self {
                Self(PhantomData)
            }
        }

        impl<K> Clone for $name<K> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<K> Copy for $name<K> {}

        impl<K> PartialEq for $name<K> {
            fn eq(&self, _other: &Self) -> bool {
                true
            }
        }

        impl<K> Eq for $name<K> {}
    };
}

fixed_text!(ApiVersion, "apiVersion", API_VERSION);
fixed_text!(KindName, "kind", KIND);

#[cfg(test)]
mod tests {
    use crate::kind::{Namespace, Pod};

    #[test]
    fn a_manifest_of_another_kind_is_refused_by_name() {
        let error = serde_json::from_str::<Pod>(r#"{"apiVersion":"v1","kind":"Node"}"#)
            .expect_err("another kind");
        let said = error.to_string();
        assert!(
            said.contains(r#"kind is "Node" where a Pod has "Pod""#),
            "{said}"
        );
        assert!(serde_json::from_str::<Namespace>(r#"{"apiVersion":"v2"}"#).is_err());
    }

    #[test]
    fn both_may_be_left_out_and_are_always_written() {
        let read: Namespace = serde_json::from_str(r#"{"metadata":{"name":"a"}}"#).expect("valid");
        let written = serde_json::to_string(&read).expect("valid");
        assert_eq!(
            written,
            r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"a"}}"#
        );
    }
}

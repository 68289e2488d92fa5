//! Typed objects over store keys and bytes.

use std::any::Any;
use std::sync::Arc;

use orchestra_core::codec::{self, CodecProblem, OBJECT_BYTES_MAX};
use orchestra_core::kind::{Resource, Scope};
use orchestra_core::meta::ObjectKey;
use orchestra_core::port::store::{Key, Revision, Value, Versioned};

use super::error::{ApiError, ApiErrorKind};
use super::shelf::Shelf;

/// Any typed object, shared.
pub(crate) type AnyObject = Arc<dyn Any + Send + Sync>;

/// Where the object stands in the store: `plural/namespace/name`, or `plural/name` for a
/// cluster-wide kind.
pub fn store_key<K: Resource>(key: &ObjectKey) -> Key {
    match K::SCOPE {
        Scope::Namespaced => [K::PLURAL, "/", &key.namespace, "/", &key.name].concat(),
        Scope::Cluster => [K::PLURAL, "/", &key.name].concat(),
    }
    .into()
}

/// What the store keys of a kind start with, in one namespace or in all.
pub fn store_prefix<K: Resource>(namespace: Option<&str>) -> Key {
    match namespace {
        Some(namespace) if K::SCOPE == Scope::Namespaced => {
            format!("{}/{namespace}/", K::PLURAL).into()
        }
        _ => format!("{}/", K::PLURAL).into(),
    }
}

/// The object that stands at a store key of its kind; `None` if the key is not of that kind.
pub fn object_key<K: Resource>(key: &Key) -> Option<ObjectKey> {
    let rest = key.as_str().strip_prefix(K::PLURAL)?.strip_prefix('/')?;
    match K::SCOPE {
        Scope::Namespaced => {
            let (namespace, name) = rest.split_once('/')?;
            Some(ObjectKey::namespaced(namespace, name))
        }
        Scope::Cluster => Some(ObjectKey::cluster(rest)),
    }
}

/// How errors name an object: `pods default/web-1`.
pub(crate) fn subject<K: Resource>(key: &ObjectKey) -> String {
    format!("{} {key}", K::PLURAL)
}

/// The object's bytes. Its resource version must be zero, so that nothing has to be copied: the
/// store keeps that.
pub(crate) fn encode<K: Resource>(
    object: &K,
    op: &'static str,
    key: &ObjectKey,
) -> Result<Value, ApiError> {
    debug_assert_eq!(object.metadata().resource_version, Revision(0));
    codec::encode(object).map_err(|error| {
        let kind = match error.problem() {
            CodecProblem::TooLarge { bytes } => ApiErrorKind::TooLarge {
                bytes: *bytes,
                max: OBJECT_BYTES_MAX,
            },
            _ => ApiErrorKind::Corrupt,
        };
        ApiError::new(kind, op, subject::<K>(key)).because(error)
    })
}

/// The object in `stored`, from the shelf if it lies there at that very revision, else decoded
/// and put there.
pub(crate) fn decode<K: Resource>(
    shelf: &Shelf,
    stored: &Versioned,
    op: &'static str,
) -> Result<Arc<K>, ApiError> {
    if let Some(known) = shelf.get::<K>(&stored.key, stored.modified) {
        return Ok(known);
    }
    let object = codec::decode::<K>(stored).map_err(|error| {
        ApiError::new(ApiErrorKind::Corrupt, op, stored.key.as_str()).because(error)
    })?;
    let object = Arc::new(object);
    shelf.put(stored.key.clone(), stored.modified, object.clone());
    Ok(object)
}

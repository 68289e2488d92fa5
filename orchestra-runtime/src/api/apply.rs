//! Patches, and apply: what was asked before, what is asked now, what is there.

use std::sync::Arc;

use orchestra_core::kind::{FieldError, Resource, Scope};
use orchestra_core::meta::ObjectKey;
use orchestra_core::port::store::Revision;
use serde_json::Value;
use smol_str::SmolStr;

use super::commit::Commit;
use super::error::{ApiError, ApiErrorKind};
use super::merge::{expand, merge_patch, shape, terse, three_way};
use super::object::{encode, subject};
use super::params::NAMESPACE_DEFAULT;
use super::typed::{Api, UPDATE_TRIES_MAX};

/// The annotation in which [`Api::apply`] remembers which fields it set: their names, never what
/// they hold.
pub use orchestra_core::kind::ANNOTATION_LAST_APPLIED;

/// What is remembered of fields is written tersely past this many bytes.
const PLAIN_BYTES_MAX: usize = 64 << 10;

/// The metadata that only the API sets.
const META_OF_THE_API: [&str; 6] = [
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];

impl<K: Resource> Api<K> {
    /// Changes the object (all but its status) by a JSON merge patch (RFC 7386): members replace,
    /// `null` removes, lists are replaced whole. Repeated if somebody else wrote in between, unless
    /// the patch names a `resourceVersion`.
    ///
    /// # Errors
    ///
    /// [`Invalid`](ApiErrorKind::Invalid) if what comes of it is not such an object.
    pub async fn patch(&self, key: &ObjectKey, patch: &Value) -> Result<Arc<K>, ApiError> {
        self.patched(key, patch, Commit::replace).await
    }

    /// Changes the status of the object, and nothing else, by a JSON merge patch.
    ///
    /// # Errors
    ///
    /// As [`patch`](Self::patch).
    pub async fn patch_status(&self, key: &ObjectKey, patch: &Value) -> Result<Arc<K>, ApiError> {
        self.patched(key, patch, Commit::replace_status).await
    }

    async fn patched(
        &self,
        key: &ObjectKey,
        patch: &Value,
        write: impl Fn(Commit, K) -> Commit + Send,
    ) -> Result<Arc<K>, ApiError> {
        const OP: &str = "patch";
        let exact = patch.pointer("/metadata/resourceVersion").is_some();
        let tries_max = if exact { 1 } else { UPDATE_TRIES_MAX };
        let change = |object: &mut K| {
            let mut value = to_value(object, OP)?;
            merge_patch(&mut value, patch);
            *object = from_value(value, OP, key)?;
            if object.key() == *key {
                return Ok(());
            }
            let remedy = "create it under the other name, and delete this one";
            let error = FieldError::new("metadata.name", object.key(), "cannot change", remedy);
            Err(ApiError::invalid(OP, subject::<K>(key), error))
        };
        self.retrying(key, tries_max, change, write).await
    }

    /// Makes the object as `object` says: creates it, or changes what is there.
    ///
    /// Fields that an earlier apply set and this one does not name are taken out; fields that
    /// others set stay, unless this one names them. Containers, their environment, volumes and
    /// mounts are told apart by name; other lists are replaced whole. The status is left alone.
    /// Applying the same again changes and commits nothing. A resource version or uid in `object`
    /// must be that of what is there.
    ///
    /// # Errors
    ///
    /// [`Conflict`](ApiErrorKind::Conflict) if it kept changing, or is not the one meant.
    /// [`TooLarge`](ApiErrorKind::TooLarge) if it is, or with the names of the fields it sets.
    pub async fn apply(&self, mut object: K) -> Result<Arc<K>, ApiError> {
        const OP: &str = "apply";
        if K::SCOPE == Scope::Namespaced && object.metadata().namespace.is_empty() {
            let namespace = self.default_namespace().unwrap_or(NAMESPACE_DEFAULT);
            object.metadata_mut().namespace = namespace;
        }
        let key = object.key();
        let (uid, seen) = (object.metadata().uid, object.metadata().resource_version);
        object
            .metadata_mut()
            .annotations
            .remove(ANNOTATION_LAST_APPLIED);
        let mut wanted = to_value(&object, OP)?;
        strip(&mut wanted);
        let applied = remembered(&wanted);
        let annotation = SmolStr::new_static(ANNOTATION_LAST_APPLIED);

        let mut tries = 1;
        loop {
            let answer = match self.find(&key).await? {
                None if seen != Revision(0) => {
                    return Err(ApiError::new(
                        ApiErrorKind::NotFound,
                        OP,
                        subject::<K>(&key),
                    ));
                }
                None => {
                    let mut new = object.clone();
                    let annotations = &mut new.metadata_mut().annotations;
                    annotations.insert(annotation.clone(), applied.clone());
                    self.send(self.client().commit().create(new)).await
                }
                Some(current) => {
                    let annotations = &current.metadata().annotations;
                    let before = annotations
                        .get(ANNOTATION_LAST_APPLIED)
                        .and_then(|text| serde_json::from_str(text).ok())
                        .map_or(Value::Null, expand);
                    let mut value = to_value(&*current, OP)?;
                    three_way(&mut value, &before, &wanted);
                    let mut next: K = from_value(value, OP, &key)?;
                    let meta = next.metadata_mut();
                    meta.annotations.insert(annotation.clone(), applied.clone());
                    if seen != Revision(0) {
                        meta.resource_version = seen;
                    }
                    meta.uid = uid;
                    self.send(self.client().commit().replace(next)).await
                }
            };
            match answer {
                Err(error)
                    if (error.is_conflict()
                        || error.is_already_exists()
                        || error.is_not_found())
                        && seen == Revision(0)
                        && tries < UPDATE_TRIES_MAX =>
                {
                    tries += 1;
                }
                Err(error) => return Err(too_large(error, &object, applied.len())),
                answer => return answer,
            }
        }
    }
}

/// What is remembered of the fields that an apply sets.
fn remembered(wanted: &Value) -> SmolStr {
    let shape = shape(wanted, "");
    let plain = shape.to_string();
    if plain.len() <= PLAIN_BYTES_MAX {
        return plain.into();
    }
    terse(shape).to_string().into()
}

/// Tells apart what the object weighs and what is remembered of it.
fn too_large<K: Resource>(error: ApiError, object: &K, remembered: usize) -> ApiError {
    let ApiErrorKind::TooLarge { max, .. } = *error.kind() else {
        return error;
    };
    let mut own = object.clone();
    own.metadata_mut().resource_version = Revision(0);
    match encode(&own, error.op(), &own.key()) {
        Err(own) => own,
        Ok(_) => error.because(format!(
            "apply remembers which fields it set, here in {remembered} bytes beside the object's \
             own, within {max} bytes in all; name fewer fields, or use create and replace, which \
             remember nothing"
        )),
    }
}

/// Leaves what people say.
fn strip(wanted: &mut Value) {
    if let Value::Object(members) = wanted {
        members.remove("status");
        if let Some(Value::Object(meta)) = members.get_mut("metadata") {
            for name in META_OF_THE_API {
                meta.remove(name);
            }
        }
    }
}

fn to_value<K: Resource>(object: &K, op: &'static str) -> Result<Value, ApiError> {
    serde_json::to_value(object).map_err(|error| {
        ApiError::new(ApiErrorKind::Corrupt, op, subject::<K>(&object.key())).because(error)
    })
}

fn from_value<K: Resource>(value: Value, op: &'static str, key: &ObjectKey) -> Result<K, ApiError> {
    serde_json::from_value(value).map_err(|error| {
        let remedy = "write the fields as the kind has them";
        ApiError::invalid(
            op,
            subject::<K>(key),
            FieldError::new(K::KIND, "", error.to_string(), remedy),
        )
    })
}

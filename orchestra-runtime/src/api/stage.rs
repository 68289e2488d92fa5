//! Each kind of typed write, turned into guards and store writes.

use std::sync::Arc;

use orchestra_core::kind::{FieldError, Namespace, Resource, Scope, validate_object};
use orchestra_core::meta::{ObjectKey, ObjectMeta, Uid};
use orchestra_core::port::store::{Guard, Key, Revision, Txn, Write};
use smol_str::SmolStr;

use super::admission::AdmissionRequest;
use super::client::Client;
use super::deletion::{Deletion, deletion, may_go};
use super::error::{ApiError, ApiErrorKind};
use super::object::{AnyObject, decode, encode, store_key, subject};
use super::params::{DeleteParams, NAMESPACE_DEFAULT, NAMESPACES_BUILT_IN};

/// A transaction in the making.
#[derive(Default)]
pub(crate) struct Draft {
    pub(crate) txn: Txn,
    pub(crate) placed: Vec<Placed>,
}

/// One typed write of a draft.
pub(crate) struct Placed {
    pub(crate) op: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) object: ObjectKey,
    pub(crate) key: Key,
    pub(crate) effect: Effect,
}

/// What becomes of an object if the draft lands.
pub(crate) enum Effect {
    Put(Box<dyn Landing>),
    Removed(AnyObject),
    Unchanged(AnyObject, Revision),
}

/// An object that waits for the revision of its commit.
pub(crate) trait Landing: Send + Sync {
    fn land(self: Box<Self>, at: Revision) -> AnyObject;
}

impl<K: Resource> Landing for Arc<K> {
    fn land(mut self: Box<Self>, at: Revision) -> AnyObject {
        // Nobody else holds it yet: nothing is copied.
        Self::make_mut(&mut self).metadata_mut().resource_version = at;
        *self
    }
}

/// Which part of an object a write replaces.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Part {
    Spec,
    Status,
    Whole,
}

impl Part {
    fn op(self) -> &'static str {
        match self {
            Self::Spec => "replace",
            Self::Status => "replace status",
            Self::Whole => "replace whole",
        }
    }
}

/// Objects come and stay in the `Arc` in which they are shared once they have landed: they are large, and
/// are not moved about meanwhile.
pub(crate) async fn create<K: Resource>(
    client: &Client,
    mut shared: Arc<K>,
    draft: &mut Draft,
) -> Result<(), ApiError> {
    const OP: &str = "create";
    let object = Arc::make_mut(&mut shared);
    let meta = object.metadata_mut();
    if K::SCOPE == Scope::Namespaced && meta.namespace.is_empty() {
        meta.namespace = NAMESPACE_DEFAULT;
    }
    if meta.name.is_empty() && !meta.generate_name.is_empty() {
        meta.name = client.ids().name(&meta.generate_name);
    }
    meta.uid = client.ids().uid();
    meta.resource_version = Revision(0);
    meta.generation = 1;
    meta.creation_timestamp = Some(client.now());
    meta.deletion_timestamp = None;
    meta.deletion_grace_period_seconds = None;
    object.set_defaults();
    admit(client, object, None, OP, draft).await?;
    check(object, OP)?;

    let object_key = object.key();
    if K::SCOPE == Scope::Namespaced {
        check_namespace::<K>(client, &object_key, draft).await?;
    }
    let key = store_key::<K>(&object_key);
    draft.txn.guards.push(Guard::Absent(key.clone()));
    put(OP, key, object_key, shared, draft)
}

pub(crate) async fn replace<K: Resource>(
    client: &Client,
    object: Arc<K>,
    part: Part,
    draft: &mut Draft,
) -> Result<(), ApiError> {
    let op = part.op();
    let object_key = object.key();
    let key = store_key::<K>(&object_key);
    let seen = object.metadata().resource_version;
    let current = current::<K>(client, &object_key, &key, seen, op).await?;

    let mut shared = match part {
        Part::Whole => object,
        Part::Spec => {
            let mut next = object;
            Arc::make_mut(&mut next).take_status(&current);
            next
        }
        Part::Status => {
            check_uid::<K>(object.metadata().uid, current.metadata(), op)?;
            if object.same_but_for_status(&current) {
                object
            } else {
                let mut next = K::clone(&current);
                next.take_status(&object);
                Arc::new(next)
            }
        }
    };
    let next = Arc::make_mut(&mut shared);
    if part != Part::Status {
        keep_what_is_not_the_callers::<K>(next.metadata_mut(), current.metadata(), op)?;
        next.set_defaults();
    }
    if *next == *current {
        return unchanged(op, key, object_key, current, draft);
    }
    if part != Part::Status {
        admit(client, next, Some(&*current), op, draft).await?;
        if *next == *current {
            return unchanged(op, key, object_key, current, draft);
        }
        if !next.same_spec(&current) {
            next.metadata_mut().generation += 1;
        }
        check(next, op)?;
    }
    let at = current.metadata().resource_version;
    draft.txn.guards.push(Guard::At(key.clone(), at));
    if may_go(next) {
        return remove(op, key, object_key, current, draft);
    }
    next.metadata_mut().resource_version = Revision(0);
    put(op, key, object_key, shared, draft)
}

/// Deletes the object as it was at `seen`, or as it is now if `seen` is zero.
pub(crate) async fn delete<K: Resource>(
    client: &Client,
    object_key: ObjectKey,
    seen: Revision,
    params: &DeleteParams,
    draft: &mut Draft,
) -> Result<(), ApiError> {
    const OP: &str = "delete";
    let key = store_key::<K>(&object_key);
    let current = current::<K>(client, &object_key, &key, seen, OP).await?;
    let guard = Guard::At(key.clone(), current.metadata().resource_version);
    match deletion(&*current, params, client.now())? {
        Deletion::Already => unchanged(OP, key, object_key, current, draft),
        Deletion::Remove => {
            draft.txn.guards.push(guard);
            remove(OP, key, object_key, current, draft)
        }
        Deletion::Mark(mut marked) => {
            draft.txn.guards.push(guard);
            marked.metadata_mut().resource_version = Revision(0);
            put(OP, key, object_key, Arc::new(marked), draft)
        }
    }
}

fn put<K: Resource>(
    op: &'static str,
    key: Key,
    object_key: ObjectKey,
    object: Arc<K>,
    draft: &mut Draft,
) -> Result<(), ApiError> {
    let value = encode(&*object, op, &object_key)?;
    draft.txn.writes.push(Write::put(key.clone(), value));
    let effect = Effect::Put(Box::new(object));
    draft.placed.push(Placed {
        op,
        plural: K::PLURAL,
        object: object_key,
        key,
        effect,
    });
    Ok(())
}

fn remove<K: Resource>(
    op: &'static str,
    key: Key,
    object_key: ObjectKey,
    last: Arc<K>,
    draft: &mut Draft,
) -> Result<(), ApiError> {
    draft.txn.writes.push(Write::Delete(key.clone()));
    let effect = Effect::Removed(last);
    draft.placed.push(Placed {
        op,
        plural: K::PLURAL,
        object: object_key,
        key,
        effect,
    });
    Ok(())
}

/// Nothing to write, but the rest of the transaction still stands or falls with what was read.
fn unchanged<K: Resource>(
    op: &'static str,
    key: Key,
    object_key: ObjectKey,
    current: Arc<K>,
    draft: &mut Draft,
) -> Result<(), ApiError> {
    let at = current.metadata().resource_version;
    draft.txn.guards.push(Guard::At(key.clone(), at));
    let effect = Effect::Unchanged(current, at);
    draft.placed.push(Placed {
        op,
        plural: K::PLURAL,
        object: object_key,
        key,
        effect,
    });
    Ok(())
}

/// The object as the caller saw it, or as it is now if `seen` is zero.
async fn current<K: Resource>(
    client: &Client,
    object_key: &ObjectKey,
    key: &Key,
    seen: Revision,
    op: &'static str,
) -> Result<Arc<K>, ApiError> {
    if seen != Revision(0)
        && let Some(known) = client.shelf().get(key, seen)
    {
        return Ok(known);
    }
    let failed = |kind| ApiError::new(kind, op, subject::<K>(object_key));
    let stored = client
        .store()
        .get(key)
        .await
        .map_err(|error| ApiError::store(error, op, subject::<K>(object_key)))?
        .ok_or_else(|| failed(ApiErrorKind::NotFound))?;
    if seen != Revision(0) && stored.modified != seen {
        let why = format!(
            "its resourceVersion is {}, the caller saw {seen}",
            stored.modified
        );
        return Err(failed(ApiErrorKind::Conflict).because(why));
    }
    decode(client.shelf(), &stored, op)
}

/// Restores what only the API sets, and refuses what contradicts it.
fn keep_what_is_not_the_callers<K: Resource>(
    next: &mut ObjectMeta,
    current: &ObjectMeta,
    op: &'static str,
) -> Result<(), ApiError> {
    check_uid::<K>(next.uid, current, op)?;
    let refuse = |path, value: String, problem, remedy| {
        let error = FieldError::new(path, value, problem, remedy);
        Err(ApiError::invalid(op, subject::<K>(&current.key()), error))
    };
    if let Some(asked) = next.deletion_timestamp
        && next.deletion_timestamp != current.deletion_timestamp
    {
        return refuse(
            "metadata.deletionTimestamp",
            asked.to_string(),
            "only the API sets it",
            "leave it as it was read, and call delete",
        );
    }
    if current.deletion_timestamp.is_some()
        && let Some(new) = next
            .finalizers
            .iter()
            .find(|new| !current.finalizers.contains(new))
    {
        return refuse(
            "metadata.finalizers",
            new.to_string(),
            "the object is being deleted and takes no new finalizers",
            "add finalizers before the object is deleted",
        );
    }
    next.uid = current.uid;
    next.resource_version = current.resource_version;
    next.generation = current.generation;
    next.creation_timestamp = current.creation_timestamp;
    next.deletion_timestamp = current.deletion_timestamp;
    next.deletion_grace_period_seconds = current.deletion_grace_period_seconds;
    next.generate_name.clone_from(&current.generate_name);
    Ok(())
}

fn check_uid<K: Resource>(
    meant: Uid,
    current: &ObjectMeta,
    op: &'static str,
) -> Result<(), ApiError> {
    if meant == Uid::NIL || meant == current.uid {
        return Ok(());
    }
    let why = format!(
        "another object has that name now: uid {}, not {meant}",
        current.uid
    );
    Err(ApiError::new(ApiErrorKind::Conflict, op, subject::<K>(&current.key())).because(why))
}

fn check<K: Resource>(object: &K, op: &'static str) -> Result<(), ApiError> {
    validate_object(object).map_err(|invalid| {
        ApiError::new(
            ApiErrorKind::Invalid(invalid),
            op,
            subject::<K>(&object.key()),
        )
    })
}

/// Shows the write to each hook, in order.
async fn admit<K: Resource>(
    client: &Client,
    object: &mut K,
    old: Option<&K>,
    op: &'static str,
    draft: &mut Draft,
) -> Result<(), ApiError> {
    for hook in client.admission() {
        let key = object.key();
        let mut request = AdmissionRequest {
            kind: K::KIND,
            key: key.clone(),
            object,
            old: old.map(|old| old as _),
            guards: Vec::new(),
            writes: Vec::new(),
            earlier: &draft.txn.writes,
        };
        hook.admit(&mut request).await.map_err(|why| {
            let kind = ApiErrorKind::Denied {
                by: hook.name(),
                why,
            };
            ApiError::new(kind, op, subject::<K>(&key))
        })?;
        let (guards, writes) = (request.guards, request.writes);
        for guard in guards {
            if !draft.txn.guards.contains(&guard) {
                draft.txn.guards.push(guard);
            }
        }
        for write in writes {
            let mut all = draft.txn.writes.iter_mut();
            match all.find(|earlier| earlier.key() == write.key()) {
                Some(earlier) => *earlier = write,
                None => draft.txn.writes.push(write),
            }
        }
    }
    Ok(())
}

/// Refuses objects in namespaces that do not exist or are on their way out, and makes the
/// transaction depend on that.
async fn check_namespace<K: Resource>(
    client: &Client,
    object_key: &ObjectKey,
    draft: &mut Draft,
) -> Result<(), ApiError> {
    const OP: &str = "create";
    let namespace: &SmolStr = &object_key.namespace;
    if NAMESPACES_BUILT_IN.contains(&namespace.as_str()) {
        return Ok(());
    }
    let key = store_key::<Namespace>(&ObjectKey::cluster(namespace.clone()));
    if draft.txn.guards.iter().any(|guard| *guard.key() == key) {
        return Ok(());
    }
    let failed = |kind| ApiError::new(kind, OP, subject::<K>(object_key));
    let stored = client
        .store()
        .get(&key)
        .await
        .map_err(|error| ApiError::store(error, OP, subject::<K>(object_key)))?
        .ok_or_else(|| failed(ApiErrorKind::NoNamespace(namespace.to_string())))?;
    let found = decode::<Namespace>(client.shelf(), &stored, OP)?;
    if found.metadata.deletion_timestamp.is_some() {
        return Err(failed(ApiErrorKind::NamespaceEnding(namespace.to_string())));
    }
    draft.txn.guards.push(Guard::At(key, stored.modified));
    Ok(())
}

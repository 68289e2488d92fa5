//! From the changes of a cache to the keys of a queue.

use orchestra_core::kind::{Resource, Scope};
use orchestra_core::meta::{ObjectKey, ObjectMeta};

use super::Queue;
use crate::cache::Cache;

/// Adds the key of each object that changes in `cache` to `queue`, and of those there already.
pub fn enqueue_changed<K: Resource>(cache: &Cache<K>, queue: &Queue<ObjectKey>) {
    let adds = queue.clone();
    cache.on_change(move |event| adds.add(event.key.clone()));
    for object in cache.list() {
        queue.add(object.key());
    }
}

/// Adds the controlling owner of each object that changes in `cache` to `queue`, if that owner
/// is an `O`, and the owners of those there already. An object that changes hands wakes both.
pub fn enqueue_owners<K: Resource, O: Resource>(cache: &Cache<K>, queue: &Queue<ObjectKey>) {
    let adds = queue.clone();
    cache.on_change(move |event| {
        let owner = |object: &Option<_>| object.as_deref().and_then(owner_key::<K, O>);
        let (old, new) = (owner(&event.old), owner(&event.new));
        if old != new {
            old.into_iter().for_each(|key| adds.add(key));
        }
        new.into_iter().for_each(|key| adds.add(key));
    });
    for object in cache.list() {
        owner_key::<K, O>(&object)
            .into_iter()
            .for_each(|key| queue.add(key));
    }
}

fn owner_key<K: Resource, O: Resource>(object: &K) -> Option<ObjectKey> {
    let meta: &ObjectMeta = object.metadata();
    let owner = meta.controller()?;
    let right = owner.kind == O::KIND && owner.api_version == O::API_VERSION;
    right.then(|| match O::SCOPE {
        Scope::Namespaced => ObjectKey::namespaced(meta.namespace.clone(), owner.name.clone()),
        Scope::Cluster => ObjectKey::cluster(owner.name.clone()),
    })
}

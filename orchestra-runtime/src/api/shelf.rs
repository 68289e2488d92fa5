//! Objects that this process wrote or read lately, so that nobody decodes them again.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use orchestra_core::port::store::{Key, Revision};

use super::object::AnyObject;

/// Objects in one of the two generations of a shelf: at most twice as many are held.
const SHELF_GENERATION_OBJECTS_MAX: usize = 65_536;

/// Holds the newest known version of each object, by store key.
///
/// An object is only ever handed out for the very revision it was stored at, so that a shelf can
/// be empty or behind but never wrong. The objects are shared with the caches: what the shelf
/// costs is its keys.
pub(crate) struct Shelf {
    generations: Mutex<Generations>,
    max: usize,
}

/// What was put since the older generation was dropped. Two maps instead of an order of use:
/// dropping the older half costs nothing per object.
#[derive(Default)]
struct Generations {
    young: HashMap<Key, (Revision, AnyObject)>,
    old: HashMap<Key, (Revision, AnyObject)>,
}

impl Shelf {
    pub(crate) fn new() -> Self {
        Self::holding(SHELF_GENERATION_OBJECTS_MAX)
    }

    fn holding(max: usize) -> Self {
        Self {
            generations: Mutex::default(),
            max,
        }
    }

    /// The object at `key` as the commit `at` wrote it.
    pub(crate) fn get<K: Any + Send + Sync>(&self, key: &Key, at: Revision) -> Option<Arc<K>> {
        let found = {
            let generations = self.lock();
            let (revision, object) = generations
                .young
                .get(key)
                .or_else(|| generations.old.get(key))?;
            if *revision != at {
                return None;
            }
            object.clone()
        };
        found.downcast().ok()
    }

    /// Keeps `object`, unless something newer lies there.
    pub(crate) fn put(&self, key: Key, at: Revision, object: AnyObject) {
        let mut generations = self.lock();
        let newest = generations
            .young
            .get(&key)
            .or_else(|| generations.old.get(&key));
        if newest.is_some_and(|(revision, _)| *revision > at) {
            return;
        }
        let dropped = if generations.young.len() >= self.max {
            let young = std::mem::take(&mut generations.young);
            std::mem::replace(&mut generations.old, young)
        } else {
            HashMap::new()
        };
        generations.young.insert(key, (at, object));
        drop(generations);
        drop(dropped); // outside the lock: it may be large
    }

    /// Forgets the object at `key`.
    pub(crate) fn remove(&self, key: &Key) {
        let mut generations = self.lock();
        let young = generations.young.remove(key);
        let old = generations.old.remove(key);
        drop(generations);
        drop((young, old));
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf")
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_given_for_its_revision_only_and_never_goes_back() {
        let shelf = Shelf::new();
        let key = Key::from("a/b");
        shelf.put(key.clone(), Revision(5), Arc::new("five"));
        shelf.put(key.clone(), Revision(4), Arc::new("four"));
        assert_eq!(
            shelf.get::<&str>(&key, Revision(5)).as_deref(),
            Some(&"five")
        );
        assert_eq!(shelf.get::<&str>(&key, Revision(4)), None);
        assert_eq!(shelf.get::<u8>(&key, Revision(5)), None, "another type");
        shelf.remove(&key);
        assert_eq!(shelf.get::<&str>(&key, Revision(5)), None);
    }

    #[test]
    fn it_stays_within_its_bound_and_drops_the_oldest() {
        let shelf = Shelf::holding(10);
        for n in 0..100_u64 {
            shelf.put(Key::from(n.to_string()), Revision(n), Arc::new(n));
        }
        let generations = shelf.lock();
        assert!(generations.young.len() + generations.old.len() <= 20);
        drop(generations);
        assert!(shelf.get::<u64>(&Key::from("99"), Revision(99)).is_some());
        assert!(shelf.get::<u64>(&Key::from("0"), Revision(0)).is_none());
    }
}

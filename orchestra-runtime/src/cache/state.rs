//! The objects of a cache and their indexes.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use orchestra_core::kind::Resource;
use orchestra_core::meta::ObjectKey;
use orchestra_core::port::store::Revision;
use smol_str::SmolStr;

use super::CacheEvent;
use super::signal::Signal;

/// Passes on the values under which an object is found.
pub(super) type IndexBy<K> = Box<dyn Fn(&K, &mut dyn FnMut(SmolStr)) + Send + Sync>;

type Objects<K> = BTreeMap<ObjectKey, Arc<K>>;

pub(super) struct State<K> {
    objects: Objects<K>,
    indexes: Vec<Index<K>>,
}

struct Index<K> {
    name: &'static str,
    by: IndexBy<K>,
    found: BTreeMap<SmolStr, Objects<K>>,
    signals: BTreeMap<SmolStr, Weak<Signal>>,
}

impl<K: Resource> State<K> {
    pub(super) fn new(indexes: Vec<(&'static str, IndexBy<K>)>) -> Self {
        let index = |(name, by)| Index {
            name,
            by,
            found: BTreeMap::new(),
            signals: BTreeMap::new(),
        };
        Self {
            objects: BTreeMap::new(),
            indexes: indexes.into_iter().map(index).collect(),
        }
    }

    pub(super) fn get(&self, key: &ObjectKey) -> Option<&Arc<K>> {
        self.objects.get(key)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<K>> {
        self.objects.values()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.objects.keys()
    }

    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    pub(super) fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = &Arc<K>> {
        let first = ObjectKey::namespaced(namespace, "");
        self.objects
            .range(first..)
            .take_while(move |(key, _)| key.namespace == namespace)
            .map(|(_, object)| object)
    }

    pub(super) fn by_index(&self, name: &str, value: &str) -> impl Iterator<Item = &Arc<K>> {
        let n = self.index_number(name);
        self.indexes[n]
            .found
            .get(value)
            .into_iter()
            .flat_map(BTreeMap::values)
    }

    /// What is raised when an object under `value` changes.
    pub(super) fn signal(&mut self, name: &str, value: SmolStr) -> Arc<Signal> {
        let n = self.index_number(name);
        let index = &mut self.indexes[n];
        if let Some(signal) = index.signals.get(&value).and_then(Weak::upgrade) {
            return signal;
        }
        let signal = Arc::new(Signal::default());
        index.signals.insert(value, Arc::downgrade(&signal));
        signal
    }

    /// Puts `new` in place of what stands at `key`, and adds what has to be raised to `raise`.
    /// `None` if nothing changes.
    pub(super) fn apply(
        &mut self,
        key: ObjectKey,
        new: Option<Arc<K>>,
        revision: Revision,
        raise: &mut Vec<Arc<Signal>>,
    ) -> Option<CacheEvent<K>> {
        let old = match &new {
            Some(new) => self.objects.insert(key.clone(), new.clone()),
            None => self.objects.remove(&key),
        };
        if old.is_none() && new.is_none() {
            return None;
        }
        for index in &mut self.indexes {
            index.apply(&key, old.as_deref(), new.as_ref(), raise);
        }
        Some(CacheEvent {
            key,
            old,
            new,
            revision,
        })
    }

    fn index_number(&self, name: &str) -> usize {
        let found = self.indexes.iter().position(|index| index.name == name);
        found.unwrap_or_else(|| {
            let names: Vec<_> = self.indexes.iter().map(|index| index.name).collect();
            panic!(
                "no index {name:?} of {}; it was built with {names:?}",
                K::PLURAL
            )
        })
    }
}

impl<K> Index<K> {
    fn apply(
        &mut self,
        key: &ObjectKey,
        old: Option<&K>,
        new: Option<&Arc<K>>,
        raise: &mut Vec<Arc<Signal>>,
    ) {
        let Self {
            by, found, signals, ..
        } = self;
        let of = |object: Option<&K>| {
            let mut values = Values::default();
            if let Some(object) = object {
                by(object, &mut |value| values.add(value));
            }
            values
        };
        let (was, is) = (of(old), of(new.map(Arc::as_ref)));
        for value in was.all() {
            wake(signals, value, raise);
        }
        if let (true, Some(new)) = (was == is, new) {
            // Mostly it stays where it is found.
            for value in is.all() {
                let there = found.get_mut(value).and_then(|found| found.get_mut(key));
                there.into_iter().for_each(|there| *there = new.clone());
            }
            return;
        }
        for value in was.all() {
            if let Some(objects) = found.get_mut(value) {
                objects.remove(key);
                if objects.is_empty() {
                    found.remove(value);
                }
            }
        }
        for value in is.all() {
            wake(signals, value, raise);
            if let Some(new) = new {
                let objects = found.entry(value.clone()).or_default();
                objects.insert(key.clone(), new.clone());
            }
        }
    }
}

/// The values under which one object is found: mostly one.
#[derive(Default, PartialEq)]
struct Values {
    first: Option<SmolStr>,
    more: Vec<SmolStr>,
}

impl Values {
    fn add(&mut self, value: SmolStr) {
        match self.first {
            None => self.first = Some(value),
            Some(_) => self.more.push(value),
        }
    }

    fn all(&self) -> impl Iterator<Item = &SmolStr> {
        self.first.iter().chain(&self.more)
    }
}

fn wake(
    signals: &mut BTreeMap<SmolStr, Weak<Signal>>,
    value: &SmolStr,
    raise: &mut Vec<Arc<Signal>>,
) {
    if signals.is_empty() {
        return;
    }
    match signals.get(value).map(Weak::upgrade) {
        // The values of one object mostly stay the same: raised once is enough.
        Some(Some(signal)) if raise.last().is_some_and(|last| Arc::ptr_eq(last, &signal)) => {}
        Some(Some(signal)) => raise.push(signal),
        Some(None) => {
            signals.remove(value);
        }
        None => {}
    }
}

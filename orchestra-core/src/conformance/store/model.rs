//! What a store should do, in the plainest way: every state it ever had, kept whole.

use std::collections::BTreeMap;

use crate::port::store::{Change, Guard, Key, Revision, Txn, Versioned, Write};

pub(super) type Keys = BTreeMap<Key, Versioned>;

#[derive(Debug)]
pub(super) struct Model {
    /// The state after each commit; the first is the empty store's.
    pub(super) states: BTreeMap<Revision, Keys>,
    /// Every change in commit order.
    pub(super) log: Vec<Change>,
}

impl Model {
    /// An empty store that stands at `base`.
    pub(super) fn new(base: Revision) -> Self {
        Self {
            states: BTreeMap::from([(base, Keys::new())]),
            log: Vec::new(),
        }
    }

    pub(super) fn newest(&self) -> Revision {
        self.states
            .last_key_value()
            .map_or(Revision(0), |(revision, _)| *revision)
    }

    pub(super) fn now(&self) -> &Keys {
        static NONE: Keys = Keys::new();
        self.states.last_key_value().map_or(&NONE, |(_, keys)| keys)
    }

    /// The state at `revision`, which may lie between two commits.
    pub(super) fn at(&self, revision: Revision) -> Option<&Keys> {
        self.states
            .range(..=revision)
            .next_back()
            .map(|(_, keys)| keys)
    }

    /// Lands `txn` at `revision`, whether its guards hold or not.
    pub(super) fn land(&mut self, txn: &Txn, revision: Revision) {
        let mut keys = self.now().clone();
        for write in &txn.writes {
            match write {
                Write::Put { key, value, lease } => {
                    let now = Versioned {
                        key: key.clone(),
                        value: value.clone(),
                        created: keys.get(key).map_or(revision, |before| before.created),
                        modified: revision,
                        lease: *lease,
                    };
                    keys.insert(key.clone(), now.clone());
                    self.log.push(Change::Put(now));
                }
                Write::Delete(key) => {
                    if keys.remove(key).is_some() {
                        self.log.push(Change::Delete {
                            key: key.clone(),
                            at: revision,
                        });
                    }
                }
            }
        }
        self.states.insert(revision, keys);
    }

    /// The changes under `prefix` behind `from`.
    pub(super) fn changes(&self, prefix: &str, from: Revision) -> Vec<Change> {
        let wanted = |c: &&Change| c.revision() > from && c.key().as_str().starts_with(prefix);
        self.log.iter().filter(wanted).cloned().collect()
    }
}

/// The keys of the guards that do not hold in `keys`.
pub(super) fn broken<'a>(txn: &'a Txn, keys: &Keys) -> Vec<&'a Key> {
    let holds = |guard: &Guard| match guard {
        Guard::Absent(key) => !keys.contains_key(key),
        Guard::At(key, revision) => keys.get(key).is_some_and(|now| now.modified == *revision),
    };
    txn.guards
        .iter()
        .filter(|guard| !holds(guard))
        .map(Guard::key)
        .collect()
}

/// What lies under `prefix`, in order.
pub(super) fn under(keys: &Keys, prefix: &str) -> Vec<Versioned> {
    let inside = |(key, _): &(&Key, &Versioned)| key.as_str().starts_with(prefix);
    keys.iter()
        .filter(inside)
        .map(|(_, now)| now.clone())
        .collect()
}

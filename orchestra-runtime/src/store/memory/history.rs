//! Every key with its versions, and the log of changes that watches read.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use orchestra_core::port::store::{Change, Key, Revision, Versioned};

/// What an entry of the log costs beside its key and value: the change itself, its place in the
/// key's versions, and the allocations' own words.
const ENTRY_OVERHEAD_BYTES: usize = 200;

/// The versions of one key. `newest` is how it stands; `older` are those that a revision still
/// kept can see, oldest first.
struct Slot {
    newest: Change,
    older: VecDeque<Change>,
}

/// Keys, versions and the log. The log's entries are numbered without gaps; several may share a
/// revision.
pub(super) struct History {
    slots: BTreeMap<Key, Slot>,
    keys: usize,
    log: VecDeque<Change>,
    log_start: u64,
    log_bytes: usize,
    entries_max: usize,
    bytes_max: usize,
    newest: Revision,
    oldest: Revision,
}

impl History {
    pub(super) fn new(entries_max: usize, bytes_max: usize) -> Self {
        Self {
            slots: BTreeMap::new(),
            keys: 0,
            log: VecDeque::new(),
            log_start: 0,
            log_bytes: 0,
            entries_max,
            bytes_max,
            newest: Revision(0),
            oldest: Revision(0),
        }
    }

    /// The newest commit.
    pub(super) fn newest(&self) -> Revision {
        self.newest
    }

    /// The oldest revision that can be read at.
    pub(super) fn oldest(&self) -> Revision {
        self.oldest
    }

    pub(super) fn keys(&self) -> usize {
        self.keys
    }

    pub(super) fn log_len(&self) -> usize {
        self.log.len()
    }

    pub(super) fn log_bytes(&self) -> usize {
        self.log_bytes
    }

    /// The key as it stands.
    pub(super) fn get(&self, key: &Key) -> Option<&Versioned> {
        self.slots.get(key).and_then(|slot| existing(&slot.newest))
    }

    /// Opens the next commit and gives its revision.
    pub(super) fn advance(&mut self) -> Revision {
        self.newest.0 += 1;
        self.newest
    }

    /// Records a change of the commit that is open, and gives its number in the log.
    pub(super) fn record(&mut self, change: Change) -> u64 {
        let exists_now = existing(&change).is_some();
        self.log_bytes += cost(&change);
        self.log.push_back(change.clone());
        match self.slots.get_mut(change.key()) {
            Some(slot) => {
                let existed = existing(&slot.newest).is_some();
                let before = std::mem::replace(&mut slot.newest, change);
                slot.older.push_back(before);
                self.keys += usize::from(exists_now);
                self.keys -= usize::from(existed);
            }
            None => {
                self.keys += usize::from(exists_now);
                let key = change.key().clone();
                self.slots.insert(
                    key,
                    Slot {
                        newest: change,
                        older: VecDeque::new(),
                    },
                );
            }
        }
        self.log_start + self.log.len() as u64 - 1
    }

    /// Closes the open commit: drops old history until it is within its bounds, but never a part
    /// of a commit and never the newest.
    pub(super) fn trim(&mut self) {
        while self.log.len() > self.entries_max || self.log_bytes > self.bytes_max {
            match self.log.front().map(Change::revision) {
                Some(oldest) if oldest < self.newest => self.forget(oldest),
                _ => return,
            }
        }
    }

    /// Forgets every change up to and including `through`.
    pub(super) fn forget(&mut self, through: Revision) {
        let through = through.min(self.newest);
        while self
            .log
            .front()
            .is_some_and(|change| change.revision() <= through)
        {
            if let Some(change) = self.log.pop_front() {
                self.log_start += 1;
                self.log_bytes -= cost(&change);
                self.forget_before(&change);
            }
        }
        self.oldest = self.oldest.max(through);
        if self.log.len() < self.log.capacity() / 4 {
            self.log.shrink_to(self.log.len() * 2);
        }
    }

    /// Drops the versions of a key that `change` replaced, and the key if that deleted it.
    fn forget_before(&mut self, change: &Change) {
        let Some(slot) = self.slots.get_mut(change.key()) else {
            return;
        };
        while slot
            .older
            .front()
            .is_some_and(|old| old.revision() < change.revision())
        {
            slot.older.pop_front();
        }
        if slot.older.is_empty() {
            slot.older = VecDeque::new();
            if existing(&slot.newest).is_none() {
                self.slots.remove(change.key());
            }
        }
    }

    /// The keys under `prefix` and behind `after`, in order, as they stood at `at`.
    pub(super) fn scan(
        &self,
        prefix: &Key,
        after: Option<&Key>,
        at: Revision,
    ) -> impl Iterator<Item = &Versioned> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after.as_str()),
            _ => Bound::Included(prefix.as_str()),
        };
        self.slots
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(move |(key, _)| key.as_str().starts_with(prefix.as_str()))
            .filter_map(move |(_, slot)| existing(slot.at(at)?))
    }

    /// The number of the first entry of the log behind `revision`.
    pub(super) fn first_after(&self, revision: Revision) -> u64 {
        let at = self
            .log
            .partition_point(|change| change.revision() <= revision);
        self.log_start + at as u64
    }

    /// The number of the oldest entry kept.
    pub(super) fn log_start(&self) -> u64 {
        self.log_start
    }

    /// The number that the next entry will have.
    pub(super) fn log_end(&self) -> u64 {
        self.log_start + self.log.len() as u64
    }

    /// The entry of that number, if it is kept.
    pub(super) fn entry(&self, number: u64) -> Option<&Change> {
        let at = usize::try_from(number.checked_sub(self.log_start)?).ok()?;
        self.log.get(at)
    }
}

impl Slot {
    /// How the key stood at `revision`; `None` if it had never been written.
    fn at(&self, revision: Revision) -> Option<&Change> {
        if self.newest.revision() <= revision {
            return Some(&self.newest);
        }
        let behind = self.older.partition_point(|old| old.revision() <= revision);
        self.older.get(behind.checked_sub(1)?)
    }
}

fn existing(change: &Change) -> Option<&Versioned> {
    match change {
        Change::Put(now) => Some(now),
        Change::Delete { .. } => None,
    }
}

fn cost(change: &Change) -> usize {
    let value = existing(change).map_or(0, |now| now.value.len());
    ENTRY_OVERHEAD_BYTES + change.key().as_str().len() + value
}

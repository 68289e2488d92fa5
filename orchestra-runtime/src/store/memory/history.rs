//! Every key with its versions, and the log of changes that watches read.
//!
//! A key's slot holds how it stands; an entry of the log holds what its change replaced. So each
//! version lies in one place, older ones are found by walking back, and a commit touches its key
//! and the end of the log, however many keys there are.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;

use orchestra_core::port::lease::LeaseId;
use orchestra_core::port::store::{Change, Key, Revision, Value, Versioned};

/// What an entry of the log costs beside its key and value: the entry itself, and the
/// allocations' own words.
const ENTRY_OVERHEAD_BYTES: usize = 128;

/// No entry of the log: what is newest has none behind it.
const NONE: u64 = u64::MAX;

/// How a key stood from one commit on.
#[derive(Clone, Debug)]
struct Version {
    /// The commit that wrote it; zero where nothing was ever written.
    at: Revision,
    /// What it held; `None` if it did not exist.
    held: Option<Held>,
}

#[derive(Clone, Debug)]
struct Held {
    value: Value,
    created: Revision,
    lease: Option<LeaseId>,
}

impl Version {
    const NEVER: Self = Self {
        at: Revision(0),
        held: None,
    };

    fn of(&self, key: &Key) -> Option<Versioned> {
        self.held.as_ref().map(|held| Versioned {
            key: key.clone(),
            value: held.value.clone(),
            created: held.created,
            modified: self.at,
            lease: held.lease,
        })
    }
}

/// One key.
#[derive(Debug)]
struct Slot {
    key: Key,
    newest: Version,
    /// The number of the entry that wrote `newest`. It may be forgotten.
    number: u64,
}

/// One change.
#[derive(Debug)]
struct Entry {
    slot: usize,
    at: Revision,
    /// How the key stood before.
    before: Version,
    /// The number of the entry that wrote `before`. It may be forgotten.
    earlier: u64,
    /// The number of the next entry of the same key, or [`NONE`].
    later: u64,
    /// What it counts towards the bound.
    bytes: usize,
    /// It removed the key.
    deletes: bool,
}

/// A change that was recorded.
pub(super) struct Recorded<'a> {
    /// The key, shared with what is stored.
    pub(super) key: &'a Key,
    /// The entry's number in the log.
    pub(super) number: u64,
    /// The lease to which the key was bound before.
    pub(super) lease_before: Option<LeaseId>,
}

/// Keys, versions and the log. The log's entries are numbered without gaps; several may share a
/// revision.
pub(super) struct History {
    slots: Vec<Slot>,
    /// Slots that hold no key.
    vacant: Vec<usize>,
    /// Finds one key; its own order is never looked at.
    index: HashMap<Key, usize>,
    /// Finds the keys of a range.
    order: BTreeMap<Key, usize>,
    keys: usize,
    log: VecDeque<Entry>,
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
            slots: Vec::new(),
            vacant: Vec::new(),
            index: HashMap::new(),
            order: BTreeMap::new(),
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
    pub(super) fn get(&self, key: &Key) -> Option<Versioned> {
        let slot = &self.slots[*self.index.get(key)?];
        slot.newest.of(&slot.key)
    }

    /// The commit that wrote the key as it stands; `None` if it does not exist.
    pub(super) fn modified(&self, key: &Key) -> Option<Revision> {
        let newest = &self.slots[*self.index.get(key)?].newest;
        newest.held.as_ref().map(|_| newest.at)
    }

    /// Opens the next commit and gives its revision.
    pub(super) fn advance(&mut self) -> Revision {
        self.newest.0 += 1;
        self.newest
    }

    /// Sets a key in the commit that is open.
    pub(super) fn put(&mut self, key: Key, value: Value, lease: Option<LeaseId>) -> Recorded<'_> {
        let slot = match self.index.get(&key) {
            Some(slot) => *slot,
            None => self.open(key),
        };
        let before = self.slots[slot].newest.held.as_ref();
        let created = before.map_or(self.newest, |before| before.created);
        self.keys += usize::from(before.is_none());
        let held = Held {
            value,
            created,
            lease,
        };
        self.record(slot, Some(held))
    }

    /// Removes a key in the commit that is open; `None` if it does not exist.
    pub(super) fn delete(&mut self, key: &Key) -> Option<Recorded<'_>> {
        let slot = *self.index.get(key)?;
        self.slots[slot].newest.held.as_ref()?;
        self.keys -= 1;
        Some(self.record(slot, None))
    }

    /// A slot for a key that has none.
    fn open(&mut self, key: Key) -> usize {
        let slot = Slot {
            key: key.clone(),
            newest: Version::NEVER,
            number: NONE,
        };
        let at = match self.vacant.pop() {
            Some(at) => {
                self.slots[at] = slot;
                at
            }
            None => {
                self.slots.push(slot);
                self.slots.len() - 1
            }
        };
        self.index.insert(key.clone(), at);
        self.order.insert(key, at);
        at
    }

    fn record(&mut self, at: usize, held: Option<Held>) -> Recorded<'_> {
        let number = self.log_end();
        let slot = &mut self.slots[at];
        let value = held.as_ref().map_or(0, |held| held.value.len());
        let bytes = ENTRY_OVERHEAD_BYTES + slot.key.as_str().len() + value;
        let deletes = held.is_none();
        let now = Version {
            at: self.newest,
            held,
        };
        let before = std::mem::replace(&mut slot.newest, now);
        let earlier = std::mem::replace(&mut slot.number, number);
        let lease_before = before.held.as_ref().and_then(|held| held.lease);
        // NONE lies past every entry.
        if let Some(earlier) = place(self.log_start, earlier).and_then(|at| self.log.get_mut(at)) {
            earlier.later = number;
        }
        self.log_bytes += bytes;
        self.log.push_back(Entry {
            slot: at,
            at: self.newest,
            before,
            earlier,
            later: NONE,
            bytes,
            deletes,
        });
        Recorded {
            key: &self.slots[at].key,
            number,
            lease_before,
        }
    }

    /// Closes the open commit: drops old history until it is within its bounds, but never a part
    /// of a commit and never the newest.
    pub(super) fn trim(&mut self) {
        while self.log.len() > self.entries_max || self.log_bytes > self.bytes_max {
            match self.log.front().map(|entry| entry.at) {
                Some(oldest) if oldest < self.newest => self.forget(oldest),
                _ => return,
            }
        }
    }

    /// Forgets every change up to and including `through`.
    pub(super) fn forget(&mut self, through: Revision) {
        let through = through.min(self.newest);
        while let Some(entry) = self.log.pop_front_if(|entry| entry.at <= through) {
            self.log_start += 1;
            self.log_bytes -= entry.bytes;
            if entry.deletes && entry.later == NONE {
                self.close(entry.slot);
            }
        }
        self.oldest = self.oldest.max(through);
        if self.log.len() < self.log.capacity() / 4 {
            self.log.shrink_to(self.log.len() * 2);
        }
    }

    /// Gives up the slot of a key that is gone and that no revision still kept can see.
    fn close(&mut self, at: usize) {
        let nobody = Slot {
            key: Key::from(""),
            newest: Version::NEVER,
            number: NONE,
        };
        let slot = std::mem::replace(&mut self.slots[at], nobody);
        self.index.remove(&slot.key);
        self.order.remove(&slot.key);
        self.vacant.push(at);
    }

    /// The keys under `prefix` and behind `after`, in order, as they stood at `at`, which is no
    /// older than [`oldest`](Self::oldest).
    pub(super) fn scan(
        &self,
        prefix: &Key,
        after: Option<&Key>,
        at: Revision,
    ) -> impl Iterator<Item = Versioned> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after.as_str()),
            _ => Bound::Included(prefix.as_str()),
        };
        self.order
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(move |(key, _)| key.as_str().starts_with(prefix.as_str()))
            .filter_map(move |(key, slot)| self.version(&self.slots[*slot], at)?.of(key))
    }

    /// How the key stood at a revision that is still kept.
    fn version<'a>(&'a self, slot: &'a Slot, at: Revision) -> Option<&'a Version> {
        let (mut version, mut number) = (&slot.newest, slot.number);
        while version.at > at {
            // What is newer than a revision still kept is in the log.
            let entry = self.find(number)?;
            (version, number) = (&entry.before, entry.earlier);
        }
        Some(version)
    }

    /// The number of the first entry of the log behind `revision`.
    pub(super) fn first_after(&self, revision: Revision) -> u64 {
        let at = self.log.partition_point(|entry| entry.at <= revision);
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

    /// The change of that number, if it is kept.
    pub(super) fn change(&self, number: u64) -> Option<Change> {
        let entry = self.find(number)?;
        let slot = &self.slots[entry.slot];
        let version = match entry.later {
            NONE => &slot.newest,
            later => &self.find(later)?.before,
        };
        Some(match version.of(&slot.key) {
            Some(now) => Change::Put(now),
            None => Change::Delete {
                key: slot.key.clone(),
                at: entry.at,
            },
        })
    }

    /// The key that the change of that number was about, if it is kept.
    pub(super) fn key(&self, number: u64) -> Option<&Key> {
        self.find(number).map(|entry| &self.slots[entry.slot].key)
    }

    /// The commit of the change of that number, if it is kept.
    pub(super) fn revision(&self, number: u64) -> Option<Revision> {
        self.find(number).map(|entry| entry.at)
    }

    fn find(&self, number: u64) -> Option<&Entry> {
        self.log.get(place(self.log_start, number)?)
    }
}

/// Where the entry of that number lies in a log that starts with number `start`.
fn place(start: u64, number: u64) -> Option<usize> {
    usize::try_from(number.checked_sub(start)?).ok()
}

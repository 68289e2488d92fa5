//! Where state lives: an ordered map with compare-and-swap and change streams.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::lease::{LeaseId, LeaseStore};
use crate::error::{ErrorKind, PortError, Retry};

/// The most guards, and the most writes, that one transaction may hold: what every backend
/// accepts.
pub const TXN_OPS_MAX: usize = 128;

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 1_024;

/// The largest value, in bytes: what every backend accepts in one transaction with some room to
/// spare.
pub const VALUE_BYTES_MAX: usize = 1_500_000;

/// A key: UTF-8 text, ordered by its bytes. Cloning shares it.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key(Arc<str>);

impl Key {
    /// A key, or a prefix of keys. The empty prefix is a prefix of all.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Key {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The bytes of a value. Cloning shares them.
pub type Value = Arc<[u8]>;

/// The number of a commit. Every commit of a store gets a greater one than all before it; zero
/// is before the first.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    Eq,
    Hash,
    Ord,
    PartialEq,
    PartialOrd,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A value as it stands in the store.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Versioned {
    /// Its key.
    pub key: Key,
    /// Its bytes.
    pub value: Value,
    /// The commit that made the key exist.
    pub created: Revision,
    /// The commit that last wrote it.
    pub modified: Revision,
    /// The lease whose end deletes it.
    pub lease: Option<LeaseId>,
}

/// What must hold for a transaction to commit.
///
/// Only what every backend can check. "Nothing under this prefix changed" is not among them: a
/// range compare does not notice deletions everywhere. Write a fence key with each change
/// instead, and guard on that.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Guard {
    /// The key does not exist.
    Absent(Key),
    /// The key exists and was last written by exactly this commit.
    At(Key, Revision),
}

impl Guard {
    /// The key it looks at.
    pub fn key(&self) -> &Key {
        match self {
            Self::Absent(key) | Self::At(key, _) => key,
        }
    }
}

/// One write inside a transaction.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Write {
    /// Sets a key, bound to a lease or to none.
    Put {
        /// The key.
        key: Key,
        /// Its new value.
        value: Value,
        /// The lease whose end deletes it.
        lease: Option<LeaseId>,
    },
    /// Removes a key. Removing an absent key is not an error, and no change that a watch sees.
    Delete(Key),
}

impl Write {
    /// Sets `key` to `value`, bound to no lease.
    pub fn put(key: Key, value: impl Into<Value>) -> Self {
        Self::Put {
            key,
            value: value.into(),
            lease: None,
        }
    }

    /// The key it writes.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete(key) => key,
        }
    }
}

/// All-or-nothing: if every guard holds, every write lands at one new revision.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Txn {
    /// What must hold.
    pub guards: Vec<Guard>,
    /// What then happens.
    pub writes: Vec<Write>,
}

impl Txn {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition.
    #[must_use]
    pub fn when(mut self, guard: Guard) -> Self {
        self.guards.push(guard);
        self
    }

    /// Adds a write.
    #[must_use]
    pub fn then(mut self, write: Write) -> Self {
        self.writes.push(write);
        self
    }

    /// Checks what every store must refuse, in the same words everywhere: more than
    /// [`TXN_OPS_MAX`] guards or writes, no write at all, a key written twice, an empty key or one
    /// past [`KEY_BYTES_MAX`], a value past [`VALUE_BYTES_MAX`]. Stores call it first in `commit`.
    ///
    /// # Errors
    ///
    /// [`StoreErrorKind::Invalid`], with the cause saying which rule and the remedy.
    pub fn check(&self) -> Result<(), StoreError> {
        let refuse = |about: &str, why: String| {
            Err(StoreError::new(StoreErrorKind::Invalid, "commit")
                .about(about)
                .because(why))
        };
        if self.writes.is_empty() {
            return refuse("transaction", "it writes nothing; add a write".into());
        }
        for (what, count) in [("guards", self.guards.len()), ("writes", self.writes.len())] {
            if count > TXN_OPS_MAX {
                let why = format!("{count} {what}, at most {TXN_OPS_MAX}; split it");
                return refuse("transaction", why);
            }
        }
        for key in self
            .guards
            .iter()
            .map(Guard::key)
            .chain(self.writes.iter().map(Write::key))
        {
            let bytes = key.as_str().len();
            if bytes == 0 || bytes > KEY_BYTES_MAX {
                let why = format!("a key has 1 to {KEY_BYTES_MAX} bytes, this one {bytes}");
                return refuse(key.as_str(), why);
            }
        }
        for (n, write) in self.writes.iter().enumerate() {
            if let Write::Put { key, value, .. } = write
                && value.len() > VALUE_BYTES_MAX
            {
                let why = format!(
                    "the value has {} bytes, at most {VALUE_BYTES_MAX}; keep large data outside \
                     and store a reference",
                    value.len()
                );
                return refuse(key.as_str(), why);
            }
            if self.writes[..n]
                .iter()
                .any(|earlier| earlier.key() == write.key())
            {
                return refuse(
                    write.key().as_str(),
                    "written twice; merge the writes".into(),
                );
            }
        }
        Ok(())
    }
}

/// One change of one key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// The key was set; this is how it stands now.
    Put(Versioned),
    /// The key was removed, by a delete or the end of its lease.
    Delete {
        /// The key.
        key: Key,
        /// The commit that removed it.
        at: Revision,
    },
}

impl Change {
    /// The key that changed.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put(now) => &now.key,
            Self::Delete { key, .. } => key,
        }
    }

    /// The commit that changed it.
    pub fn revision(&self) -> Revision {
        match self {
            Self::Put(now) => now.modified,
            Self::Delete { at, .. } => *at,
        }
    }
}

/// Changes in commit order. Empty `changes` with a newer `through` is a bookmark.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Batch {
    /// The changes, in commit order; within one commit, in the order of its writes.
    pub changes: Vec<Change>,
    /// The stream has delivered everything up to and including this revision.
    pub through: Revision,
}

/// A live stream of changes.
#[async_trait]
pub trait Watch: Send {
    /// Waits for the next batch. A batch never splits a commit.
    ///
    /// Cancel-safe: dropping the future loses nothing. A watch never skips a change; if it
    /// cannot keep up it ends with [`StoreErrorKind::Lagged`] or [`StoreErrorKind::Compacted`],
    /// and the caller lists again. After an error every further call fails too.
    async fn next(&mut self) -> Result<Batch, StoreError>;
}

/// Where a listing goes on. Opaque: it comes from [`Page::next`] and goes back unchanged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cursor {
    /// The last key already delivered.
    pub after: Key,
    /// The revision at which the listing reads.
    pub at: Revision,
}

/// What to list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListRequest {
    /// Keys that start with this.
    pub prefix: Key,
    /// At most this many items in the page; at least 1.
    pub limit: usize,
    /// Where the page before ended; `None` starts at the newest revision.
    pub from: Option<Cursor>,
}

impl ListRequest {
    /// The first page of everything under `prefix`, all of it in one page.
    pub fn all(prefix: impl Into<Key>) -> Self {
        Self {
            prefix: prefix.into(),
            limit: usize::MAX,
            from: None,
        }
    }
}

/// One page of a listing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Page {
    /// The items, ordered by key.
    pub items: Vec<Versioned>,
    /// The revision at which the whole listing reads: watch from here.
    pub revision: Revision,
    /// Where to go on, if there is more.
    pub next: Option<Cursor>,
}

/// An ordered map with compare-and-swap and change streams.
///
/// # Contract
///
/// * Commits are totally ordered by [`Revision`]; a commit is visible to every later call, and
///   a reader never sees half of one.
/// * [`commit`](Self::commit) is the only write (besides the end of a lease). It lands wholly
///   or not at all, and only if every guard held at that very moment.
/// * `list` at revision *r*, then `watch` from *r*, yields every later change exactly once, in
///   order.
/// * A page that cannot be read at its revision any more fails with
///   [`StoreErrorKind::Compacted`]; so does a watch from a revision no longer kept.
/// * A failed commit changed nothing, unless its kind is [`StoreErrorKind::Ambiguous`].
///
/// There are no default methods on purpose: a wrapper that forgets to forward one would silently
/// change behaviour. Conveniences live in [`StateStoreExt`]. The suite
/// `conformance::store` tests each of these sentences.
#[async_trait]
pub trait StateStore: fmt::Debug + Send + Sync + 'static {
    /// Reads one key at the newest revision. An empty answer means that it does not exist.
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, StoreError>;

    /// Reads one page of a prefix. Every page of one listing reads at the same revision.
    async fn list(&self, request: ListRequest) -> Result<Page, StoreError>;

    /// Applies `txn` and returns the new revision, or fails with [`StoreErrorKind::Conflict`]
    /// (about the key of a guard that did not hold) and changes nothing.
    ///
    /// Not cancel-safe: a dropped call may still land. Retry-safe only with guards that the
    /// first landing would break.
    async fn commit(&self, txn: Txn) -> Result<Revision, StoreError>;

    /// Streams every change under `prefix` after `from`, a revision that this store gave: of a
    /// listing, a commit or a batch.
    async fn watch(&self, prefix: Key, from: Revision) -> Result<Box<dyn Watch>, StoreError>;

    /// The lease side of this store, if it has one. Where it has none, a put that names a lease
    /// fails with [`StoreErrorKind::LeaseEnded`]: none was ever granted.
    fn leases(&self) -> Option<&dyn LeaseStore>;
}

const _: Option<&dyn StateStore> = None;
const _: Option<&dyn Watch> = None;

/// Conveniences over any [`StateStore`]. Not implementable elsewhere.
pub trait StateStoreExt: StateStore {
    /// Creates a key that must not exist.
    fn create(
        &self,
        key: Key,
        value: impl Into<Value>,
    ) -> impl Future<Output = Result<Revision, StoreError>> + Send {
        self.commit(
            Txn::new()
                .when(Guard::Absent(key.clone()))
                .then(Write::put(key, value)),
        )
    }

    /// Replaces a key that must still be at `seen`.
    fn replace(
        &self,
        key: Key,
        value: impl Into<Value>,
        seen: Revision,
    ) -> impl Future<Output = Result<Revision, StoreError>> + Send {
        self.commit(
            Txn::new()
                .when(Guard::At(key.clone(), seen))
                .then(Write::put(key, value)),
        )
    }

    /// Sets a key, whatever it holds.
    fn put(
        &self,
        key: Key,
        value: impl Into<Value>,
    ) -> impl Future<Output = Result<Revision, StoreError>> + Send {
        self.commit(Txn::new().then(Write::put(key, value)))
    }

    /// Removes a key, whether it exists or not.
    fn delete(&self, key: Key) -> impl Future<Output = Result<Revision, StoreError>> + Send {
        self.commit(Txn::new().then(Write::Delete(key)))
    }
}

impl<S: StateStore + ?Sized> StateStoreExt for S {}

/// A store call failed.
pub type StoreError = PortError<StoreErrorKind>;

/// Why a store call failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// A guard did not hold.
    #[error("a guard did not hold: it changed since it was read; read it again")]
    Conflict,
    /// The revision asked for is no longer kept.
    #[error("the revision is no longer kept (oldest: {oldest}); list again")]
    Compacted {
        /// The oldest revision still kept.
        oldest: Revision,
    },
    /// The reader fell too far behind.
    #[error("the watcher fell behind; list again")]
    Lagged,
    /// A put named a lease that has ended or never was.
    #[error("the lease has ended; grant a new one")]
    LeaseEnded,
    /// The request breaks a rule of the contract.
    #[error("the request breaks the store's contract")]
    Invalid,
    /// The store cannot be reached now. Nothing was changed.
    #[error("the store cannot be reached now; try again with back-off")]
    Unavailable,
    /// The outcome of a write is unknown: it may have landed.
    #[error("the outcome is unknown: it may have landed; read again")]
    Ambiguous,
    /// The stored bytes are damaged.
    #[error("the stored data is damaged; restore it from a copy")]
    Corrupt,
}

impl ErrorKind for StoreErrorKind {
    fn retry(self) -> Retry {
        match self {
            Self::Unavailable => Retry::Backoff,
            Self::Conflict
            | Self::Compacted { .. }
            | Self::Lagged
            | Self::LeaseEnded
            | Self::Ambiguous => Retry::AfterRefresh,
            Self::Invalid | Self::Corrupt => Retry::Never,
        }
    }
}

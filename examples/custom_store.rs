//! A store of one's own, and the suite that says whether it is: `cargo run --example custom_store`.
//!
//! It keeps the newest states of the whole map, one a commit: slow, and so plain that it is easy
//! to believe. It has no leases, and says so.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use orchestra_core::port::lease::LeaseStore;
use orchestra_core::port::store::*;
use tokio::sync::watch;

/// Commits kept. A watch or a listing that needs an older one is told to start over.
const COMMITS_MAX: usize = 500;

/// What one commit changed, and what the map was then.
#[derive(Clone, Debug, Default)]
struct Commit {
    at: Revision,
    changes: Vec<Change>,
    state: BTreeMap<Key, Versioned>,
}

impl Commit {
    /// The commit that `txn` makes on top of this one.
    fn then(&self, txn: &Txn) -> Result<Self, StoreError> {
        let refuse = |kind, key: &Key| Err(StoreError::new(kind, "commit").about(key.as_str()));
        for guard in &txn.guards {
            let now = self.state.get(guard.key()).map(|now| now.modified);
            let as_seen = matches!(guard, Guard::At(_, seen) if now == Some(*seen));
            let as_absent = matches!(guard, Guard::Absent(_) if now.is_none());
            if !(as_seen || as_absent) {
                return refuse(StoreErrorKind::Conflict, guard.key());
            }
        }
        let at = Revision(self.at.0 + 1);
        let (mut state, mut changes) = (self.state.clone(), Vec::new());
        for write in &txn.writes {
            let (key, before) = (write.key().clone(), state.remove(write.key()));
            match write {
                Write::Put { value, lease, .. } if lease.is_none() => {
                    let now = Versioned {
                        key: key.clone(),
                        value: value.clone(),
                        created: before.map_or(at, |before| before.created),
                        modified: at,
                        lease: None,
                    };
                    changes.push(Change::Put(now.clone()));
                    state.insert(key, now);
                }
                Write::Delete(_) => changes.extend(before.map(|_| Change::Delete { key, at })),
                _ => return refuse(StoreErrorKind::LeaseEnded, &key), // none was ever granted
            }
        }
        Ok(Self { at, changes, state })
    }
}

/// Where the commit `at` is in the list; an error if it is no longer there, or not yet.
fn place(log: &VecDeque<Commit>, op: &'static str, at: Revision) -> Result<usize, StoreError> {
    log.binary_search_by_key(&at, |commit| commit.at)
        .map_err(|_| StoreError::new(StoreErrorKind::Compacted { oldest: log[0].at }, op))
}

/// The newest commits, oldest first and never none, in a channel that wakes whoever follows.
#[derive(Debug)]
struct StatesStore(watch::Sender<VecDeque<Commit>>);

#[async_trait]
impl StateStore for StatesStore {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, StoreError> {
        Ok(self
            .0
            .borrow()
            .back()
            .and_then(|newest| newest.state.get(key).cloned()))
    }

    async fn list(&self, ask: ListRequest) -> Result<Page, StoreError> {
        let log = self.0.borrow();
        let (commit, after) = match ask.from {
            Some(cursor) => (&log[place(&log, "list", cursor.at)?], Some(cursor.after)),
            None => (&log[log.len() - 1], None),
        };
        let (at, prefix) = (commit.at, ask.prefix.as_str());
        let asked = |key: &Key| key.as_str().starts_with(prefix) && Some(key) > after.as_ref();
        let mut rest = commit.state.values().filter(|item| asked(&item.key));
        let items: Vec<_> = rest.by_ref().take(ask.limit).cloned().collect();
        let last = rest.next().and(items.last()).map(|last| last.key.clone());
        let next = last.map(|after| Cursor { after, at });
        Ok(Page {
            items,
            revision: at,
            next,
        })
    }

    async fn commit(&self, txn: Txn) -> Result<Revision, StoreError> {
        txn.check()?; // what every store refuses, in the same words
        let mut landed = Ok(Revision(0));
        self.0.send_if_modified(|log| {
            let made = log[log.len() - 1].then(&txn);
            landed = made.map(|made| (made.at, log.push_back(made)).0);
            log.drain(..log.len().saturating_sub(COMMITS_MAX));
            landed.is_ok()
        });
        landed
    }

    async fn watch(&self, prefix: Key, from: Revision) -> Result<Box<dyn Watch>, StoreError> {
        place(&self.0.borrow(), "watch", from)?;
        Ok(Box::new(Follower(self.0.subscribe(), prefix, from)))
    }

    fn leases(&self) -> Option<&dyn LeaseStore> {
        None
    }
}

/// Follows the list, for keys that start so, from behind that commit.
struct Follower(watch::Receiver<VecDeque<Commit>>, Key, Revision);

#[async_trait]
impl Watch for Follower {
    async fn next(&mut self) -> Result<Batch, StoreError> {
        let Self(log, prefix, seen) = self;
        // Nothing is taken before this wait is over: dropping it loses nothing.
        let log = log.wait_for(|log| log[log.len() - 1].at > *seen).await;
        let log = log.map_err(|_| StoreError::new(StoreErrorKind::Unavailable, "watch"))?;
        let commits = log.range(place(&log, "watch", *seen)? + 1..);
        let changes = commits.flat_map(|commit| commit.changes.iter().cloned());
        let changes = changes.filter(|change| change.key().as_str().starts_with(prefix.as_str()));
        let (changes, through) = (changes.collect(), log[log.len() - 1].at);
        *seen = through;
        Ok(Batch { changes, through })
    }
}

#[tokio::main(flavor = "current_thread")]
#[allow(clippy::print_stdout)]
async fn main() {
    orchestra_examples::no_arguments();
    let empty = || StatesStore(watch::Sender::new([Commit::default()].into()));
    let fresh = || async { Arc::new(empty()) as Arc<dyn StateStore> };
    let report = orchestra_core::conformance::store::run(fresh, tokio::time::sleep).await;
    println!("{report}");
    report.assert_passed();
}

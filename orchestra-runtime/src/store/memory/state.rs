//! What the store's calls do to its data.

use std::time::Duration;

use orchestra_core::port::lease::LeaseId;
use orchestra_core::port::store::{
    Cursor, Guard, ListRequest, Page, Revision, StoreError, StoreErrorKind, Txn, Write,
};
use tokio::time::Instant;

use super::history::History;
use super::leases::Leases;
use super::topics::Topics;
use super::{MemoryStats, out_of_reach};

pub(super) struct State {
    pub(super) history: History,
    pub(super) leases: Leases,
    pub(super) topics: Topics,
}

impl State {
    pub(super) fn new(entries_max: usize, bytes_max: usize) -> Self {
        Self {
            history: History::new(entries_max, bytes_max),
            leases: Leases::default(),
            topics: Topics::default(),
        }
    }

    pub(super) fn stats(&self) -> MemoryStats {
        MemoryStats {
            revision: self.history.newest(),
            oldest: self.history.oldest(),
            keys: self.history.keys(),
            history_entries: self.history.log_len(),
            history_bytes: self.history.log_bytes(),
            leases: self.leases.len(),
            watches: self.topics.watches(),
        }
    }

    pub(super) fn commit(&mut self, txn: Txn) -> Result<Revision, StoreError> {
        for guard in &txn.guards {
            self.hold(guard)?;
        }
        for write in &txn.writes {
            if let Write::Put {
                key,
                lease: Some(lease),
                ..
            } = write
                && !self.leases.lives(*lease)
            {
                return Err(StoreError::new(StoreErrorKind::LeaseEnded, "commit")
                    .about(format!("{key} ({lease})")));
            }
        }
        Ok(self.apply(txn.writes))
    }

    fn hold(&self, guard: &Guard) -> Result<(), StoreError> {
        let seen = self.history.modified(guard.key());
        let holds = match guard {
            Guard::Absent(_) => seen.is_none(),
            Guard::At(_, revision) => seen == Some(*revision),
            unknown => {
                return Err(StoreError::new(StoreErrorKind::Invalid, "commit")
                    .about(guard.key().as_str())
                    .because(format!("this store does not know the guard {unknown:?}")));
            }
        };
        if holds {
            return Ok(());
        }
        let error = StoreError::new(StoreErrorKind::Conflict, "commit").about(guard.key().as_str());
        Err(match seen {
            Some(modified) => error.because(format!("it was last written at {modified}")),
            None => error.because("it does not exist"),
        })
    }

    /// Lands writes at one new revision.
    fn apply(&mut self, writes: Vec<Write>) -> Revision {
        let revision = self.history.advance();
        for write in writes {
            let (recorded, lease) = match write {
                Write::Put { key, value, lease } => (self.history.put(key, value, lease), lease),
                Write::Delete(key) => match self.history.delete(&key) {
                    Some(recorded) => (recorded, None),
                    None => continue,
                },
                // `Write` may grow; what this store does not know, it was not built against.
                _ => continue,
            };
            // The key that is stored, not the one that came in: however often it is written, there
            // is one copy of its text.
            self.leases
                .rebind(recorded.key, recorded.lease_before, lease);
            self.topics.publish(recorded.key.as_str(), recorded.number);
        }
        self.history.trim();
        self.topics.mark(&self.history);
        revision
    }

    pub(super) fn list(&self, request: &ListRequest) -> Result<Page, StoreError> {
        if request.limit == 0 {
            return Err(StoreError::new(StoreErrorKind::Invalid, "list")
                .about(request.prefix.as_str())
                .because("the limit is 0; ask for at least 1 item"));
        }
        let (newest, oldest) = (self.history.newest(), self.history.oldest());
        let at = request.from.as_ref().map_or(newest, |from| from.at);
        if at < oldest || at > newest {
            return Err(out_of_reach("list", at, oldest, newest));
        }
        let after = request.from.as_ref().map(|from| &from.after);
        let mut found = self.history.scan(&request.prefix, after, at);
        let items: Vec<_> = found.by_ref().take(request.limit).collect();
        let more = found.next().is_some();
        let next = match items.last() {
            Some(last) if more => Some(Cursor {
                after: last.key.clone(),
                at,
            }),
            _ => None,
        };
        Ok(Page {
            items,
            revision: at,
            next,
        })
    }

    pub(super) fn grant(&mut self, ttl: Duration, now: Instant) -> LeaseId {
        let before = self.leases.earliest();
        let id = self.leases.grant(ttl, now);
        if before.is_none_or(|before| self.leases.earliest() < Some(before)) {
            // Who waits must wait no longer than until the new end.
            self.topics.wake_all();
        }
        id
    }

    /// Ends every lease that is due, the longest due first, each in a commit of its own.
    pub(super) fn end_due_leases(&mut self) {
        while let Some(lease) = self.leases.due(Instant::now) {
            self.end_lease(lease);
        }
    }

    pub(super) fn end_lease(&mut self, lease: LeaseId) {
        let Some(keys) = self.leases.end(lease) else {
            return;
        };
        if !keys.is_empty() {
            self.apply(keys.into_iter().map(Write::Delete).collect());
        }
    }

    pub(super) fn compact(&mut self, through: Revision) {
        self.history.forget(through);
    }
}

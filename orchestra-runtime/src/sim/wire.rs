//! The way from one process to the store: it can be cut, and it ends with the process.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use orchestra_core::port::lease::{KeptAlive, LeaseId, LeaseStore};
use orchestra_core::port::store::{
    Batch, Key, ListRequest, Page, Revision, StateStore, StoreError, StoreErrorKind, Txn,
    Versioned, Watch, Write,
};
use tokio::sync::Notify;

use super::acks::Acks;

/// When a process dies around a commit of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Deadly {
    /// Commits that still go through.
    after: u64,
    /// Whether the one after those lands.
    landed: bool,
}

/// The state of a process's way to the store.
#[derive(Debug)]
pub(super) struct Line {
    up: AtomicBool,
    /// The process is dead: none of its calls ever returns.
    dead: AtomicBool,
    changed: Notify,
    deadly: Mutex<Option<Deadly>>,
    /// Told when the process dies by a deadly commit.
    died: Arc<Notify>,
}

impl Line {
    pub(super) fn new(up: bool, died: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            up: AtomicBool::new(up),
            dead: AtomicBool::new(false),
            changed: Notify::new(),
            deadly: Mutex::default(),
            died,
        })
    }

    pub(super) fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Breaks the watches that wait now; calls still go through.
    pub(super) fn break_watches(&self) {
        self.changed.notify_waiters();
    }

    /// Nothing goes through any more, for good.
    pub(super) fn kill(&self) {
        self.dead.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// The process dies with its next commit but `after`, just before it lands or just after.
    pub(super) fn die_at_commit(&self, after: u64, landed: bool) {
        *self.deadly.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Deadly { after, landed });
    }

    /// Lets a call begin: never if the process is dead, with an error if the line is cut.
    async fn pass(&self, op: &'static str, about: &str) -> Result<(), StoreError> {
        self.live().await;
        if self.up.load(Ordering::SeqCst) {
            return Ok(());
        }
        Err(cut(op, about))
    }

    /// A call of a dead process never returns.
    pub(super) async fn live(&self) {
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
    }

    /// Counts a commit; whether the process dies with it, and whether it lands first.
    fn fatal(&self) -> Option<bool> {
        let mut deadly = self.deadly.lock().unwrap_or_else(PoisonError::into_inner);
        match deadly.as_mut() {
            Some(Deadly { after: 0, landed }) => {
                let landed = *landed;
                *deadly = None;
                Some(landed)
            }
            Some(deadly) => {
                deadly.after -= 1;
                None
            }
            None => None,
        }
    }

    async fn die(&self) {
        self.kill();
        self.died.notify_one();
        std::future::pending::<()>().await;
    }
}

fn cut(op: &'static str, about: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, op)
        .about(about)
        .because("the line is cut")
}

/// A store at the end of a [`Line`]. Tells `acks` of every commit it saw land.
pub(super) struct Wire {
    inner: Arc<dyn StateStore>,
    line: Arc<Line>,
    acks: Arc<Acks>,
    /// Whether a user writes through it.
    user: bool,
}

impl Wire {
    pub(super) fn new(
        inner: Arc<dyn StateStore>,
        line: Arc<Line>,
        acks: Arc<Acks>,
        user: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            inner,
            line,
            acks,
            user,
        })
    }

    fn inner_leases(&self, op: &'static str) -> Result<&dyn LeaseStore, StoreError> {
        self.inner.leases().ok_or_else(|| {
            StoreError::new(StoreErrorKind::Invalid, op).because("the store has no leases")
        })
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire")
            .field("line", &self.line)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl StateStore for Wire {
    async fn get(&self, key: &Key) -> Result<Option<Versioned>, StoreError> {
        self.line.pass("get", key.as_str()).await?;
        let found = self.inner.get(key).await;
        self.line.live().await;
        found
    }

    async fn list(&self, request: ListRequest) -> Result<Page, StoreError> {
        self.line.pass("list", request.prefix.as_str()).await?;
        let found = self.inner.list(request).await;
        self.line.live().await;
        found
    }

    async fn commit(&self, txn: Txn) -> Result<Revision, StoreError> {
        let about = txn
            .writes
            .first()
            .map_or("transaction", |write| write.key().as_str());
        self.line.pass("commit", about).await?;
        let fatal = self.line.fatal();
        if fatal == Some(false) {
            self.line.die().await;
        }
        let writes: Vec<Write> = txn.writes.clone();
        let landed = self.inner.commit(txn).await;
        if let Ok(revision) = &landed {
            self.acks.landed(*revision, writes, self.user);
        }
        if fatal == Some(true) {
            self.line.die().await;
        }
        self.line.live().await;
        landed
    }

    async fn watch(&self, prefix: Key, from: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.line.pass("watch", prefix.as_str()).await?;
        let inner = self.inner.watch(prefix, from).await?;
        Ok(Box::new(WireWatch {
            inner: Some(inner),
            line: self.line.clone(),
        }))
    }

    fn leases(&self) -> Option<&dyn LeaseStore> {
        self.inner.leases().map(|_| self as &dyn LeaseStore)
    }
}

struct WireWatch {
    /// Nothing once the line was cut.
    inner: Option<Box<dyn Watch>>,
    line: Arc<Line>,
}

#[async_trait]
impl Watch for WireWatch {
    async fn next(&mut self) -> Result<Batch, StoreError> {
        self.line.live().await;
        let Some(inner) = &mut self.inner else {
            return Err(cut("watch", "all"));
        };
        let changed = self.line.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if self.line.up.load(Ordering::SeqCst) {
            tokio::select! {
                biased;
                () = changed => {}
                batch = inner.next() => return batch,
            }
        }
        self.inner = None;
        Err(cut("watch", "all"))
    }
}

#[async_trait]
impl LeaseStore for Wire {
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let leases = self.inner_leases("grant")?;
        self.line.pass("grant", "lease").await?;
        leases.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<KeptAlive, StoreError> {
        let leases = self.inner_leases("keep_alive")?;
        self.line.pass("keep_alive", "lease").await?;
        leases.keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        let leases = self.inner_leases("revoke")?;
        self.line.pass("revoke", "lease").await?;
        leases.revoke(lease).await
    }
}

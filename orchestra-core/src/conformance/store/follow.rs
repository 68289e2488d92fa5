//! Reading a watch, and checking all that can be checked of a batch by itself.

use super::Kit;
use crate::conformance::{Finding, Stop, ensure, fail};
use crate::port::store::{
    Batch, Change, Key, Revision, StateStore, StoreError, StoreErrorKind, Watch,
};

/// A watch and what it has told so far.
pub(crate) struct Follower {
    watch: Box<dyn Watch>,
    prefix: Key,
    /// Everything it told.
    pub(crate) seen: Vec<Change>,
    /// How far it says it has told everything.
    pub(crate) through: Revision,
    /// It ended because it could not keep up.
    pub(crate) lost: bool,
}

impl Follower {
    pub(crate) async fn new(
        store: &dyn StateStore,
        prefix: &str,
        from: Revision,
    ) -> Result<Self, StoreError> {
        let watch = store.watch(prefix.into(), from).await?;
        Ok(Self {
            watch,
            prefix: prefix.into(),
            seen: Vec::new(),
            through: from,
            lost: false,
        })
    }

    /// Waits for one batch and takes it in.
    pub(crate) async fn read(&mut self, kit: &Kit<'_>) -> Finding {
        let next = kit
            .patiently("a batch of the watch", self.watch.next())
            .await?;
        self.take_result(next)
    }

    fn take_result(&mut self, next: Result<Batch, StoreError>) -> Finding {
        if let Err(error) = &next {
            self.lost = matches!(
                error.kind(),
                StoreErrorKind::Lagged | StoreErrorKind::Compacted { .. }
            );
        }
        self.take(next?)
    }

    /// One batch, or the store's error, without a bound on the wait.
    pub(crate) async fn try_read(&mut self) -> Result<Finding, StoreError> {
        let batch = self.watch.next().await?;
        Ok(self.take(batch))
    }

    fn take(&mut self, batch: Batch) -> Finding {
        let mut last = self.through;
        for (n, change) in batch.changes.iter().enumerate() {
            ensure(
                change.key().as_str().starts_with(self.prefix.as_str()),
                format!("only keys under {:?}", self.prefix.as_str()),
                change,
            )?;
            let revision = change.revision();
            if revision < last || (n == 0 && revision <= last) {
                return fail(
                    format!("changes in commit order, each once: after {last}"),
                    format!("{change:?}"),
                );
            }
            last = revision;
        }
        ensure(
            batch.through >= last,
            format!("`through` of at least {last}"),
            batch.through,
        )?;
        ensure(
            !batch.changes.is_empty() || batch.through > self.through,
            "no batch without news",
            &batch,
        )?;
        self.through = batch.through;
        self.seen.extend(batch.changes);
        Ok(())
    }

    /// Compares what was told with the beginning of `expected`, and `through` with its rest.
    pub(crate) fn compare(&self, expected: &[Change]) -> Finding {
        for (n, seen) in self.seen.iter().enumerate() {
            match expected.get(n) {
                Some(wanted) if wanted == seen => {}
                Some(wanted) => {
                    return fail(
                        format!("change {n} under {}: {wanted:?}", self.prefix),
                        format!("{seen:?}"),
                    );
                }
                None => {
                    return fail(
                        format!("no change after the first {n}"),
                        format!("{seen:?}"),
                    );
                }
            }
        }
        match expected.get(self.seen.len()) {
            Some(skipped) if skipped.revision() <= self.through => fail(
                format!("{skipped:?}"),
                format!("the watch says it told everything through {}", self.through),
            ),
            _ => Ok(()),
        }
    }

    /// Reads until as much was told as `expected` holds, and compares.
    pub(crate) async fn expect(&mut self, kit: &Kit<'_>, expected: &[Change]) -> Finding {
        while self.seen.len() < expected.len() {
            let had = self.seen.len();
            self.read(kit).await.map_err(|stop: Stop| {
                stop.at(format!(
                    "after {had} of {} changes of the watch",
                    expected.len()
                ))
            })?;
            self.compare(expected)?;
        }
        self.compare(expected)
    }

    /// Lets the watch be polled once and given up, as a caller does who waits for several
    /// things; takes in what came.
    pub(crate) async fn glance(&mut self) -> Finding {
        use std::future::poll_fn;
        use std::task::Poll;
        let seen = {
            let mut next = self.watch.next();
            poll_fn(|cx| {
                Poll::Ready(match next.as_mut().poll(cx) {
                    Poll::Ready(batch) => Some(batch),
                    Poll::Pending => None,
                })
            })
            .await
        };
        match seen {
            Some(next) => self.take_result(next),
            None => Ok(()),
        }
    }
}

//! A place in the log, and waiting for what comes behind it.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use orchestra_core::port::store::{Batch, Key, Revision, StoreError, StoreErrorKind, Watch};
use tokio::time::{Instant, Sleep, sleep_until};

use super::state::State;
use super::topics::{Pending, WatchId, mark_is_due};
use super::{Shared, out_of_reach};

/// Changes in one batch, save that a commit is never split.
const BATCH_CHANGES_MAX: usize = 1_024;

pub(super) struct MemoryWatch {
    shared: Arc<Shared>,
    prefix: Key,
    id: WatchId,
    /// The first entry of the log not delivered yet.
    next: u64,
    /// Where the log ended when `through` was last told.
    told: u64,
    /// Fires when the first lease ends, so that a store nobody calls still ends it.
    timer: Option<Pin<Box<Sleep>>>,
    /// It has failed, with everything up to here forgotten.
    ended: Option<Revision>,
}

impl MemoryWatch {
    pub(super) fn new(
        shared: Arc<Shared>,
        prefix: Key,
        from: Revision,
    ) -> Result<Self, StoreError> {
        let (id, next) = shared.with(|state| {
            let (newest, oldest) = (state.history.newest(), state.history.oldest());
            if from < oldest || from > newest {
                return Err(out_of_reach("watch", from, oldest, newest));
            }
            let next = state.history.first_after(from);
            Ok((state.topics.join(&prefix, next, &state.history), next))
        })?;
        Ok(Self {
            shared,
            prefix,
            id,
            next,
            told: next,
            timer: None,
            ended: None,
        })
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Batch, StoreError>> {
        loop {
            if let Some(oldest) = self.ended {
                return Poll::Ready(Err(self.overtaken(oldest)));
            }
            let shared = Arc::clone(&self.shared);
            let (found, earliest) = shared.with(|state| {
                let found = self.take(state);
                if matches!(found, Ok(None)) {
                    state.topics.park(&self.prefix, self.id, cx.waker());
                }
                (found, state.leases.earliest())
            });
            match found {
                Err(oldest) => self.ended = Some(oldest),
                Ok(Some(batch)) => return Poll::Ready(Ok(batch)),
                Ok(None) => {
                    let Some(earliest) = earliest else {
                        return Poll::Pending;
                    };
                    if self.poll_timer(earliest, cx).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    /// The next batch if there is one; fails with the oldest revision kept if entries are
    /// missing.
    fn take(&mut self, state: &mut State) -> Result<Option<Batch>, Revision> {
        let State {
            history, topics, ..
        } = state;
        let end = history.log_end();
        let numbers = match topics.pending(&self.prefix, self.next, BATCH_CHANGES_MAX, history) {
            Pending::Forgotten => return Err(history.oldest()),
            Pending::Numbers(numbers) => numbers,
        };
        if numbers.is_empty() && !mark_is_due(self.told, history) {
            return Ok(None);
        }
        let changes: Vec<_> = numbers
            .iter()
            .filter_map(|number| history.change(*number))
            .collect();
        let more = numbers.len() >= BATCH_CHANGES_MAX;
        let (through, next) = match (numbers.last(), changes.last()) {
            (Some(last), Some(change)) if more => (change.revision(), last + 1),
            _ => (history.newest(), end),
        };
        (self.next, self.told) = (next, next);
        Ok(Some(Batch { changes, through }))
    }

    /// Waits until `earliest`, or less: a lease that is kept alive moves its end back, and then
    /// an early look costs less than moving the timer.
    fn poll_timer(&mut self, earliest: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(earliest)));
        if timer.deadline() > earliest || timer.is_elapsed() {
            timer.as_mut().reset(earliest);
        }
        timer.as_mut().poll(cx)
    }

    fn overtaken(&self, oldest: Revision) -> StoreError {
        StoreError::new(StoreErrorKind::Compacted { oldest }, "watch").about(self.prefix.as_str())
    }
}

#[async_trait]
impl Watch for MemoryWatch {
    async fn next(&mut self) -> Result<Batch, StoreError> {
        poll_fn(|cx| self.poll_next(cx)).await
    }
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        self.shared.lock().topics.leave(&self.prefix, self.id);
    }
}

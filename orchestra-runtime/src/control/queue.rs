//! Which keys are to be looked at, and when.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use orchestra_core::port::clock::Clock;
use orchestra_core::time::Timestamp;
use tokio::sync::Notify;

use super::rules::Rules;

/// Keys that are to be looked at. Cheap to clone; clones share it.
///
/// * A key is in it once, however often it is added; first come, first served.
/// * A key added for later comes no earlier than asked; the earliest wish wins, and a key looked
///   at before is thereby looked at.
/// * A key that was handed out is not handed out again until it is done; if it was added
///   meanwhile, it comes once more then.
///
/// It holds each key at most once, so that the number of objects bounds it. Adding never waits.
pub struct Queue<K>(Arc<Inner<K>>);

struct Inner<K> {
    rules: Mutex<Rules<K>>,
    clock: Arc<dyn Clock>,
    added: Notify,
}

impl<K: Clone + Ord> Queue<K> {
    /// An empty queue on that clock.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let rules = Mutex::new(Rules::new());
        Self(Arc::new(Inner {
            rules,
            clock,
            added: Notify::new(),
        }))
    }

    /// Adds `key`, to be looked at as soon as it is its turn.
    pub fn add(&self, key: K) {
        if self.rules().add(key) {
            self.0.added.notify_one();
        }
    }

    /// Adds `key`, to be looked at at `at` at the latest, and not before if nothing else asks for
    /// it.
    pub fn add_at(&self, key: K, at: Timestamp) {
        self.rules().add_at(key, at);
        self.0.added.notify_one();
    }

    /// Waits for the key whose turn it is. The caller must call [`done`](Self::done) once it has
    /// looked. Cancel-safe.
    pub async fn next(&self) -> K {
        loop {
            let now = self.0.clock.now();
            let due = {
                let mut rules = self.rules();
                if let Some(key) = rules.take(now) {
                    return key;
                }
                rules.next_due()
            };
            // An add in between leaves a permit behind, so that none is missed.
            match due {
                Some(due) => tokio::select! {
                    biased;
                    () = self.0.added.notified() => {}
                    () = tokio::time::sleep(due.since(now)) => {}
                },
                None => self.0.added.notified().await,
            }
        }
    }

    /// The look at `key` has ended.
    pub fn done(&self, key: K) {
        if self.rules().done(key) {
            self.0.added.notify_one();
        }
    }

    /// How many keys could be looked at now.
    pub fn ready(&self) -> usize {
        self.rules().ready()
    }

    fn rules(&self) -> MutexGuard<'_, Rules<K>> {
        self.0.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Clone + Ord> fmt::Debug for Queue<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("ready", &self.ready())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::TokioClock;
    use std::time::Duration;

    fn queue() -> (Queue<&'static str>, Arc<TokioClock>) {
        let clock = Arc::new(TokioClock::starting_at(Timestamp::EPOCH));
        (Queue::new(clock.clone()), clock)
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_for_later_comes_when_it_is_due() {
        let (queue, clock) = queue();
        queue.add_at("late", Timestamp::from_secs(60));
        queue.add_at("early", Timestamp::from_secs(5));
        assert_eq!(queue.next().await, "early");
        assert_eq!(clock.now(), Timestamp::from_secs(5));
        assert_eq!(queue.next().await, "late");
        assert_eq!(clock.now(), Timestamp::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn an_add_wakes_whoever_waits() {
        let (queue, clock) = queue();
        queue.add_at("late", Timestamp::from_secs(60));
        let other = queue.clone();
        let adds = async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            other.add("now");
        };
        let (key, ()) = tokio::join!(queue.next(), adds);
        assert_eq!((key, clock.now()), ("now", Timestamp::from_secs(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn two_consumers_share_the_keys() {
        let (queue, _) = queue();
        let adds = async {
            queue.add("a");
            queue.add("b");
        };
        let (one, two, ()) = tokio::join!(queue.next(), queue.next(), adds);
        assert_ne!(one, two);
    }
}

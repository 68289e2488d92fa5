//! How often something large is looked at.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use orchestra_core::meta::ObjectKey;
use orchestra_core::time::Timestamp;

/// What is made of many pods is not looked at again for each of them that changes, but once in a
/// while that grows with their number: else the cost of `n` changes is `n` times `n`.
#[derive(Debug)]
pub(super) struct Pace {
    large: usize,
    rest_each: Duration,
    rest_max: Duration,
    /// When each large one was last looked at, and how large it was.
    looked: Mutex<BTreeMap<ObjectKey, (Timestamp, usize)>>,
}

impl Pace {
    /// What has `large` parts or more rests between two looks: `rest_each` for each part, at most
    /// `rest_max`.
    pub(super) fn new(large: usize, rest_each: Duration, rest_max: Duration) -> Self {
        Self {
            large,
            rest_each,
            rest_max,
            looked: Mutex::default(),
        }
    }

    /// When it may be looked at next, if that is still ahead.
    pub(super) fn rests_until(&self, key: &ObjectKey, now: Timestamp) -> Option<Timestamp> {
        let (at, size) = *self.looked().get(key)?;
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        let due = at + self.rest_each.saturating_mul(size).min(self.rest_max);
        (due > now).then_some(due)
    }

    /// It is looked at now, and has so many parts.
    pub(super) fn looks(&self, key: &ObjectKey, size: usize, now: Timestamp) {
        if size < self.large {
            self.looked().remove(key);
        } else {
            self.looked().insert(key.clone(), (now, size));
        }
    }

    /// It may be looked at at once.
    pub(super) fn forget(&self, key: &ObjectKey) {
        self.looked().remove(key);
    }

    fn looked(&self) -> MutexGuard<'_, BTreeMap<ObjectKey, (Timestamp, usize)>> {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_large_rest_and_in_proportion() {
        let (ms, at) = (Duration::from_millis, Timestamp::from_millis);
        let pace = Pace::new(100, ms(1), ms(500));
        let key = ObjectKey::namespaced("default", "web");
        assert_eq!(pace.rests_until(&key, at(0)), None);
        pace.looks(&key, 99, at(0));
        assert_eq!(pace.rests_until(&key, at(0)), None);
        pace.looks(&key, 100, at(0));
        assert_eq!(pace.rests_until(&key, at(99)), Some(at(100)));
        assert_eq!(pace.rests_until(&key, at(100)), None);
        pace.looks(&key, usize::MAX, at(100));
        assert_eq!(pace.rests_until(&key, at(100)), Some(at(600)));
        pace.forget(&key);
        assert_eq!(pace.rests_until(&key, at(100)), None);
        pace.looks(&key, 1_000, at(100));
        pace.looks(&key, 0, at(100));
        assert_eq!(pace.rests_until(&key, at(100)), None, "it shrank");
    }
}

//! Who watches what: the watches of one prefix share a topic, which knows the numbers of the
//! log's entries under it. A commit touches the topics it concerns and no others.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::task::Waker;

use orchestra_core::port::store::Key;

use super::history::History;

/// Names one watch of one store.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct WatchId(u64);

struct Topic {
    watches: usize,
    /// Numbers of the matching log entries from `since` on, ascending; some may be forgotten.
    numbers: VecDeque<u64>,
    /// No matching entry from here on is missing, except pruned ones.
    since: u64,
    /// Matching entries before this one may have been pruned after the log forgot them.
    pruned: u64,
    parked: BTreeMap<WatchId, Waker>,
}

#[derive(Default)]
pub(super) struct Topics {
    last: u64,
    by_prefix: BTreeMap<Key, Topic>,
    woken: Vec<Waker>,
    marked_at: u64,
}

/// Where a watch's next entries are.
pub(super) enum Pending {
    /// Entries it needs are forgotten.
    Forgotten,
    /// The numbers of the next matching entries, at most as many as asked for, whole commits.
    Numbers(Vec<u64>),
}

impl Topics {
    pub(super) fn watches(&self) -> usize {
        self.by_prefix.values().map(|topic| topic.watches).sum()
    }

    /// Adds a watch of `prefix` that needs the entries from number `from` on.
    pub(super) fn join(&mut self, prefix: &Key, from: u64, history: &History) -> WatchId {
        self.last += 1;
        let end = history.log_end();
        let topic = self
            .by_prefix
            .entry(prefix.clone())
            .or_insert_with(|| Topic {
                watches: 0,
                numbers: VecDeque::new(),
                since: end,
                pruned: 0,
                parked: BTreeMap::new(),
            });
        topic.watches += 1;
        for number in (from..topic.since).rev() {
            let under = |key: &Key| key.as_str().starts_with(prefix.as_str());
            if history.key(number).is_some_and(under) {
                topic.numbers.push_front(number);
            }
        }
        topic.since = topic.since.min(from);
        WatchId(self.last)
    }

    pub(super) fn leave(&mut self, prefix: &Key, id: WatchId) {
        let Some(topic) = self.by_prefix.get_mut(prefix) else {
            return;
        };
        topic.parked.remove(&id);
        topic.watches -= 1;
        if topic.watches == 0 {
            self.by_prefix.remove(prefix);
        }
    }

    /// Tells the topics above `key` of the log's newest entry, the one with the longest prefix first.
    pub(super) fn publish(&mut self, key: &str, number: u64) {
        // Of the prefixes that do not come after what is left of the key, the last is the start of
        // it, or no other shares more of it: what neither shares needs no look.
        let mut left = key;
        loop {
            let upto = (Bound::Unbounded, Bound::Included(left));
            let mut upto = self.by_prefix.range_mut::<str, _>(upto);
            let Some((prefix, topic)) = upto.next_back() else {
                return;
            };
            let both = prefix.as_str().bytes().zip(left.bytes());
            let shared = both.take_while(|(one, other)| one == other).count();
            let mut end = shared;
            if shared == prefix.as_str().len() {
                topic.numbers.push_back(number);
                if !topic.parked.is_empty() {
                    self.woken
                        .extend(std::mem::take(&mut topic.parked).into_values());
                }
                let Some(shorter) = shared.checked_sub(1) else {
                    return;
                };
                end = shorter;
            }
            left = &left[..left.floor_char_boundary(end)];
        }
    }

    /// Lets every waiting watch look again, now and then, so that its `through` stays within the
    /// history although nothing changes under its prefix.
    pub(super) fn mark(&mut self, history: &History) {
        if mark_is_due(self.marked_at, history) {
            self.marked_at = history.log_end();
            self.wake_all();
        }
    }

    pub(super) fn wake_all(&mut self) {
        for topic in self.by_prefix.values_mut() {
            self.woken
                .extend(std::mem::take(&mut topic.parked).into_values());
        }
    }

    /// Wakers to call once the lock is free.
    pub(super) fn take_woken(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.woken)
    }

    pub(super) fn park(&mut self, prefix: &Key, id: WatchId, waker: &Waker) {
        if let Some(topic) = self.by_prefix.get_mut(prefix) {
            topic.parked.insert(id, waker.clone());
        }
    }

    /// The matching entries from number `from` on: at most `max`, but never a part of a commit.
    pub(super) fn pending(
        &mut self,
        prefix: &Key,
        from: u64,
        max: usize,
        history: &History,
    ) -> Pending {
        let Some(topic) = self.by_prefix.get_mut(prefix) else {
            return Pending::Forgotten;
        };
        while topic
            .numbers
            .front()
            .is_some_and(|number| *number < history.log_start())
        {
            if let Some(number) = topic.numbers.pop_front() {
                topic.pruned = topic.pruned.max(number + 1);
            }
        }
        if from < topic.pruned {
            return Pending::Forgotten;
        }
        let start = topic.numbers.partition_point(|number| *number < from);
        let left = topic.numbers.len() - start;
        let mut count = left.min(max);
        while count > 0 && count < left {
            let revision = |at: usize| history.revision(topic.numbers[at]);
            if revision(start + count) != revision(start + count - 1) {
                break;
            }
            count += 1;
        }
        Pending::Numbers(topic.numbers.range(start..start + count).copied().collect())
    }
}

/// Whether history, once it forgets at all, has moved on by a quarter of itself since the entry
/// numbered `last`.
pub(super) fn mark_is_due(last: u64, history: &History) -> bool {
    let quarter = (history.log_len() as u64 / 4).max(1);
    history.log_start() > 0 && history.log_end() - last >= quarter
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_key_is_told_to_the_topics_whose_prefix_it_has_and_to_no_others(
            prefixes in prop::collection::btree_set("[a-cé]{0,4}", 0..8),
            keys in prop::collection::vec("[a-cé]{0,6}", 1..12),
        ) {
            let (mut topics, history) = (Topics::default(), History::new(100, 10_000));
            for prefix in &prefixes {
                topics.join(&Key::from(prefix.as_str()), 0, &history);
            }
            for (number, key) in (0..).zip(&keys) {
                topics.publish(key, number);
            }
            for prefix in &prefixes {
                let told = (0..).zip(&keys).filter(|(_, key)| key.starts_with(prefix.as_str()));
                let told: Vec<u64> = told.map(|(number, _)| number).collect();
                let topic = &topics.by_prefix[prefix.as_str()];
                prop_assert_eq!(Vec::from_iter(topic.numbers.iter().copied()), told);
            }
        }
    }
}

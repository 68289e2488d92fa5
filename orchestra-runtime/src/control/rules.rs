//! What a queue holds and whose turn it is, without waiting.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use orchestra_core::time::Timestamp;

/// The rules of a [`Queue`](super::Queue), as plain state.
///
/// A key is in at most one of: ready, running. Besides, a running key may have to be ready again
/// once it is done, and any key but a ready one may be due at an instant.
#[derive(Debug)]
pub(super) struct Rules<K> {
    /// In the order in which they became ready.
    ready: VecDeque<K>,
    is_ready: BTreeSet<K>,
    /// Whether to make it ready again once it is done.
    running: BTreeMap<K, bool>,
    /// When, and in which order among those of one instant.
    due: BTreeMap<K, (Timestamp, u64)>,
    by_due: BTreeSet<(Timestamp, u64, K)>,
    asked: u64,
}

impl<K: Clone + Ord> Rules<K> {
    pub(super) fn new() -> Self {
        Self {
            ready: VecDeque::new(),
            is_ready: BTreeSet::new(),
            running: BTreeMap::new(),
            due: BTreeMap::new(),
            by_due: BTreeSet::new(),
            asked: 0,
        }
    }

    /// Makes `key` ready now, or as soon as it is done. Returns whether it newly is ready.
    pub(super) fn add(&mut self, key: K) -> bool {
        if let Some(again) = self.running.get_mut(&key) {
            *again = true;
            return false;
        }
        self.forget_due(&key);
        let new = self.is_ready.insert(key.clone());
        if new {
            self.ready.push_back(key);
        }
        new
    }

    /// Makes `key` ready at `at`, unless it is ready before.
    pub(super) fn add_at(&mut self, key: K, at: Timestamp) {
        if self.is_ready.contains(&key) || self.due.get(&key).is_some_and(|(due, _)| *due <= at) {
            return;
        }
        self.forget_due(&key);
        self.asked += 1;
        self.due.insert(key.clone(), (at, self.asked));
        self.by_due.insert((at, self.asked, key));
    }

    /// Hands out the key whose turn it is. It counts as running until [`done`](Self::done).
    pub(super) fn take(&mut self, now: Timestamp) -> Option<K> {
        while self.by_due.first().is_some_and(|(due, ..)| *due <= now) {
            if let Some((_, _, key)) = self.by_due.pop_first() {
                self.due.remove(&key);
                self.add(key);
            }
        }
        let key = self.ready.pop_front()?;
        self.is_ready.remove(&key);
        self.running.insert(key.clone(), false);
        Some(key)
    }

    /// The pass over `key` has ended. Returns whether it is ready again.
    pub(super) fn done(&mut self, key: K) -> bool {
        self.running
            .remove(&key)
            .is_some_and(|again| again && self.add(key))
    }

    /// When the next key becomes ready by itself.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.by_due.first().map(|(due, ..)| *due)
    }

    /// How many keys are ready.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    fn forget_due(&mut self, key: &K) {
        if let Some((at, asked)) = self.due.remove(key) {
            self.by_due.remove(&(at, asked, key.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    #[test]
    fn first_come_first_served_and_each_key_once() {
        let mut rules = Rules::new();
        for key in ["b", "a", "b", "c"] {
            rules.add(key);
        }
        let order: Vec<_> = std::iter::from_fn(|| rules.take(at(0))).collect();
        assert_eq!(order, ["b", "a", "c"]);
    }

    #[test]
    fn a_running_key_is_handed_out_again_once_and_only_after() {
        let mut rules = Rules::new();
        rules.add("a");
        assert_eq!(rules.take(at(0)), Some("a"));
        rules.add("a");
        rules.add("a");
        assert_eq!(rules.take(at(0)), None);
        assert!(rules.done("a"));
        assert_eq!(rules.take(at(0)), Some("a"));
        assert!(!rules.done("a"));
        assert_eq!(rules.take(at(0)), None);
    }

    #[test]
    fn the_earliest_wish_wins() {
        let mut rules = Rules::new();
        rules.add_at("a", at(20));
        rules.add_at("a", at(10));
        rules.add_at("a", at(15));
        assert_eq!(rules.next_due(), Some(at(10)));
        assert_eq!(rules.take(at(9)), None);
        assert_eq!(rules.take(at(10)), Some("a"));
        assert_eq!(rules.next_due(), None);
        rules.add_at("a", at(30));
        rules.done("a");
        rules.add("a");
        assert_eq!(rules.next_due(), None, "looked at now is looked at by then");
    }

    /// The same rules as a list of wishes, the slow way.
    #[derive(Default)]
    struct Plain {
        /// Wishes in the order in which they become ready: (key, since).
        ready: Vec<u8>,
        running: Vec<u8>,
        again: Vec<u8>,
        due: Vec<(Timestamp, usize, u8)>,
        asked: usize,
    }

    impl Plain {
        fn add(&mut self, key: u8) {
            if self.running.contains(&key) {
                self.again.push(key);
            } else {
                self.due.retain(|(.., k)| *k != key);
                if !self.ready.contains(&key) {
                    self.ready.push(key);
                }
            }
        }

        fn add_at(&mut self, key: u8, at: Timestamp) {
            let sooner = self.due.iter().any(|(due, _, k)| *k == key && *due <= at);
            if self.ready.contains(&key) || sooner {
                return;
            }
            self.due.retain(|(.., k)| *k != key);
            self.asked += 1;
            self.due.push((at, self.asked, key));
        }

        fn take(&mut self, now: Timestamp) -> Option<u8> {
            self.due.sort();
            let due: Vec<_> = self.due.extract_if(.., |(due, ..)| *due <= now).collect();
            for (.., key) in due {
                self.add(key);
            }
            if self.ready.is_empty() {
                return None;
            }
            let key = self.ready.remove(0);
            self.running.push(key);
            Some(key)
        }

        fn done(&mut self, key: u8) {
            self.running.retain(|k| *k != key);
            if self.again.contains(&key) {
                self.again.retain(|k| *k != key);
                self.add(key);
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Add(u8),
        AddAt(u8, i64),
        Take,
        Done(usize),
        Pass(i64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0_u8..5).prop_map(Step::Add),
            ((0_u8..5), (0_i64..20)).prop_map(|(key, after)| Step::AddAt(key, after)),
            Just(Step::Take),
            (0_usize..5).prop_map(Step::Done),
            (0_i64..10).prop_map(Step::Pass),
        ]
    }

    proptest! {
        /// The queue does what the plain list of wishes does; no key runs twice at once; no key
        /// comes before it is due; and nothing that was asked for is lost.
        #[test]
        fn the_rules_hold(steps in prop::collection::vec(step(), 1..120)) {
            let (mut rules, mut plain) = (Rules::new(), Plain::default());
            let mut running: Vec<u8> = Vec::new();
            // For each key: the earliest instant by which somebody wants a pass to begin.
            let mut wanted: BTreeMap<u8, i64> = BTreeMap::new();
            let mut now = 0;
            let begin = |key: u8, now: i64, running: &mut Vec<u8>,
                             wanted: &mut BTreeMap<u8, i64>| {
                prop_assert!(!running.contains(&key), "{} twice at once", key);
                let by = wanted.remove(&key);
                prop_assert!(by.is_some_and(|by| by <= now), "{key} at {now}, wanted {by:?}");
                running.push(key);
                Ok(())
            };
            for step in steps {
                match step {
                    Step::Add(key) => {
                        rules.add(key);
                        plain.add(key);
                        wanted.insert(key, now.min(*wanted.get(&key).unwrap_or(&now)));
                    }
                    Step::AddAt(key, after) => {
                        rules.add_at(key, at(now + after));
                        plain.add_at(key, at(now + after));
                        let by = now + after;
                        wanted.insert(key, by.min(*wanted.get(&key).unwrap_or(&by)));
                    }
                    Step::Take => {
                        let key = rules.take(at(now));
                        prop_assert_eq!(key, plain.take(at(now)));
                        if let Some(key) = key {
                            begin(key, now, &mut running, &mut wanted)?;
                        }
                    }
                    Step::Done(n) if !running.is_empty() => {
                        let key = running.remove(n % running.len());
                        rules.done(key);
                        plain.done(key);
                    }
                    Step::Done(_) => {}
                    Step::Pass(seconds) => now += seconds,
                }
            }
            // Later, with everything done, all that was wanted comes, each key once.
            for key in std::mem::take(&mut running) {
                rules.done(key);
            }
            while let Some(key) = rules.take(at(now + 1_000)) {
                begin(key, now + 1_000, &mut running, &mut wanted)?;
            }
            prop_assert!(wanted.is_empty(), "lost: {:?}", wanted);
        }
    }
}

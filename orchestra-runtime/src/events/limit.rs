//! How many events one object may cause.

use std::collections::BTreeMap;
use std::time::Duration;

use orchestra_core::meta::Uid;
use orchestra_core::time::Timestamp;

/// Events that one object may cause at once.
const BURST: u32 = 25;

/// How long until one more is allowed.
const REFILL_EVERY: Duration = Duration::from_secs(300);

/// Objects that are watched over at once. Past it, those that were silent longest are forgotten.
const OBJECTS_MAX: usize = 4_096;

/// A token bucket for each object: 25 events at once, then one in five minutes.
#[derive(Debug, Default)]
pub(super) struct Limit {
    /// How many tokens were left, and since when they refill.
    buckets: BTreeMap<Uid, (u32, Timestamp)>,
}

impl Limit {
    /// Whether the object may cause one more event now; if so, that is counted.
    pub(super) fn allows(&mut self, object: Uid, now: Timestamp) -> bool {
        if self.buckets.len() >= OBJECTS_MAX && !self.buckets.contains_key(&object) {
            self.forget(now);
        }
        let (left, since) = self.buckets.entry(object).or_insert((BURST, now));
        let refilled = now.since(*since).as_micros() / REFILL_EVERY.as_micros();
        let refilled = u32::try_from(refilled).unwrap_or(u32::MAX);
        if *left + refilled.min(BURST) >= BURST {
            (*left, *since) = (BURST, now);
        } else {
            *left += refilled;
            *since = *since + REFILL_EVERY * refilled;
        }
        let allowed = *left > 0;
        *left = left.saturating_sub(1);
        allowed
    }

    /// Makes room: first those whose bucket is full again, then the half that refills longest.
    fn forget(&mut self, now: Timestamp) {
        let full = |left: u32, since| now.since(since) >= REFILL_EVERY * (BURST - left.min(BURST));
        self.buckets.retain(|_, (left, since)| !full(*left, *since));
        if self.buckets.len() < OBJECTS_MAX {
            return;
        }
        let mut ages: Vec<_> = self.buckets.values().map(|(_, since)| *since).collect();
        ages.sort_unstable();
        let median = ages[ages.len() / 2];
        self.buckets.retain(|_, (_, since)| *since > median);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_in_five_minutes() {
        let mut limit = Limit::default();
        let at = Timestamp::from_secs;
        let allowed = (0..100).filter(|_| limit.allows(Uid(1), at(0))).count();
        assert_eq!(allowed, 25);
        assert!(limit.allows(Uid(2), at(0)), "another object");
        assert!(!limit.allows(Uid(1), at(299)));
        assert!(limit.allows(Uid(1), at(300)));
        assert!(!limit.allows(Uid(1), at(599)));
        assert!(limit.allows(Uid(1), at(600)));
        let allowed = (0..100)
            .filter(|_| limit.allows(Uid(1), at(1_000_000)))
            .count();
        assert_eq!(allowed, 25);
    }

    #[test]
    fn it_stays_within_its_bound() {
        let mut limit = Limit::default();
        for n in 0..20_000 {
            limit.allows(Uid(n), Timestamp::from_secs(0));
            assert!(limit.buckets.len() <= OBJECTS_MAX);
        }
    }
}

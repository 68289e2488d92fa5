//! How fast nodes may be emptied when many are lost at once.
//!
//! One silent node is probably dead. Many at once are more likely cut off, together or from the
//! observer, and moving all their pods would do more harm than waiting.

use std::collections::BTreeMap;
use std::time::Duration;

use orchestra_core::time::Timestamp;
use smol_str::SmolStr;

/// How a zone is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ZoneState {
    /// Most of its nodes are ready.
    Normal,
    /// So many are not that something larger than a node may be the matter.
    PartialDisruption,
    /// None is ready.
    FullDisruption,
}

/// The nodes of one zone.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ZoneNodes {
    /// How many are ready.
    pub ready: u32,
    /// How many are not, or are silent.
    pub not_ready: u32,
}

/// When a zone counts as disrupted, and how fast its nodes are emptied then.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ZonePolicy {
    /// From one node to the next in a normal zone, and in a fully disrupted one while another
    /// zone is not.
    pub interval: Duration,
    /// From one node to the next in a large zone that is partially disrupted. In a smaller one
    /// nobody moves.
    pub secondary_interval: Duration,
    /// A zone with more nodes than this is large.
    pub large_zone_nodes: u32,
    /// From this share of nodes that are not ready, in thousandths, a zone is partially
    /// disrupted.
    pub unhealthy_permille: u32,
}

impl ZonePolicy {
    /// Up to so many lost nodes are never a disruption of their zone, unless they are all.
    pub const LOST_NODES_ORDINARY: u32 = 2;

    /// How a zone with these nodes is.
    pub fn state(&self, nodes: ZoneNodes) -> ZoneState {
        let (lost, all) = (
            u64::from(nodes.not_ready),
            u64::from(nodes.ready) + u64::from(nodes.not_ready),
        );
        if nodes.ready == 0 && lost > 0 {
            ZoneState::FullDisruption
        } else if nodes.not_ready > Self::LOST_NODES_ORDINARY
            && lost * 1000 >= all * u64::from(self.unhealthy_permille)
        {
            ZoneState::PartialDisruption
        } else {
            ZoneState::Normal
        }
    }

    /// How every zone is, and how fast each may be emptied. When all zones with nodes are fully
    /// disrupted nobody moves: the observer is more likely at fault than all of them.
    pub fn verdicts(&self, zones: &BTreeMap<SmolStr, ZoneNodes>) -> BTreeMap<SmolStr, ZoneVerdict> {
        let empty = ZoneNodes::default();
        let mut inhabited = zones.values().filter(|nodes| **nodes != empty);
        let all_lost = inhabited.all(|nodes| self.state(*nodes) == ZoneState::FullDisruption);
        zones
            .iter()
            .map(|(zone, nodes)| {
                let state = self.state(*nodes);
                let large = nodes.ready.saturating_add(nodes.not_ready) > self.large_zone_nodes;
                let interval = match state {
                    _ if all_lost => None,
                    ZoneState::PartialDisruption if large => Some(self.secondary_interval),
                    ZoneState::PartialDisruption => None,
                    ZoneState::Normal | ZoneState::FullDisruption => Some(self.interval),
                };
                (zone.clone(), ZoneVerdict { state, interval })
            })
            .collect()
    }
}

impl Default for ZonePolicy {
    /// A node in 10 s, in 100 s in a disrupted zone of more than 50 nodes; disrupted from 55 %.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            secondary_interval: Duration::from_secs(100),
            large_zone_nodes: 50,
            unhealthy_permille: 550,
        }
    }
}

/// How a zone is, and what follows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ZoneVerdict {
    /// How it is.
    pub state: ZoneState,
    /// The least time from one node that is emptied to the next; `None` is none at all.
    pub interval: Option<Duration>,
}

/// Lets one node of a zone after the other be emptied. The first need not wait.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct EvictionLimiter {
    last: Option<Timestamp>,
}

impl EvictionLimiter {
    /// When the next node may be emptied at that [interval](ZoneVerdict::interval); `None` is
    /// not before it changes. An instant in the past is now.
    pub fn next_at(&self, interval: Option<Duration>) -> Option<Timestamp> {
        let interval = interval?;
        Some(self.last.map_or(Timestamp::EPOCH, |last| last + interval))
    }

    /// Whether a node may be emptied now; if so, it counts.
    pub fn take(&mut self, interval: Option<Duration>, now: Timestamp) -> bool {
        let due = self.next_at(interval).is_some_and(|at| at <= now);
        if due {
            self.last = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(ready: u32, not_ready: u32) -> ZoneNodes {
        ZoneNodes { ready, not_ready }
    }

    #[test]
    fn the_share_and_the_number_both_count() {
        use ZoneState::{FullDisruption, Normal, PartialDisruption};
        let policy = ZonePolicy::default();
        for (ready, not_ready, expected) in [
            (0, 0, Normal),
            (0, 1, FullDisruption),
            (1, 2, Normal),
            (2, 3, PartialDisruption),
            (9, 11, PartialDisruption),
            (10, 11, Normal),
            (10, 12, Normal),
            (10, 13, PartialDisruption),
        ] {
            assert_eq!(
                policy.state(nodes(ready, not_ready)),
                expected,
                "{ready} {not_ready}"
            );
        }
    }

    #[test]
    fn intervals_follow_the_state_of_all_zones() {
        let policy = ZonePolicy::default();
        let intervals = |zones: &[(&str, ZoneNodes)]| -> Vec<Option<u64>> {
            let zones = zones
                .iter()
                .map(|(zone, nodes)| ((*zone).into(), *nodes))
                .collect();
            let verdicts = policy.verdicts(&zones);
            verdicts
                .values()
                .map(|v| v.interval.map(|i| i.as_secs()))
                .collect()
        };
        let zones = [
            ("a", nodes(9, 1)),
            ("b", nodes(20, 31)),
            ("c", nodes(20, 30)),
            ("d", nodes(0, 4)),
        ];
        assert_eq!(intervals(&zones), [Some(10), Some(100), None, Some(10)]);
        assert_eq!(
            intervals(&[("a", nodes(0, 3)), ("b", nodes(0, 90))]),
            [None, None]
        );
        assert_eq!(
            intervals(&[("a", nodes(0, 3)), ("b", nodes(0, 0))]),
            [None, None]
        );
    }

    #[test]
    fn one_node_an_interval_and_a_new_interval_counts_at_once() {
        let at = Timestamp::from_secs;
        let slow = Some(Duration::from_secs(100));
        let fast = Some(Duration::from_secs(10));
        let mut limiter = EvictionLimiter::default();
        assert!(!limiter.take(None, at(0)));
        assert!(limiter.take(slow, at(5)));
        assert!(!limiter.take(slow, at(104)));
        assert_eq!(limiter.next_at(slow), Some(at(105)));
        assert!(limiter.take(fast, at(15)));
        let taken = (16..=115)
            .filter(|second| limiter.take(fast, at(*second)))
            .count();
        assert_eq!(taken, 10);
    }
}

//! One after the other.

use std::sync::{Mutex, PoisonError};

use orchestra_core::meta::Uid;

use super::{BalanceView, Balancer};

/// Each ready endpoint in turn, in the order of the pods.
///
/// It remembers the pod it chose last, not a position: when the set changes, the turn goes on
/// with the next pod, so nobody is skipped or served twice for another's coming or going. Over
/// any number of picks from an unchanged set, no two endpoints differ by more than one, whoever
/// calls.
#[derive(Debug, Default)]
pub struct RoundRobin {
    // Held for a search in a sorted slice, never across an await.
    last: Mutex<Option<Uid>>,
}

impl RoundRobin {
    /// Starts with the least pod.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Balancer for RoundRobin {
    fn pick(&self, view: BalanceView<'_>) -> Option<usize> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let first = match *last {
            Some(last) => view
                .endpoints
                .partition_point(|endpoint| endpoint.pod <= last),
            None => 0,
        };
        let all = view.endpoints.len();
        let chosen = (first..all)
            .chain(0..first)
            .find(|&index| view.may_choose(index))?;
        *last = Some(view.endpoints[chosen].pod);
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    use orchestra_core::port::registry::Endpoint;
    use proptest::prelude::*;

    use super::*;

    fn endpoint(pod: u128, ready: bool) -> Endpoint {
        Endpoint {
            pod: Uid(pod),
            pod_name: format!("web-{pod}").into(),
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            ports: Arc::from([]),
            ready,
            terminating: false,
            node: "node-1".into(),
            zone: "a".into(),
        }
    }

    fn pods(balancer: &RoundRobin, set: &[Endpoint], picks: usize) -> Vec<u128> {
        (0..picks)
            .map(|_| {
                balancer
                    .pick(BalanceView::new(set))
                    .map_or(0, |at| set[at].pod.0)
            })
            .collect()
    }

    #[test]
    fn the_turn_goes_on_when_the_set_changes() {
        let balancer = RoundRobin::new();
        let mut set = vec![endpoint(2, true), endpoint(4, true), endpoint(6, true)];
        assert_eq!(pods(&balancer, &set, 4), [2, 4, 6, 2]);
        set.insert(0, endpoint(1, true));
        assert_eq!(pods(&balancer, &set, 3), [4, 6, 1]);
        set.remove(0);
        set.remove(0);
        assert_eq!(pods(&balancer, &set, 3), [4, 6, 4]);
        set[1].ready = false;
        assert_eq!(pods(&balancer, &set, 2), [4, 4]);
    }

    #[test]
    fn what_is_not_ready_or_ending_or_tried_is_skipped() {
        let balancer = RoundRobin::new();
        let mut set = vec![endpoint(1, false), endpoint(2, true), endpoint(3, true)];
        set[1].terminating = true;
        assert_eq!(pods(&balancer, &set, 3), [3, 3, 3]);
        assert_eq!(
            balancer.pick(BalanceView::new(&set).without(&[Uid(3)])),
            None
        );
        set[1].terminating = false;
        assert_eq!(
            balancer.pick(BalanceView::new(&set).without(&[Uid(3)])),
            Some(1)
        );
        assert_eq!(balancer.pick(BalanceView::new(&[])), None);
    }

    proptest! {
        #[test]
        fn shares_are_equal_to_one(
            ready in proptest::collection::vec(any::<bool>(), 1..20),
            picks in 0_usize..200,
        ) {
            let set: Vec<Endpoint> = ready
                .iter()
                .enumerate()
                .map(|(n, ready)| endpoint(n as u128 + 1, *ready))
                .collect();
            let up = ready.iter().filter(|ready| **ready).count();
            let mut served = BTreeMap::new();
            for pod in pods(&RoundRobin::new(), &set, picks) {
                *served.entry(pod).or_insert(0_usize) += 1;
            }
            if up == 0 {
                prop_assert_eq!(served.values().sum::<usize>(), picks);
                prop_assert!(served.keys().all(|pod| *pod == 0));
            } else {
                for (n, ready) in ready.iter().enumerate() {
                    let got = served.get(&(n as u128 + 1)).copied().unwrap_or(0);
                    if *ready {
                        prop_assert!(got * up < picks + up && picks < (got + 1) * up);
                    } else {
                        prop_assert_eq!(got, 0);
                    }
                }
            }
        }
    }
}

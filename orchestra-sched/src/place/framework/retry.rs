//! Pods that are tried again, as the plan itself may have brought what they wait for.
//!
//! What keeps pods from nodes only grows while a plan is made, but for what looks at other pods: the company
//! that a pod wants may be placed behind it, and an emptier domain may fill up.

use std::collections::BTreeMap;

use super::{Asked, Choice, Draft, Lost, Run};
use crate::place::Pending;
use crate::place::ask::contain;
use crate::place::plugin::{Cycle, Filter, Reach};

impl<'a> Run<'a> {
    /// Tries again those who found no node, and gangs that were short of places, until nobody is helped any more:
    /// a plan that is applied and made again is empty.
    pub(super) fn retry(&mut self, asked: &Asked<'a>, draft: &mut Draft) {
        loop {
            let (lost, chosen) = (&mut draft.lost, &mut draft.chosen);
            self.again(asked.pending, lost, chosen, |lost| {
                !lost.has_room && lost.gang.is_none()
            });
            let mut whole = false;
            for gang in 0..draft.short.len() {
                whole |= self.retry_gang(gang, asked, draft);
            }
            if !whole {
                self.settle();
                return;
            }
        }
    }

    /// Tries those again who wait for others, until nobody is helped any more.
    pub(super) fn again(
        &mut self,
        pending: &'a [Pending],
        lost: &mut Vec<Lost>,
        chosen: &mut Vec<(usize, Choice)>,
        asks: impl Fn(&Lost) -> bool,
    ) {
        // By group: how long the log was when it was refused: it is again until it grows.
        let mut waiting: BTreeMap<usize, Option<usize>> = BTreeMap::new();
        for lost in lost.iter().filter(|lost| asks(lost)) {
            if !waiting.contains_key(&lost.group) && self.waits_for_others(&pending[lost.pending]) {
                waiting.insert(lost.group, None);
            }
        }
        if waiting.is_empty() {
            return;
        }
        loop {
            let before = self.log.len();
            lost.retain_mut(|lost| {
                if !asks(lost) {
                    return true;
                }
                let Some(refused_at) = waiting.get_mut(&lost.group) else {
                    return true;
                };
                if *refused_at == Some(self.log.len()) {
                    // By the filters alone, now: what was said of it before is out of date.
                    lost.refusals.clear();
                    return true;
                }
                let pod = &pending[lost.pending];
                match self.place(pod, &pod.demand, lost.group, 1) {
                    Ok(choice) => {
                        chosen.push((lost.pending, choice));
                        self.settle();
                    }
                    Err(refusals) => {
                        // What is refused beside the filters is said of this pod alone.
                        let by_all = refusals.is_empty().then_some(self.log.len());
                        *refused_at = by_all;
                        lost.refusals = refusals;
                        return true;
                    }
                }
                false
            });
            if self.log.len() == before {
                return;
            }
        }
    }

    /// Whether other pods that come could help it.
    pub(super) fn waits_for_others(&self, pod: &Pending) -> bool {
        let cycle = Cycle::new(&self.ledger, pod, self.now);
        let mut filters = self.profile.filters.iter();
        filters.any(|filter| looks_around(&**filter, &cycle))
    }
}

/// Whether what the filter says of a node hangs on more than that node.
pub(super) fn looks_around(filter: &dyn Filter, cycle: &Cycle<'_>) -> bool {
    contain(|| filter.reach(cycle)).unwrap_or(Reach::Cluster) == Reach::Cluster
}

//! The pods of a snapshot, by what they ask.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::snapshot::{Demand, NodeIx, Snapshot};

/// The pods that run, those together that share one demand: so that of many alike one is asked whether it
/// counts, and only the nodes of those that do are looked at.
#[derive(Debug, Default)]
pub(super) struct Population(Vec<Kind>);

/// Pods that share one demand.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) demand: Arc<Demand>,
    /// For each of them its node, and whether it has been told to end.
    pub(super) pods: Vec<(NodeIx, bool)>,
}

impl Population {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let mut kinds: Vec<Kind> = Vec::new();
        // By address: who shares a demand, and not who has an equal one.
        let mut known: BTreeMap<*const Demand, usize> = BTreeMap::new();
        let mut last: Option<(*const Demand, usize)> = None;
        for (node, row) in snapshot.peopled() {
            for running in row.pods() {
                let address = Arc::as_ptr(&running.demand);
                let kind = match last {
                    Some((known, kind)) if known == address => kind,
                    _ => *known.entry(address).or_insert_with(|| {
                        kinds.push(Kind {
                            demand: Arc::clone(&running.demand),
                            pods: Vec::new(),
                        });
                        kinds.len() - 1
                    }),
                };
                last = Some((address, kind));
                kinds[kind].pods.push((node, running.terminating));
            }
        }
        Self(kinds)
    }

    /// In the order in which the first of each is met, by rows.
    pub(super) fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.0.iter()
    }
}

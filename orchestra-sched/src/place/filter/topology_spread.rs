//! Pods spread over domains.

use crate::fits::{self, Obstacle};
use crate::place::plugin::{Cycle, DomainRule, Filter, PodFields, Reach};
use crate::snapshot::{NodeIx, Rows};

/// Turns down nodes in whose domain the pod's like would be too many more than in the emptiest
/// one, and nodes without the label whose values are the domains.
///
/// Of several constraints the first that is broken speaks, as in Kubernetes.
#[derive(Clone, Copy, Debug, Default)]
pub struct PodTopologySpread;

impl Filter for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn depends(&self) -> PodFields {
        PodFields::SPREAD
    }

    fn reach(&self, cycle: &Cycle<'_>) -> Reach {
        let relations = cycle.pod.demand.relations.as_deref();
        if relations.is_some_and(|relations| !relations.spread.is_empty()) {
            Reach::Cluster
        } else {
            Reach::Nothing
        }
    }

    fn filter(&self, cycle: &Cycle<'_>, rows: Rows<'_>, fits: &mut [bool]) {
        let Some(rules) = fits::TopologySpread::open(cycle.ledger, &cycle.pod.demand) else {
            return;
        };
        for (fits, node) in fits.iter_mut().zip(rows.nodes()) {
            *fits = *fits && rules.allows(node);
        }
    }

    fn domains(&self, cycle: &Cycle<'_>) -> Option<Vec<DomainRule>> {
        fits::TopologySpread::open(cycle.ledger, &cycle.pod.demand).map(|rules| rules.domains())
    }

    fn obstacles(&self, cycle: &Cycle<'_>, node: NodeIx) -> Vec<Obstacle> {
        fits::topology_spread(cycle.ledger, node, &cycle.pod.demand)
            .into_iter()
            .collect()
    }
}

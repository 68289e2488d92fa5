//! Whom pods must and must not be near.

use crate::fits::{self, Obstacle};
use crate::place::plugin::{Cycle, DomainRule, Filter, PodFields, Reach};
use crate::snapshot::{NodeIx, Rows};

/// Turns down nodes whose domain lacks the pods that the pod must be near, or has pods that it
/// must not be near, or that must not be near it.
///
/// A pod that is itself what it must be near, with no other there yet, may be the first.
#[derive(Clone, Copy, Debug, Default)]
pub struct InterPodAffinity;

impl Filter for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn depends(&self) -> PodFields {
        PodFields::POD_AFFINITY
    }

    fn reach(&self, cycle: &Cycle<'_>) -> Reach {
        // Every pod that may come is known to the ledger before the first is placed.
        match fits::PodAffinity::is_silent(cycle.ledger, &cycle.pod.demand) {
            true => Reach::Nothing,
            false => Reach::Cluster,
        }
    }

    fn filter(&self, cycle: &Cycle<'_>, rows: Rows<'_>, fits: &mut [bool]) {
        let Some(rules) = fits::PodAffinity::open(cycle.ledger, &cycle.pod.demand) else {
            return;
        };
        for (fits, node) in fits.iter_mut().zip(rows.nodes()) {
            *fits = *fits && rules.allows(node);
        }
    }

    fn domains(&self, cycle: &Cycle<'_>) -> Option<Vec<DomainRule>> {
        Some(fits::PodAffinity::domains(cycle.ledger, &cycle.pod.demand))
    }

    fn obstacles(&self, cycle: &Cycle<'_>, node: NodeIx) -> Vec<Obstacle> {
        fits::pod_affinity(cycle.ledger, node, &cycle.pod.demand)
    }
}

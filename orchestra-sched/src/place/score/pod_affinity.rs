//! Whom pods had better be near, and who had better be near them.

use std::sync::Arc;

use crate::place::domains::{Blend, Part, Source};
use crate::place::plugin::{Cycle, DomainScore, PodFields, Reach, SCORE_MAX, Scale, Score, Scorer};
use crate::snapshot::Rows;
use crate::snapshot::relations::{Company, HARD_POD_AFFINITY_WEIGHT, Others};

/// Prefers nodes near the pods that the pod had better be near, and near those that want it: the
/// weights of the pod's own preferred terms, for each pod there that they mean, and of the terms of
/// pods there that mean this one, their required affinity counting
/// [`HARD_POD_AFFINITY_WEIGHT`] a term. From the least sum, 0, to the largest, 100.
#[derive(Clone, Copy, Debug, Default)]
pub struct InterPodAffinity;

impl Scorer for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn depends(&self) -> PodFields {
        PodFields::POD_AFFINITY
    }

    fn reach(&self, cycle: &Cycle<'_>) -> Reach {
        let relations = cycle.pod.demand.relations.as_deref();
        let own = relations.is_some_and(|relations| !relations.preferred.is_empty());
        let others = cycle.ledger.others();
        let mut meaning = others.meaning(cycle.snapshot(), &cycle.pod.demand);
        if own || meaning.any(|other| !other.attracts.is_empty()) {
            Reach::Cluster
        } else {
            Reach::Nothing
        }
    }

    fn scale(&self) -> Scale {
        Scale::AsIs
    }

    fn score(&self, cycle: &Cycle<'_>, rows: Rows<'_>, fits: &[bool], out: &mut [Score]) {
        const _: () = assert!(HARD_POD_AFFINITY_WEIGHT > 0);
        let own: Vec<(i64, Arc<Company>)> = match cycle.pod.demand.relations.as_deref() {
            Some(relations) => (relations.preferred.iter())
                .map(|(weight, term)| (*weight, cycle.ledger.company(std::slice::from_ref(term))))
                .collect(),
            None => Vec::new(),
        };
        let others: Arc<Others> = cycle.ledger.others();
        let meaning: Vec<_> = others
            .meaning(cycle.snapshot(), &cycle.pod.demand)
            .filter(|other| !other.attracts.is_empty())
            .collect();
        let sums: Vec<i64> = rows
            .nodes()
            .map(|node| {
                let mut sum = 0i64;
                for (weight, company) in &own {
                    let (domains, pods) = company.column(0);
                    if let Some(domain) = domains.of(node) {
                        sum = sum.saturating_add(weight.saturating_mul(pods.get(domain)));
                    }
                }
                for other in &meaning {
                    if let Some(domain) = other.domains.of(node) {
                        sum = sum.saturating_add(other.attracts.get(domain));
                    }
                }
                sum
            })
            .collect();
        let candidates = || sums.iter().zip(fits).filter(|(_, fits)| **fits);
        let least = candidates().map(|(&sum, _)| sum).min().unwrap_or(0);
        let most = candidates().map(|(&sum, _)| sum).max().unwrap_or(0);
        for ((out, &sum), _) in out
            .iter_mut()
            .zip(&sums)
            .zip(fits)
            .filter(|(_, fits)| **fits)
        {
            *out = place_between(sum, least, most);
        }
    }

    fn domains(&self, cycle: &Cycle<'_>) -> Option<DomainScore> {
        let (ledger, demand) = (cycle.ledger, &cycle.pod.demand);
        let mut parts = Vec::new();
        for (weight, term) in demand.relations.iter().flat_map(|all| &all.preferred) {
            let company = ledger.company(std::slice::from_ref(term));
            parts.push(Part {
                domains: Arc::clone(company.domains(0)?),
                source: Source::Company(company.number, 0),
                weight: *weight,
            });
        }
        let others = ledger.others();
        let attracting = others.attracting(cycle.snapshot(), demand);
        parts.extend(attracting.map(|(nth, other)| Part {
            domains: Arc::clone(&other.domains),
            source: Source::Attracted(nth),
            weight: 1,
        }));
        let blend = Blend::Company;
        Some(DomainScore { parts, blend })
    }
}

/// How far `sum` is from `least` (0) to `most` (100), in the doubles that Kubernetes computes it
/// in, so that both round alike: 29 of 100 is 28. Division and product of doubles are exact to
/// the bit on every machine.
pub(in crate::place) fn place_between(sum: i64, least: i64, most: i64) -> Score {
    let (part, whole) = (sum.saturating_sub(least), most.saturating_sub(least));
    if whole <= 0 {
        return 0;
    }
    (f64::from(SCORE_MAX) * (part as f64 / whole as f64)) as Score
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_that_of_doubles() {
        assert_eq!(place_between(29, 0, 100), 28);
        assert_eq!(place_between(-3, -5, -1), 50);
        assert_eq!(place_between(7, 7, 7), 0);
        assert_eq!(place_between(i64::MAX, i64::MIN, i64::MAX), 100);
    }
}

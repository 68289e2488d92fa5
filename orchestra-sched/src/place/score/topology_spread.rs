//! Pods rather spread over domains.

use std::sync::Arc;

use orchestra_core::kind::Node;

use crate::place::domains::{Blend, Part, Source};
use crate::place::plugin::{Cycle, DomainScore, PodFields, Reach, SCORE_MAX, Scale, Score, Scorer};
use crate::snapshot::relations::SpreadRule;
use crate::snapshot::{NodeIx, Rows};

/// Prefers nodes in whose domain fewer of the pod's like run.
///
/// For each constraint `ScheduleAnyway`, the pods that count in the node's domain times the natural
/// logarithm of the number of domains plus two, plus `maxSkew` less one; rounded once for their sum.
/// The node with the least sum scores 100, one with a larger sum less in proportion, and one that
/// lacks a label of any constraint 0.
///
/// A deployment's pods that have no constraints at all are spread from those of the same template: over
/// nodes with a `maxSkew` of 3 and over zones with one of 5, as Kubernetes does by default. Nodes that lack
/// one of the labels are then ranked by the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct PodTopologySpread;

impl Scorer for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn depends(&self) -> PodFields {
        PodFields::SPREAD
    }

    fn reach(&self, cycle: &Cycle<'_>) -> Reach {
        if rules(cycle).is_empty() {
            Reach::Nothing
        } else {
            Reach::Cluster
        }
    }

    fn scale(&self) -> Scale {
        Scale::AsIs
    }

    fn score(&self, cycle: &Cycle<'_>, rows: Rows<'_>, fits: &[bool], out: &mut [Score]) {
        let rules = rules(cycle);
        if rules.is_empty() {
            return;
        }
        let spreading = cycle.ledger.spreading(&cycle.pod.demand, false);
        let counts = &spreading.counts;
        let by_default = is_by_default(cycle);
        let ranked = |node: NodeIx| {
            by_default || counts.iter().all(|count| count.domains.of(node).is_some())
        };
        let candidates: Vec<(usize, NodeIx)> = rows
            .nodes()
            .enumerate()
            .filter(|(i, node)| fits[*i] && ranked(*node))
            .collect();
        let weights: Vec<u64> = rules
            .iter()
            .zip(counts)
            .map(|(rule, count)| {
                let domains = if is_hostname(rule) {
                    candidates.len()
                } else {
                    // Nodes in no domain count as one more.
                    let nowhere = count.domains.len();
                    let mut seen = vec![false; nowhere + 1];
                    let domains = candidates
                        .iter()
                        .map(|(_, node)| count.domains.of(*node).unwrap_or(nowhere));
                    domains
                        .filter(|&domain| !std::mem::replace(&mut seen[domain], true))
                        .count()
                };
                log_of(domains as u64)
            })
            .collect();
        let sums: Vec<u64> = candidates
            .iter()
            .map(|(_, node)| {
                let mut sum = 0u128;
                for ((rule, count), &weight) in rules.iter().zip(counts).zip(&weights) {
                    let Some(domain) = count.domains.of(*node) else {
                        continue;
                    };
                    let pods = if is_hostname(rule) {
                        count.here.get(node.row())
                    } else {
                        count.pods.get(domain)
                    };
                    sum += addend(pods, weight, rule.max_skew);
                }
                rounded(sum)
            })
            .collect();
        let least = sums.iter().copied().min().unwrap_or(0);
        let most = sums.iter().copied().max().unwrap_or(0);
        for ((i, _), sum) in candidates.iter().zip(sums) {
            out[*i] = place_from(sum, least, most);
        }
    }

    fn domains(&self, cycle: &Cycle<'_>) -> Option<DomainScore> {
        let spreading = cycle.ledger.spreading(&cycle.pod.demand, false);
        let rules = rules(cycle).iter().zip(&spreading.counts).enumerate();
        let parts = rules.map(|(nth, (rule, count))| Part {
            domains: Arc::clone(&count.domains),
            source: match is_hostname(rule) {
                true => Source::SpreadHere(spreading.number, nth),
                false => Source::Spread(spreading.number, nth),
            },
            weight: i64::from(rule.max_skew),
        });
        Some(DomainScore {
            parts: parts.collect(),
            blend: Blend::Spread {
                by_default: is_by_default(cycle),
            },
        })
    }
}

/// What one more of a pod's like weighs where there are so many domains.
pub(in crate::place) fn log_of(domains: u64) -> u64 {
    ln(domains + 2)
}

/// What a constraint adds to the sum of a node where `pods` count, in units of 2^-48.
pub(in crate::place) fn addend(pods: i64, log: u64, max_skew: u32) -> u128 {
    let pods = u128::try_from(pods).unwrap_or(0);
    pods * u128::from(log) + (u128::from(max_skew.saturating_sub(1)) << LN_BITS)
}

/// A sum of those, as a whole number.
pub(in crate::place) fn rounded(sum: u128) -> u64 {
    // Half goes up, and never occurs: no multiple of a logarithm is a half.
    ((sum + (1 << (LN_BITS - 1))) >> LN_BITS) as u64
}

/// The score of a node of that sum.
pub(in crate::place) fn place_from(sum: u64, least: u64, most: u64) -> Score {
    match most {
        0 => SCORE_MAX,
        _ => {
            let rest = u128::from(most) + u128::from(least) - u128::from(sum);
            (u128::from(SCORE_MAX) * rest / u128::from(most)) as Score
        }
    }
}

fn rules<'a>(cycle: &Cycle<'a>) -> &'a [SpreadRule] {
    let relations = cycle.pod.demand.relations.as_deref();
    relations.map_or(&[], |relations| &relations.prefer_spread)
}

fn is_by_default(cycle: &Cycle<'_>) -> bool {
    let relations = cycle.pod.demand.relations.as_deref();
    relations.is_some_and(|relations| relations.spreads_by_default)
}

fn is_hostname(rule: &SpreadRule) -> bool {
    rule.topology_key == Node::HOSTNAME_LABEL
}

/// Fractional bits of [`ln`].
const LN_BITS: u32 = 48;

/// The natural logarithm of `n`, at least 1, in units of 2^-48, too small by less than 2^-41: in
/// integers, so that it is the same on every machine.
///
/// The binary logarithm comes bit by bit, by squaring a number from 1 to 2 and asking whether the
/// square passes 2; see Knuth, The Art of Computer Programming, volume 1, exercise 1.2.2-25 ff.
fn ln(n: u64) -> u64 {
    /// The natural logarithm of 2, in units of 2^-64.
    const LN_2: u128 = 0xb172_17f7_d1cf_79ab;
    let n = n.max(1);
    let whole = n.ilog2();
    // From 1 to 2, in units of 2^-63.
    let mut rest = u128::from(n) << (63 - whole);
    let mut log = u128::from(whole);
    for _ in 0..LN_BITS {
        rest = (rest * rest) >> 63;
        let past = rest >> 64;
        rest >>= past;
        log = (log << 1) | past;
    }
    ((log * LN_2) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_those_of_the_tables() {
        assert_eq!(ln(1), 0);
        let one = (1u64 << LN_BITS) as f64;
        for n in (2u64..2_000).chain([10_002, 100_002, 1 << 32, u64::MAX]) {
            let (ours, theirs) = (ln(n) as f64 / one, (n as f64).ln());
            assert!((ours - theirs).abs() < 1e-12, "{n}: {ours} {theirs}");
        }
    }
}

//! Spreading over domains, as a rule.

use std::sync::Arc;

use super::Obstacle;
use crate::place::domains::{Bound, DomainRule, Source};
use crate::snapshot::relations::{SpreadRule, Spreading};
use crate::snapshot::{Demand, Ledger, NodeIx};

/// A pod's required topology spread with what is placed so far, to be asked of many nodes.
#[derive(Debug)]
pub(crate) struct TopologySpread<'a> {
    rules: &'a [SpreadRule],
    counts: Arc<Spreading>,
    /// By rule: how many pods the emptiest domain counts as having.
    least: Vec<i64>,
    /// By rule: whether the pod itself counts.
    adds: Vec<i64>,
}

impl<'a> TopologySpread<'a> {
    /// `None` if the pod may be anywhere.
    pub(crate) fn open(ledger: &Ledger, demand: &'a Demand) -> Option<Self> {
        let rules = demand.relations.as_deref().map(|all| &*all.spread)?;
        if rules.is_empty() {
            return None;
        }
        let counts = ledger.spreading(demand, true);
        let least = |(rule, count): (&SpreadRule, &_)| least(rule, count);
        Some(Self {
            rules,
            least: rules.iter().zip(&counts.counts).map(least).collect(),
            adds: rules
                .iter()
                .map(|rule| i64::from(rule.adds(&demand.labels)))
                .collect(),
            counts,
        })
    }

    /// The same as rules on domains.
    pub(crate) fn domains(&self) -> Vec<DomainRule> {
        let rules = self.rules.iter().enumerate();
        let of = |(nth, rule): (usize, &SpreadRule)| DomainRule {
            domains: Arc::clone(&self.counts.counts[nth].domains),
            source: Source::Spread(self.counts.number, nth),
            bound: Bound::Above {
                least: i64::from(rule.max_skew) - self.adds[nth],
                min_domains: rule.min_domains,
            },
            nowhere: false,
        };
        rules.map(of).collect()
    }

    /// Whether the pod may be there.
    pub(crate) fn allows(&self, node: NodeIx) -> bool {
        self.first_broken(node).is_none()
    }

    /// The first rule that is in the way.
    pub(crate) fn obstacle(&self, node: NodeIx) -> Option<Obstacle> {
        let (nth, domain) = self.first_broken(node)?;
        let (rule, count) = (&self.rules[nth], &self.counts.counts[nth]);
        let key = rule.topology_key.clone();
        let Some(domain) = domain else {
            return Some(Obstacle::NoDomain { key });
        };
        Some(Obstacle::Skew {
            key,
            domain: count.domains.value(domain).clone(),
            pods: count.pods.get(domain),
            least: self.least[nth],
            max_skew: rule.max_skew,
            adds: self.adds[nth] > 0,
        })
    }

    /// The first broken rule, and the domain it would be broken in; none if the node is in none.
    fn first_broken(&self, node: NodeIx) -> Option<(usize, Option<usize>)> {
        (0..self.rules.len()).find_map(|nth| {
            let count = &self.counts.counts[nth];
            let Some(domain) = count.domains.of(node) else {
                return Some((nth, None));
            };
            let skew = count.pods.get(domain) + self.adds[nth] - self.least[nth];
            (skew > i64::from(self.rules[nth].max_skew)).then_some((nth, Some(domain)))
        })
    }
}

fn least(rule: &SpreadRule, count: &crate::snapshot::relations::SpreadCount) -> i64 {
    count.least(rule.min_domains)
}

/// The first spread rule that the pod would break on that node.
pub fn topology_spread(ledger: &Ledger, node: NodeIx, demand: &Demand) -> Option<Obstacle> {
    TopologySpread::open(ledger, demand)?.obstacle(node)
}

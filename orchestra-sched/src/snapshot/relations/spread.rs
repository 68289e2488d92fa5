//! How the pods that a set of spread rules counts lie over the domains.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Domains, NOWHERE, Population, SpreadRule, Tally};
use crate::fits;
use crate::snapshot::{Demand, NodeIx, Snapshot};
use orchestra_core::kind::Node;

/// What a set of spread rules counts, kept right as pods come and go.
///
/// A node takes part if it has the labels of all rules, or, for rules given by default, in those whose
/// labels it has; for each rule a policy may leave it out.
#[derive(Clone, Debug)]
pub(crate) struct Spreading {
    /// The pod whose rules they are, for what the policies ask and what must agree.
    demand: Arc<Demand>,
    required: bool,
    /// By which it is found again.
    pub(crate) number: u64,
    pub(crate) counts: Vec<SpreadCount>,
}

/// What one rule counts.
#[derive(Clone, Debug)]
pub(crate) struct SpreadCount {
    pub(crate) domains: Arc<Domains>,
    /// By row: whether pods there count, and the domain there is one of those compared. Empty if all are.
    eligible: Vec<bool>,
    /// By domain: how many pods on eligible nodes.
    pub(crate) pods: Tally,
    /// How many domains with eligible nodes have so many pods.
    levels: BTreeMap<i64, u32>,
    /// By row, where the domains are the nodes themselves: how many pods count there, whether the
    /// node is eligible or not.
    pub(crate) here: Tally,
}

impl Spreading {
    /// `demand`'s required rules, or its preferred ones, over the nodes of `snapshot`, with what
    /// runs there.
    pub(super) fn new(
        snapshot: &Snapshot,
        population: &Population,
        demand: Arc<Demand>,
        required: bool,
        number: u64,
    ) -> Self {
        let rules = rules(&demand, required);
        let columns: Vec<Arc<Domains>> = rules
            .iter()
            .map(|rule| snapshot.domains(&rule.topology_key))
            .collect();
        let by_default = !required && spreads_by_default(&demand);
        let mut counts: Vec<SpreadCount> = columns
            .iter()
            .map(|domains| SpreadCount {
                domains: Arc::clone(domains),
                eligible: Vec::new(),
                pods: Tally::new(domains.len()),
                levels: BTreeMap::new(),
                here: Tally::default(),
            })
            .collect();
        // Nodes are looked at only where a policy asks something of them.
        let asks_nodes = rules.iter().any(|rule| rule.honors_affinity)
            && (!demand.node_selector.is_empty() || demand.node_affinity.is_some());
        let asks_taints =
            rules.iter().any(|rule| rule.honors_taints) && snapshot.hard_tainted() > 0;
        let are_complete = by_default || columns.iter().all(|column| column.is_complete());
        // By rule, by domain: how many eligible nodes.
        let mut nodes: Vec<Vec<u32>> = Vec::new();
        if !are_complete || asks_nodes || asks_taints {
            let complete = |row: usize| {
                let mut columns = columns.iter();
                by_default || columns.all(|column| column.of_rows()[row] != NOWHERE)
            };
            for count in &mut counts {
                count.eligible = vec![false; snapshot.len()];
                nodes.push(vec![0; count.domains.len()]);
            }
            for row in (0..snapshot.len()).filter(|row| complete(*row)) {
                let node = NodeIx::from_row(row);
                let facts = || snapshot.node(node).facts();
                let wrong_node = asks_nodes && fits::node_affinity(facts(), &demand).is_some();
                let tainted = asks_taints && fits::taints(facts(), &demand).is_some();
                for ((rule, count), nodes) in rules.iter().zip(&mut counts).zip(&mut nodes) {
                    let out = rule.honors_affinity && wrong_node || rule.honors_taints && tainted;
                    count.eligible[row] = !out;
                    if let Some(domain) = count.domains.of(node)
                        && !out
                    {
                        nodes[domain] += 1;
                    }
                }
            }
        }
        for (rule, count) in rules.iter().zip(&mut counts) {
            if rule.topology_key == Node::HOSTNAME_LABEL {
                count.here = Tally::new(snapshot.len());
            }
        }
        for kind in population.kinds() {
            if kind.demand.namespace != demand.namespace {
                continue;
            }
            for (rule, count) in rules.iter().zip(&mut counts) {
                if rule.counts(&kind.demand.labels) {
                    let staying = kind.pods.iter().filter(|(_, terminating)| !terminating);
                    staying.for_each(|(node, _)| count.shift(*node, 1));
                }
            }
        }
        for (nth, count) in counts.iter_mut().enumerate() {
            count.rank(nodes.get(nth).map(Vec::as_slice));
        }
        Self {
            demand,
            required,
            number,
            counts,
        }
    }

    /// Whether `demand` has the same rules and its policies say the same of every node.
    pub(crate) fn serves(&self, demand: &Demand, required: bool) -> bool {
        let (own, rules) = (rules(&self.demand, self.required), rules(demand, required));
        self.required == required
            && self.demand.namespace == demand.namespace
            && own == rules
            && (required || spreads_by_default(&self.demand) == spreads_by_default(demand))
            && (!own.iter().any(|rule| rule.honors_affinity)
                || self.demand.node_selector == demand.node_selector
                    && self.demand.node_affinity == demand.node_affinity)
            && (!own.iter().any(|rule| rule.honors_taints)
                || self.demand.tolerations == demand.tolerations)
    }

    /// Whether some rule counts a pod.
    pub(crate) fn counts_any(&self, pod: &Demand) -> bool {
        let mut rules = rules(&self.demand, self.required).iter();
        pod.namespace == self.demand.namespace && rules.any(|rule| rule.counts(&pod.labels))
    }

    /// A pod comes to a node (`by` 1) or leaves it (−1).
    pub(crate) fn shift(&mut self, node: NodeIx, pod: &Demand, by: i64) {
        if pod.namespace != self.demand.namespace {
            return;
        }
        let rules = rules(&self.demand, self.required);
        for (rule, count) in rules.iter().zip(&mut self.counts) {
            if rule.counts(&pod.labels) {
                count.shift(node, by);
            }
        }
    }
}

impl SpreadCount {
    /// Counts the domains by how many pods they have; of those that have an eligible node, of which there are
    /// `nodes` by domain, if some are not.
    fn rank(&mut self, nodes: Option<&[u32]>) {
        let Some(nodes) = nodes else {
            // Each has a node, and mostly none has a pod.
            let mut empty = self.domains.len() as u32;
            for (_, pods) in self.pods.counted().filter(|(_, pods)| *pods != 0) {
                empty -= 1;
                *self.levels.entry(pods).or_default() += 1;
            }
            if empty > 0 {
                self.levels.insert(0, empty);
            }
            return;
        };
        for (_, pods) in nodes
            .iter()
            .zip(self.pods.iter())
            .filter(|(nodes, _)| **nodes > 0)
        {
            *self.levels.entry(pods).or_default() += 1;
        }
    }

    fn shift(&mut self, node: NodeIx, by: i64) {
        if !self.here.is_empty() {
            self.here.add(node.row(), by);
        }
        let Some(domain) = self.domains.of(node) else {
            return;
        };
        if !self.eligible.is_empty() && !self.eligible[node.row()] {
            return;
        }
        let before = self.pods.add(domain, by);
        // Empty until the first count is complete.
        if let Some(level) = self.levels.get_mut(&before) {
            *level -= 1;
            if *level == 0 {
                self.levels.remove(&before);
            }
            *self.levels.entry(before + by).or_default() += 1;
        }
    }

    /// How many domains are compared.
    pub(crate) fn domains_in_play(&self) -> u32 {
        self.levels.values().sum()
    }

    /// How many pods the emptiest of the compared domains has; 0 if there are fewer than
    /// `min_domains`, and if there is none.
    pub(crate) fn least(&self, min_domains: u32) -> i64 {
        let mut least = self.levels.keys();
        match least.next() {
            Some(&least) if self.domains_in_play() >= min_domains => least,
            _ => 0,
        }
    }
}

fn spreads_by_default(demand: &Demand) -> bool {
    let relations = demand.relations.as_deref();
    relations.is_some_and(|relations| relations.spreads_by_default)
}

fn rules(demand: &Demand, required: bool) -> &[SpreadRule] {
    let relations = demand.relations.as_deref();
    relations.map_or(&[], |relations| {
        if required {
            &relations.spread
        } else {
            &relations.prefer_spread
        }
    })
}

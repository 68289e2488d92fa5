//! What pods ask of each other, as plainly as can be: every pod of every node is looked at for
//! every question.

use orchestra_core::kind::pod::{
    NodeInclusionPolicy, PodAffinity, PodAffinityTerm, TopologySpreadConstraint, WhenUnsatisfiable,
};
use orchestra_core::kind::{Node, Pod, TaintEffect};
use orchestra_core::selector::LabelSelector;

pub(crate) type Nodes = [(Node, Vec<Pod>)];

/// What is in the way, and whether it stays whichever pods come and go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Way {
    Free,
    NotNow,
    Never,
}

fn label<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    node.metadata.labels.get(key).map(|value| value.as_str())
}

fn selects(selector: &Option<LabelSelector>, pod: &Pod) -> bool {
    selector
        .as_ref()
        .is_some_and(|selector| selector.matches(&pod.metadata.labels))
}

fn spreads(pod: &Pod, how: WhenUnsatisfiable) -> Vec<TopologySpreadConstraint> {
    let own = &pod.spec.topology_spread_constraints;
    let all = own.iter().cloned().chain(given(pod));
    all.filter(|rule| rule.when_unsatisfiable == how).collect()
}

/// What a pod of a template is given that says nothing.
fn given(pod: &Pod) -> Vec<TopologySpreadConstraint> {
    let of_template = pod.metadata.controller().is_some()
        && pod.metadata.labels.contains_key(Pod::TEMPLATE_HASH_LABEL)
        && pod.spec.topology_spread_constraints.is_empty();
    let rule = |key: &str, max_skew| TopologySpreadConstraint {
        max_skew,
        topology_key: key.into(),
        when_unsatisfiable: WhenUnsatisfiable::ScheduleAnyway,
        label_selector: Some(LabelSelector::default()),
        match_label_keys: vec![Pod::TEMPLATE_HASH_LABEL.into()],
        ..TopologySpreadConstraint::default()
    };
    match of_template {
        true => vec![rule(Node::HOSTNAME_LABEL, 3), rule(Node::ZONE_LABEL, 5)],
        false => Vec::new(),
    }
}

/// Whether `other`, which runs, counts for a rule of `pod`.
fn counts(rule: &TopologySpreadConstraint, pod: &Pod, other: &Pod) -> bool {
    let said_nothing = rule
        .label_selector
        .as_ref()
        .is_some_and(LabelSelector::is_empty)
        && rule
            .match_label_keys
            .iter()
            .all(|key| !pod.metadata.labels.contains_key(key));
    !said_nothing
        && other.metadata.deletion_timestamp.is_none()
        && other.metadata.namespace == pod.metadata.namespace
        && is_of_the_group(rule, pod, other)
}

fn is_of_the_group(rule: &TopologySpreadConstraint, pod: &Pod, other: &Pod) -> bool {
    let same = rule
        .match_label_keys
        .iter()
        .all(|key| match pod.metadata.labels.get(key) {
            Some(value) => other.metadata.labels.get(key) == Some(value),
            None => true,
        });
    same && selects(&rule.label_selector, other)
}

fn takes_part(rule: &TopologySpreadConstraint, pod: &Pod, node: &Node) -> bool {
    let tainted = node.spec.taints.iter().any(|taint| {
        taint.effect != TaintEffect::PreferNoSchedule && !super::tolerates(pod, taint)
    });
    let wanted = super::wanted(node, pod);
    (rule.node_affinity_policy == Some(NodeInclusionPolicy::Ignore) || wanted)
        && (rule.node_taints_policy != Some(NodeInclusionPolicy::Honor) || !tainted)
}

fn has_all(rules: &[TopologySpreadConstraint], node: &Node) -> bool {
    rules
        .iter()
        .all(|rule| label(node, &rule.topology_key).is_some())
}

/// Those that lack a label are, where the rules are none of the pod's own.
fn is_compared(rules: &[TopologySpreadConstraint], pod: &Pod, node: &Node) -> bool {
    has_all(rules, node) || !given(pod).is_empty()
}

fn in_domain(
    nodes: &Nodes,
    rules: &[TopologySpreadConstraint],
    nth: usize,
    pod: &Pod,
    value: &str,
) -> usize {
    let rule = &rules[nth];
    nodes
        .iter()
        .filter(|(node, _)| is_compared(rules, pod, node) && takes_part(rule, pod, node))
        .filter(|(node, _)| label(node, &rule.topology_key) == Some(value))
        .flat_map(|(_, pods)| pods)
        .filter(|other| counts(rule, pod, other))
        .count()
}

pub(crate) fn spread(nodes: &Nodes, at: &Node, pod: &Pod) -> Way {
    let rules = spreads(pod, WhenUnsatisfiable::DoNotSchedule);
    for (nth, rule) in rules.iter().enumerate() {
        let Some(here) = label(at, &rule.topology_key) else {
            return Way::Never;
        };
        let mut values: Vec<&str> = nodes
            .iter()
            .filter(|(node, _)| has_all(&rules, node) && takes_part(rule, pod, node))
            .filter_map(|(node, _)| label(node, &rule.topology_key))
            .collect();
        values.sort_unstable();
        values.dedup();
        let count = |value: &str| in_domain(nodes, &rules, nth, pod, value);
        let mut least = values.iter().map(|value| count(value)).min().unwrap_or(0);
        if values.len() < rule.min_domains.unwrap_or(1) as usize {
            least = 0;
        }
        let own = usize::from(is_of_the_group(rule, pod, pod));
        if (count(here) + own) as i64 - least as i64 > i64::from(rule.max_skew) {
            return Way::NotNow;
        }
    }
    Way::Free
}

/// The score of each candidate, if the rule is asked at all.
pub(crate) fn spread_scores(nodes: &Nodes, candidates: &[&Node], pod: &Pod) -> Vec<u64> {
    let rules = spreads(pod, WhenUnsatisfiable::ScheduleAnyway);
    if rules.is_empty() {
        return vec![0; candidates.len()];
    }
    let ranked: Vec<&&Node> = candidates
        .iter()
        .filter(|node| is_compared(&rules, pod, node))
        .collect();
    let raw = |node: &Node| -> i64 {
        let mut sum = 0.0;
        for (nth, rule) in rules.iter().enumerate() {
            let Some(here) = label(node, &rule.topology_key) else {
                continue;
            };
            let (size, pods) = if rule.topology_key == Node::HOSTNAME_LABEL {
                let own = nodes
                    .iter()
                    .find(|(other, _)| other.metadata.name == node.metadata.name);
                let pods = own
                    .unwrap()
                    .1
                    .iter()
                    .filter(|other| counts(rule, pod, other))
                    .count();
                (ranked.len(), pods)
            } else {
                let mut values: Vec<_> = ranked
                    .iter()
                    .map(|node| label(node, &rule.topology_key))
                    .collect();
                values.sort_unstable();
                values.dedup();
                (values.len(), in_domain(nodes, &rules, nth, pod, here))
            };
            sum += pods as f64 * ((size + 2) as f64).ln() + f64::from(rule.max_skew - 1);
        }
        sum.round() as i64
    };
    let raws: Vec<Option<i64>> = candidates
        .iter()
        .map(|node| is_compared(&rules, pod, node).then(|| raw(node)))
        .collect();
    let max = raws.iter().flatten().copied().max().unwrap_or(0);
    let min = raws.iter().flatten().copied().min().unwrap_or(0);
    let score = |raw: &Option<i64>| match raw {
        None => 0,
        Some(_) if max == 0 => 100,
        Some(raw) => (100 * (max + min - raw) / max) as u64,
    };
    raws.iter().map(score).collect()
}

/// Whether a term of `owner` means `pod`.
fn means(term: &PodAffinityTerm, owner: &Pod, pod: &Pod) -> bool {
    let namespace = &pod.metadata.namespace;
    let there = if term.namespaces.is_empty() && term.namespace_selector.is_none() {
        owner.metadata.namespace == *namespace
    } else {
        term.namespaces.contains(namespace)
            || term.namespace_selector.as_ref().is_some_and(|selector| {
                // The namespaces of these tests are known by no labels.
                selector.matches(&Default::default())
            })
    };
    let own = |key| owner.metadata.labels.get(key);
    let others = |key| pod.metadata.labels.get(key);
    there
        && selects(&term.label_selector, pod)
        && term
            .match_label_keys
            .iter()
            .all(|key| own(key).is_none() || own(key) == others(key))
        && term
            .mismatch_label_keys
            .iter()
            .all(|key| own(key).is_none() || own(key) != others(key))
}

fn near(pod: &Pod) -> Option<&PodAffinity> {
    pod.spec.affinity.as_ref()?.pod_affinity.as_ref()
}

fn away(pod: &Pod) -> Option<&PodAffinity> {
    pod.spec.affinity.as_ref()?.pod_anti_affinity.as_ref()
}

fn all(nodes: &Nodes) -> impl Iterator<Item = (&Node, &Pod)> {
    nodes
        .iter()
        .flat_map(|(node, pods)| pods.iter().map(move |pod| (node, pod)))
}

fn together(one: &Node, other: &Node, key: &str) -> bool {
    label(one, key).is_some() && label(one, key) == label(other, key)
}

pub(crate) fn company(nodes: &Nodes, at: &Node, pod: &Pod) -> Way {
    let required = near(pod).map_or(&[][..], |near| &near.required);
    if required
        .iter()
        .any(|term| label(at, &term.topology_key).is_none())
    {
        return Way::Never;
    }
    let wanted = |other: &Pod| required.iter().all(|term| means(term, pod, other));
    let present = |term: &PodAffinityTerm| {
        all(nodes).any(|(node, other)| wanted(other) && together(node, at, &term.topology_key))
    };
    if !required.iter().all(present) {
        let somewhere = all(nodes).any(|(node, other)| {
            wanted(other)
                && required
                    .iter()
                    .any(|term| label(node, &term.topology_key).is_some())
        });
        if somewhere || !wanted(pod) {
            return Way::NotNow;
        }
    }
    let clash = |owner: &Pod, other: &Pod, node: &Node| {
        let terms = away(owner).map_or(&[][..], |away| &away.required);
        terms
            .iter()
            .any(|term| means(term, owner, other) && together(node, at, &term.topology_key))
    };
    let clash = all(nodes).any(|(node, other)| clash(pod, other, node) || clash(other, pod, node));
    if clash { Way::NotNow } else { Way::Free }
}

pub(crate) fn company_scores(nodes: &Nodes, candidates: &[&Node], pod: &Pod) -> Vec<u64> {
    let sum = |at: &&Node| -> i64 {
        let mut sum = 0;
        for (node, other) in all(nodes) {
            for (owner, meant) in [(pod, other), (other, pod)] {
                for (side, sign) in [(near(owner), 1), (away(owner), -1)] {
                    for weighted in side.map_or(&[][..], |side| &side.preferred) {
                        let term = &weighted.pod_affinity_term;
                        if means(term, owner, meant) && together(node, at, &term.topology_key) {
                            sum += i64::from(weighted.weight) * sign;
                        }
                    }
                }
            }
            for term in near(other).map_or(&[][..], |near| &near.required) {
                if means(term, other, pod) && together(node, at, &term.topology_key) {
                    sum += 1;
                }
            }
        }
        sum
    };
    let sums: Vec<i64> = candidates.iter().map(sum).collect();
    let (min, max) = (sums.iter().min().copied(), sums.iter().max().copied());
    let (min, max) = (min.unwrap_or(0), max.unwrap_or(0));
    let scaled = |sum: &i64| match max - min {
        0 => 0,
        range => (100.0 * ((sum - min) as f64 / range as f64)) as u64,
    };
    sums.iter().map(scaled).collect()
}

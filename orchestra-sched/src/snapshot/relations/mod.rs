//! What a pod asks of its company: how it spreads, whom it wants near, whom it keeps away.

mod book;
mod division;
mod domains;
mod population;
mod spread;
mod tally;
mod terms;
mod topology;

use std::hash::{Hash, Hasher};

use orchestra_core::kind::pod::{
    NodeInclusionPolicy, PodAffinity, PodAffinityTerm, TopologySpreadConstraint, WhenUnsatisfiable,
};
use orchestra_core::kind::{Node, Pod};
use orchestra_core::meta::{Labels, ObjectMeta};
use orchestra_core::selector::{LabelSelector, LabelSelectorRequirement, SelectorOperator};
use smol_str::SmolStr;

pub(crate) use book::{Book, Counts};
pub(crate) use division::Division;
pub(crate) use domains::{Domains, NOWHERE};
use population::Population;
pub(crate) use spread::{SpreadCount, Spreading};
pub(crate) use tally::Tally;
pub(crate) use terms::{Company, Others, meets_all};
pub(crate) use topology::Topology;

/// The weight of a running pod's required affinity in the score of nodes for a pod that it wants
/// near.
pub const HARD_POD_AFFINITY_WEIGHT: i64 = 1;

/// What a pod asks of the pods around it. Selectors are complete: the pod's own values of
/// `matchLabelKeys` and `mismatchLabelKeys` are in them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Relations {
    /// How evenly it must spread.
    pub spread: Vec<SpreadRule>,
    /// How evenly it had better spread.
    pub prefer_spread: Vec<SpreadRule>,
    /// Whether it says nothing of how it spreads, and those are what such pods are given. A node
    /// that lacks a label then takes part by those that it has, and by none of the rules otherwise.
    pub spreads_by_default: bool,
    /// Whom it must be near: all of them at once.
    pub affinity: Vec<PodTerm>,
    /// Whom it must not be near: none of them.
    pub anti_affinity: Vec<PodTerm>,
    /// Whom it had better be near, or, where the weight is below zero, not near.
    pub preferred: Vec<(i64, PodTerm)>,
}

/// How evenly pods spread over the domains of one topology key.
#[derive(Clone, Debug, PartialEq)]
pub struct SpreadRule {
    /// How far a domain may be above the emptiest, the new pod included.
    pub max_skew: u32,
    /// The node label whose values are the domains.
    pub topology_key: SmolStr,
    /// Which pods of the pod's own namespace count; none means no pod, and an empty selector
    /// counts no pod either.
    pub selector: Option<LabelSelector>,
    /// With fewer domains than this the emptiest counts as empty.
    pub min_domains: u32,
    /// Whether nodes that the pod may not be on by its node affinity are left out.
    pub honors_affinity: bool,
    /// Whether nodes with taints that the pod does not tolerate are left out.
    pub honors_taints: bool,
}

/// A group of pods, and how near is near.
#[derive(Clone, Debug, PartialEq)]
pub struct PodTerm {
    /// Which pods; none means no pod, an empty selector all.
    pub selector: Option<LabelSelector>,
    /// In which namespaces, besides those selected.
    pub namespaces: Vec<SmolStr>,
    /// In namespaces with such labels; none means in no others, an empty selector in all.
    pub namespace_selector: Option<LabelSelector>,
    /// The node label whose equal values make two nodes near.
    pub topology_key: SmolStr,
}

impl Relations {
    /// What a pod asks; `None` if that is nothing.
    pub fn of(pod: &Pod) -> Option<Self> {
        let (meta, spec) = (&pod.metadata, &pod.spec);
        let rules = |action: WhenUnsatisfiable| {
            let all = spec.topology_spread_constraints.iter();
            all.filter(move |rule| rule.when_unsatisfiable == action)
                .map(|rule| SpreadRule::of(rule, &meta.labels))
                .collect::<Vec<_>>()
        };
        let affinity = spec.affinity.as_deref();
        let near = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
        let away = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
        let term = |term: &PodAffinityTerm| PodTerm::of(term, &meta.namespace, &meta.labels);
        let required = |side: Option<&PodAffinity>| -> Vec<PodTerm> {
            let all = side.into_iter().flat_map(|side| &side.required);
            all.map(term).collect()
        };
        let preferred = |side: Option<&PodAffinity>, sign: i64| -> Vec<(i64, PodTerm)> {
            let all = side.into_iter().flat_map(|side| &side.preferred);
            all.map(|weighted| {
                let weight = i64::from(weighted.weight) * sign;
                (weight, term(&weighted.pod_affinity_term))
            })
            .collect()
        };
        let mut all = preferred(near, 1);
        all.extend(preferred(away, -1));
        let by_default = match spec.topology_spread_constraints.is_empty() {
            true => default_spread(meta),
            false => Vec::new(),
        };
        let relations = Self {
            spread: rules(WhenUnsatisfiable::DoNotSchedule),
            spreads_by_default: !by_default.is_empty(),
            prefer_spread: match by_default.is_empty() {
                true => rules(WhenUnsatisfiable::ScheduleAnyway),
                false => by_default,
            },
            affinity: required(near),
            anti_affinity: required(away),
            preferred: all,
        };
        (relations != Self::default()).then_some(relations)
    }

    /// Whether where it runs matters to pods that come later, beyond their counting it.
    pub(crate) fn reaches_others(&self) -> bool {
        !self.affinity.is_empty() || !self.anti_affinity.is_empty() || !self.preferred.is_empty()
    }
}

/// How the pods of one template spread that say nothing of it: over nodes and over zones, as Kubernetes'
/// defaults are. Of pods that nobody keeps at a number, or that name no template, it is not known whom
/// they are to be spread from.
fn default_spread(meta: &ObjectMeta) -> Vec<SpreadRule> {
    let hash = meta.labels.get(Pod::TEMPLATE_HASH_LABEL);
    let Some(hash) = hash.filter(|_| meta.controller().is_some()) else {
        return Vec::new();
    };
    let of_template = [(Pod::TEMPLATE_HASH_LABEL.into(), hash.clone())];
    let rule = |topology_key: &str, max_skew| SpreadRule {
        max_skew,
        topology_key: topology_key.into(),
        selector: Some(LabelSelector {
            match_labels: of_template.clone().into(),
            ..LabelSelector::default()
        }),
        min_domains: 1,
        honors_affinity: true,
        honors_taints: false,
    };
    vec![rule(Node::HOSTNAME_LABEL, 3), rule(Node::ZONE_LABEL, 5)]
}

/// Equal relations hash alike; the hash of their selectors is by their text.
impl Hash for Relations {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for rule in self.spread.iter().chain(&self.prefer_spread) {
            (rule.max_skew, &rule.topology_key).hash(state);
            hash_selector(rule.selector.as_ref(), state);
        }
        let preferred = self.preferred.iter().map(|(_, term)| term);
        for term in self
            .affinity
            .iter()
            .chain(&self.anti_affinity)
            .chain(preferred)
        {
            term.hash(state);
        }
        for (weight, _) in &self.preferred {
            weight.hash(state);
        }
    }
}

impl SpreadRule {
    fn of(rule: &TopologySpreadConstraint, labels: &Labels) -> Self {
        let own = own_values(&rule.match_label_keys, labels, SelectorOperator::In);
        Self {
            max_skew: rule.max_skew,
            topology_key: rule.topology_key.clone(),
            selector: with(rule.label_selector.clone(), own),
            min_domains: rule.min_domains.unwrap_or(1),
            honors_affinity: rule.node_affinity_policy() == NodeInclusionPolicy::Honor,
            honors_taints: rule.node_taints_policy() == NodeInclusionPolicy::Honor,
        }
    }

    /// Whether a pod with these labels, of the right namespace, counts once it runs.
    pub fn counts(&self, labels: &Labels) -> bool {
        let said = self
            .selector
            .as_ref()
            .filter(|selector| !selector.is_empty());
        said.is_some_and(|selector| selector.matches(labels))
    }

    /// Whether the pod itself, with these labels, adds to its domain. An empty selector says yes,
    /// though it [counts](Self::counts) no running pod: so does Kubernetes.
    pub fn adds(&self, labels: &Labels) -> bool {
        let selector = self.selector.as_ref();
        selector.is_some_and(|selector| selector.matches(labels))
    }
}

impl PodTerm {
    /// A term of a pod with that namespace and those labels.
    fn of(term: &PodAffinityTerm, namespace: &SmolStr, labels: &Labels) -> Self {
        let mut own = own_values(&term.match_label_keys, labels, SelectorOperator::In);
        own.extend(own_values(
            &term.mismatch_label_keys,
            labels,
            SelectorOperator::NotIn,
        ));
        let mut namespaces = term.namespaces.clone();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.push(namespace.clone());
        }
        namespaces.sort_unstable();
        namespaces.dedup();
        Self {
            selector: with(term.label_selector.clone(), own),
            namespaces,
            namespace_selector: term.namespace_selector.clone(),
            topology_key: term.topology_key.clone(),
        }
    }

    /// Whether a pod of that namespace, with the labels of the namespace and its own, is meant.
    pub fn matches(&self, namespace: &str, of_namespace: &Labels, labels: &Labels) -> bool {
        let there = self.namespaces.iter().any(|one| one == namespace)
            || (self.namespace_selector.as_ref())
                .is_some_and(|selector| selector.matches(of_namespace));
        there && (self.selector.as_ref()).is_some_and(|selector| selector.matches(labels))
    }
}

impl Hash for PodTerm {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.topology_key, &self.namespaces).hash(state);
        hash_selector(self.namespace_selector.as_ref(), state);
        hash_selector(self.selector.as_ref(), state);
    }
}

fn hash_selector<H: Hasher>(selector: Option<&LabelSelector>, state: &mut H) {
    let Some(selector) = selector else {
        return false.hash(state);
    };
    selector.match_labels.hash(state);
    for requirement in &selector.match_expressions {
        (&requirement.key, &requirement.values).hash(state);
    }
}

/// A requirement for each of `keys` that the pod has a label of.
fn own_values(
    keys: &[SmolStr],
    labels: &Labels,
    operator: SelectorOperator,
) -> Vec<LabelSelectorRequirement> {
    let own = keys.iter().filter_map(|key| Some((key, labels.get(key)?)));
    own.map(|(key, value)| LabelSelectorRequirement {
        key: key.clone(),
        operator,
        values: vec![value.clone()],
    })
    .collect()
}

fn with(
    selector: Option<LabelSelector>,
    more: Vec<LabelSelectorRequirement>,
) -> Option<LabelSelector> {
    selector.map(|mut selector| {
        selector.match_expressions.extend(more);
        selector
    })
}

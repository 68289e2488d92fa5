//! Where a pod wants to be: by node, by the company of other pods, and spread over domains.

use smol_str::SmolStr;

use crate::kind::wire::{part, words};
use crate::selector::{LabelSelector, NodeSelector, PreferredSchedulingTerm};

part! {
    /// Where a pod wants to be.
    pub struct Affinity {
        /// On which nodes.
        pub node_affinity: Option<NodeAffinity>,
        /// Near which pods.
        pub pod_affinity: Option<PodAffinity>,
        /// Away from which pods.
        pub pod_anti_affinity: Option<PodAffinity>,
    }

    /// On which nodes a pod wants to be.
    pub struct NodeAffinity {
        /// Only on these.
        #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
        pub required: Option<NodeSelector>,
        /// Rather on these; the weights of all that match add up.
        #[serde(rename = "preferredDuringSchedulingIgnoredDuringExecution")]
        pub preferred: Vec<PreferredSchedulingTerm>,
    }

    /// Near, or away from, which pods a pod wants to be.
    pub struct PodAffinity {
        /// Only so; all of them hold.
        #[serde(rename = "requiredDuringSchedulingIgnoredDuringExecution")]
        pub required: Vec<PodAffinityTerm>,
        /// Rather so; the weights of all that hold add up.
        #[serde(rename = "preferredDuringSchedulingIgnoredDuringExecution")]
        pub preferred: Vec<WeightedPodAffinityTerm>,
    }

    /// A group of pods, and how near is near.
    pub struct PodAffinityTerm {
        /// Which pods; none means no pod, an empty selector all.
        pub label_selector: Option<LabelSelector>,
        /// In which namespaces, besides those of `namespace_selector`. If both are left out, in
        /// the pod's own.
        pub namespaces: Vec<SmolStr>,
        /// In namespaces with such labels; an empty selector is all.
        pub namespace_selector: Option<LabelSelector>,
        /// The node label whose equal values make two nodes near.
        pub topology_key: SmolStr,
        /// Label keys of which the pod's own values are added to the selector.
        pub match_label_keys: Vec<SmolStr>,
        /// Label keys of which the pod's own values are excluded by the selector.
        pub mismatch_label_keys: Vec<SmolStr>,
    }

    /// A group of pods, and how much it matters.
    pub struct WeightedPodAffinityTerm {
        /// How much, 1 to 100.
        pub weight: i32,
        /// The group.
        pub pod_affinity_term: PodAffinityTerm,
    }

    /// How evenly pods spread over domains.
    pub struct TopologySpreadConstraint {
        /// How far the fullest domain may be above the emptiest, at least 1.
        pub max_skew: u32,
        /// The node label whose values are the domains.
        pub topology_key: SmolStr,
        /// Whether a worse spread is refused.
        pub when_unsatisfiable: WhenUnsatisfiable,
        /// Which pods count; none means no pod.
        pub label_selector: Option<LabelSelector>,
        /// With fewer domains than this the emptiest counts as empty; at least 1.
        pub min_domains: Option<u32>,
        /// Whether nodes that the pod may not be on by its node affinity count. Not said is
        /// `Honor`: they do not.
        pub node_affinity_policy: Option<NodeInclusionPolicy>,
        /// Whether nodes with taints that the pod does not tolerate count. Not said is `Ignore`:
        /// they do.
        pub node_taints_policy: Option<NodeInclusionPolicy>,
        /// Label keys of which the pod's own values are added to the selector.
        pub match_label_keys: Vec<SmolStr>,
    }
}

words! {
    /// Whether a worse spread is refused.
    pub enum WhenUnsatisfiable {
        /// It is.
        #[default]
        DoNotSchedule = "DoNotSchedule",
        /// It only scores less.
        ScheduleAnyway = "ScheduleAnyway",
    }

    /// Whether a rule keeps nodes out of the count.
    pub enum NodeInclusionPolicy {
        /// It does.
        #[default]
        Honor = "Honor",
        /// It does not.
        Ignore = "Ignore",
    }
}

impl TopologySpreadConstraint {
    /// The policy for node affinity in force.
    pub fn node_affinity_policy(&self) -> NodeInclusionPolicy {
        self.node_affinity_policy
            .unwrap_or(NodeInclusionPolicy::Honor)
    }

    /// The policy for taints in force.
    pub fn node_taints_policy(&self) -> NodeInclusionPolicy {
        self.node_taints_policy
            .unwrap_or(NodeInclusionPolicy::Ignore)
    }
}

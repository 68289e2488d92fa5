//! The rules of what says where a pod may be.

use std::collections::BTreeSet;

use super::toleration::whole;
use super::{
    Affinity, NodeAffinity, PodAffinity, PodAffinityTerm, PodSpec, Toleration, TolerationOperator,
    TopologySpreadConstraint, WhenUnsatisfiable,
};
use crate::kind::Invalid;
use crate::kind::node::TaintEffect;
use crate::kind::rules::{Path, dns_label, label_key, labels};
use crate::selector::label_value_problem;

impl PodSpec {
    pub(super) fn check_placement(&self, invalid: &mut Invalid, path: Path<'_>) {
        labels(invalid, path.field("nodeSelector"), &self.node_selector);
        if let Some(affinity) = &self.affinity {
            affinity.check(invalid, path.field("affinity"));
        }
        let tolerations = path.field("tolerations");
        for (index, toleration) in self.tolerations.iter().enumerate() {
            toleration.check(invalid, tolerations.index(index));
        }
        let constraints = path.field("topologySpreadConstraints");
        let mut taken = BTreeSet::new();
        for (index, constraint) in self.topology_spread_constraints.iter().enumerate() {
            let at = constraints.index(index);
            constraint.check(invalid, at);
            let slot = (&constraint.topology_key, constraint.when_unsatisfiable);
            if !taken.insert(slot) {
                let remedy = "keep one constraint for each topologyKey and whenUnsatisfiable";
                let at = at.field("topologyKey");
                invalid.refuse(at, &constraint.topology_key, "is constrained twice", remedy);
            }
        }
    }
}

impl Affinity {
    fn check(&self, invalid: &mut Invalid, path: Path<'_>) {
        if let Some(node) = &self.node_affinity {
            node.check(invalid, path.field("nodeAffinity"));
        }
        for (field, pods) in [
            ("podAffinity", &self.pod_affinity),
            ("podAntiAffinity", &self.pod_anti_affinity),
        ] {
            if let Some(pods) = pods {
                pods.check(invalid, path.field(field));
            }
        }
    }
}

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

impl NodeAffinity {
    fn check(&self, invalid: &mut Invalid, path: Path<'_>) {
        if let Some(required) = &self.required {
            let at = path.field(REQUIRED);
            if required.node_selector_terms.is_empty() {
                let remedy = "write at least one term: without any it matches no node";
                invalid.missing(at.field("nodeSelectorTerms"), remedy);
            }
            required.validate(&at.to_string(), invalid);
        }
        let at = path.field(PREFERRED);
        for (index, term) in self.preferred.iter().enumerate() {
            term.validate(&at.index(index).to_string(), invalid);
        }
    }
}

impl PodAffinity {
    fn check(&self, invalid: &mut Invalid, path: Path<'_>) {
        let at = path.field(REQUIRED);
        for (index, term) in self.required.iter().enumerate() {
            term.check(invalid, at.index(index));
        }
        let at = path.field(PREFERRED);
        for (index, weighted) in self.preferred.iter().enumerate() {
            let at = at.index(index);
            if !(1..=100).contains(&weighted.weight) {
                let remedy = "write 1 to 100";
                invalid.refuse(
                    at.field("weight"),
                    weighted.weight,
                    "is out of range",
                    remedy,
                );
            }
            weighted
                .pod_affinity_term
                .check(invalid, at.field("podAffinityTerm"));
        }
    }
}

impl PodAffinityTerm {
    fn check(&self, invalid: &mut Invalid, path: Path<'_>) {
        topology_key(invalid, path, &self.topology_key);
        for (field, selector) in [
            ("labelSelector", &self.label_selector),
            ("namespaceSelector", &self.namespace_selector),
        ] {
            if let Some(selector) = selector {
                selector.validate(&path.field(field).to_string(), invalid);
            }
        }
        let namespaces = path.field("namespaces");
        for (index, namespace) in self.namespaces.iter().enumerate() {
            dns_label(invalid, namespaces.index(index), namespace);
        }
        for (field, keys) in [
            ("matchLabelKeys", &self.match_label_keys),
            ("mismatchLabelKeys", &self.mismatch_label_keys),
        ] {
            label_keys(
                invalid,
                path.field(field),
                keys,
                self.label_selector.is_some(),
            );
        }
    }
}

/// Label keys that add to a selector.
fn label_keys(invalid: &mut Invalid, path: Path<'_>, keys: &[smol_str::SmolStr], selector: bool) {
    if !keys.is_empty() && !selector {
        let remedy = "write the labelSelector that they add to";
        invalid.refuse(path, "", "stands without labelSelector", remedy);
    }
    for (index, key) in keys.iter().enumerate() {
        label_key(invalid, path.index(index), key);
    }
}

fn topology_key(invalid: &mut Invalid, path: Path<'_>, key: &str) {
    let path = path.field("topologyKey");
    if key.is_empty() {
        invalid.missing(
            path,
            "write a node label such as topology.kubernetes.io/zone",
        );
    } else {
        label_key(invalid, path, key);
    }
}

impl TopologySpreadConstraint {
    fn check(&self, invalid: &mut Invalid, path: Path<'_>) {
        topology_key(invalid, path, &self.topology_key);
        if self.max_skew == 0 {
            invalid.refuse(
                path.field("maxSkew"),
                0,
                "is not positive",
                "write at least 1",
            );
        }
        if let Some(domains) = self.min_domains {
            let at = path.field("minDomains");
            if domains == 0 {
                invalid.refuse(
                    at,
                    0,
                    "is not positive",
                    "write at least 1, or leave it out",
                );
            } else if self.when_unsatisfiable != WhenUnsatisfiable::DoNotSchedule {
                let remedy = "leave it out, or write whenUnsatisfiable: DoNotSchedule";
                invalid.refuse(
                    at,
                    domains,
                    "counts only where a spread is required",
                    remedy,
                );
            }
        }
        if let Some(selector) = &self.label_selector {
            selector.validate(&path.field("labelSelector").to_string(), invalid);
        }
        let keys = path.field("matchLabelKeys");
        label_keys(
            invalid,
            keys,
            &self.match_label_keys,
            self.label_selector.is_some(),
        );
    }
}

impl Toleration {
    fn check(&self, invalid: &mut Invalid, path: Path<'_>) {
        if self.key.is_empty() {
            if self.operator != TolerationOperator::Exists {
                let remedy = "write a key, or operator: Exists to tolerate every taint";
                invalid.missing(path.field("key"), remedy);
            }
        } else {
            label_key(invalid, path.field("key"), &self.key);
        }
        let value = path.field("value");
        match self.operator {
            TolerationOperator::Exists if !self.value.is_empty() => {
                let remedy = "leave it out, or write operator: Equal";
                invalid.refuse(value, &self.value, "stands beside operator: Exists", remedy);
            }
            TolerationOperator::Exists => {}
            TolerationOperator::Equal => {
                if let Some(problem) = label_value_problem(&self.value) {
                    let problem = format!("is no value of a taint: {problem}");
                    let remedy = "write up to 63 letters, digits, '-', '_' and '.'";
                    invalid.refuse(value, &self.value, problem, remedy);
                }
            }
            TolerationOperator::Lt | TolerationOperator::Gt => {
                if whole(&self.value).is_none() {
                    let remedy = "write one without sign '+' and leading zeros, such as 950";
                    invalid.refuse(value, &self.value, "is not a whole number", remedy);
                }
            }
        }
        if let Some(seconds) = self.toleration_seconds
            && self.effect != Some(TaintEffect::NoExecute)
        {
            let remedy = "leave it out, or write effect: NoExecute";
            let at = path.field("tolerationSeconds");
            invalid.refuse(at, seconds, "counts only for NoExecute", remedy);
        }
    }
}

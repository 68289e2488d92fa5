//! A resource quota: how much the pods of a namespace may ask for together.

use smol_str::SmolStr;

use super::pod::{Pod, QosClass};
use super::rules::Path;
use super::wire::{kind, part, words};
use super::{Invalid, Resource, Scope};
use crate::meta::ObjectMeta;
use crate::quantity::{Quantity, ResourceList};

kind! {
    /// How much the pods of a namespace may ask for together.
    pub struct ResourceQuota {
        /// What is allowed.
        pub spec: ResourceQuotaSpec,
        /// What is asked for now.
        pub status: ResourceQuotaStatus,
    }
}

part! {
    /// What is allowed, and which pods count.
    pub struct ResourceQuotaSpec {
        /// The most of each: `pods` (or `count/pods`), `cpu`, `memory` and `ephemeral-storage` (or
        /// `requests.…`), `limits.cpu`, `limits.memory`, `limits.ephemeral-storage`, and
        /// `requests.NAME` of an extended resource.
        pub hard: ResourceList,
        /// Only pods in all of these count. None of them means every pod.
        pub scopes: Vec<QuotaScope>,
        /// Only pods that meet all of these count.
        pub scope_selector: Option<QuotaScopeSelector>,
    }

    /// Which pods count, by scope.
    pub struct QuotaScopeSelector {
        /// All must hold.
        pub match_expressions: Vec<QuotaScopeRequirement>,
    }

    /// One demand on a scope.
    pub struct QuotaScopeRequirement {
        /// Which scope.
        pub scope_name: QuotaScope,
        /// How it is compared: `Exists` for all scopes; `In`, `NotIn` and `DoesNotExist` for
        /// `PriorityClass` besides.
        pub operator: QuotaScopeOperator,
        /// Names of priority classes, for `In` and `NotIn`.
        pub values: Vec<SmolStr>,
    }

    /// What is asked for.
    pub struct ResourceQuotaStatus {
        /// What was allowed when this was written.
        pub hard: ResourceList,
        /// What the pods that count ask for together.
        pub used: ResourceList,
    }
}

words! {
    /// Something that holds of a pod or not.
    pub enum QuotaScope {
        /// It has an `activeDeadlineSeconds`.
        #[default]
        Terminating = "Terminating",
        /// It has none.
        NotTerminating = "NotTerminating",
        /// It asks for no CPU and no memory.
        BestEffort = "BestEffort",
        /// It asks for some.
        NotBestEffort = "NotBestEffort",
        /// It has a priority class.
        PriorityClass = "PriorityClass",
    }

    /// How a scope is compared.
    pub enum QuotaScopeOperator {
        /// It holds.
        #[default]
        Exists = "Exists",
        /// It does not hold.
        DoesNotExist = "DoesNotExist",
        /// Its value is among those given.
        In = "In",
        /// Its value is not among those given.
        NotIn = "NotIn",
    }
}

/// A quota does not admit a pod.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QuotaError {
    /// It would ask for more than is left.
    #[error(
        "quota {quota} allows {resource} {hard}, {used} is used and {asked} more is asked; ask for \
         less, delete pods or raise spec.hard"
    )]
    Exceeded {
        /// The quota's name.
        quota: SmolStr,
        /// The resource, as the quota names it.
        resource: SmolStr,
        /// What is allowed.
        hard: Quantity,
        /// What is used.
        used: Quantity,
        /// What is asked for on top.
        asked: Quantity,
    },
    /// It does not say how much it asks for, and so could not be counted.
    #[error("quota {quota} bounds {resource}; give each container of the pod one")]
    Unstated {
        /// The quota's name.
        quota: SmolStr,
        /// The resource, as the quota names it.
        resource: SmolStr,
    },
}

const COMPUTE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

impl ResourceQuota {
    /// A quota that allows everything; say next what not.
    pub fn new(name: impl Into<SmolStr>) -> Self {
        Self {
            metadata: ObjectMeta::named(name),
            ..Self::default()
        }
    }

    /// Allows so much of `resource`: see [`hard`](ResourceQuotaSpec::hard).
    #[must_use]
    pub fn hard(mut self, resource: impl Into<SmolStr>, most: Quantity) -> Self {
        self.spec.hard.insert(resource.into(), most);
        self
    }

    /// Whether the status tells of all that the quota bounds: not of one that is new, or bounds
    /// something else than before, until its controller has counted.
    pub fn is_current(&self) -> bool {
        self.status.hard == self.spec.hard
    }

    /// Whether the pod counts against it: it is within its scopes and has not ended.
    pub fn covers(&self, pod: &Pod) -> bool {
        let spec = &self.spec;
        let selected = spec
            .scope_selector
            .iter()
            .flat_map(|selector| &selector.match_expressions);
        !pod.is_terminal() && spec.scopes.iter().all(|scope| scope.holds(pod)) && { selected }
            .all(|requirement| requirement.holds(pod))
    }

    /// What the pod uses of each resource that the quota bounds; nothing where it does not count.
    pub fn usage_of(&self, pod: &Pod) -> ResourceList {
        if !self.covers(pod) {
            return ResourceList::new();
        }
        let requests = pod.requests();
        let mut limits: Option<ResourceList> = None;
        let used = |resource: &SmolStr| {
            let name = resource.as_str();
            let amount = if name == "pods" || name == "count/pods" {
                Quantity::from_int(1)
            } else if let Some(name) = name.strip_prefix("limits.") {
                let limits = limits.get_or_insert_with(|| total_limits(pod));
                limits.get(name).copied()?
            } else {
                let name = name.strip_prefix("requests.").unwrap_or(name);
                requests.get(name).copied()?
            };
            Some((resource.clone(), amount))
        };
        self.spec.hard.keys().filter_map(used).collect()
    }

    /// What is used once `more` pods like `pod` are added to what the status says; so it has to be
    /// [current](Self::is_current), or what is used counted anew.
    ///
    /// # Errors
    ///
    /// [`QuotaError`], for the first resource of which there would be too much, or of which the pod
    /// does not say how much it asks.
    pub fn admit(&self, pod: &Pod, more: u32) -> Result<ResourceList, QuotaError> {
        let mut used = self.status.used.clone();
        if !self.covers(pod) {
            return Ok(used);
        }
        let usage = self.usage_of(pod);
        for (resource, &hard) in &self.spec.hard {
            let Some(&each) = usage.get(resource) else {
                if !has_to_be_said(resource) {
                    continue;
                }
                return Err(QuotaError::Unstated {
                    quota: self.metadata.name.clone(),
                    resource: resource.clone(),
                });
            };
            let before = used.get(resource).copied().unwrap_or(Quantity::ZERO);
            let after = each
                .checked_mul(more.into())
                .and_then(|asked| before.checked_add(asked))
                .filter(|after| *after <= hard);
            let Some(after) = after else {
                return Err(QuotaError::Exceeded {
                    quota: self.metadata.name.clone(),
                    resource: resource.clone(),
                    hard,
                    used: before,
                    asked: each.checked_mul(more.into()).unwrap_or(each),
                });
            };
            used.insert(resource.clone(), after);
        }
        Ok(used)
    }

    /// What `pods` use together: a zero for each resource of which they use nothing. Sums stop at
    /// the largest quantity.
    pub fn usage<'a>(&self, pods: impl IntoIterator<Item = &'a Pod>) -> ResourceList {
        let zero = |resource: &SmolStr| (resource.clone(), Quantity::ZERO);
        let mut used: ResourceList = self.spec.hard.keys().map(zero).collect();
        for pod in pods {
            for (resource, amount) in self.usage_of(pod) {
                if let Some(sum) = used.get_mut(&resource) {
                    let most = Quantity::from_int(i64::MAX);
                    *sum = sum.checked_add(amount).unwrap_or(most);
                }
            }
        }
        used
    }
}

/// The limits of a pod's main containers and sidecars together.
fn total_limits(pod: &Pod) -> ResourceList {
    let sidecars = pod.spec.init_containers.iter().filter(|c| c.is_sidecar());
    let mut total = ResourceList::new();
    for container in pod.spec.containers.iter().chain(sidecars) {
        for (name, amount) in &container.resources.limits {
            let sum = total.entry(name.clone()).or_insert(Quantity::ZERO);
            let most = Quantity::from_int(i64::MAX);
            *sum = sum.checked_add(*amount).unwrap_or(most);
        }
    }
    total
}

impl QuotaScope {
    /// Whether it holds of the pod.
    pub fn holds(self, pod: &Pod) -> bool {
        let spec = &pod.spec;
        match self {
            Self::Terminating => spec.active_deadline_seconds.is_some(),
            Self::NotTerminating => spec.active_deadline_seconds.is_none(),
            Self::BestEffort => spec.qos_class() == QosClass::BestEffort,
            Self::NotBestEffort => spec.qos_class() != QosClass::BestEffort,
            Self::PriorityClass => !spec.priority_class_name.is_empty(),
        }
    }
}

impl QuotaScopeRequirement {
    fn holds(&self, pod: &Pod) -> bool {
        let named = || self.values.contains(&pod.spec.priority_class_name);
        match self.operator {
            QuotaScopeOperator::Exists => self.scope_name.holds(pod),
            QuotaScopeOperator::DoesNotExist => !self.scope_name.holds(pod),
            QuotaScopeOperator::In => named(),
            QuotaScopeOperator::NotIn => !named(),
        }
    }
}

/// Whether a pod must say how much of it it asks for.
fn has_to_be_said(resource: &str) -> bool {
    let name = resource
        .strip_prefix("limits.")
        .or_else(|| resource.strip_prefix("requests."));
    COMPUTE.contains(&name.unwrap_or(resource))
}

/// Whether the runtime counts that resource.
fn is_counted(resource: &str) -> bool {
    let plain = ["pods", "count/pods"];
    let compute = |name: &str| COMPUTE.contains(&name);
    plain.contains(&resource)
        || compute(resource)
        || resource.strip_prefix("limits.").is_some_and(compute)
        || resource
            .strip_prefix("requests.")
            .is_some_and(|name| compute(name) || name.contains('/'))
}

impl Resource for ResourceQuota {
    const API_VERSION: &'static str = "v1";
    const KIND: &'static str = "ResourceQuota";
    const PLURAL: &'static str = "resourcequotas";
    const SCOPE: Scope = Scope::Namespaced;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }

    fn set_defaults(&mut self) {}

    fn validate(&self) -> Result<(), Invalid> {
        let mut invalid = Invalid::new();
        let spec = Path::root("spec");
        let hard = spec.field("hard");
        for (resource, most) in &self.spec.hard {
            if *most < Quantity::ZERO {
                let path = hard.key(resource);
                invalid.refuse(path, most, "is below zero", "write 0 or more");
            }
            if !is_counted(resource) {
                invalid.refuse(
                    hard.key(resource),
                    most,
                    "is not counted here",
                    "write pods, cpu, memory, ephemeral-storage, limits.… or requests.…",
                );
            }
        }
        let selector = spec.field("scopeSelector");
        let expressions = selector.field("matchExpressions");
        let requirements = self.spec.scope_selector.iter();
        let all = requirements.flat_map(|selector| &selector.match_expressions);
        for (n, requirement) in all.enumerate() {
            let at = expressions.index(n);
            let compares = matches!(
                requirement.operator,
                QuotaScopeOperator::In | QuotaScopeOperator::NotIn
            );
            if compares == requirement.values.is_empty() {
                let problem = "In and NotIn need values, Exists and DoesNotExist have none";
                invalid.refuse(
                    at.field("values"),
                    requirement.operator,
                    problem,
                    "write one or the other",
                );
            }
            if requirement.scope_name != QuotaScope::PriorityClass
                && requirement.operator != QuotaScopeOperator::Exists
            {
                invalid.refuse(
                    at.field("operator"),
                    requirement.operator,
                    "is only for PriorityClass",
                    "write Exists",
                );
            }
        }
        invalid.into_result()
    }

    fn take_status(&mut self, current: &Self) {
        self.status.clone_from(&current.status);
    }

    fn same_spec(&self, other: &Self) -> bool {
        self.spec == other.spec
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Container;
    use crate::kind::pod::PodPhase;

    fn pod(cpu_milli: i64) -> Pod {
        let container = Container::new("c", "i").request("cpu", Quantity::from_milli(cpu_milli));
        Pod::builder("p").container(container.limit("memory", Quantity::from_int(64)))
    }

    fn quota() -> ResourceQuota {
        ResourceQuota::new("q")
            .hard("pods", Quantity::from_int(3))
            .hard("requests.cpu", Quantity::from_milli(1_000))
            .hard("limits.memory", Quantity::from_int(1_000))
    }

    #[test]
    fn what_is_asked_adds_up_until_it_is_too_much() {
        let mut quota = quota();
        quota.status.used = quota.usage([&pod(300)]);
        let used = quota.admit(&pod(300), 2).unwrap();
        assert_eq!(used["requests.cpu"], Quantity::from_milli(900));
        assert_eq!(used["limits.memory"], Quantity::from_int(192));
        assert_eq!(used["pods"], Quantity::from_int(3));
        assert_eq!(
            quota.admit(&pod(400), 2).unwrap_err().to_string(),
            "quota q allows requests.cpu 1, 300m is used and 800m more is asked; ask for less, \
             delete pods or raise spec.hard"
        );
        let more = quota.admit(&pod(1), 3).unwrap_err().to_string();
        assert!(
            more.starts_with("quota q allows pods 3, 1 is used and 3 more"),
            "{more}"
        );
        let silent = Pod::builder("p").container(Container::new("c", "i"));
        assert_eq!(
            quota.admit(&silent, 1).unwrap_err().to_string(),
            "quota q bounds limits.memory; give each container of the pod one"
        );
    }

    #[test]
    fn who_has_ended_or_is_out_of_scope_does_not_count() {
        let mut done = pod(300);
        done.status.phase = PodPhase::Succeeded;
        let mut quota = quota();
        assert!(quota.usage_of(&done).is_empty());
        quota.spec.scopes = vec![QuotaScope::BestEffort];
        assert!(!quota.covers(&pod(300)) && quota.covers(&Pod::builder("p")));
        quota.spec.scopes = vec![QuotaScope::NotTerminating];
        assert!(quota.covers(&pod(300)));
        let requirement = QuotaScopeRequirement {
            scope_name: QuotaScope::PriorityClass,
            operator: QuotaScopeOperator::In,
            values: vec!["high".into()],
        };
        quota.spec.scope_selector = Some(QuotaScopeSelector {
            match_expressions: vec![requirement],
        });
        let mut high = pod(1);
        assert!(!quota.covers(&high));
        high.spec.priority_class_name = "high".into();
        assert!(quota.covers(&high));
    }

    #[test]
    fn what_cannot_be_counted_is_refused_by_path() {
        let quota = quota()
            .hard("services", Quantity::from_int(3))
            .hard("cpu", Quantity::from_int(-1));
        let text = quota.validate().unwrap_err().to_string();
        assert!(text.contains("spec.hard[services]"), "{text}");
        assert!(text.contains("spec.hard[cpu]"), "{text}");
    }
}

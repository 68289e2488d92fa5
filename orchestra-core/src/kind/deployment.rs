//! A deployment: so many pods of one template, and how they change.

use smol_str::SmolStr;

use super::object_rules::template_meta;
use super::pod::{Container, PodTemplateSpec, RestartPolicy};
use super::rules::Path;
use super::wire::{kind, part, words};
use super::{Invalid, Resource, Scope};
use crate::int_or::IntOrPercent;
use crate::meta::{Condition, ObjectMeta};
use crate::selector::LabelSelector;

kind! {
    /// So many pods of one template, and how they change when the template does.
    pub struct Deployment {
        /// What is asked for.
        pub spec: DeploymentSpec,
        /// What is so.
        pub status: DeploymentStatus,
    }
}

part! {
    /// What is asked of a deployment.
    pub struct DeploymentSpec {
        /// How many pods. Not said is 1.
        pub replicas: Option<u32>,
        /// Which pods are its own; must match the template's labels.
        pub selector: LabelSelector,
        /// What its pods look like.
        pub template: PodTemplateSpec,
        /// How old pods give way to new ones.
        pub strategy: DeploymentStrategy,
        /// How long a pod must be ready before it counts as available, in seconds.
        pub min_ready_seconds: u32,
        /// How many older revisions are kept to go back to. Not said is 10.
        pub revision_history_limit: Option<u32>,
        /// Whether changes of the template wait.
        pub paused: bool,
        /// How long a rollout may make no progress before it counts as failed, in seconds. Not
        /// said is 600.
        pub progress_deadline_seconds: Option<u32>,
    }

    /// How old pods give way to new ones.
    pub struct DeploymentStrategy {
        /// Which way.
        #[serde(rename = "type")]
        pub kind: StrategyType,
        /// The bounds of a rolling update.
        pub rolling_update: Option<RollingUpdate>,
    }

    /// The bounds of a rolling update. Not both zero.
    pub struct RollingUpdate {
        /// How many may be unavailable; a share rounds down. Not said is 25 %.
        pub max_unavailable: Option<IntOrPercent>,
        /// How many there may be above the wanted number; a share rounds up. Not said is 25 %.
        pub max_surge: Option<IntOrPercent>,
    }

    /// The state of a deployment.
    pub struct DeploymentStatus {
        /// The generation of the spec that this speaks of.
        pub observed_generation: u64,
        /// Pods in all.
        pub replicas: u32,
        /// Pods of the newest template.
        pub updated_replicas: u32,
        /// Pods that are ready.
        pub ready_replicas: u32,
        /// Pods that have been ready for `min_ready_seconds`.
        pub available_replicas: u32,
        /// Pods still missing.
        pub unavailable_replicas: u32,
        /// Pods on their way out.
        pub terminating_replicas: Option<u32>,
        /// How often a name for a revision was already taken.
        pub collision_count: Option<u32>,
        /// `Available`, `Progressing` and `ReplicaFailure`.
        pub conditions: Vec<Condition>,
    }
}

words! {
    /// Which way old pods give way to new ones.
    pub enum StrategyType {
        /// A few at a time.
        #[default]
        RollingUpdate = "RollingUpdate",
        /// All old ones go first.
        Recreate = "Recreate",
    }
}

impl Deployment {
    /// The condition: enough pods are available.
    pub const AVAILABLE: &'static str = "Available";
    /// The condition: a rollout goes on, or has come to its end.
    pub const PROGRESSING: &'static str = "Progressing";
    /// The condition: pods cannot be created.
    pub const REPLICA_FAILURE: &'static str = "ReplicaFailure";

    /// A deployment of that name, whose pods are labelled `app` with it.
    pub fn new(name: impl Into<SmolStr>) -> Self {
        let name = name.into();
        Self {
            metadata: ObjectMeta::named(name.clone()),
            ..Self::default()
        }
        .label("app", name)
    }

    /// In that namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<SmolStr>) -> Self {
        self.metadata.namespace = namespace.into();
        self
    }

    /// Adds a label to selector and template.
    #[must_use]
    pub fn label(mut self, key: impl Into<SmolStr>, value: impl Into<SmolStr>) -> Self {
        let (key, value) = (key.into(), value.into());
        self.spec
            .template
            .metadata
            .labels
            .insert(key.clone(), value.clone());
        self.spec.selector.match_labels.insert(key, value);
        self
    }

    /// How many pods.
    #[must_use]
    pub fn replicas(mut self, replicas: u32) -> Self {
        self.spec.replicas = Some(replicas);
        self
    }

    /// Takes the template's spec and adds its labels to those already there. Where the selector
    /// names one of them, it follows.
    #[must_use]
    pub fn template(mut self, template: impl Into<PodTemplateSpec>) -> Self {
        let template = template.into();
        for (key, value) in template.metadata.labels {
            if let Some(selected) = self.spec.selector.match_labels.get_mut(&key) {
                selected.clone_from(&value);
            }
            self.spec.template.metadata.labels.insert(key, value);
        }
        self.spec
            .template
            .metadata
            .annotations
            .extend(template.metadata.annotations);
        self.spec.template.spec = template.spec;
        self
    }

    /// Adds a container to the template.
    #[must_use]
    pub fn container(mut self, container: Container) -> Self {
        self.spec.template.spec.containers.push(container);
        self
    }

    /// A rolling update within those bounds.
    #[must_use]
    pub fn rolling_update(
        mut self,
        max_unavailable: impl Into<IntOrPercent>,
        max_surge: impl Into<IntOrPercent>,
    ) -> Self {
        self.spec.strategy = DeploymentStrategy {
            kind: StrategyType::RollingUpdate,
            rolling_update: Some(RollingUpdate {
                max_unavailable: Some(max_unavailable.into()),
                max_surge: Some(max_surge.into()),
            }),
        };
        self
    }

    /// All old pods go before the first new one comes.
    #[must_use]
    pub fn recreate(mut self) -> Self {
        self.spec.strategy = DeploymentStrategy {
            kind: StrategyType::Recreate,
            rolling_update: None,
        };
        self
    }

    /// How long a pod must be ready before it counts as available.
    #[must_use]
    pub fn min_ready_seconds(mut self, seconds: u32) -> Self {
        self.spec.min_ready_seconds = seconds;
        self
    }
}

impl DeploymentSpec {
    fn check_selector(&self, invalid: &mut Invalid, path: Path<'_>) {
        let at = path.field("selector");
        if self.selector.is_empty() {
            let remedy = "write matchLabels with a label of the template, such as app: web";
            invalid.missing(at, remedy);
            return;
        }
        self.selector.validate(&at.to_string(), invalid);
        if !self.selector.matches(&self.template.metadata.labels) {
            let template = path.field("template");
            let metadata = template.field("metadata");
            invalid.refuse(
                metadata.field("labels"),
                LabelSelector::of(self.template.metadata.labels.clone()),
                format!("does not match spec.selector, {}", self.selector),
                "give the template the labels that the selector asks for",
            );
        }
    }

    /// Its pods live until they are replaced.
    fn check_lives(&self, invalid: &mut Invalid, path: Path<'_>) {
        let pod = &self.template.spec;
        if pod.restart_policy != RestartPolicy::Always {
            let remedy = "write Always, or run it as a Pod of its own";
            let problem = "is not for a Deployment";
            invalid.refuse(
                path.field("restartPolicy"),
                pod.restart_policy,
                problem,
                remedy,
            );
        }
        if let Some(seconds) = pod.active_deadline_seconds {
            let remedy = "leave it out: the pods of a Deployment have no end";
            let problem = "is not for a Deployment";
            invalid.refuse(
                path.field("activeDeadlineSeconds"),
                seconds,
                problem,
                remedy,
            );
        }
    }
}

impl DeploymentStrategy {
    fn check(&self, invalid: &mut Invalid, path: Path<'_>) {
        let at = path.field("rollingUpdate");
        let Some(bounds) = &self.rolling_update else {
            return;
        };
        if self.kind == StrategyType::Recreate {
            let remedy = "leave it out, or write type: RollingUpdate";
            invalid.refuse(at, "", "stands beside type: Recreate", remedy);
        }
        if let Some(IntOrPercent::Percent(percent @ 101..)) = bounds.max_unavailable {
            let remedy = "write 100% or less";
            let value = format!("{percent}%");
            invalid.refuse(
                at.field("maxUnavailable"),
                value,
                "is more than all",
                remedy,
            );
        }
        let zero = |bound: Option<IntOrPercent>| bound.is_some_and(IntOrPercent::is_zero);
        if zero(bounds.max_unavailable) && zero(bounds.max_surge) {
            let remedy = "raise one of them: with both at zero nothing can ever change";
            invalid.refuse(at, "", "has maxUnavailable and maxSurge at zero", remedy);
        }
    }
}

impl Resource for Deployment {
    const API_VERSION: &'static str = "apps/v1";
    const KIND: &'static str = "Deployment";
    const PLURAL: &'static str = "deployments";
    const SCOPE: Scope = Scope::Namespaced;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }

    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
        spec.progress_deadline_seconds.get_or_insert(600);
        if spec.strategy.kind == StrategyType::RollingUpdate {
            let bounds = spec.strategy.rolling_update.get_or_insert_default();
            bounds
                .max_unavailable
                .get_or_insert(IntOrPercent::Percent(25));
            bounds.max_surge.get_or_insert(IntOrPercent::Percent(25));
        }
        spec.template.set_defaults();
    }

    fn validate(&self) -> Result<(), Invalid> {
        let mut invalid = Invalid::new();
        let path = Path::root("spec");
        self.spec.check_selector(&mut invalid, path);
        let template = path.field("template");
        template_meta(
            &mut invalid,
            template.field("metadata"),
            &self.spec.template.metadata,
        );
        self.spec
            .template
            .spec
            .check(&mut invalid, template.field("spec"));
        self.spec.check_lives(&mut invalid, template.field("spec"));
        self.spec
            .strategy
            .check(&mut invalid, path.field("strategy"));
        let deadline = self.spec.progress_deadline_seconds;
        if let Some(deadline) = deadline.filter(|it| *it <= self.spec.min_ready_seconds) {
            let problem = format!(
                "is not above minReadySeconds, {}",
                self.spec.min_ready_seconds
            );
            let remedy = "raise it, or lower minReadySeconds";
            invalid.refuse(
                path.field("progressDeadlineSeconds"),
                deadline,
                problem,
                remedy,
            );
        }
        invalid.into_result()
    }

    fn take_status(&mut self, current: &Self) {
        self.status.clone_from(&current.status);
    }

    fn same_spec(&self, other: &Self) -> bool {
        self.spec == other.spec
    }

    fn same_but_for_status(&self, other: &Self) -> bool {
        self.metadata == other.metadata && self.spec == other.spec
    }
}

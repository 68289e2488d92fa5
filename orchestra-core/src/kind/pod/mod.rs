//! A pod: containers that run together on one node.

mod affinity;
mod container;
mod container_rules;
mod defaults;
mod placement_rules;
mod probe;
mod requests;
mod rules;
mod security;
mod status;
mod toleration;
mod volume;
mod volume_rules;

use smol_str::SmolStr;

use super::rules::Path;
use super::wire::{kind, part, words};
use super::{Invalid, Resource, Scope, accelerator, forecast, gang};
use crate::meta::{Condition, ObjectMeta, condition, condition_holds};
use crate::quantity::ResourceList;
use crate::time::Timestamp;

pub use affinity::{
    Affinity, NodeAffinity, NodeInclusionPolicy, PodAffinity, PodAffinityTerm,
    TopologySpreadConstraint, WeightedPodAffinityTerm, WhenUnsatisfiable,
};
pub(super) use container_rules::target_port;

pub use container::{
    Container, ContainerPort, ContainerResizePolicy, ContainerRestartPolicy, EnvFromSource, EnvVar,
    EnvVarSource, KeySelector, Lifecycle, LifecycleHandler, ObjectFieldSelector, PullPolicy,
    ResourceClaimRef, ResourceFieldSelector, ResourceRequirements, SleepAction, SourceRef,
    TerminationMessagePolicy,
};
pub use defaults::{DEFAULT_TOLERATION_SECONDS, add_default_tolerations};
pub use probe::{
    ExecAction, GrpcAction, HttpGetAction, HttpHeader, Probe, ProbeAction, TcpSocketAction,
    UriScheme,
};
pub use security::{
    Capabilities, PodSecurityContext, SeLinuxOptions, SecurityContext, SecurityProfile, Sysctl,
    WindowsOptions,
};
pub use status::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, IpEntry, PodPhase, PodStatus, QosClass,
};
pub use toleration::{Toleration, TolerationOperator};
pub use volume::{
    ClusterTrustBundleProjection, ConfigMapVolume, CsiVolume, DownwardApiFile,
    DownwardApiProjection, DownwardApiVolume, EmptyDirVolume, EphemeralVolume, HostPathVolume,
    ImageVolume, KeyToPath, LocalObjectReference, MountPropagation, NfsVolume,
    PersistentVolumeClaimSpec, PersistentVolumeClaimTemplate, PersistentVolumeClaimVolume,
    ProjectedVolume, SecretVolume, ServiceAccountTokenProjection, SourceProjection, Volume,
    VolumeDevice, VolumeMount, VolumeProjection, VolumeResources,
};

kind! {
    /// Containers that run together on one node, with one address.
    pub struct Pod {
        /// What is asked for.
        pub spec: PodSpec,
        /// What is so.
        pub status: PodStatus,
    }
}

part! {
    /// What pods made by a controller look like.
    pub struct PodTemplateSpec {
        /// Their labels and annotations.
        pub metadata: ObjectMeta,
        /// What is asked of them.
        pub spec: PodSpec,
    }

    /// What is asked of a pod.
    pub struct PodSpec {
        /// The containers that run to completion one after the other before the main ones start,
        /// and the sidecars.
        pub init_containers: Vec<Container>,
        /// The main containers, at least one.
        pub containers: Vec<Container>,
        /// The volumes that containers mount.
        pub volumes: Vec<Volume>,
        /// When ended containers are started again.
        pub restart_policy: RestartPolicy,
        /// How long a graceful end may take, in seconds. Not said is 30.
        pub termination_grace_period_seconds: Option<u64>,
        /// How long the pod may be active, in seconds from its start.
        pub active_deadline_seconds: Option<u64>,
        /// Where names are looked up.
        pub dns_policy: DnsPolicy,
        /// Details of that.
        pub dns_config: Option<Box<PodDnsConfig>>,
        /// The labels its node must have.
        pub node_selector: crate::meta::Labels,
        /// The account that it acts for.
        pub service_account_name: SmolStr,
        /// An older name of the same.
        pub service_account: SmolStr,
        /// Whether it is given a token of that account.
        pub automount_service_account_token: Option<bool>,
        /// The node it is placed on; empty while it waits.
        pub node_name: SmolStr,
        /// Whether it uses the node's own network.
        pub host_network: bool,
        /// Whether it sees the node's processes.
        #[serde(rename = "hostPID")]
        pub host_pid: bool,
        /// Whether it shares the node's inter-process communication.
        #[serde(rename = "hostIPC")]
        pub host_ipc: bool,
        /// Whether it has the node's users. Not said is yes.
        pub host_users: Option<bool>,
        /// Whether its containers see each other's processes.
        pub share_process_namespace: Option<bool>,
        /// What its containers may do.
        pub security_context: Option<Box<PodSecurityContext>>,
        /// Secrets with which images are fetched.
        pub image_pull_secrets: Vec<LocalObjectReference>,
        /// Its host name; empty is the pod's name.
        pub hostname: SmolStr,
        /// The domain of its host name.
        pub subdomain: SmolStr,
        /// Whether its host name is the fully qualified one.
        #[serde(rename = "setHostnameAsFQDN")]
        pub set_hostname_as_fqdn: Option<bool>,
        /// Where it wants to be.
        pub affinity: Option<Box<Affinity>>,
        /// Who places it; empty is the default scheduler.
        pub scheduler_name: SmolStr,
        /// Which taints do not keep it away.
        pub tolerations: Vec<Toleration>,
        /// Further entries of its hosts file.
        pub host_aliases: Vec<HostAlias>,
        /// The name of its priority.
        pub priority_class_name: SmolStr,
        /// Its priority, from its class: higher goes first.
        pub priority: Option<i32>,
        /// Whether it may take the place of others.
        pub preemption_policy: Option<PreemptionPolicy>,
        /// Further conditions that must hold before it counts as ready.
        pub readiness_gates: Vec<PodReadinessGate>,
        /// Which runtime runs it.
        pub runtime_class_name: SmolStr,
        /// Whether services appear in its environment. Not said is yes.
        pub enable_service_links: Option<bool>,
        /// What it needs beyond its containers.
        pub overhead: ResourceList,
        /// How evenly its like spread over domains.
        pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
        /// While any is here it is not placed.
        pub scheduling_gates: Vec<PodSchedulingGate>,
        /// The operating system it needs.
        pub os: Option<PodOs>,
        /// Claims of devices.
        pub resource_claims: Vec<PodResourceClaim>,
        /// What the pod needs as a whole, and what it may use as a whole.
        pub resources: Option<Box<ResourceRequirements>>,
    }

    /// Where names are looked up.
    pub struct PodDnsConfig {
        /// Servers to ask.
        pub nameservers: Vec<SmolStr>,
        /// Domains to try.
        pub searches: Vec<SmolStr>,
        /// Settings of the resolver.
        pub options: Vec<PodDnsConfigOption>,
    }

    /// A setting of the resolver.
    pub struct PodDnsConfigOption {
        /// Its name.
        pub name: SmolStr,
        /// Its value, if it has one.
        pub value: Option<SmolStr>,
    }

    /// An entry of the hosts file.
    pub struct HostAlias {
        /// The address.
        pub ip: SmolStr,
        /// Its names.
        pub hostnames: Vec<SmolStr>,
    }

    /// A condition that must hold before a pod counts as ready.
    pub struct PodReadinessGate {
        /// Its type.
        pub condition_type: SmolStr,
    }

    /// Keeps a pod from being placed.
    pub struct PodSchedulingGate {
        /// Who keeps it.
        pub name: SmolStr,
    }

    /// An operating system.
    pub struct PodOs {
        /// `linux` or `windows`.
        pub name: SmolStr,
    }

    /// A claim of devices.
    pub struct PodResourceClaim {
        /// Its name within the pod.
        pub name: SmolStr,
        /// The claim.
        pub resource_claim_name: SmolStr,
        /// Or the template of which one is made.
        pub resource_claim_template_name: SmolStr,
    }
}

words! {
    /// When ended containers are started again.
    pub enum RestartPolicy {
        /// Whenever they end.
        #[default]
        Always = "Always",
        /// When they fail.
        OnFailure = "OnFailure",
        /// Not at all.
        Never = "Never",
    }

    /// Whether a pod may take the place of others.
    pub enum PreemptionPolicy {
        /// Of those with a lower priority.
        #[default]
        PreemptLowerPriority = "PreemptLowerPriority",
        /// Of none.
        Never = "Never",
    }

    /// Where names are looked up.
    pub enum DnsPolicy {
        /// In the cluster first.
        #[default]
        ClusterFirst = "ClusterFirst",
        /// In the cluster first, even on the node's own network.
        ClusterFirstWithHostNet = "ClusterFirstWithHostNet",
        /// Where the node does.
        Default = "Default",
        /// Only where `dns_config` says.
        None = "None",
    }
}

impl Pod {
    /// The condition: it has a node.
    pub const SCHEDULED: &'static str = "PodScheduled";
    /// The condition: its init containers have done their part.
    pub const INITIALIZED: &'static str = "Initialized";
    /// The condition: all its containers are ready.
    pub const CONTAINERS_READY: &'static str = "ContainersReady";
    /// The condition: it wants requests.
    pub const READY: &'static str = "Ready";
    /// The condition: it is about to be ended by somebody else than its owner.
    pub const DISRUPTION_TARGET: &'static str = "DisruptionTarget";
    /// The label of a deployment's pods that says which template they are of.
    pub const TEMPLATE_HASH_LABEL: &'static str = "pod-template-hash";
    /// The grace period where nothing is said, in seconds.
    pub const GRACE_SECONDS: u64 = 30;
    /// The scheduler where nothing is said.
    pub const DEFAULT_SCHEDULER: &'static str = "default-scheduler";

    /// A pod of that name, without containers yet.
    pub fn builder(name: impl Into<SmolStr>) -> Self {
        Self {
            metadata: ObjectMeta::named(name),
            ..Self::default()
        }
    }

    /// In that namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<SmolStr>) -> Self {
        self.metadata.namespace = namespace.into();
        self
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, key: impl Into<SmolStr>, value: impl Into<SmolStr>) -> Self {
        self.metadata.labels.insert(key.into(), value.into());
        self
    }

    /// Adds an annotation.
    #[must_use]
    pub fn annotation(mut self, key: impl Into<SmolStr>, value: impl Into<SmolStr>) -> Self {
        self.metadata.annotations.insert(key.into(), value.into());
        self
    }

    /// Adds a main container.
    #[must_use]
    pub fn container(mut self, container: Container) -> Self {
        self.spec.containers.push(container);
        self
    }

    /// Adds an init container.
    #[must_use]
    pub fn init_container(mut self, container: Container) -> Self {
        self.spec.init_containers.push(container);
        self
    }

    /// Adds a sidecar: it runs beside the main containers, from before they start until after
    /// they end.
    #[must_use]
    pub fn sidecar(self, mut container: Container) -> Self {
        container.restart_policy = Some(ContainerRestartPolicy::Always);
        self.init_container(container)
    }

    /// Adds a volume.
    #[must_use]
    pub fn volume(mut self, volume: Volume) -> Self {
        self.spec.volumes.push(volume);
        self
    }

    /// When ended containers are started again.
    #[must_use]
    pub fn restart_policy(mut self, policy: RestartPolicy) -> Self {
        self.spec.restart_policy = policy;
        self
    }

    /// How long a graceful end may take, in seconds.
    #[must_use]
    pub fn grace_seconds(mut self, seconds: u64) -> Self {
        self.spec.termination_grace_period_seconds = Some(seconds);
        self
    }

    /// Only on nodes with that label; may be said several times.
    #[must_use]
    pub fn node_selector(mut self, key: impl Into<SmolStr>, value: impl Into<SmolStr>) -> Self {
        self.spec.node_selector.insert(key.into(), value.into());
        self
    }

    /// On that node, whatever the scheduler thinks.
    #[must_use]
    pub fn on_node(mut self, node: impl Into<SmolStr>) -> Self {
        self.spec.node_name = node.into();
        self
    }

    /// Adds a toleration.
    #[must_use]
    pub fn toleration(mut self, toleration: Toleration) -> Self {
        self.spec.tolerations.push(toleration);
        self
    }

    /// Sets its priority.
    #[must_use]
    pub fn priority(mut self, priority: i32) -> Self {
        self.spec.priority = Some(priority);
        self
    }

    /// The node it is placed on, once it is.
    pub fn node_name(&self) -> Option<&SmolStr> {
        Some(&self.spec.node_name).filter(|name| !name.is_empty())
    }

    /// Whether it wants requests.
    pub fn is_ready(&self) -> bool {
        condition_holds(&self.status.conditions, Self::READY)
    }

    /// Whether every condition that its readiness gates name holds.
    pub fn has_open_gates(&self) -> bool {
        let holds = |kind: &str| condition_holds(&self.status.conditions, kind);
        let mut gates = self.spec.readiness_gates.iter();
        gates.all(|gate| holds(&gate.condition_type))
    }

    /// Whether its deletion was asked for.
    pub fn is_terminating(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Whether it has ended for good: `Succeeded` or `Failed`.
    pub fn is_terminal(&self) -> bool {
        matches!(self.status.phase, PodPhase::Succeeded | PodPhase::Failed)
    }

    /// When it counts as available, if it stays ready: `min_ready_seconds` after it last became
    /// ready. `None` while it is not ready.
    pub fn available_since(&self, min_ready_seconds: u32) -> Option<Timestamp> {
        let ready: &Condition = condition(&self.status.conditions, Self::READY)?;
        if ready.status != crate::meta::ConditionStatus::True {
            return None;
        }
        let span = std::time::Duration::from_secs(min_ready_seconds.into());
        Some(ready.last_transition_time.unwrap_or(Timestamp::EPOCH) + span)
    }

    /// Whether it has been ready for `min_ready_seconds`.
    pub fn is_available(&self, min_ready_seconds: u32, now: Timestamp) -> bool {
        self.available_since(min_ready_seconds)
            .is_some_and(|since| since <= now)
    }
}

impl PodSpec {
    /// Whether both ask for the same, wherever the pods of it may be: all of it is equal but
    /// [`node_name`](Self::node_name).
    pub fn same_but_for_node(&self, other: &Self) -> bool {
        macro_rules! same {
            ($($field:ident)*) => {{
                // Names every field, so that none is forgotten.
                let Self { node_name: _, $($field,)* } = self;
                $(*$field == other.$field)&&*
            }};
        }
        same!(
            init_containers
            containers
            volumes
            restart_policy
            termination_grace_period_seconds
            active_deadline_seconds
            dns_policy
            dns_config
            node_selector
            service_account_name
            service_account
            automount_service_account_token
            host_network
            host_pid
            host_ipc
            host_users
            share_process_namespace
            security_context
            image_pull_secrets
            hostname
            subdomain
            set_hostname_as_fqdn
            affinity
            scheduler_name
            tolerations
            host_aliases
            priority_class_name
            priority
            preemption_policy
            readiness_gates
            runtime_class_name
            enable_service_links
            overhead
            topology_spread_constraints
            scheduling_gates
            os
            resource_claims
            resources
        )
    }
}

impl PodTemplateSpec {
    /// A pod made from it, with nothing but its labels, annotations, finalizers and spec: the
    /// name and the owner are still to be set.
    pub fn to_pod(&self) -> Pod {
        let metadata = ObjectMeta {
            labels: self.metadata.labels.clone(),
            annotations: self.metadata.annotations.clone(),
            finalizers: self.metadata.finalizers.clone(),
            ..ObjectMeta::default()
        };
        Pod {
            metadata,
            spec: self.spec.clone(),
            ..Pod::default()
        }
    }

    /// Fills in what was left out, as for a pod.
    pub(crate) fn set_defaults(&mut self) {
        self.spec.set_defaults();
    }
}

impl From<Pod> for PodTemplateSpec {
    fn from(pod: Pod) -> Self {
        Self {
            metadata: pod.metadata,
            spec: pod.spec,
        }
    }
}

impl Resource for Pod {
    const API_VERSION: &'static str = "v1";
    const KIND: &'static str = "Pod";
    const PLURAL: &'static str = "pods";
    const SCOPE: Scope = Scope::Namespaced;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }

    fn set_defaults(&mut self) {
        self.spec.set_defaults();
    }

    fn validate(&self) -> Result<(), Invalid> {
        let mut invalid = Invalid::new();
        self.spec.check(&mut invalid, Path::root("spec"));
        accelerator::check(&mut invalid, self);
        forecast::check(&mut invalid, self);
        gang::check(&mut invalid, self);
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

//! A container of a pod: what it runs, with what, and how it is looked after.

use smol_str::SmolStr;

use super::probe::{ExecAction, HttpGetAction, Probe, TcpSocketAction};
use super::security::SecurityContext;
use super::volume::{VolumeDevice, VolumeMount};
use crate::kind::service::Protocol;
use crate::kind::wire::{part, words};
use crate::quantity::{Quantity, ResourceList};

part! {
    /// One program of a pod.
    pub struct Container {
        /// Its name, unique within the pod: a DNS label.
        pub name: SmolStr,
        /// What it runs: an image, or the name of a registered task.
        pub image: SmolStr,
        /// When the image is fetched.
        pub image_pull_policy: Option<PullPolicy>,
        /// The program and its first arguments; empty means what the image says. `$(NAME)` stands
        /// for a variable of `env`.
        pub command: Vec<String>,
        /// Further arguments; `$(NAME)` as in `command`.
        pub args: Vec<String>,
        /// Where it starts; empty leaves it to the image.
        pub working_dir: String,
        /// The ports it listens on.
        pub ports: Vec<ContainerPort>,
        /// Whole sources of environment; of two that set one name the later wins, and `env`
        /// wins over all.
        pub env_from: Vec<EnvFromSource>,
        /// Variables, in order; a value may refer to an earlier one as `$(NAME)`.
        pub env: Vec<EnvVar>,
        /// What it needs, and what it may use.
        pub resources: ResourceRequirements,
        /// What happens when a resource of a running container changes.
        pub resize_policy: Vec<ContainerResizePolicy>,
        /// Only for init containers: `Always` makes it a sidecar, which runs beside the main
        /// containers from before they start until after they end.
        pub restart_policy: Option<ContainerRestartPolicy>,
        /// Where the pod's volumes appear.
        pub volume_mounts: Vec<VolumeMount>,
        /// Where the pod's raw volumes appear.
        pub volume_devices: Vec<VolumeDevice>,
        /// Whether it still works; a failure restarts it.
        pub liveness_probe: Option<Box<Probe>>,
        /// Whether it wants requests; a failure takes the pod out of its services.
        pub readiness_probe: Option<Box<Probe>>,
        /// Whether it has started; until then the other probes wait.
        pub startup_probe: Option<Box<Probe>>,
        /// What to do around its life.
        pub lifecycle: Option<Box<Lifecycle>>,
        /// The file whose end would become its exit message. Not read: programs tell by what they
        /// print.
        pub termination_message_path: String,
        /// Whether the end of what it printed becomes its exit message.
        pub termination_message_policy: TerminationMessagePolicy,
        /// What it may do on its host.
        pub security_context: Option<Box<SecurityContext>>,
        /// Whether it has an input.
        pub stdin: bool,
        /// Whether that input closes after the first session.
        pub stdin_once: bool,
        /// Whether it has a terminal.
        pub tty: bool,
    }

    /// A port a container listens on.
    pub struct ContainerPort {
        /// Its name, unique within the container; services may refer to it. May be empty.
        pub name: SmolStr,
        /// The number in the container.
        pub container_port: u16,
        /// The protocol.
        pub protocol: Protocol,
        /// The number on the node; zero for none.
        pub host_port: u16,
        /// At which of the node's addresses; empty is all.
        #[serde(rename = "hostIP")]
        pub host_ip: SmolStr,
    }

    /// A variable of the environment.
    pub struct EnvVar {
        /// Its name.
        pub name: String,
        /// Its value; `$(NAME)` stands for an earlier variable, `$$` for `$`.
        pub value: String,
        /// Where its value comes from instead.
        pub value_from: Option<Box<EnvVarSource>>,
    }

    /// Where the value of a variable comes from. Exactly one is set.
    pub struct EnvVarSource {
        /// A field of the pod.
        pub field_ref: Option<ObjectFieldSelector>,
        /// A resource of a container.
        pub resource_field_ref: Option<ResourceFieldSelector>,
        /// A key of a config map.
        pub config_map_key_ref: Option<KeySelector>,
        /// A key of a secret.
        pub secret_key_ref: Option<KeySelector>,
    }

    /// Names a field of the pod, for instance `metadata.name` or `status.podIP`.
    pub struct ObjectFieldSelector {
        /// The API version of the path; `v1`.
        pub api_version: SmolStr,
        /// The field.
        pub field_path: String,
    }

    /// Names a resource of a container, for instance `limits.cpu`.
    pub struct ResourceFieldSelector {
        /// Which container; needed in volumes.
        pub container_name: SmolStr,
        /// The resource, for instance `requests.memory`.
        pub resource: SmolStr,
        /// The unit: the value is divided by it and rounded up. Zero counts as 1.
        pub divisor: Quantity,
    }

    /// Names a key of a config map or secret.
    pub struct KeySelector {
        /// The config map or secret.
        pub name: SmolStr,
        /// The key in it.
        pub key: SmolStr,
        /// Whether the pod runs without it.
        pub optional: Option<bool>,
    }

    /// A whole source of environment. Exactly one of the two is set.
    pub struct EnvFromSource {
        /// Stands before every name.
        pub prefix: SmolStr,
        /// A config map.
        pub config_map_ref: Option<SourceRef>,
        /// A secret.
        pub secret_ref: Option<SourceRef>,
    }

    /// Names a config map or secret.
    pub struct SourceRef {
        /// Its name.
        pub name: SmolStr,
        /// Whether the pod runs without it.
        pub optional: Option<bool>,
    }

    /// What a container needs, and what it may use.
    pub struct ResourceRequirements {
        /// What it may use at most.
        pub limits: ResourceList,
        /// What it needs: placement counts on it. Where a limit is set and this is not, the limit
        /// counts.
        pub requests: ResourceList,
        /// The claims of the pod that it uses.
        pub claims: Vec<ResourceClaimRef>,
    }

    /// Names a resource claim of the pod.
    pub struct ResourceClaimRef {
        /// The claim.
        pub name: SmolStr,
        /// Which request of the claim; empty is all.
        pub request: SmolStr,
    }

    /// What happens when a resource of a running container changes.
    pub struct ContainerResizePolicy {
        /// The resource.
        pub resource_name: SmolStr,
        /// `NotRequired` or `RestartContainer`.
        pub restart_policy: SmolStr,
    }

    /// What to do around the life of a container.
    pub struct Lifecycle {
        /// Right after its start, beside it. A failure kills the container.
        pub post_start: Option<LifecycleHandler>,
        /// Before it is asked to end; its time counts into the grace period.
        pub pre_stop: Option<LifecycleHandler>,
        /// The signal that asks it to end; empty is what the image says, or `SIGTERM`.
        pub stop_signal: SmolStr,
    }

    /// One thing to do. Exactly one is set.
    pub struct LifecycleHandler {
        /// Run a command in the container.
        pub exec: Option<ExecAction>,
        /// Call it.
        pub http_get: Option<HttpGetAction>,
        /// Does nothing any more; read so that old manifests load.
        pub tcp_socket: Option<TcpSocketAction>,
        /// Wait.
        pub sleep: Option<SleepAction>,
    }

    /// Wait.
    pub struct SleepAction {
        /// How long, in seconds.
        pub seconds: u64,
    }
}

words! {
    /// When an image is fetched.
    pub enum PullPolicy {
        /// If the node has none.
        #[default]
        IfNotPresent = "IfNotPresent",
        /// Before every start.
        Always = "Always",
        /// Not at all: the node must have it.
        Never = "Never",
    }

    /// When an init container is started again.
    pub enum ContainerRestartPolicy {
        /// Whenever it ends: a sidecar.
        #[default]
        Always = "Always",
    }

    /// Where the exit message of a container comes from.
    pub enum TerminationMessagePolicy {
        /// From its driver: how it ended, and no more.
        #[default]
        File = "File",
        /// From the end of what it printed (2,048 bytes, 80 lines at most), if it failed and its
        /// driver keeps that.
        FallbackToLogsOnError = "FallbackToLogsOnError",
    }
}

impl Container {
    /// A container of that name and image. What an image is, its driver says: the name of a task, or
    /// a program (a path, or a name to be found in `PATH`).
    pub fn new(name: impl Into<SmolStr>, image: impl Into<SmolStr>) -> Self {
        Self {
            name: name.into(),
            image: image.into(),
            ..Self::default()
        }
    }

    /// Whether it is a sidecar, if it stands among the init containers.
    pub fn is_sidecar(&self) -> bool {
        self.restart_policy == Some(ContainerRestartPolicy::Always)
    }

    /// Sets the program and its first arguments.
    #[must_use]
    pub fn command<T: Into<String>>(mut self, command: impl IntoIterator<Item = T>) -> Self {
        self.command = command.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the further arguments.
    #[must_use]
    pub fn args<T: Into<String>>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        self.args = args.into_iter().map(Into::into).collect();
        self
    }

    /// Adds an unnamed TCP port.
    #[must_use]
    pub fn port(self, port: u16) -> Self {
        self.named_port("", port)
    }

    /// Adds a TCP port of that name.
    #[must_use]
    pub fn named_port(mut self, name: impl Into<SmolStr>, port: u16) -> Self {
        let port = ContainerPort {
            name: name.into(),
            container_port: port,
            ..ContainerPort::default()
        };
        self.ports.push(port);
        self
    }

    /// Adds a variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let var = EnvVar {
            name: name.into(),
            value: value.into(),
            value_from: None,
        };
        self.env.push(var);
        self
    }

    /// Adds a variable that comes from elsewhere.
    #[must_use]
    pub fn env_from(mut self, name: impl Into<String>, source: EnvVarSource) -> Self {
        let value_from = Some(Box::new(source));
        self.env.push(EnvVar {
            name: name.into(),
            value: String::new(),
            value_from,
        });
        self
    }

    /// Needs that many thousandths of a core.
    #[must_use]
    pub fn cpu_milli(self, milli: u32) -> Self {
        self.request("cpu", Quantity::from_milli(milli.into()))
    }

    /// Needs that many MiB of memory.
    #[must_use]
    pub fn memory_mib(self, mib: u32) -> Self {
        self.request("memory", Quantity::from_bytes(i64::from(mib) << 20))
    }

    /// Needs that much of a resource.
    #[must_use]
    pub fn request(mut self, name: impl Into<SmolStr>, amount: Quantity) -> Self {
        self.resources.requests.insert(name.into(), amount);
        self
    }

    /// May use that much of a resource.
    #[must_use]
    pub fn limit(mut self, name: impl Into<SmolStr>, amount: Quantity) -> Self {
        self.resources.limits.insert(name.into(), amount);
        self
    }

    /// Shows a volume of the pod at `path`.
    #[must_use]
    pub fn mount(mut self, volume: impl Into<SmolStr>, path: impl Into<String>) -> Self {
        self.volume_mounts.push(VolumeMount {
            name: volume.into(),
            mount_path: path.into(),
            ..VolumeMount::default()
        });
        self
    }

    /// Is restarted when this fails.
    #[must_use]
    pub fn liveness(mut self, probe: Probe) -> Self {
        self.liveness_probe = Some(Box::new(probe));
        self
    }

    /// Leaves its services while this fails.
    #[must_use]
    pub fn readiness(mut self, probe: Probe) -> Self {
        self.readiness_probe = Some(Box::new(probe));
        self
    }

    /// Has started once this passes.
    #[must_use]
    pub fn startup(mut self, probe: Probe) -> Self {
        self.startup_probe = Some(Box::new(probe));
        self
    }

    /// Does this before it is asked to end.
    #[must_use]
    pub fn pre_stop(mut self, handler: LifecycleHandler) -> Self {
        self.lifecycle.get_or_insert_default().pre_stop = Some(handler);
        self
    }

    /// Does this right after its start.
    #[must_use]
    pub fn post_start(mut self, handler: LifecycleHandler) -> Self {
        self.lifecycle.get_or_insert_default().post_start = Some(handler);
        self
    }
}

impl EnvVarSource {
    /// A key of a config map.
    pub fn config_map(name: impl Into<SmolStr>, key: impl Into<SmolStr>) -> Self {
        let key = KeySelector {
            name: name.into(),
            key: key.into(),
            optional: None,
        };
        Self {
            config_map_key_ref: Some(key),
            ..Self::default()
        }
    }

    /// A key of a secret.
    pub fn secret(name: impl Into<SmolStr>, key: impl Into<SmolStr>) -> Self {
        let key = KeySelector {
            name: name.into(),
            key: key.into(),
            optional: None,
        };
        Self {
            secret_key_ref: Some(key),
            ..Self::default()
        }
    }

    /// A field of the pod, for instance `status.podIP`.
    pub fn field(path: impl Into<String>) -> Self {
        let field = ObjectFieldSelector {
            field_path: path.into(),
            ..Default::default()
        };
        Self {
            field_ref: Some(field),
            ..Self::default()
        }
    }
}

impl LifecycleHandler {
    /// Runs a command in the container.
    pub fn exec<T: Into<String>>(command: impl IntoIterator<Item = T>) -> Self {
        let command = command.into_iter().map(Into::into).collect();
        Self {
            exec: Some(ExecAction { command }),
            ..Self::default()
        }
    }

    /// Waits.
    pub fn sleep(seconds: u64) -> Self {
        Self {
            sleep: Some(SleepAction { seconds }),
            ..Self::default()
        }
    }
}

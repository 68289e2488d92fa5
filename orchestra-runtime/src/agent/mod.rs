//! A pod's life on one node.
//!
//! An [`Agent`] says that its node is there, watches for the pods bound to it, and runs each one's
//! whole life: a place and volumes, init containers, containers under their driver and probes,
//! restarts, status; and at the end, in order: out of the services, in-flight work, preStop,
//! SIGTERM, grace, SIGKILL. After a restart of the host program it adopts what still runs.

mod container;
mod env;
mod heartbeat;
mod life;
mod pod;
mod status;
mod stop;
mod usage;
mod view;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use orchestra_core::error::report;
use orchestra_core::kind::{Node, Pod, Resource, gang};
use orchestra_core::meta::Uid;
use orchestra_core::port::driver::{Observed, WorkloadDriver};
use orchestra_core::port::probe::Prober;
use orchestra_core::port::secret::SecretProvider;
use orchestra_sched::health::backoff::BackoffPolicy;
use orchestra_sched::health::nodes::NodePolicy;
use smol_str::SmolStr;
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

pub use heartbeat::LEASE_NAMESPACE;
pub(crate) use status::NODE_NOT_READY;
pub use view::{CachedView, NodeView};

use crate::api::Client;
use crate::cache::Signal;
use crate::events::Recorder;
use crate::loops::pod_range;
use crate::net::address::{AddressRange, LoopbackSpan, PodAddress, PodAddresses};
use crate::net::ports::listens;
use crate::net::traffic::Traffic;
use crate::probe::{Foresight, ProbeWheel, WheelHandle, WheelLimits};
use env::ConfigError;
use heartbeat::Heartbeat;
use pod::Wish;
use usage::Sampler;
use volumes::VolumeHost;

/// How long a driver that could not say what runs rests before it is asked again.
const SURVEY_RETRY: Duration = Duration::from_secs(1);

/// What runs workloads on a node, and what looks at them.
#[derive(Clone, Debug)]
pub struct Engine {
    /// Runs them.
    pub driver: Arc<dyn WorkloadDriver>,
    /// Probes them.
    pub prober: Arc<dyn Prober>,
    /// Knows ahead how probes end, where anybody can: in a simulation.
    pub foresight: Option<Arc<dyn Foresight>>,
}

/// How an agent behaves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AgentSettings {
    /// How often the node says that it is there, and for how long it may be silent.
    pub node_policy: NodePolicy,
    /// How long to wait between restarts of a container.
    pub restart_backoff: BackoffPolicy,
    /// How long connections of a pod that ends may go on before it is told to stop; never longer
    /// than the pod's grace. 5 s by default.
    pub drain_max: Duration,
    /// The longest grace of a pod when the agent itself ends. 10 s by default.
    pub shutdown_grace_max: Duration,
    /// Whether workloads end with the agent. If not they are left for the next agent to adopt.
    /// True by default.
    pub stop_workloads: bool,
    /// Where volumes are made; `None` if no driver here uses files.
    pub volumes: Option<PathBuf>,
    /// The driver of pods that name none.
    pub default_engine: SmolStr,
    /// The address of this host.
    pub host_ip: IpAddr,
    /// How much of the loopback range this host answers for.
    pub span: LoopbackSpan,
    /// The bounds of the probe wheels.
    pub wheel: WheelLimits,
    /// How often it is looked at what the node's workloads use, to be noted on the node's object
    /// for schedulers that go by it (see [`kind::usage`](orchestra_core::kind::usage)); `None`,
    /// the default, if nobody wants to know.
    pub usage_every: Option<Duration>,
}

impl Default for AgentSettings {
    fn default() -> Self {
        Self {
            node_policy: NodePolicy::default(),
            restart_backoff: BackoffPolicy::default(),
            drain_max: Duration::from_secs(5),
            shutdown_grace_max: Duration::from_secs(10),
            stop_workloads: true,
            volumes: None,
            default_engine: SmolStr::default(),
            host_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            span: LoopbackSpan::Whole,
            wheel: WheelLimits::default(),
            usage_every: None,
        }
    }
}

/// What an agent works with.
#[derive(Clone, Debug)]
pub struct AgentParts {
    /// For writing status, and for reading configuration.
    pub client: Client,
    /// What the agent sees of the cluster.
    pub view: Arc<dyn NodeView>,
    /// The engines, by the `runtimeClassName` of the pods they run.
    pub engines: BTreeMap<SmolStr, Engine>,
    /// Where secrets come from.
    pub secrets: Arc<dyn SecretProvider>,
    /// Who sends traffic to pods.
    pub traffic: Arc<dyn Traffic>,
    /// Where events go.
    pub events: Recorder,
}

/// An engine with its wheel.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) driver: Arc<dyn WorkloadDriver>,
    pub(crate) prober: Arc<dyn Prober>,
    pub(crate) probes: WheelHandle,
}

/// What all pods of an agent share.
pub(crate) struct Parts {
    pub(crate) client: Client,
    pub(crate) view: Arc<dyn NodeView>,
    engines: BTreeMap<SmolStr, Running>,
    pub(crate) secrets: Arc<dyn SecretProvider>,
    pub(crate) traffic: Arc<dyn Traffic>,
    pub(crate) events: Recorder,
    pub(crate) settings: AgentSettings,
    pub(crate) volumes: Option<VolumeHost>,
    /// How often the node was made ready: each time its pods tell anew how they are.
    pub(crate) registered: Signal,
    places: Mutex<Option<Places>>,
}

/// Who has which address here.
struct Places {
    free: PodAddresses,
    held: BTreeMap<Uid, PodAddress>,
}

impl Places {
    /// Those of a node with that range. Pods that had an address before keep it, so that none of
    /// them loses it to a newcomer while it is adopted.
    fn new(range: AddressRange, span: LoopbackSpan, pods: &[Arc<Pod>]) -> Self {
        let mut free = PodAddresses::new(range, span);
        let mut held = BTreeMap::new();
        for pod in pods.iter().filter(|pod| !pod.is_terminal()) {
            let Some(ip) = pod.status.pod_ip else {
                continue;
            };
            let listens = |port| (port, listens(pod, port));
            let ports = ports(pod).into_iter().map(listens).collect();
            let place = PodAddress { ip, ports };
            if free.adopt(&place).is_ok() {
                held.insert(pod.metadata.uid, place);
            }
        }
        Self { free, held }
    }
}

fn ports(pod: &Pod) -> Vec<u16> {
    let containers = pod.spec.containers.iter();
    containers
        .flat_map(|container| &container.ports)
        .map(|port| port.container_port)
        .collect()
}

impl Parts {
    pub(crate) fn engine(&self, pod: &Pod) -> Option<Running> {
        let asked = &pod.spec.runtime_class_name;
        let name = if asked.is_empty() {
            &self.settings.default_engine
        } else {
            asked
        };
        self.engines.get(name).cloned()
    }

    pub(crate) fn engine_names(&self) -> String {
        self.engines
            .keys()
            .map(SmolStr::as_str)
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// A place for the pod: the one it has, if it has one. It keeps it until
    /// [`release`](Self::release).
    pub(crate) fn place(&self, pod: &Pod) -> Result<PodAddress, ConfigError> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let places = match places.as_mut() {
            Some(places) => places,
            None => {
                let range = self
                    .view
                    .node()
                    .as_deref()
                    .and_then(pod_range)
                    .ok_or_else(|| {
                        ConfigError::new(
                            "the node has no range of addresses yet",
                            "it is tried again",
                        )
                    })?;
                let pods = self.view.pods();
                places.insert(Places::new(range, self.settings.span, &pods))
            }
        };
        if let Some(place) = places.held.get(&pod.metadata.uid) {
            return Ok(place.clone());
        }
        let place = places
            .free
            .assign(&ports(pod))
            .map_err(|error| ConfigError::new(error.to_string(), "it is tried again"))?;
        places.held.insert(pod.metadata.uid, place.clone());
        Ok(place)
    }

    /// Gives back what a pod had. Idempotent.
    pub(crate) async fn release(&self, pod: &Pod) {
        {
            let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(places) = places.as_mut()
                && let Some(place) = places.held.remove(&pod.metadata.uid)
            {
                places.free.release(&place);
            }
        }
        if let Some(volumes) = &self.volumes {
            volumes.remove(pod).await;
        }
    }
}

/// Runs the pods of one node.
pub struct Agent {
    node: Node,
    parts: Arc<Parts>,
    wheels: Vec<ProbeWheel>,
}

impl Agent {
    /// An agent of `node`, whose object it creates with this spec and capacity if it does not
    /// exist.
    pub fn new(node: Node, parts: AgentParts, settings: AgentSettings) -> Self {
        let mut wheels = Vec::new();
        let engines = parts
            .engines
            .into_iter()
            .map(|(name, engine)| {
                let clock = parts.client.clock().clone();
                let mut wheel = ProbeWheel::new(engine.prober.clone(), clock, settings.wheel);
                if let Some(foresight) = engine.foresight {
                    wheel = wheel.foreseeing(foresight);
                }
                let probes = wheel.handle();
                wheels.push(wheel);
                (
                    name,
                    Running {
                        driver: engine.driver,
                        prober: engine.prober,
                        probes,
                    },
                )
            })
            .collect();
        let volumes = settings.volumes.clone().map(VolumeHost::new);
        let parts = Parts {
            client: parts.client,
            view: parts.view,
            engines,
            secrets: parts.secrets,
            traffic: parts.traffic,
            events: parts.events,
            settings,
            volumes,
            registered: Signal::default(),
            places: Mutex::default(),
        };
        Self {
            node,
            parts: Arc::new(parts),
            wheels,
        }
    }

    /// Runs until cancelled, then ends its workloads in order (unless they are to be left), and
    /// gives up its lease.
    pub async fn run(self, cancel: CancellationToken) {
        let Self {
            node,
            parts,
            wheels,
        } = self;
        let turning = CancellationToken::new();
        let mut turns = JoinSet::new();
        for wheel in wheels {
            turns.spawn(wheel.run(turning.clone()));
        }
        let view = parts.view.clone();
        let mut heartbeat = Heartbeat {
            client: &parts.client,
            view: view.as_ref(),
            node: &node,
            settings: &parts.settings,
            registered: &parts.registered,
            lease: None,
            in_doubt: false,
        };
        let drivers = parts.engines.values().map(|engine| engine.driver.clone());
        let (name, every) = (&node.metadata.name, parts.settings.usage_every);
        let mut sampler = Sampler::new(&parts.client, name, drivers.collect(), every);
        let mut pods = Pods {
            parts: &parts,
            workers: BTreeMap::new(),
            tasks: JoinSet::new(),
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => {}
            () = pods.follow() => {}
            () = heartbeat.run() => {}
            () = sampler.run() => {}
        }
        tokio::select! {
            biased;
            () = pods.end() => {}
            () = heartbeat.run() => {}
        }
        heartbeat.end().await;
        turning.cancel();
        while turns.join_next().await.is_some() {}
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("node", &self.node.metadata.name)
            .finish_non_exhaustive()
    }
}

/// The pods of a node, each with its task.
struct Pods<'a> {
    parts: &'a Arc<Parts>,
    workers: BTreeMap<Uid, Worker>,
    tasks: JoinSet<()>,
}

struct Worker {
    wish: watch::Sender<Wish>,
    task: Id,
}

impl Pods<'_> {
    /// Follows the view for ever.
    async fn follow(&mut self) {
        self.parts.view.changed().await;
        let mut found = self.survey().await;
        loop {
            self.update(&mut found);
            tokio::select! {
                biased;
                Some(ended) = self.tasks.join_next_with_id() => {
                    if self.forget(ended) {
                        // What the keeper kept goes on without it, and is to be found again.
                        found = self.survey().await;
                    }
                }
                () = self.parts.view.changed() => {}
            }
        }
    }

    /// What runs already, by pod; what runs without a pod is stopped. Waits for drivers that do
    /// not answer: nothing is started before it is known what runs.
    async fn survey(&self) -> BTreeMap<Uid, BTreeMap<SmolStr, Observed>> {
        let mut found: BTreeMap<Uid, BTreeMap<SmolStr, Observed>> = BTreeMap::new();
        for engine in self.parts.engines.values() {
            let survey = loop {
                match engine.driver.survey().await {
                    Ok(survey) => break survey,
                    Err(error) => {
                        let node = self.parts.view.node();
                        let node = node.as_ref().map_or("", |node| &node.metadata.name);
                        tracing::warn!(node, error = %report(&error), "survey failed");
                    }
                }
                tokio::time::sleep(SURVEY_RETRY).await;
            };
            // Pods that have ended run nothing any more, whatever their drivers remember.
            let pods = self.parts.view.pods();
            let uids: BTreeSet<Uid> = pods
                .iter()
                .filter(|pod| !pod.is_terminal())
                .map(|pod| pod.metadata.uid)
                .chain(self.workers.keys().copied())
                .collect();
            for observed in stop::stop_strays(engine, survey, &uids).await {
                let of_pod = found.entry(observed.id.pod).or_default();
                of_pod.insert(observed.id.container.clone(), observed);
            }
        }
        found
    }

    fn update(&mut self, found: &mut BTreeMap<Uid, BTreeMap<SmolStr, Observed>>) {
        let pods = self.parts.view.pods();
        let seen: BTreeSet<Uid> = pods.iter().map(|pod| pod.metadata.uid).collect();
        for (uid, worker) in &self.workers {
            if !seen.contains(uid) {
                worker.wish.send_if_modified(|wish| {
                    let news = !matches!(wish, Wish::Gone);
                    *wish = Wish::Gone;
                    news
                });
            }
        }
        for pod in pods {
            let uid = pod.metadata.uid;
            if let Some(worker) = self.workers.get(&uid) {
                // Only those whose pod changed wake up.
                worker.wish.send_if_modified(|wish| {
                    if matches!(wish, Wish::Follow(old) if Arc::ptr_eq(old, &pod)) {
                        return false;
                    }
                    *wish = Wish::Follow(pod);
                    true
                });
                continue;
            }
            // One that ended is only looked at again to be removed; and of one that waits for its gang,
            // which may be taken away again, nothing begins.
            let rests = pod.is_terminal() || gang::gate(&pod).is_some();
            if rests && !pod.is_terminating() {
                continue;
            }
            let (wish, wishes) = watch::channel(Wish::Follow(pod.clone()));
            let ran = found.remove(&uid).unwrap_or_default();
            let span = tracing::debug_span!("pod", pod = %pod.key(), node = %pod.spec.node_name);
            let life = pod::run(self.parts.clone(), pod, wishes, ran);
            let task = self.tasks.spawn(life.instrument(span)).id();
            self.workers.insert(uid, Worker { wish, task });
        }
    }

    /// Whether it ended before its time.
    fn forget(&mut self, ended: Result<(Id, ()), tokio::task::JoinError>) -> bool {
        let (id, early) = match ended {
            Ok((id, ())) => (id, false),
            Err(panic) => {
                tracing::error!(error = %panic, "a pod's keeper panicked; it begins anew");
                (panic.id(), true)
            }
        };
        self.workers.retain(|_, worker| worker.task != id);
        early
    }

    /// Ends every pod's task, and its workloads unless they are to be left.
    async fn end(&mut self) {
        if self.parts.settings.stop_workloads {
            for worker in self.workers.values() {
                worker.wish.send_replace(Wish::Shutdown);
            }
            while self.tasks.join_next().await.is_some() {}
        } else {
            self.tasks.shutdown().await;
        }
    }
}

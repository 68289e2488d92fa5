//! Saying what an orchestra is made of.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use orchestra_core::kind::{Invalid, Node, Pod, validate_object};
use orchestra_core::port::clock::Clock;
use orchestra_core::port::driver::{DriverError, WorkloadDriver};
use orchestra_core::port::meter::Meter;
use orchestra_core::port::probe::Prober;
use orchestra_core::port::registry::ServiceRegistry;
use orchestra_core::port::secret::SecretProvider;
use orchestra_core::port::store::StateStore;
use orchestra_sched::place::{Ballot, Framework, Scheduler, Shadow};
use smol_str::SmolStr;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::engines::{EngineKind, MadeDriver, MakeProber};
use super::{Orchestra, Tasks, host, run_folder};
use crate::agent::{Agent, AgentParts, AgentSettings, CachedView};
use crate::api::{
    Admission, Client, GateAdmission, PriorityAdmission, QuotaAdmission, TolerationAdmission,
};
use crate::clock::TokioClock;
use crate::control_plane::{ControlPlane, ControlSettings};
use crate::driver::task::{TaskContext, TaskDriver, TaskDriverBuilder, TaskError};
use crate::events::recorder;
use crate::ids::Ids;
use crate::loops::{Listening, serve};
use crate::net::address::AddressPlan;
use crate::net::l4::{L4Limits, L4Proxy};
use crate::net::traffic::ServiceTraffic;
use crate::secret::StoreSecrets;
use crate::store::MemoryStore;

/// How long clients may take at the end to read what ended workloads have sent.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// The runtime class of pods whose containers are async functions of the app.
pub const TASK: &str = "task";

/// The runtime class of pods whose containers are processes.
pub const PROCESS: &str = "process";

/// Collects what an [`Orchestra`] is made of. All of it has a default but one: say what runs
/// workloads, with [`task`](Self::task), [`processes`](Self::processes) or
/// [`driver`](Self::driver).
#[must_use = "a builder does nothing until it is started"]
pub struct Builder {
    store: Option<Arc<dyn StateStore>>,
    clock: Option<Arc<dyn Clock>>,
    seed: Option<u64>,
    nodes: Vec<Node>,
    tasks: Option<TaskDriverBuilder>,
    engines: BTreeMap<SmolStr, EngineKind>,
    probers: BTreeMap<SmolStr, MakeProber>,
    default_engine: Option<SmolStr>,
    /// The folder of this run, if none was named.
    own_folder: Option<PathBuf>,
    secrets: Option<Arc<dyn SecretProvider>>,
    registry: Option<Arc<dyn ServiceRegistry>>,
    admission: Vec<Arc<dyn Admission>>,
    control: ControlSettings,
    agent: AgentSettings,
    proxy: Option<L4Limits>,
    addresses: Option<AddressPlan>,
    shadow: Option<Arc<dyn Scheduler>>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("nodes", &self.nodes.len())
            .field("engines", &self.engines)
            .field("default_engine", &self.default_engine)
            .finish_non_exhaustive()
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            store: None,
            clock: None,
            seed: None,
            nodes: Vec::new(),
            tasks: None,
            engines: BTreeMap::new(),
            probers: BTreeMap::new(),
            default_engine: None,
            own_folder: None,
            secrets: None,
            registry: None,
            admission: Vec::new(),
            control: ControlSettings::default(),
            agent: AgentSettings::default(),
            proxy: Some(L4Limits::default()),
            addresses: None,
            shadow: None,
        }
    }
}

impl Builder {
    /// Where state lives: a [`MemoryStore`] unless told otherwise.
    pub fn store(mut self, store: Arc<dyn StateStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// The clock: the wall's time unless told otherwise. It must go at the pace of tokio's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Where uids, names and ties come from: chance unless told otherwise.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Adds a node of this process. Without any there is one, `local`, with what this host has.
    pub fn node(mut self, node: Node) -> Self {
        self.nodes.push(node);
        self
    }

    /// Registers an async function of the app, to be run by pods whose container has `name` as
    /// its image. See [`TaskDriverBuilder::task`].
    pub fn task<F, W>(mut self, name: impl Into<SmolStr>, task: F) -> Self
    where
        F: Fn(TaskContext) -> W + Send + Sync + 'static,
        W: Future<Output = Result<(), TaskError>> + Send + 'static,
    {
        let tasks = self.tasks.take().unwrap_or_else(TaskDriver::builder);
        self.tasks = Some(tasks.task(name, task));
        self.choose(TASK)
    }

    /// Registers a check, which `exec` probes of tasks run by its name. See
    /// [`TaskDriverBuilder::check`].
    pub fn check<F, W>(mut self, name: impl Into<SmolStr>, check: F) -> Self
    where
        F: Fn(TaskContext) -> W + Send + Sync + 'static,
        W: Future<Output = Result<(), TaskError>> + Send + 'static,
    {
        let tasks = self.tasks.take().unwrap_or_else(TaskDriver::builder);
        self.tasks = Some(tasks.check(name, check));
        self.choose(TASK)
    }

    /// Runs containers as processes, with what they print and other state in a folder of this run
    /// below the system's temporary folder, `orchestra-`*pid*. Nothing is left of that once it has
    /// stopped. What a run of this user left there because it was killed is ended at the next start.
    pub fn processes(mut self) -> Self {
        let folder = run_folder::own();
        self.own_folder = Some(folder.clone());
        self.processes_in(folder)
    }

    /// Runs containers as processes, with state in `folder`. With a durable store and
    /// [`leave_workloads`](Self::leave_workloads), what runs there is adopted after a restart.
    pub fn processes_in(mut self, folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        self.agent.volumes = Some(folder.join("volumes"));
        self.engines
            .insert(PROCESS.into(), EngineKind::Processes(folder));
        self.choose(PROCESS)
    }

    /// Runs pods of the runtime class `name` under drivers that `make` makes, one for each node,
    /// which is given by its name.
    pub fn driver(
        mut self,
        name: impl Into<SmolStr>,
        make: impl Fn(&str) -> Arc<dyn WorkloadDriver> + Send + Sync + 'static,
    ) -> Self {
        let name = name.into();
        self.engines
            .insert(name.clone(), EngineKind::Custom(Arc::new(make)));
        self.choose(name)
    }

    /// Probes pods of the runtime class `name` with probers that `make` makes, one for each node,
    /// which is given by its name, with the driver that runs them. Without it they are
    /// [`Probers::standard`](crate::probe::Probers::standard), which `make` can build upon.
    pub fn prober(
        mut self,
        name: impl Into<SmolStr>,
        make: impl Fn(&str, Arc<dyn WorkloadDriver>) -> Arc<dyn Prober> + Send + Sync + 'static,
    ) -> Self {
        self.probers.insert(name.into(), Arc::new(make));
        self
    }

    /// The runtime class of pods that name none: the first that was given, unless told otherwise.
    pub fn default_driver(mut self, name: impl Into<SmolStr>) -> Self {
        self.default_engine = Some(name.into());
        self
    }

    /// Where pods go that name no scheduler. A [`Switch`](orchestra_sched::place::Switch) can be
    /// exchanged for another while the orchestra runs.
    pub fn scheduler(self, scheduler: Arc<dyn Scheduler>) -> Self {
        self.scheduler_named(Pod::DEFAULT_SCHEDULER, scheduler)
    }

    /// Where pods go whose `schedulerName` is `name`. Schedulers place side by side: where two
    /// want the same node at once, one of them plans anew.
    pub fn scheduler_named(
        mut self,
        name: impl Into<SmolStr>,
        scheduler: Arc<dyn Scheduler>,
    ) -> Self {
        self.control.schedulers.insert(name.into(), scheduler);
        self
    }

    /// Asks `shadow` whatever the scheduler of pods that name none is asked, without following
    /// it. Where they differ is told to `tracing` at debug level, and counted by the
    /// [`meter`](Self::meter) as `placement_shadow_agreed` and `placement_shadow_differed`. For a
    /// report of one's own give [`scheduler`](Self::scheduler) a
    /// [`Shadow`](orchestra_sched::place::Shadow).
    pub fn shadow_scheduler(mut self, shadow: Arc<dyn Scheduler>) -> Self {
        self.shadow = Some(shadow);
        self
    }

    /// Where secrets come from: the Secret objects of the store unless told otherwise.
    pub fn secrets(mut self, secrets: Arc<dyn SecretProvider>) -> Self {
        self.secrets = Some(secrets);
        self
    }

    /// Where endpoints are published: endpoint slices in the store unless told otherwise.
    pub fn registry(mut self, registry: Arc<dyn ServiceRegistry>) -> Self {
        self.registry = Some(registry);
        self
    }

    /// Adds a hook that changes or refuses writes, after those before it: [`PriorityAdmission`],
    /// [`TolerationAdmission`] and [`GateAdmission`] are always there, and first, [`QuotaAdmission`] last.
    pub fn admission(mut self, hook: Arc<dyn Admission>) -> Self {
        self.admission.push(hook);
        self
    }

    /// Where numbers go.
    pub fn meter(mut self, meter: Arc<dyn Meter>) -> Self {
        self.control.meter = meter;
        self
    }

    /// How the controllers decide.
    pub fn control(mut self, change: impl FnOnce(&mut ControlSettings)) -> Self {
        change(&mut self.control);
        self
    }

    /// How the agents behave.
    pub fn agent(mut self, change: impl FnOnce(&mut AgentSettings)) -> Self {
        change(&mut self.agent);
        self
    }

    /// How long connections of a pod that ends may go on before it is told to stop: 5 s unless
    /// told otherwise.
    pub fn drain_max(mut self, drain: Duration) -> Self {
        self.agent.drain_max = drain;
        self
    }

    /// Leaves workloads running when the orchestra stops, for the next one to adopt. Needs a
    /// durable store and a driver that can.
    pub fn leave_workloads(mut self) -> Self {
        self.agent.stop_workloads = false;
        self
    }

    /// The bounds of the service proxy; `None` for no proxy at all.
    pub fn proxy(mut self, limits: Option<L4Limits>) -> Self {
        self.proxy = limits;
        self
    }

    /// Which addresses pods and services get: all of the default ranges, as far as this host
    /// answers for them, unless told otherwise. Two orchestras on one host need plans that do not
    /// meet, such as two [shares](AddressPlan::share).
    pub fn addresses(mut self, plan: AddressPlan) -> Self {
        self.addresses = Some(plan);
        self
    }

    /// Starts everything, and returns once the caches are filled and every node is registered.
    ///
    /// # Errors
    ///
    /// [`StartError`], naming what is missing and the remedy. Nothing is left running.
    pub async fn start(self) -> Result<Orchestra, StartError> {
        self.boxed_start().await
    }

    /// Makes the compiler generate everything that an orchestra runs here, once, and not anew in
    /// each program that starts one: futures are generated where they are boxed or polled.
    fn boxed_start(self) -> Pin<Box<dyn Future<Output = Result<Orchestra, StartError>> + Send>> {
        Box::pin(self.start_all())
    }

    async fn start_all(mut self) -> Result<Orchestra, StartError> {
        if let Some(tasks) = self.tasks.take() {
            self.engines.insert(TASK.into(), EngineKind::Tasks(tasks));
        }
        let Some(default_engine) = self.default_engine.take() else {
            return Err(StartError::NoDriver);
        };
        let probed = self.probers.keys();
        for name in std::iter::once(&default_engine).chain(probed) {
            if !self.engines.contains_key(name) {
                return Err(StartError::UnknownDriver(name.clone()));
            }
        }
        self.agent.default_engine = default_engine;
        let detected = || AddressPlan::default().on_this_host();
        self.control.addresses = self.addresses.unwrap_or_else(detected);
        self.agent.span = self.control.addresses.span();
        let store = self
            .store
            .take()
            .unwrap_or_else(|| Arc::new(MemoryStore::new()));
        if store.leases().is_none() {
            return Err(StartError::NoLeases);
        }
        let clock = self
            .clock
            .take()
            .unwrap_or_else(|| Arc::new(TokioClock::wall()));
        let ids = Arc::new(self.seed.map_or_else(Ids::random, Ids::seeded));
        let priority = PriorityAdmission::new(store.clone(), clock.clone());
        let quota = QuotaAdmission::new(store.clone(), clock.clone());
        let mut admission: Vec<Arc<dyn Admission>> = vec![
            Arc::new(priority),
            Arc::new(TolerationAdmission),
            Arc::new(GateAdmission),
        ];
        admission.append(&mut self.admission);
        // Last, so that it counts what the others make of a pod.
        admission.push(Arc::new(quota));
        let client = Client::new(store.clone(), clock.clone(), ids).with_admission(admission);
        let (events, writer) = recorder(&client, "orchestra");
        self.control.seed = self.seed.unwrap_or(0);
        let scheduler = self.control.schedulers.get(Pod::DEFAULT_SCHEDULER).cloned();
        let scheduler = scheduler.unwrap_or_else(|| Arc::new(Framework::default()));
        let schedulers = self.control.schedulers.clone();
        if let Some(shadow) = self.shadow.take() {
            let real = self.control.schedulers.entry(Pod::DEFAULT_SCHEDULER.into());
            let meter = self.control.meter.clone();
            let report = move |ballot: &Ballot| tell_ballot(meter.as_ref(), ballot);
            real.and_modify(|real| *real = Arc::new(Shadow::new(real.clone(), shadow, report)));
        }
        let plane = ControlPlane::new(&client, self.control.clone(), &events, self.registry.take());
        let caches = plane.caches().clone();
        let registry = plane.registry().clone();
        let proxy = self
            .proxy
            .map(|limits| L4Proxy::new(registry.clone(), limits));
        let traffic =
            ServiceTraffic::new(caches.slices.clone(), proxy.as_ref().map(L4Proxy::handle));
        let secrets = self
            .secrets
            .take()
            .unwrap_or_else(|| Arc::new(StoreSecrets::new(store.clone())));

        let mut nodes = std::mem::take(&mut self.nodes);
        if nodes.is_empty() {
            nodes.push(host::node("local"));
        }
        check_nodes(&nodes)?;
        if let Some(folder) = &self.own_folder {
            run_folder::sweep().await;
            if !self.agent.stop_workloads
                && let Err(error) = run_folder::leave(folder)
            {
                tracing::warn!(folder = %folder.display(), %error, "the next run will end what this one leaves");
            }
        }
        let mut drivers = Vec::new();
        let mut agents = Vec::new();
        for node in &nodes {
            let name = node.metadata.name.clone();
            let mut engines = BTreeMap::new();
            for (class, kind) in &self.engines {
                let made = kind.make(&name, &clock, self.probers.get(class)).await;
                let (engine, driver) = match made {
                    Ok(made) => made,
                    Err(error) => {
                        for made in drivers {
                            MadeDriver::shutdown(made).await;
                        }
                        return Err(StartError::Driver { node: name, error });
                    }
                };
                engines.insert(class.clone(), engine);
                drivers.push(driver);
            }
            let parts = AgentParts {
                client: client.clone(),
                view: Arc::new(CachedView::new(caches.clone(), name.clone())),
                engines,
                secrets: secrets.clone(),
                traffic: traffic.clone(),
                events: events.component("agent"),
            };
            let mut settings = self.agent.clone();
            settings.volumes = settings.volumes.map(|folder| folder.join(name.as_str()));
            agents.push(Agent::new(node.clone(), parts, settings));
        }

        let mut tasks = Tasks::default();
        let (writing, controlling) = (tasks.events.clone(), tasks.control.clone());
        tasks.rest.spawn(writer.run(writing));
        tasks.rest.spawn(plane.run(controlling));
        let mut listening = None;
        if let Some(proxy) = proxy {
            // Once workloads have ended nothing comes any more but what is under way to clients.
            let grace = match self.agent.stop_workloads {
                true => FLUSH_MAX.min(self.agent.shutdown_grace_max),
                false => self.agent.shutdown_grace_max,
            };
            let (events, cancel) = (events.component("proxy"), tasks.proxy.clone());
            let tried = listening.insert(Listening::default()).clone();
            tasks
                .rest
                .spawn(serve(proxy, caches.clone(), events, grace, tried, cancel));
        }
        for agent in agents {
            tasks.agents.spawn(agent.run(tasks.work.clone()));
        }
        caches.synced().await;
        let orchestra = Orchestra {
            client,
            caches,
            registry,
            scheduler,
            schedulers,
            tasks,
            drivers,
            own_folder: self.own_folder.take(),
            listening,
            leaves: !self.agent.stop_workloads,
        };
        for node in &nodes {
            let key = orchestra_core::meta::ObjectKey::cluster(node.metadata.name.clone());
            let registered = |node: Option<&Node>| {
                node.is_some_and(|node| node.is_ready() && !node.spec.pod_cidr.is_empty())
            };
            orchestra.wait_for::<Node>(&key, registered).await;
        }
        Ok(orchestra)
    }

    fn choose(mut self, name: impl Into<SmolStr>) -> Self {
        self.default_engine.get_or_insert(name.into());
        self
    }
}

/// Refuses nodes that could never register.
fn check_nodes(nodes: &[Node]) -> Result<(), StartError> {
    let mut names = BTreeSet::new();
    for node in nodes {
        let node_name = node.metadata.name.clone();
        validate_object(node).map_err(|invalid| StartError::InvalidNode {
            node: node_name.clone(),
            invalid,
        })?;
        if !names.insert(node_name.clone()) {
            return Err(StartError::TwoNodes(node_name));
        }
    }
    Ok(())
}

fn tell_ballot(meter: &dyn Meter, ballot: &Ballot) {
    let differed = ballot.differing.len();
    let count = |name, n: usize| meter.count(name, &[], u64::try_from(n).unwrap_or(u64::MAX));
    count("placement_shadow_differed", differed);
    count(
        "placement_shadow_agreed",
        ballot.pods.saturating_sub(differed),
    );
    if let Some(panic) = &ballot.panicked {
        tracing::warn!(%panic, "the shadow scheduler panicked");
    }
    for vote in &ballot.differing {
        tracing::debug!(%vote, "the shadow scheduler differs");
    }
}

/// An orchestra could not be started.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Nothing runs workloads.
    #[error("nothing runs workloads; call task(…), processes() or driver(…) on the builder")]
    NoDriver,
    /// The default driver, or the driver of a prober, is none of those given.
    #[error(
        "there is no driver {0:?}; give default_driver(…) and prober(…) the name of one that was \
         added"
    )]
    UnknownDriver(SmolStr),
    /// The store has no leases.
    #[error("the store has no leases, which nodes need; use a store whose leases() is Some")]
    NoLeases,
    /// A node breaks the rules of its kind.
    #[error("node {node:?} cannot be one")]
    InvalidNode {
        /// Its name.
        node: SmolStr,
        /// Each field, with the remedy.
        #[source]
        invalid: Invalid,
    },
    /// Two nodes have one name.
    #[error("there are two nodes {0:?}; give each a name of its own")]
    TwoNodes(SmolStr),
    /// A driver of a node could not be made.
    #[error("node {node}: its driver could not be opened")]
    Driver {
        /// The node.
        node: SmolStr,
        /// Why.
        #[source]
        error: DriverError,
    },
}

crate::debug_as_report!(StartError);

impl Default for Tasks {
    fn default() -> Self {
        Self {
            agents: JoinSet::new(),
            rest: JoinSet::new(),
            work: CancellationToken::new(),
            proxy: CancellationToken::new(),
            control: CancellationToken::new(),
            events: CancellationToken::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Probers;

    #[tokio::test]
    async fn nodes_that_could_never_register_are_refused_by_name() {
        let start = async |nodes: &[&str]| {
            let idle = Builder::default().task("idle", |_| async { Ok(()) });
            let builder = nodes
                .iter()
                .fold(idle, |all, name| all.node(Node::new(*name)));
            builder.start().await.map(|_| ()).unwrap_err()
        };
        let error = start(&["A_b"]).await;
        let text = orchestra_core::error::report(&error).to_string();
        assert!(text.contains("\"A_b\" cannot be one"), "{text}");
        assert!(text.contains("metadata.name"), "{text}");
        let text = start(&["a", "b", "a"]).await.to_string();
        assert_eq!(
            text,
            "there are two nodes \"a\"; give each a name of its own"
        );
    }

    #[tokio::test]
    async fn a_prober_without_its_driver_is_refused_by_name() {
        let refused = Builder::default()
            .task("idle", |_| async { Ok(()) })
            .prober("other", |_, driver| Arc::new(Probers::standard(driver)))
            .start()
            .await;
        assert!(matches!(refused, Err(StartError::UnknownDriver(name)) if name == "other"));
    }
}

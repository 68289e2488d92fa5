//! The simulated cluster: one store, one control plane, machines with their agents.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use orchestra_core::chaos::{ChaosProber, ChaosStore, Faults, Rates};
use orchestra_core::kind::Node;
use orchestra_core::port::clock::Clock;
use orchestra_core::port::meter::{Labels, Meter};
use orchestra_core::port::store::StateStore;
use orchestra_core::time::Timestamp;
use smol_str::SmolStr;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::acks::Acks;
use super::ahead::CalmForesight;
use super::check::{Checker, Machine};
use super::fault::Fault;
use super::gate::{Gate, GatedView};
use super::history::{History, fnv};
use super::oversight::{Overseen, Oversight};
use super::process::Process;
use super::report::Sink;
use super::setup::Setup;
use super::wire::{Line, Wire};
use crate::agent::{Agent, AgentParts, CachedView, Engine, NodeView};
use crate::api::Client;
use crate::clock::TokioClock;
use crate::control_plane::ControlPlane;
use crate::driver::sim::{SimDriver, SimProber};
use crate::events::{Recorder, recorder};
use crate::ids::Ids;
use crate::loops::Caches;
use crate::net::traffic::ServiceTraffic;
use crate::secret::StoreSecrets;
use crate::store::MemoryStore;

/// The runtime class of simulated pods.
pub(super) const ENGINE: &str = "sim";

/// When simulated clusters begin to live, in seconds since the epoch: 2030-01-01T00:00:00Z.
const BIRTH_SECS: i64 = 1_893_456_000;

/// Everything of one run.
pub(super) struct World {
    pub(super) setup: Setup,
    /// What processes reach through their lines.
    base: Arc<dyn StateStore>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) born: Timestamp,
    acks: Arc<Acks>,
    pub(super) sink: Arc<Sink>,
    pub(super) history: Arc<History>,
    pub(super) oversight: Arc<Oversight>,
    pub(super) checker: Arc<Checker>,
    /// What users read and write with.
    pub(super) client: Client,
    /// The agents' live copies, shared: each looks through a gate of its own.
    hub: Hub,
    control: Mutex<Option<Process>>,
    control_faults: Faults,
    control_up: Mutex<bool>,
    died: Arc<Notify>,
    hosts: Mutex<BTreeMap<SmolStr, Arc<Host>>>,
    background: Mutex<JoinSet<()>>,
    faults_made: AtomicU64,
    /// Faults injected into machines that were removed.
    disturbed_before: AtomicU64,
}

struct Hub {
    caches: Caches,
    events: Recorder,
    faults: Faults,
    line: Arc<Line>,
    process: Mutex<Option<Process>>,
}

/// A machine.
struct Host {
    node: Node,
    driver: Arc<SimDriver>,
    faults: Faults,
    gate: Arc<Gate>,
    state: Mutex<HostState>,
}

struct HostState {
    powered: bool,
    connected: bool,
    agent: Option<Process>,
}

impl World {
    /// Brings everything up. Must be called within a paused runtime.
    pub(super) fn start(mut setup: Setup, to: Option<Box<dyn std::io::Write + Send>>) -> Arc<Self> {
        let clock: Arc<dyn Clock> =
            Arc::new(TokioClock::starting_at(Timestamp::from_secs(BIRTH_SECS)));
        let raw: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
        let base = (setup.store_layer)(raw.clone());
        let ids = Arc::new(Ids::seeded(setup.seed));
        let (sink, acks) = (Arc::<Sink>::default(), Arc::<Acks>::default());
        let (oversight, history) = (Arc::<Oversight>::default(), Arc::new(History::new(to)));
        let died = Arc::new(Notify::new());
        let user = Wire::new(
            base.clone(),
            Line::new(true, died.clone()),
            acks.clone(),
            true,
        );
        let client = Client::new(user, clock.clone(), ids);
        let checker = Arc::new(Checker::new(
            raw,
            &client,
            sink.clone(),
            acks.clone(),
            oversight.clone(),
            history.clone(),
        ));

        let line = Line::new(true, Arc::default());
        let faults = faults(setup.seed, "hub");
        let store = Arc::new(ChaosStore::new(base.clone(), faults.clone()));
        let store = Wire::new(store, line.clone(), acks.clone(), false);
        let hub_client = client.through(store);
        let (events, writer) = recorder(&hub_client, "agent");
        let caches = Caches::new(&hub_client);
        let mut process = Process::new(line.clone());
        let (fill, cancel) = (caches.clone(), CancellationToken::new());
        process.spawn("caches", &checker, async move { fill.run(cancel).await });
        process.spawn("events", &checker, writer.run(CancellationToken::new()));
        let hub = Hub {
            caches,
            events,
            faults,
            line,
            process: Mutex::new(Some(process)),
        };

        let nodes = std::mem::take(&mut setup.nodes);
        let control_faults = self::faults(setup.seed, "control");
        let born = clock.now();
        let world = Arc::new(Self {
            setup,
            base,
            clock,
            born,
            acks,
            sink,
            history,
            oversight,
            checker,
            client,
            hub,
            control: Mutex::default(),
            control_faults,
            control_up: Mutex::new(true),
            died,
            hosts: Mutex::default(),
            background: Mutex::default(),
            faults_made: AtomicU64::new(0),
            disturbed_before: AtomicU64::new(0),
        });
        {
            let mut background = lock(&world.background);
            background.spawn(world.checker.clone().run());
            // Held weakly: the world ends its tasks when it goes, and not the other way round.
            let (weak, died) = (Arc::downgrade(&world), world.died.clone());
            background.spawn(async move {
                loop {
                    died.notified().await;
                    let Some(world) = weak.upgrade() else { return };
                    world.note("the control plane died around a commit");
                    world.checker.shaken();
                    world.start_control();
                }
            });
        }
        world.start_control();
        for node in nodes {
            world.add_node(node);
        }
        world
    }

    /// Ends everything.
    pub(super) fn stop(&self) {
        lock(&self.background).abort_all();
        lock(&self.control).take();
        lock(&self.hub.process).take();
        for host in lock(&self.hosts).values() {
            lock(&host.state).agent.take();
        }
    }

    /// Starts the control plane, in the place of the one that ran.
    fn start_control(&self) {
        let up = *lock(&self.control_up);
        let line = Line::new(up, self.died.clone());
        let store = Arc::new(ChaosStore::new(
            self.base.clone(),
            self.control_faults.clone(),
        ));
        let store = Wire::new(store, line.clone(), self.acks.clone(), false);
        let client = self.client.through(store);
        let (events, writer) = recorder(&client, "orchestra");
        let mut settings = self.setup.control.clone();
        settings.seed = self.setup.seed;
        settings.meter = Arc::new(PanicMeter(self.checker.clone()));
        let plane = ControlPlane::new(&client, settings, &events, None);
        let mut process = Process::new(line);
        process.spawn(
            "events",
            &self.checker,
            writer.run(CancellationToken::new()),
        );
        process.spawn(
            "control plane",
            &self.checker,
            plane.run(CancellationToken::new()),
        );
        let before = lock(&self.control).replace(process);
        drop(before);
    }

    /// Adds a machine and starts its agent.
    pub(super) fn add_node(&self, node: Node) {
        let name = node.metadata.name.clone();
        let seed = mix(self.setup.seed, &format!("driver {name}"));
        let script = self.setup.script.clone();
        let driver = Arc::new(SimDriver::with_clock(script, seed, self.clock.clone()));
        let faults = faults(self.setup.seed, &name);
        faults.set_rates(*lock(&self.setup.rates));
        let state = HostState {
            powered: true,
            connected: true,
            agent: None,
        };
        let host = Arc::new(Host {
            node,
            driver,
            faults,
            gate: Arc::default(),
            state: Mutex::new(state),
        });
        lock(&self.hosts).insert(name, host.clone());
        self.start_agent(&host);
    }

    /// Takes a machine away, with what runs there. Its object stays.
    pub(super) fn remove_node(&self, name: &str) -> bool {
        let Some(host) = lock(&self.hosts).remove(name) else {
            return false;
        };
        lock(&host.state).agent.take();
        host.driver.lose_all();
        self.disturbed_before
            .fetch_add(host.faults.injected().total(), Ordering::Relaxed);
        true
    }

    fn start_agent(&self, host: &Host) {
        let name = &host.node.metadata.name;
        let mut state = lock(&host.state);
        if !state.powered {
            return;
        }
        let line = Line::new(state.connected, Arc::default());
        let store = Arc::new(ChaosStore::new(self.base.clone(), host.faults.clone()));
        let store = Wire::new(store, line.clone(), self.acks.clone(), false);
        let client = self.client.through(store.clone());
        let checker = self.checker.clone();
        let driver = Overseen::new(
            name.clone(),
            line.clone(),
            host.driver.clone(),
            self.oversight.clone(),
            Arc::new(move |what| checker.complain("one-identity", what)),
        );
        let foresight = CalmForesight::new(host.driver.clone(), host.faults.clone());
        let prober = Arc::new(SimProber::new(host.driver.clone()));
        let prober = Arc::new(ChaosProber::new(prober, host.faults.clone()));
        let engine = Engine {
            driver,
            prober,
            foresight: Some(Arc::new(foresight)),
        };
        let view: Arc<dyn NodeView> =
            Arc::new(CachedView::new(self.hub.caches.clone(), name.clone()));
        let view = (self.setup.view_layer)(view);
        let parts = AgentParts {
            client,
            view: GatedView::new(view, host.gate.clone()),
            engines: BTreeMap::from([(ENGINE.into(), engine)]),
            secrets: Arc::new(StoreSecrets::new(store)),
            traffic: ServiceTraffic::new(self.hub.caches.slices.clone(), None),
            events: self.hub.events.clone(),
        };
        let mut settings = self.setup.agent.clone();
        settings.default_engine = ENGINE.into();
        settings.volumes = None;
        settings.host_ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let agent = Agent::new(host.node.clone(), parts, settings);
        let mut process = Process::new(line);
        process.spawn("agent", &self.checker, agent.run(CancellationToken::new()));
        let before = state.agent.replace(process);
        drop(before);
    }

    /// Makes a fault of machines, lines or workloads. `None`: there is no such machine.
    pub(super) fn strike(&self, fault: &Fault) -> Option<()> {
        self.checker.shaken();
        match fault {
            Fault::LoseNode(name) => {
                let host = self.host(name)?;
                let mut state = lock(&host.state);
                state.powered = false;
                state.agent.take();
                host.driver.lose_all();
            }
            Fault::ReturnNode(name) => {
                let host = self.host(name)?;
                let was = std::mem::replace(&mut lock(&host.state).powered, true);
                if !was {
                    self.start_agent(&host);
                }
            }
            Fault::RestartAgent(name) => {
                let host = self.host(name)?;
                lock(&host.state).agent.take();
                self.start_agent(&host);
            }
            Fault::Partition(name) => self.connect(self.host(name)?.as_ref(), false),
            Fault::Heal(name) => self.connect(self.host(name)?.as_ref(), true),
            Fault::RestartControl => self.start_control(),
            Fault::KillControlAtCommit { after, landed } => {
                if let Some(control) = &*lock(&self.control) {
                    control.line.die_at_commit(*after, *landed);
                }
            }
            Fault::CutControl => self.connect_control(false),
            Fault::HealControl => self.connect_control(true),
            Fault::BreakWatches => {
                let control = lock(&self.control);
                let lines = control.iter().map(|control| &control.line);
                for line in lines.chain([&self.hub.line]) {
                    line.break_watches();
                }
            }
            Fault::Calls(rates) => self.set_rates(*rates),
            Fault::Crash(prefix) => self.each_workload(prefix, |driver, id| {
                driver.crash(id);
            }),
            Fault::Hang(prefix) => self.each_workload(prefix, |driver, id| {
                driver.set_hanging(id, true);
            }),
            Fault::Healthy(prefix, healthy) => self.each_workload(prefix, |driver, id| {
                driver.set_healthy(id, *healthy);
            }),
            Fault::Driver(name, reachable) => self.host(name)?.driver.set_reachable(*reachable),
            Fault::HealAll => {
                self.set_rates(Rates::NONE);
                self.connect_control(true);
                let hosts: Vec<_> = lock(&self.hosts).values().cloned().collect();
                for host in hosts {
                    host.driver.set_reachable(true);
                    self.connect(&host, true);
                    let was = std::mem::replace(&mut lock(&host.state).powered, true);
                    if !was {
                        self.start_agent(&host);
                    }
                }
            }
            // What people write is written by the caller.
            Fault::Cordon(name)
            | Fault::Uncordon(name)
            | Fault::Taint(name, _)
            | Fault::Untaint(name, _) => {
                self.host(name)?;
            }
        }
        self.faults_made.fetch_add(1, Ordering::Relaxed);
        self.note(&format!("{fault:?}"));
        Some(())
    }

    fn connect(&self, host: &Host, connected: bool) {
        let mut state = lock(&host.state);
        state.connected = connected;
        host.gate.set_closed(!connected);
        if let Some(agent) = &state.agent {
            agent.line.set_up(connected);
        }
    }

    fn connect_control(&self, up: bool) {
        *lock(&self.control_up) = up;
        if let Some(control) = &*lock(&self.control) {
            control.line.set_up(up);
        }
    }

    fn set_rates(&self, rates: Rates) {
        *lock(&self.setup.rates) = rates;
        self.control_faults.set_rates(rates);
        self.hub.faults.set_rates(rates);
        for host in lock(&self.hosts).values() {
            host.faults.set_rates(rates);
            host.driver.shaken();
        }
    }

    fn each_workload(
        &self,
        prefix: &str,
        change: impl Fn(&SimDriver, &orchestra_core::port::driver::WorkloadId),
    ) {
        for host in lock(&self.hosts).values() {
            for id in host.driver.ids(prefix) {
                change(&host.driver, &id);
            }
        }
    }

    fn host(&self, name: &str) -> Option<Arc<Host>> {
        lock(&self.hosts).get(name).cloned()
    }

    pub(super) fn driver(&self, name: &str) -> Option<Arc<SimDriver>> {
        self.host(name).map(|host| host.driver.clone())
    }

    /// The machines as the checker looks at them.
    pub(super) fn machines(&self) -> Vec<Machine> {
        let hosts = lock(&self.hosts);
        let machine = |(name, host): (&SmolStr, &Arc<Host>)| {
            let state = lock(&host.state);
            Machine {
                name: name.clone(),
                driver: host.driver.clone(),
                well: state.powered && state.connected,
            }
        };
        hosts.iter().map(machine).collect()
    }

    /// A line of the history.
    pub(super) fn note(&self, text: &str) {
        self.history.line(self.lived(), format_args!("-- {text}"));
    }

    pub(super) fn lived(&self) -> Duration {
        self.clock.now().since(self.born)
    }

    pub(super) fn faults_made(&self) -> u64 {
        self.faults_made.load(Ordering::Relaxed)
    }

    pub(super) fn calls_disturbed(&self) -> u64 {
        let hosts = lock(&self.hosts);
        let agents: u64 = hosts
            .values()
            .map(|host| host.faults.injected().total())
            .sum();
        agents
            + self.disturbed_before.load(Ordering::Relaxed)
            + self.control_faults.injected().total()
            + self.hub.faults.injected().total()
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("seed", &self.setup.seed)
            .finish_non_exhaustive()
    }
}

/// Takes a panic of a controller's pass for what it is.
#[derive(Debug)]
struct PanicMeter(Arc<Checker>);

impl Meter for PanicMeter {
    fn count(&self, name: &'static str, labels: Labels<'_>, _by: u64) {
        if name == "reconcile_total" && labels.contains(&("result", "panicked")) {
            self.0
                .complain("no-panics", format!("a pass panicked: {labels:?}"));
        }
    }

    fn gauge(&self, _name: &'static str, _labels: Labels<'_>, _value: f64) {}

    fn observe(&self, _name: &'static str, _labels: Labels<'_>, _value: f64) {}
}

/// No faults yet, of a stream of chance of their own.
fn faults(seed: u64, whose: &str) -> Faults {
    Faults::seeded(mix(seed, whose), Rates::NONE, tokio::time::sleep)
}

/// A seed for one purpose.
pub(super) fn mix(seed: u64, purpose: &str) -> u64 {
    seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ fnv(purpose.as_bytes())
}

pub(super) fn lock<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

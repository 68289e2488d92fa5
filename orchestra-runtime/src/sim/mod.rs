//! The whole cluster in virtual time, on one seed: the real API, controllers, scheduler and
//! agents over drivers that pretend, with faults by script or by chance, and invariants checked
//! after every commit. `docs/simulation.md` says what can go wrong, what is checked and what not.
//!
//! ```
//! use orchestra_runtime::prelude::*;
//! use orchestra_runtime::sim::{Fault, Sim};
//!
//! let report = Sim::seed(7).nodes(4).run(async |sim| {
//!     let container = Container::new("web", "web").cpu_milli(500).port(8080);
//!     sim.apply(Deployment::new("web").replicas(8).container(container)).await?;
//!     sim.settle().await?;
//!     sim.fault(Fault::LoseNode("node-3".into())).await?;
//!     sim.settle().await?;
//!     assert_eq!(sim.ready("web"), 8);
//!     Ok(())
//! })?;
//! println!("{report}");
//! # Ok::<(), orchestra_runtime::sim::Failure>(())
//! ```

mod acks;
mod ahead;
mod check;
mod cluster;
mod fault;
mod gate;
mod history;
mod oversight;
mod process;
mod random;
mod report;
mod setup;
mod wire;
mod world;

use std::io::Write;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orchestra_core::chaos::Rates;
use orchestra_core::error::report as chain;
use orchestra_core::kind::{Node, Pod};
use orchestra_core::port::store::StateStore;
use orchestra_sched::place::Scheduler;

pub use cluster::{Cluster, FaultError, SETTLE_MAX};
pub use fault::Fault;
pub use history::HISTORY_LINES_MAX;
pub use random::Chaos;
pub use report::{Failure, Report, Violation};

use crate::agent::{AgentSettings, NodeView};
use crate::control_plane::ControlSettings;
use crate::driver::sim::SimScript;
use crate::prelude::BoxError;
use setup::Setup;
use world::World;

/// How long the first nodes may take to register.
const START_MAX: Duration = Duration::from_secs(120);

/// A simulation to be run.
#[derive(Debug)]
#[must_use = "a simulation does nothing until it is run"]
pub struct Sim {
    setup: Setup,
    to: Option<Writer>,
    replay: Option<String>,
}

struct Writer(Box<dyn Write + Send>);

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Writer")
    }
}

impl Sim {
    /// A simulation in which all chance comes from `seed`. Without nodes it has three.
    pub fn seed(seed: u64) -> Self {
        let setup = Setup {
            seed,
            nodes: Vec::new(),
            script: SimScript::new(),
            control: ControlSettings::default(),
            agent: AgentSettings::default(),
            rates: Mutex::new(Rates::NONE),
            store_layer: Arc::new(|store| store),
            view_layer: Arc::new(|view| view),
        };
        Self {
            setup,
            to: None,
            replay: None,
        }
    }

    /// Adds machines `node-1` to `node-n`, each with 4 cores, 16 GiB and room for 110 pods.
    pub fn nodes(mut self, n: u32) -> Self {
        let node = |n| Node::new(format!("node-{n}")).capacity(4_000, 16_384, 110);
        self.setup.nodes.extend((1..=n).map(node));
        self
    }

    /// Adds a machine.
    pub fn node(mut self, node: Node) -> Self {
        self.setup.nodes.push(node);
        self
    }

    /// What workloads do. Without a script they start at once, are well, and run for ever.
    pub fn script(mut self, script: SimScript) -> Self {
        self.setup.script = script;
        self
    }

    /// Where pods go that name no scheduler. [`control`](Self::control) gives others a name.
    pub fn scheduler(mut self, scheduler: Arc<dyn Scheduler>) -> Self {
        let schedulers = &mut self.setup.control.schedulers;
        schedulers.insert(Pod::DEFAULT_SCHEDULER.into(), scheduler);
        self
    }

    /// How the controllers decide. Seed and meter are the simulation's.
    pub fn control(mut self, change: impl FnOnce(&mut ControlSettings)) -> Self {
        change(&mut self.setup.control);
        self
    }

    /// How the agents behave. Engine, volumes and address are the simulation's.
    pub fn agent(mut self, change: impl FnOnce(&mut AgentSettings)) -> Self {
        change(&mut self.setup.agent);
        self
    }

    /// Puts something between the store and all who use it but the checker: a store of one's own
    /// that is to be tried, or one with a planted bug.
    pub fn store_layer(
        mut self,
        layer: impl Fn(Arc<dyn StateStore>) -> Arc<dyn StateStore> + Send + Sync + 'static,
    ) -> Self {
        self.setup.store_layer = Arc::new(layer);
        self
    }

    /// Puts something between the live copies and each agent.
    pub fn view_layer(
        mut self,
        layer: impl Fn(Arc<dyn NodeView>) -> Arc<dyn NodeView> + Send + Sync + 'static,
    ) -> Self {
        self.setup.view_layer = Arc::new(layer);
        self
    }

    /// Streams the whole history to `to`, a line for each change and each fault.
    pub fn history(mut self, to: impl Write + Send + 'static) -> Self {
        self.to = Some(Writer(Box::new(to)));
        self
    }

    /// What a failure says about how to see it again. Without it, that is the name of the test
    /// and the seed.
    pub fn replay(mut self, command: impl Into<String>) -> Self {
        self.replay = Some(command.into());
        self
    }

    /// Starts the cluster, tells `story` with it, and checks it after every step and at the end.
    /// Returns once everything of it has ended.
    ///
    /// # Errors
    ///
    /// [`Failure`] if an invariant was broken, or if the story failed or panicked. It says how to
    /// see that again.
    pub fn run<S>(mut self, story: S) -> Result<Report, Failure>
    where
        S: AsyncFnOnce(&Cluster) -> Result<(), BoxError>,
    {
        if self.setup.nodes.is_empty() {
            self = self.nodes(3);
        }
        let seed = self.setup.seed;
        let replay = self.replay.take().unwrap_or_else(|| default_replay(seed));
        let empty = |why: String| {
            let report = Report {
                seed,
                history: Vec::new(),
                digest: 0,
                steps: 0,
                commits: 0,
                faults: 0,
                calls_disturbed: 0,
                starts: 0,
                lived: Duration::ZERO,
            };
            Failure::story(why, replay.clone(), report)
        };
        if tokio::runtime::Handle::try_current().is_ok() {
            let why = "a simulation has a runtime of its own: run it outside of any other";
            return Err(empty(why.to_owned()));
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .map_err(|error| empty(format!("no runtime: {error}")))?;
        let to = self.to.take().map(|writer| writer.0);
        let setup = self.setup;
        let told = Mutex::new(None);
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(async {
                let world = World::start(setup, to);
                *world::lock(&told) = Some(world.clone());
                tell(world, story).await
            })
        }));
        let world = world::lock(&told).take();
        let Some(world) = world else {
            return Err(empty("it could not be started".to_owned()));
        };
        let _inside = runtime.enter();
        let (history, digest) = world.history.close();
        let report = Report {
            seed,
            history,
            digest,
            steps: world.checker.steps(),
            commits: world.checker.commits(),
            faults: world.faults_made(),
            calls_disturbed: world.calls_disturbed(),
            starts: world.oversight.starts(),
            lived: world.lived(),
        };
        world.stop();
        if let Some(broken) = world.sink.first() {
            return Err(Failure::violation(broken, replay, report));
        }
        match outcome {
            Ok(Ok(())) => Ok(report),
            Ok(Err(error)) => Err(Failure::story(
                chain(error.as_ref()).to_string(),
                replay,
                report,
            )),
            Err(panic) => {
                let text = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| panic.downcast_ref::<&str>().copied())
                    .unwrap_or("no message");
                Err(Failure::story(
                    format!("the story panicked: {text}"),
                    replay,
                    report,
                ))
            }
        }
    }
}

/// Tells the story, unless an invariant is broken meanwhile.
async fn tell<S>(world: Arc<World>, story: S) -> Result<(), BoxError>
where
    S: AsyncFnOnce(&Cluster) -> Result<(), BoxError>,
{
    let cluster = Cluster {
        world: world.clone(),
    };
    let whole = async {
        let registered = tokio::time::timeout(START_MAX, cluster.registered()).await;
        if registered.is_err() {
            return Err(BoxError::from("the nodes did not register in time"));
        }
        story(&cluster).await?;
        // What the story did last is checked too.
        tokio::time::sleep(Duration::from_millis(1)).await;
        world.checker.compare().await;
        Ok(())
    };
    tokio::select! {
        biased;
        broken = world.sink.broken() => Err(broken.into()),
        done = whole => done,
    }
}

/// The test that runs, as its thread is called after it.
fn default_replay(seed: u64) -> String {
    match std::thread::current().name() {
        Some(name) if name != "main" => format!("cargo test {name} (seed {seed})"),
        _ => format!("run it again with Sim::seed({seed})"),
    }
}

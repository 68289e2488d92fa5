//! An orchestra on simulated drivers whose calls are recorded.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use orchestra_core::kind::pod::{ContainerStatus, PodPhase};
use orchestra_core::kind::{Node, Pod, Resource};
use orchestra_core::meta::ObjectKey;
use orchestra_core::port::clock::Clock;
use orchestra_core::port::driver::{
    DriverError, ExecSource, Exit, LogSource, Observed, UsageSource, Workload, WorkloadDriver,
    WorkloadId,
};
use orchestra_core::port::store::StateStore;
use orchestra_core::time::Timestamp;
use orchestra_runtime::Orchestra;
use orchestra_runtime::clock::TokioClock;
use orchestra_runtime::driver::sim::{SimDriver, SimScript};
use orchestra_runtime::orchestra::{Builder, Cached};
use orchestra_runtime::store::MemoryStore;
use orchestra_sched::place::{Pending, Placement, Plan, PlanInputs, Scheduler};
use orchestra_sched::snapshot::Snapshot;
use serde_json::{Value, json};

pub(crate) type Log = Arc<Mutex<Vec<(u64, String)>>>;

/// A simulated driver that writes down what it is asked to do, with the second.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) sim: Arc<SimDriver>,
    clock: Arc<dyn Clock>,
    log: Log,
}

impl Recording {
    fn note(&self, what: String) {
        let second = self.clock.now().since(Timestamp::EPOCH).as_secs();
        self.log.lock().unwrap().push((second, what));
    }
}

#[async_trait]
impl WorkloadDriver for Recording {
    async fn ensure(&self, want: &Workload) -> Result<Observed, DriverError> {
        self.note(format!("start {} {}", want.id.container, want.attempt));
        self.sim.ensure(want).await
    }

    async fn wait(&self, id: &WorkloadId) -> Result<Exit, DriverError> {
        self.sim.wait(id).await
    }

    async fn stop(&self, id: &WorkloadId, grace: Duration) -> Result<(), DriverError> {
        self.note(format!("stop {} {}", id.container, grace.as_secs()));
        let stopped = self.sim.stop(id, grace).await;
        self.note(format!("stopped {}", id.container));
        stopped
    }

    async fn remove(&self, id: &WorkloadId) -> Result<(), DriverError> {
        self.sim.remove(id).await
    }

    async fn survey(&self) -> Result<Vec<Observed>, DriverError> {
        self.sim.survey().await
    }

    fn exec(&self) -> Option<&dyn ExecSource> {
        Some(self)
    }

    fn logs(&self) -> Option<&dyn LogSource> {
        self.sim.logs()
    }

    fn usage(&self) -> Option<&dyn UsageSource> {
        self.sim.usage()
    }
}

#[async_trait]
impl ExecSource for Recording {
    async fn exec(
        &self,
        id: &WorkloadId,
        command: &[String],
    ) -> Result<orchestra_core::port::driver::ExecOutput, DriverError> {
        if command[0] != "probe" {
            self.note(format!("exec {} {}", id.container, command.join(" ")));
        }
        self.sim.exec().unwrap().exec(id, command).await
    }
}

pub(crate) struct World {
    pub(crate) orchestra: Orchestra,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) clock: Arc<TokioClock>,
    pub(crate) drivers: BTreeMap<String, Arc<SimDriver>>,
    pub(crate) log: Log,
}

/// Drivers outlive an orchestra, as processes do.
pub(crate) struct Host {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) clock: Arc<TokioClock>,
    pub(crate) drivers: BTreeMap<String, Arc<SimDriver>>,
    pub(crate) log: Log,
}

impl Host {
    pub(crate) fn new(nodes: &[&str], script: SimScript) -> Self {
        let clock = Arc::new(TokioClock::starting_at(Timestamp::EPOCH));
        let driver = || {
            Arc::new(SimDriver::with_clock(
                script.clone(),
                7,
                clock.clone() as Arc<dyn Clock>,
            ))
        };
        Self {
            store: Arc::new(MemoryStore::new()),
            drivers: nodes
                .iter()
                .map(|name| (name.to_string(), driver()))
                .collect(),
            clock: clock.clone(),
            log: Log::default(),
        }
    }

    pub(crate) fn builder(&self) -> Builder {
        let (drivers, log, clock) = (self.drivers.clone(), self.log.clone(), self.clock.clone());
        let mut builder = Orchestra::builder()
            .store(self.store.clone() as Arc<dyn StateStore>)
            .clock(self.clock.clone())
            .seed(1)
            .proxy(None)
            .driver("sim", move |node| {
                Arc::new(Recording {
                    sim: drivers[node].clone(),
                    clock: clock.clone(),
                    log: log.clone(),
                })
            });
        for name in self.drivers.keys() {
            builder = builder.node(Node::new(name.as_str()).capacity(64_000, 64_000, 1_000));
        }
        builder
    }

    pub(crate) async fn start(self) -> World {
        let orchestra = self.builder().start().await.unwrap();
        self.with(orchestra)
    }

    pub(crate) fn with(self, orchestra: Orchestra) -> World {
        World {
            orchestra,
            store: self.store,
            clock: self.clock,
            drivers: self.drivers,
            log: self.log,
        }
    }
}

pub(crate) async fn world(script: SimScript) -> World {
    Host::new(&["n"], script).start().await
}

/// An object of that kind, from its JSON.
pub(crate) fn of<K: Resource>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

pub(crate) fn pod(name: &str, spec: Value) -> Pod {
    of(
        json!({"metadata": {"name": name, "namespace": "default", "labels": {"app": name}}, "spec": spec}),
    )
}

pub(crate) fn key(name: &str) -> ObjectKey {
    ObjectKey::namespaced("default", name)
}

impl World {
    pub(crate) async fn create<K: Resource>(&self, object: K) -> Arc<K> {
        self.orchestra.api::<K>().create(object).await.unwrap()
    }

    pub(crate) async fn delete<K: Resource>(&self, name: &str) {
        self.orchestra
            .api::<K>()
            .delete(&key(name), Default::default())
            .await
            .unwrap();
    }

    pub(crate) async fn until<K: Cached>(&self, name: &str, hoped: impl Fn(&K) -> bool) -> Arc<K> {
        let hoped = |now: Option<&K>| now.is_some_and(&hoped);
        let key_of = key(name);
        let wait = self.orchestra.wait_for::<K>(&key_of, hoped);
        match tokio::time::timeout(Duration::from_secs(3_600), wait).await {
            Ok(found) => found.unwrap(),
            Err(_) => panic!(
                "{name} never came to it: {:#?}, {:#?}",
                K::cache(self.orchestra.caches()).get(&key(name)),
                self.log()
            ),
        }
    }

    pub(crate) async fn until_gone<K: Cached>(&self, name: &str) {
        let key = key(name);
        let wait = self.orchestra.wait_for::<K>(&key, |now| now.is_none());
        tokio::time::timeout(Duration::from_secs(3_600), wait)
            .await
            .unwrap();
    }

    pub(crate) async fn phase(&self, name: &str, phase: PodPhase) -> Arc<Pod> {
        self.until::<Pod>(name, |pod| pod.status.phase == phase)
            .await
    }

    pub(crate) async fn ready(&self, name: &str) -> Arc<Pod> {
        self.until::<Pod>(name, Pod::is_ready).await
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock.now().since(Timestamp::EPOCH).as_secs()
    }

    /// What the drivers were asked, without when.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log
            .lock()
            .unwrap()
            .iter()
            .map(|(_, what)| what.clone())
            .collect()
    }

    /// When each line that begins so was written.
    pub(crate) fn when(&self, begins: &str) -> Vec<u64> {
        let log = self.log.lock().unwrap();
        let found = log.iter().filter(|(_, what)| what.starts_with(begins));
        found.map(|(at, _)| *at).collect()
    }
}

pub(crate) fn container<'a>(pod: &'a Pod, name: &str) -> &'a ContainerStatus {
    let status = &pod.status;
    let mut all = status
        .container_statuses
        .iter()
        .chain(&status.init_container_statuses);
    all.find(|status| status.name == name).unwrap()
}

pub(crate) async fn seconds(n: u64) {
    tokio::time::sleep(Duration::from_secs(n)).await;
}

/// Sends every pod to one node, whatever its rules.
#[derive(Debug)]
pub(crate) struct Always(pub(crate) &'static str);

impl Scheduler for Always {
    fn plan(&self, snapshot: &Snapshot, pending: &[Pending], _: PlanInputs) -> Plan {
        let placed = pending.iter().enumerate().map(|(at, pod)| Placement {
            pending: at,
            pod: pod.id.clone(),
            node: self.0.into(),
            ..Placement::default()
        });
        Plan {
            base: snapshot.base(),
            placed: placed.collect(),
            ..Plan::default()
        }
    }
}

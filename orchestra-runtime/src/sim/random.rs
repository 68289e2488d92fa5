//! Trouble by chance: a workload and faults drawn from the seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use orchestra_core::chaos::Rates;
use orchestra_core::error::report;
use orchestra_core::kind::pod::RestartPolicy;
use orchestra_core::kind::{
    Container, Deployment, Node, Pod, Probe, Service, Taint, TaintEffect, gang,
};
use orchestra_core::time::Timestamp;
use orchestra_sched::place::Framework;
use rand::{Rng, RngExt};
use rand_pcg::Pcg64;
use smol_str::{SmolStr, ToSmolStr, format_smolstr};

use super::cluster::Cluster;
use super::fault::Fault;
use super::world::mix;
use super::{Failure, Report, Sim};
use crate::api::ApiError;
use crate::driver::sim::{Behavior, Match, SimScript, Span};
use crate::prelude::BoxError;

/// Machines that are added at most to those there are at first.
const NODES_ADDED_MAX: u32 = 5;

/// Pods without an owner at any time.
const LONE_PODS_MAX: usize = 10;

/// Members of a gang: two are created in one commit.
const GANG_MAX: u32 = 60;

/// The second scheduler, which places gangs only.
const SECOND: &str = "second";

/// How much trouble there is. See [`Sim::random`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Chaos {
    /// How long there is trouble. What follows is rest.
    pub horizon: Duration,
    /// How often single calls to the store and probes fail, in bad hours. Every other hour is
    /// good: rates are zero then.
    pub rates: Rates,
    /// The mean time between two faults.
    pub fault_every: Duration,
    /// The longest a fault lasts.
    pub fault_max: Duration,
    /// The mean time between two writes of users.
    pub write_every: Duration,
    /// Deployments at any time.
    pub deployments_max: u32,
    /// Pods of one deployment.
    pub replicas_max: u32,
    /// Gangs at any time. With any, placements go into small commits of a size drawn from the seed, so
    /// that most gangs take several.
    pub gangs_max: u32,
}

impl Default for Chaos {
    /// Six hours of trouble, with a fault every five minutes and a write every three.
    fn default() -> Self {
        Self {
            horizon: Duration::from_secs(6 * 3_600),
            rates: Rates {
                delay_max: Duration::from_millis(800),
                delayed: 0.05,
                broken: 0.002,
                ..Rates::each(0.01)
            },
            fault_every: Duration::from_secs(300),
            fault_max: Duration::from_secs(1_800),
            write_every: Duration::from_secs(180),
            deployments_max: 8,
            replicas_max: 12,
            gangs_max: 3,
        }
    }
}

impl Chaos {
    /// The default trouble, for so long.
    pub fn lasting(horizon: Duration) -> Self {
        Self {
            horizon,
            ..Self::default()
        }
    }

    /// The default trouble, for so long, with as many pods as so many machines are worth: about
    /// ten each once there are many.
    pub fn sized(nodes: u32, horizon: Duration) -> Self {
        let plain = Self::lasting(horizon);
        let replicas_max = plain.replicas_max.max(nodes.saturating_mul(5) / 2);
        Self {
            replicas_max,
            ..plain
        }
    }
}

impl Sim {
    /// Runs a story drawn from the seed: users create, scale, change and delete deployments,
    /// services and pods; machines, agents, lines, workloads and the control plane fail and come
    /// back; nodes are closed, tainted, added and removed. Then all is healed: the cluster must
    /// come to rest as it should be, and stay so for an hour.
    ///
    /// The script of what workloads do is the story's own.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn random(mut self, chaos: Chaos) -> Result<Report, Failure> {
        if self.setup.nodes.is_empty() {
            self = self.nodes(5);
        }
        let nodes = u32::try_from(self.setup.nodes.len()).unwrap_or(u32::MAX);
        let plain = Chaos::sized(nodes, chaos.horizon);
        if self.replay.is_none() && chaos == plain && chaos.horizon.as_secs().is_multiple_of(3_600)
        {
            let hours = chaos.horizon.as_secs() / 3_600;
            let command = command(self.setup.seed, nodes, hours);
            self = self.replay(command);
        }
        let seed = self.setup.seed;
        if chaos.gangs_max > 0 {
            let mut rng = story_rng(seed, "commits");
            let control = &mut self.setup.control;
            control.guards_per_commit_max = rng.random_range(3..=16);
            let second = Arc::new(Framework::default());
            control.schedulers.insert(SECOND.into(), second);
        }
        self.script(script()).run(async move |sim| {
            let mut story = Story {
                sim,
                rng: story_rng(seed, "story"),
                chaos,
                wanted: BTreeMap::new(),
                services: BTreeSet::new(),
                lone: BTreeSet::new(),
                gangs: BTreeMap::new(),
                undo: BTreeMap::new(),
                bad: false,
                made: 0,
                added: 0,
            };
            story.tell().await
        })
    }
}

fn story_rng(seed: u64, purpose: &str) -> Pcg64 {
    Pcg64::new(mix(seed, purpose).into(), 0x0073_696d)
}

/// The command that replays a random run.
fn command(seed: u64, nodes: u32, hours: u64) -> String {
    format!(
        "cargo run --release -p orchestra-tests --bin simulate -- --seed {seed} --nodes {nodes} \
         --hours {hours}"
    )
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// What the images of the story do.
fn script() -> SimScript {
    let between = |from, to| Span::between(secs(from), secs(to));
    let slow = Behavior::runs()
        .starts_after(between(0, 20))
        .ready_after(between(0, 40));
    let flaky = Behavior::runs().crashes(3, between(0, 60), 1);
    let stubborn = Behavior::runs().ignores_term_for(between(0, 45));
    // Later lives answer within the second that a probe has, or they would be restarted for ever.
    let halting = stubborn.clone().answers_in(between(0, 2));
    let millis = |n| Duration::from_millis(n);
    let stubborn = stubborn.answers_in(Span::between(millis(0), millis(900)));
    SimScript::new()
        .when(Match::any().image("slow"), slow)
        .when(Match::any().image("flaky"), flaky)
        .when(
            Match::any().image("hangs").attempts(0..2),
            Behavior::runs().hangs_after(between(5, 300)),
        )
        .when(
            Match::any().image("sickly").attempts(0..1),
            Behavior::runs().sick_after(between(5, 300)),
        )
        .when(Match::any().image("stubborn").attempts(0..2), halting)
        .when(Match::any().image("stubborn"), stubborn)
        .when(
            Match::any().image("broken"),
            Behavior::exits(between(0, 5), 1),
        )
        .when(
            Match::any().image("job"),
            Behavior::exits(between(1, 600), 0),
        )
        .when(
            Match::any().image("failing-job"),
            Behavior::exits(between(1, 600), 3),
        )
}

const IMAGES: [&str; 8] = [
    "plain", "plain", "slow", "flaky", "hangs", "sickly", "stubborn", "broken",
];

struct Story<'a> {
    sim: &'a Cluster,
    rng: Pcg64,
    chaos: Chaos,
    /// What users want.
    wanted: BTreeMap<SmolStr, Deployment>,
    services: BTreeSet<SmolStr>,
    lone: BTreeSet<SmolStr>,
    /// The members of each gang that is not a deployment's.
    gangs: BTreeMap<SmolStr, Vec<SmolStr>>,
    /// What is made good again, and when.
    undo: BTreeMap<(Timestamp, u64), Fault>,
    /// Whether it is an hour in which single calls fail.
    bad: bool,
    /// Numbers names and what is undone.
    made: u64,
    added: u32,
}

impl Story<'_> {
    async fn tell(&mut self) -> Result<(), BoxError> {
        let until = self.sim.now() + self.chaos.horizon;
        let mut next_fault = self.after(self.chaos.fault_every);
        let mut next_write = self.sim.now();
        let mut next_gang = match self.chaos.gangs_max {
            0 => Timestamp::MAX,
            _ => self.after(self.chaos.write_every),
        };
        let mut next_hour = self.sim.now();
        while self.sim.now() < until {
            let undo = self
                .undo
                .keys()
                .next()
                .map_or(Timestamp::MAX, |(at, _)| *at);
            let next = next_fault
                .min(next_write)
                .min(next_gang)
                .min(next_hour)
                .min(undo)
                .min(until);
            let wait = next.since(self.sim.now());
            if !wait.is_zero() {
                self.sim.advance(wait).await;
            }
            let now = self.sim.now();
            if next_hour <= now {
                next_hour = now + secs(3_600);
                let rates = if self.bad {
                    Rates::NONE
                } else {
                    self.chaos.rates
                };
                self.bad = !self.bad;
                self.strike(Fault::Calls(rates)).await;
            }
            while let Some(entry) = self.undo.first_entry() {
                if entry.key().0 > now {
                    break;
                }
                let fault = entry.remove();
                self.strike(fault).await;
            }
            if next_write <= now {
                next_write = self.after(self.chaos.write_every);
                self.write().await?;
            }
            if next_gang <= now {
                next_gang = self.after(self.chaos.write_every * 2);
                self.gang().await?;
            }
            if next_fault <= now {
                next_fault = self.after(self.chaos.fault_every);
                self.fault().await?;
            }
        }
        self.rest().await
    }

    /// All is made good, and must come to rest and stay so.
    async fn rest(&mut self) -> Result<(), BoxError> {
        for fault in std::mem::take(&mut self.undo).into_values() {
            self.strike(fault).await;
        }
        self.sim.fault(Fault::HealAll).await?;
        // Where there is no room, a rollout that may not take anything away waits for ever beside the
        // broken pods it replaces, as it should.
        let relief = Node::new("relief").capacity(64_000, 131_072, 500);
        self.sim.add_node(relief);
        for node in self.sim.nodes() {
            self.strike(Fault::Uncordon(node.clone())).await;
            self.strike(Fault::Untaint(node, TAINT.into())).await;
        }
        for name in self.wanted.keys().cloned().collect::<Vec<_>>() {
            if self
                .wanted
                .get(&name)
                .is_some_and(|deployment| image(deployment) == "broken")
            {
                self.change(&name, |deployment| set_image(deployment, "plain"))
                    .await?;
            }
        }
        self.sim.settle().await?;
        // Some images fall ill minutes after their start, once or twice.
        self.sim.advance(secs(1_800)).await;
        self.sim.settle().await?;
        for (name, deployment) in &self.wanted {
            let found = self.sim.get::<Deployment>(name).await?;
            if found.spec.replicas != deployment.spec.replicas || image(&found) != image(deployment)
            {
                return Err(format!("deployments {name} is not what its user wrote last").into());
            }
        }
        self.sim.still(secs(3_600)).await?;
        Ok(())
    }

    /// An instant about `mean` from now.
    fn after(&mut self, mean: Duration) -> Timestamp {
        let micros = u64::try_from(mean.as_micros()).unwrap_or(u64::MAX / 2);
        self.sim.now() + Duration::from_micros(self.rng.random_range(0..=micros * 2))
    }

    fn below(&mut self, n: u64) -> u64 {
        if n == 0 { 0 } else { self.rng.next_u64() % n }
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        let at = self.below(from.len() as u64);
        usize::try_from(at)
            .ok()
            .and_then(|at| from.get(at))
            .cloned()
    }

    fn name(&mut self, base: &str) -> SmolStr {
        self.made += 1;
        format_smolstr!("{base}-{}", self.made)
    }

    async fn write(&mut self) -> Result<(), BoxError> {
        let names: Vec<SmolStr> = self.wanted.keys().cloned().collect();
        let few = names.len() < self.chaos.deployments_max as usize;
        let old = self.pick(&names);
        match (self.below(20), old) {
            (0..5, _) | (_, None) if few => {
                let name = self.name("app");
                let deployment = self.deployment(&name);
                self.sim.apply(deployment.clone()).await?;
                if self.below(3) > 0 {
                    let service = Service::new(name.clone())
                        .selector("app", name.clone())
                        .port(80, 8080);
                    self.sim.apply(service).await?;
                    self.services.insert(name.clone());
                }
                self.wanted.insert(name, deployment);
            }
            (5..10, Some(name)) => {
                let replicas = self.replicas();
                self.change(&name, |deployment| {
                    deployment.spec.replicas = Some(replicas);
                    say_min(deployment);
                })
                .await?;
            }
            (10..15, Some(name)) => {
                let image = self.pick(&IMAGES).unwrap_or("plain");
                let version = self.below(5).to_smolstr();
                self.change(&name, |deployment| {
                    set_image(deployment, image);
                    let labels = &mut deployment.spec.template.metadata.labels;
                    labels.insert("version".into(), version);
                })
                .await?;
            }
            (15, Some(name)) => {
                self.wanted.remove(&name);
                self.sim.delete::<Deployment>(&name).await?;
            }
            (16, _) => {
                let services: Vec<SmolStr> = self.services.iter().cloned().collect();
                if let Some(name) = self.pick(&services) {
                    self.services.remove(&name);
                    self.sim.delete::<Service>(&name).await?;
                }
            }
            (17, _) if self.lone.len() < LONE_PODS_MAX => {
                let name = self.name("lone");
                let image = self.pick(&["job", "failing-job", "plain"]).unwrap_or("job");
                let container = Container::new("main", image).cpu_milli(100).memory_mib(64);
                let pod = Pod::builder(name.clone())
                    .container(container)
                    .restart_policy(RestartPolicy::Never);
                self.sim.apply(pod).await?;
                self.lone.insert(name);
            }
            (18, _) => {
                let lone: Vec<SmolStr> = self.lone.iter().cloned().collect();
                if let Some(name) = self.pick(&lone) {
                    self.lone.remove(&name);
                    gone_is_well(self.sim.delete::<Pod>(&name).await.map(drop))?;
                }
            }
            (_, Some(name)) => {
                // Somebody deletes a pod by hand.
                let pods = self.sim.pods(&name);
                if let Some(pod) = self.pick(&pods) {
                    gone_is_well(self.sim.delete::<Pod>(&pod.metadata.name).await.map(drop))?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A gang comes, or two at once of two schedulers, often with something that goes wrong just then; or an
    /// old one goes.
    async fn gang(&mut self) -> Result<(), BoxError> {
        if self.gangs.len() >= self.chaos.gangs_max as usize {
            let names: Vec<SmolStr> = self.gangs.keys().cloned().collect();
            let name = self.pick(&names).unwrap_or_default();
            for pod in self.gangs.remove(&name).unwrap_or_default() {
                gone_is_well(self.sim.delete::<Pod>(&pod).await.map(drop))?;
            }
            return Ok(());
        }
        let (first, mut pods) = self.members("");
        let mut names = vec![first];
        if self.below(3) == 0 {
            let (second, more) = self.members(SECOND);
            names.push(second);
            pods.extend(more);
        }
        // A slow store, or it would be over before anything else happens.
        let slow = Rates {
            delayed: 0.9,
            ..self.chaos.rates
        };
        self.strike(Fault::Calls(slow)).await;
        if self.below(4) == 0 {
            let (after, landed) = (self.below(6), self.below(2) == 0);
            self.strike(Fault::KillControlAtCommit { after, landed })
                .await;
        }
        let mut commit = self.sim.client().commit();
        for pod in &pods {
            commit = commit.create(pod.clone());
        }
        commit.send().await?;
        for name in names {
            let of = |pod: &&Pod| pod.metadata.labels.get(gang::LABEL) == Some(&name);
            let members = pods.iter().filter(of).map(|pod| pod.metadata.name.clone());
            let members = members.collect();
            self.gangs.insert(name, members);
        }
        let soon = Duration::from_millis(self.below(5_000));
        self.sim.advance(soon).await;
        let rates = if self.bad {
            self.chaos.rates
        } else {
            Rates::NONE
        };
        self.strike(Fault::Calls(rates)).await;
        let nodes = self.sim.nodes();
        let Some(node) = self.pick(&nodes) else {
            return Ok(());
        };
        let (fault, undo) = match self.below(5) {
            0 => (Fault::LoseNode(node.clone()), Some(Fault::ReturnNode(node))),
            1 => (Fault::Cordon(node.clone()), Some(Fault::Uncordon(node))),
            2 => (Fault::CutControl, Some(Fault::HealControl)),
            3 => (Fault::RestartAgent(node), None),
            _ => return Ok(()),
        };
        self.strike(fault).await;
        if let Some(undo) = undo {
            self.made += 1;
            let lasts = Duration::from_secs(self.below(400));
            self.undo.insert((self.sim.now() + lasts, self.made), undo);
        }
        Ok(())
    }

    /// The members of a new gang, for the scheduler of that name.
    fn members(&mut self, scheduler: &'static str) -> (SmolStr, Vec<Pod>) {
        let name = self.name("gang");
        let most = self.chaos.replicas_max.clamp(2, GANG_MAX);
        let members = self.rng.random_range(2..=most);
        let min = members - u32::try_from(self.below(3)).unwrap_or(0).min(members - 1);
        let image = self.pick(&["plain", "slow", "job"]).unwrap_or("plain");
        let cpu = self.rng.random_range(1..=12) * 100;
        let container = Container::new("main", image).cpu_milli(cpu).memory_mib(64);
        let timeout = self.rng.random_range(5..=120_u32);
        let member = |n: u32| {
            let mut pod = Pod::builder(format_smolstr!("{name}-{n}"))
                .label(gang::LABEL, name.clone())
                .annotation(gang::MIN_ANNOTATION, min.to_smolstr())
                .annotation(gang::TIMEOUT_ANNOTATION, timeout.to_smolstr())
                .container(container.clone())
                .restart_policy(RestartPolicy::Never);
            pod.spec.scheduler_name = scheduler.into();
            pod
        };
        let pods = (1..=members).map(member).collect();
        (name, pods)
    }

    async fn change(
        &mut self,
        name: &SmolStr,
        change: impl FnOnce(&mut Deployment),
    ) -> Result<(), BoxError> {
        if let Some(deployment) = self.wanted.get_mut(name) {
            change(deployment);
            let deployment = deployment.clone();
            self.sim.apply(deployment).await?;
        }
        Ok(())
    }

    fn replicas(&mut self) -> u32 {
        self.rng.random_range(0..=self.chaos.replicas_max)
    }

    fn deployment(&mut self, name: &SmolStr) -> Deployment {
        let image = self.pick(&IMAGES).unwrap_or("plain");
        let cpu = self.rng.random_range(1..=10) * 50;
        let mut container = Container::new("main", image)
            .cpu_milli(cpu)
            .memory_mib(self.rng.random_range(1..=8) * 64)
            .port(8080);
        // Who is asked whether it is ready is asked whether it lives, too: else nobody would ever
        // start anew what hangs.
        let probed = self.below(3);
        if probed == 2 {
            container = container.readiness(Probe::tcp(8080).period(10));
        }
        if probed > 0 {
            container = container.liveness(Probe::tcp(8080).period(10).initial_delay(60));
        }
        let replicas = self.replicas();
        let mut deployment = Deployment::new(name.clone())
            .replicas(replicas)
            .container(container);
        match self.below(4) {
            0 => deployment = deployment.rolling_update(0, 1),
            1 => deployment = deployment.rolling_update(1, 0),
            2 if self.below(2) == 0 => deployment = deployment.recreate(),
            _ => {}
        }
        if self.below(3) == 0 {
            deployment = deployment.min_ready_seconds(10);
        }
        if self.chaos.gangs_max > 0 && self.below(6) == 0 {
            let labels = &mut deployment.spec.template.metadata.labels;
            labels.insert(gang::LABEL.into(), name.clone());
            say_min(&mut deployment);
            // Step by step no step would have enough new ones.
            deployment = deployment.recreate();
        }
        deployment
    }

    /// Makes a fault; one about a machine that is gone meanwhile is none.
    async fn strike(&mut self, fault: Fault) {
        if let Err(error) = self.sim.fault(fault).await {
            tracing::debug!(error = %report(&error), "no fault");
        }
    }

    async fn fault(&mut self) -> Result<(), BoxError> {
        let nodes = self.sim.nodes();
        let Some(node) = self.pick(&nodes) else {
            return Ok(());
        };
        let lasts = Duration::from_secs(self.below(self.chaos.fault_max.as_secs().max(1)));
        let (fault, undo) = match self.below(22) {
            0..3 => (Fault::LoseNode(node.clone()), Some(Fault::ReturnNode(node))),
            3 => (Fault::LoseNode(node.clone()), None),
            4..7 => (Fault::Partition(node.clone()), Some(Fault::Heal(node))),
            7 | 8 => (Fault::RestartAgent(node), None),
            9 => (Fault::RestartControl, None),
            10..13 => {
                let (after, landed) = (self.below(20), self.below(2) == 0);
                (Fault::KillControlAtCommit { after, landed }, None)
            }
            13 => (Fault::CutControl, Some(Fault::HealControl)),
            14 => (Fault::BreakWatches, None),
            15 => (
                Fault::Driver(node.clone(), false),
                Some(Fault::Driver(node, true)),
            ),
            16 => (Fault::Cordon(node.clone()), Some(Fault::Uncordon(node))),
            17 => {
                let effect = match self.below(2) {
                    0 => TaintEffect::NoSchedule,
                    _ => TaintEffect::NoExecute,
                };
                let taint = Taint::new(TAINT, effect);
                (
                    Fault::Taint(node.clone(), taint),
                    Some(Fault::Untaint(node, TAINT.into())),
                )
            }
            18 => {
                if self.added < NODES_ADDED_MAX {
                    self.added += 1;
                    let name = self.name("more");
                    self.sim
                        .add_node(Node::new(name).capacity(2_000, 4_096, 20));
                } else if nodes.len() > 2 {
                    self.sim.remove_node(&node).await?;
                }
                return Ok(());
            }
            n => {
                let names: Vec<SmolStr> = self.wanted.keys().cloned().collect();
                let Some(name) = self.pick(&names) else {
                    return Ok(());
                };
                let pods = self.sim.pods(&name);
                let Some(pod) = self.pick(&pods) else {
                    return Ok(());
                };
                let pod = pod.metadata.key().to_smolstr();
                match n {
                    19 => (Fault::Crash(pod), None),
                    20 => {
                        let probed = self.wanted.get(&name).is_some_and(|deployment| {
                            let containers = &deployment.spec.template.spec.containers;
                            containers.iter().all(|c| c.liveness_probe.is_some())
                        });
                        // What nobody looks at hangs for ever.
                        let undo = (!probed).then(|| Fault::Crash(pod.clone()));
                        (Fault::Hang(pod), undo)
                    }
                    _ => (
                        Fault::Healthy(pod.clone(), false),
                        Some(Fault::Healthy(pod, true)),
                    ),
                }
            }
        };
        if let Some(undo) = undo {
            self.made += 1;
            self.undo.insert((self.sim.now() + lasts, self.made), undo);
        }
        self.strike(fault).await;
        Ok(())
    }
}

/// The taint of the story.
const TAINT: &str = "example.com/trouble";

fn image(deployment: &Deployment) -> &str {
    let container = deployment.spec.template.spec.containers.first();
    container.map_or("", |container| container.image.as_str())
}

fn set_image(deployment: &mut Deployment, image: &str) {
    for container in &mut deployment.spec.template.spec.containers {
        container.image = image.into();
    }
}

/// Of a deployment whose pods are a gang, all that are wanted have to have nodes together.
fn say_min(deployment: &mut Deployment) {
    let min = deployment.spec.replicas.unwrap_or(1).max(1).to_smolstr();
    let template = &mut deployment.spec.template.metadata;
    if template.labels.contains_key(gang::LABEL) {
        let key = gang::MIN_ANNOTATION.into();
        template.annotations.insert(key, min);
    }
}

fn gone_is_well(outcome: Result<(), ApiError>) -> Result<(), ApiError> {
    match outcome {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

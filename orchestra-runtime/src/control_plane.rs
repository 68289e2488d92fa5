//! The controllers of one process, and the caches they share with its agents.

use std::collections::BTreeMap;
use std::sync::Arc;

use orchestra_core::kind::Pod;
use orchestra_core::port::meter::{Meter, NoMeter};
use orchestra_core::port::registry::ServiceRegistry;
use orchestra_sched::health::nodes::NodePolicy;
use orchestra_sched::health::zones::ZonePolicy;
use orchestra_sched::place::{Framework, Scheduler};
use smol_str::SmolStr;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::Client;
use crate::control::Controller;
use crate::events::Recorder;
use crate::loops::{
    BudgetLoop, COMMIT_GUARDS_MAX, Caches, DeploymentLoop, EndpointsLoop, GangsLoop, GarbageLoop,
    NodesLoop, PlacementLoop, QuotaLoop,
};
use crate::net::address::AddressPlan;
use crate::net::slices::SliceRegistry;

/// How the controllers decide.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ControlSettings {
    /// Where pods go, by their `schedulerName`; those that name none are the default's. Pods that
    /// name one which is not here wait for somebody else to place them.
    pub schedulers: BTreeMap<SmolStr, Arc<dyn Scheduler>>,
    /// When nodes count as lost.
    pub node_policy: NodePolicy,
    /// How fast lost nodes are emptied.
    pub zone_policy: ZonePolicy,
    /// Which addresses pods and services get.
    pub addresses: AddressPlan,
    /// How many guards one commit of placements may hold, one a pod and two a node: from 3 to
    /// [`COMMIT_GUARDS_MAX`], the default. A gang that one commit holds costs one.
    pub guards_per_commit_max: usize,
    /// The seed of every chance in decisions.
    pub seed: u64,
    /// Where numbers go.
    pub meter: Arc<dyn Meter>,
}

impl Default for ControlSettings {
    fn default() -> Self {
        Self {
            schedulers: BTreeMap::from([(
                Pod::DEFAULT_SCHEDULER.into(),
                Arc::new(Framework::default()) as Arc<dyn Scheduler>,
            )]),
            node_policy: NodePolicy::default(),
            zone_policy: ZonePolicy::default(),
            addresses: AddressPlan::default(),
            guards_per_commit_max: COMMIT_GUARDS_MAX,
            seed: 0,
            meter: Arc::new(NoMeter),
        }
    }
}

/// The controllers of a cluster. Make one with [`new`](Self::new), and let it [`run`](Self::run).
///
/// It holds nothing that the store does not: it may be dropped at any instant, and another one
/// carries on.
#[derive(Debug)]
pub struct ControlPlane {
    caches: Caches,
    registry: Arc<dyn ServiceRegistry>,
    deployments: Controller<DeploymentLoop>,
    /// One a scheduler.
    placement: Vec<Controller<PlacementLoop>>,
    gangs: Controller<GangsLoop>,
    endpoints: Controller<EndpointsLoop>,
    nodes: Controller<NodesLoop>,
    garbage: Controller<GarbageLoop>,
    quotas: Controller<QuotaLoop>,
    budgets: Controller<BudgetLoop>,
}

impl ControlPlane {
    /// Controllers that write through `client` and tell `events`. They publish endpoints to
    /// `registry`, or as endpoint slices if there is none.
    pub fn new(
        client: &Client,
        settings: ControlSettings,
        events: &Recorder,
        registry: Option<Arc<dyn ServiceRegistry>>,
    ) -> Self {
        let caches = Caches::new(client);
        let registry = registry
            .unwrap_or_else(|| Arc::new(SliceRegistry::new(client.clone(), caches.slices.clone())));
        let clock = client.clock().clone();
        let meter = &settings.meter;

        let deployment = DeploymentLoop::new(
            client.clone(),
            caches.clone(),
            events.component("deployment"),
        );
        let deployments = Controller::new(deployment, clock.clone()).meter(meter.clone());
        DeploymentLoop::feed(&caches, deployments.queue());

        let place = |(name, scheduler): (SmolStr, Arc<dyn Scheduler>)| {
            let placement = PlacementLoop::new(
                client.clone(),
                caches.clone(),
                events.component("placement"),
                scheduler,
                name,
                settings.seed,
            )
            .guards_per_commit(settings.guards_per_commit_max);
            let placement = Controller::new(placement, clock.clone()).meter(meter.clone());
            placement.reconciler().feed(placement.queue());
            placement
        };
        let placement = settings.schedulers.into_iter().map(place).collect();

        let gangs = GangsLoop::new(
            client.clone(),
            caches.clone(),
            events.component("gangs"),
            settings.guards_per_commit_max.min(COMMIT_GUARDS_MAX),
        );
        let gangs = Controller::new(gangs, clock.clone()).meter(meter.clone());
        gangs.reconciler().feed(gangs.queue());

        let endpoints = EndpointsLoop::new(
            client.clone(),
            caches.clone(),
            registry.clone(),
            settings.addresses,
        );
        let endpoints = Controller::new(endpoints, clock.clone()).meter(meter.clone());
        EndpointsLoop::feed(&caches, endpoints.queue());

        let nodes = NodesLoop::new(
            client.clone(),
            caches.clone(),
            events.component("nodes"),
            settings.node_policy,
            settings.zone_policy,
            settings.addresses,
        );
        let nodes = Controller::new(nodes, clock.clone()).meter(meter.clone());
        nodes.reconciler().feed(nodes.queue());

        let garbage = GarbageLoop::new(client.clone(), caches.clone(), events.component("garbage"));
        let garbage = Controller::new(garbage, clock.clone()).meter(meter.clone());
        GarbageLoop::feed(&caches, garbage.queue());

        let quotas = QuotaLoop::new(client.clone(), caches.clone());
        let quotas = Controller::new(quotas, clock.clone()).meter(meter.clone());
        QuotaLoop::feed(&caches, quotas.queue());

        let budgets = BudgetLoop::new(client.clone(), caches.clone());
        let budgets = Controller::new(budgets, clock).meter(meter.clone());
        BudgetLoop::feed(&caches, budgets.queue());

        Self {
            caches,
            registry,
            deployments,
            placement,
            gangs,
            endpoints,
            nodes,
            garbage,
            quotas,
            budgets,
        }
    }

    /// The live copies that the controllers read, for agents and others of this process.
    pub fn caches(&self) -> &Caches {
        &self.caches
    }

    /// Where endpoints are published.
    pub fn registry(&self) -> &Arc<dyn ServiceRegistry> {
        &self.registry
    }

    /// Runs the caches and all controllers until cancelled, and lets passes that are under way
    /// finish.
    pub async fn run(self, cancel: CancellationToken) {
        let filling = CancellationToken::new();
        let mut caches = JoinSet::new();
        let (fill, filled) = (self.caches.clone(), filling.clone());
        caches.spawn(async move { fill.run(filled).await });

        let mut loops = JoinSet::new();
        let synced = self.caches.clone();
        tokio::select! {
            biased;
            () = cancel.cancelled() => {}
            () = synced.synced() => {
                loops.spawn(self.nodes.run(cancel.clone()));
                for placement in self.placement {
                    loops.spawn(placement.run(cancel.clone()));
                }
                loops.spawn(self.gangs.run(cancel.clone()));
                loops.spawn(self.deployments.run(cancel.clone()));
                loops.spawn(self.endpoints.run(cancel.clone()));
                loops.spawn(self.garbage.run(cancel.clone()));
                loops.spawn(self.quotas.run(cancel.clone()));
                loops.spawn(self.budgets.run(cancel.clone()));
            }
        }
        while let Some(ended) = loops.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a controller ended before its time");
            }
        }
        // Passes that finish wait for their own writes to show: the caches go last.
        filling.cancel();
        while caches.join_next().await.is_some() {}
    }
}

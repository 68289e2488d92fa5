//! Disruption budgets: how many of their pods are healthy and how many may go, counted again whenever
//! one comes, goes, or gets better or worse.

use std::collections::BTreeMap;

use orchestra_core::kind::{Pod, PodDisruptionBudget, PodDisruptionBudgetStatus};
use orchestra_core::meta::{ObjectKey, Uid};
use orchestra_sched::budget::state;

use super::caches::Caches;
use crate::api::Client;
use crate::control::{Outcome, PassError, Queue, Reconcile};

/// Keeps the status of disruption budgets right.
#[derive(Debug)]
pub struct BudgetLoop {
    client: Client,
    caches: Caches,
}

impl BudgetLoop {
    /// A controller that reads from `caches` and writes through `client`.
    pub fn new(client: Client, caches: Caches) -> Self {
        Self { client, caches }
    }

    /// Adds to `queue` every budget that a change of a budget, a pod or a deployment may concern.
    pub fn feed(caches: &Caches, queue: &Queue<ObjectKey>) {
        crate::control::enqueue_changed(&caches.budgets, queue);
        let (budgets, adds) = (caches.budgets.clone(), queue.clone());
        caches.pods.on_change(move |event| {
            if let (Some(old), Some(new)) = (&event.old, &event.new)
                && is_healthy(old) == is_healthy(new)
                && old.is_terminal() == new.is_terminal()
                && old.metadata.labels == new.metadata.labels
            {
                return;
            }
            for budget in budgets.in_namespace(&event.key.namespace) {
                let mut pods = event.old.iter().chain(&event.new);
                if pods.any(|pod| covers(&budget, pod)) {
                    adds.add(budget.metadata.key());
                }
            }
        });
        let (budgets, adds) = (caches.budgets.clone(), queue.clone());
        caches.deployments.on_change(move |event| {
            for budget in budgets.in_namespace(&event.key.namespace) {
                adds.add(budget.metadata.key());
            }
        });
    }

    /// How many pods there should be: as many as the deployments of those that there are ask for, and
    /// each pod of another owner, or of none.
    fn expected<'a>(&self, namespace: &str, pods: impl Iterator<Item = &'a Pod>) -> u32 {
        let mut by_owner: BTreeMap<Option<Uid>, u32> = BTreeMap::new();
        for pod in pods {
            let owner = pod.metadata.controller().map(|owner| owner.uid);
            *by_owner.entry(owner).or_default() += 1;
        }
        let deployments = self.caches.deployments.in_namespace(namespace);
        let asked = |owner: Uid| {
            let mut all = deployments.iter();
            let deployment = all.find(|deployment| deployment.metadata.uid == owner)?;
            deployment.spec.replicas
        };
        let counts = by_owner.into_iter();
        counts
            .map(|(owner, count)| owner.and_then(asked).unwrap_or(count))
            .fold(0, u32::saturating_add)
    }
}

impl Reconcile for BudgetLoop {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "budget"
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Outcome, PassError> {
        let Some(budget) = self.caches.budgets.get(key) else {
            return Ok(Outcome::Settled);
        };
        let pods = self.caches.pods.in_namespace(&key.namespace);
        let covered = || {
            let pods = pods.iter().map(AsRef::as_ref);
            pods.filter(|pod: &&Pod| covers(&budget, pod) && !pod.is_terminal())
        };
        let expected = self.expected(&key.namespace, covered());
        let healthy = covered().filter(|pod| is_healthy(pod)).count();
        let healthy = u32::try_from(healthy).unwrap_or(u32::MAX);
        let now = state(&budget.spec, expected, healthy);
        let mut disrupted = budget.status.disrupted_pods.clone();
        disrupted.retain(|name, _| {
            covered().any(|pod| pod.metadata.name == *name && !pod.is_terminating())
        });
        let status = PodDisruptionBudgetStatus {
            observed_generation: budget.metadata.generation,
            disrupted_pods: disrupted,
            disruptions_allowed: now.disruptions_allowed,
            current_healthy: now.current_healthy,
            desired_healthy: now.desired_healthy,
            expected_pods: expected,
            conditions: budget.status.conditions.clone(),
        };
        if status == budget.status {
            return Ok(Outcome::Settled);
        }
        let mut counted = PodDisruptionBudget::clone(&budget);
        counted.status = status;
        let landed = self.client.commit().replace_status(counted).send().await?;
        self.caches.budgets.wait_through(landed).await;
        Ok(Outcome::Settled)
    }
}

fn covers(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.selector.as_ref();
    selector.is_some_and(|selector| selector.matches(&pod.metadata.labels))
}

fn is_healthy(pod: &Pod) -> bool {
    pod.is_ready() && !pod.is_terminating()
}

//! What a pod needs in all.

use super::{Pod, PodSpec};
use crate::quantity::ResourceList;

impl Pod {
    /// What it needs of each resource. See [`PodSpec::requests`].
    pub fn requests(&self) -> ResourceList {
        self.spec.requests()
    }
}

impl PodSpec {
    /// What a pod needs of each resource: the main containers and sidecars together, or, where
    /// that is more, one init container with the sidecars started before it; and its overhead.
    /// Where the pod as a whole states a need, that stands in for its containers'. Sums stop at
    /// the largest quantity.
    pub fn requests(&self) -> ResourceList {
        let mut main = ResourceList::new();
        for container in &self.containers {
            add(&mut main, &container.resources.requests);
        }
        let mut sidecars = ResourceList::new();
        let mut peak = ResourceList::new();
        for container in &self.init_containers {
            if container.is_sidecar() {
                add(&mut main, &container.resources.requests);
                add(&mut sidecars, &container.resources.requests);
                raise(&mut peak, &sidecars);
            } else {
                let mut now = sidecars.clone();
                add(&mut now, &container.resources.requests);
                raise(&mut peak, &now);
            }
        }
        raise(&mut main, &peak);
        if let Some(whole) = &self.resources {
            for (name, amount) in &whole.requests {
                main.insert(name.clone(), *amount);
            }
        }
        add(&mut main, &self.overhead);
        main
    }
}

fn add(sum: &mut ResourceList, more: &ResourceList) {
    for (name, amount) in more {
        let sum = sum.entry(name.clone()).or_default();
        // Beyond what a quantity holds, no node has that much either.
        *sum = sum
            .checked_add(*amount)
            .unwrap_or_else(|| (*sum).max(*amount));
    }
}

fn raise(peak: &mut ResourceList, candidate: &ResourceList) {
    for (name, amount) in candidate {
        let peak = peak.entry(name.clone()).or_default();
        *peak = (*peak).max(*amount);
    }
}

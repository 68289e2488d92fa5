//! Endpoint sets kept in memory: the registry of one process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use orchestra_core::port::registry::{
    Applied, EndpointWatch, Endpoints, RegistryError, RegistryErrorKind, ServiceName,
    ServiceRegistry, SetGeneration,
};
use tokio::sync::watch;

/// The most endpoints that one set may hold.
pub const ENDPOINTS_MAX: usize = 16_384;

/// A registry in the memory of this process.
///
/// It keeps the newest set of each service that was ever published or followed. A service that is
/// gone is published as an empty set: forgetting it would let a late caller bring the old set
/// back.
#[derive(Debug, Default)]
pub struct MemoryRegistry {
    services: Mutex<BTreeMap<ServiceName, watch::Sender<Endpoints>>>,
}

impl MemoryRegistry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    fn services(&self) -> MutexGuard<'_, BTreeMap<ServiceName, watch::Sender<Endpoints>>> {
        // Every change of the map is one call, so a panic elsewhere leaves it whole.
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl ServiceRegistry for MemoryRegistry {
    async fn apply(
        &self,
        service: &ServiceName,
        endpoints: Endpoints,
    ) -> Result<Applied, RegistryError> {
        check(service, &endpoints)?;
        let mut services = self.services();
        let sender = services
            .entry(service.clone())
            .or_insert_with(|| watch::Sender::new(Endpoints::default()));
        let mut applied = Applied::Published;
        sender.send_if_modified(|current| {
            if endpoints.generation <= current.generation {
                applied = Applied::Superseded(current.generation);
                return false;
            }
            *current = endpoints;
            true
        });
        Ok(applied)
    }

    async fn lookup(&self, service: &ServiceName) -> Result<Endpoints, RegistryError> {
        Ok(self
            .services()
            .get(service)
            .map(|set| set.borrow().clone())
            .unwrap_or_default())
    }

    async fn follow(&self, service: &ServiceName) -> Result<Box<dyn EndpointWatch>, RegistryError> {
        let mut services = self.services();
        let sender = services
            .entry(service.clone())
            .or_insert_with(|| watch::Sender::new(Endpoints::default()));
        let mut receiver = sender.subscribe();
        receiver.mark_changed();
        Ok(Box::new(MemoryWatch {
            service: service.clone(),
            receiver,
        }))
    }
}

/// Refuses what no registry may publish.
fn check(service: &ServiceName, endpoints: &Endpoints) -> Result<(), RegistryError> {
    let refuse = |why: String| {
        Err(RegistryError::new(RegistryErrorKind::Invalid, "apply")
            .about(service.to_string())
            .because(why))
    };
    if endpoints.generation == SetGeneration(0) {
        return refuse("generation 0 means that nothing was published; start at 1".into());
    }
    if endpoints.all.len() > ENDPOINTS_MAX {
        let count = endpoints.all.len();
        return refuse(format!(
            "{count} endpoints, at most {ENDPOINTS_MAX}; split the service"
        ));
    }
    match endpoints
        .all
        .windows(2)
        .find(|pair| pair[0].pod >= pair[1].pod)
    {
        Some(pair) => {
            let (first, second) = (&pair[0].pod_name, &pair[1].pod_name);
            refuse(format!(
                "{second} comes after {first}, out of order or twice; order the set by pod uid"
            ))
        }
        None => Ok(()),
    }
}

#[derive(Debug)]
struct MemoryWatch {
    service: ServiceName,
    receiver: watch::Receiver<Endpoints>,
}

#[async_trait]
impl EndpointWatch for MemoryWatch {
    async fn next(&mut self) -> Result<Endpoints, RegistryError> {
        self.receiver.changed().await.map_err(|_| {
            RegistryError::new(RegistryErrorKind::Unavailable, "follow")
                .about(self.service.to_string())
                .because("the registry was dropped")
        })?;
        Ok(self.receiver.borrow_and_update().clone())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use orchestra_core::conformance::registry::run;
    use orchestra_core::meta::Uid;
    use orchestra_core::port::registry::Endpoint;
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[tokio::test(start_paused = true)]
    async fn it_keeps_the_contract() {
        let fresh = || async { Arc::new(MemoryRegistry::new()) as Arc<dyn ServiceRegistry> };
        run(fresh, tokio::time::sleep).await.assert_passed();
    }

    #[tokio::test]
    async fn what_no_registry_may_publish_is_refused_by_name() {
        let registry = MemoryRegistry::new();
        let endpoint = |pod: u128| Endpoint {
            pod: Uid(pod),
            pod_name: format!("web-{pod}").into(),
            address: [127, 0, 0, 1].into(),
            ports: Arc::new([]),
            ready: true,
            terminating: false,
            node: "".into(),
            zone: "".into(),
        };
        for (generation, pods, word) in [
            (0, [1, 2], "start at 1"),
            (1, [2, 1], "web-1"),
            (1, [2, 2], "twice"),
        ] {
            let all = pods.map(endpoint).into();
            let set = Endpoints {
                generation: SetGeneration(generation),
                all,
            };
            let error = registry
                .apply(&ServiceName::new("ns", "web"), set)
                .await
                .unwrap_err();
            assert_eq!(error.kind(), RegistryErrorKind::Invalid);
            let text = orchestra_core::error::report(&error).to_string();
            assert!(
                text.starts_with("apply ns/web: ") && text.contains(word),
                "{text}"
            );
        }
    }

    #[tokio::test]
    async fn a_follower_of_a_dropped_registry_is_told() {
        let registry = MemoryRegistry::new();
        let mut watch = registry
            .follow(&ServiceName::new("ns", "web"))
            .await
            .unwrap();
        watch.next().await.unwrap();
        drop(registry);
        assert_eq!(
            watch.next().await.unwrap_err().kind(),
            RegistryErrorKind::Unavailable
        );
    }

    /// Registries that each break one sentence.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Bug {
        AcceptsLateSets,
        AcceptsAnotherSetAsNew,
        DropsEmptySets,
        MixesNamespaces,
        FollowersMissTheCurrentSet,
        FollowersHearTwice,
        FollowersGoBack,
        DroppedWaitsLoseASet,
        KeepsRemovedEndpoints,
        KeepsRemovedEndpointsNowAndThen,
        TellsFollowersOfRemovedEndpoints,
        LooksAtPodsOnly,
        LosesASetNowAndThen,
    }

    /// A plain registry: one list of sets a service, looked at by turns.
    #[derive(Debug)]
    struct Broken(
        Bug,
        Arc<Mutex<BTreeMap<ServiceName, Vec<Endpoints>>>>,
        AtomicU64,
    );

    impl Broken {
        fn key(&self, service: &ServiceName) -> ServiceName {
            match self.0 {
                Bug::MixesNamespaces => ServiceName::new("", service.name.clone()),
                _ => service.clone(),
            }
        }
    }

    impl Broken {
        /// True once in `every` calls.
        fn rarely(&self, every: u64) -> bool {
            self.2.fetch_add(1, Ordering::Relaxed) % every == every / 2
        }
    }

    /// The newest set, with what the one before had besides.
    fn with_removed(sets: Option<&Vec<Endpoints>>) -> Endpoints {
        let mut newest = newest(sets);
        let before = sets.and_then(|sets| sets.iter().rev().nth(1));
        let mut all = newest.all.to_vec();
        for old in before.iter().flat_map(|set| set.all.iter()) {
            if !all.iter().any(|endpoint| endpoint.pod == old.pod) {
                all.push(old.clone());
            }
        }
        all.sort_by_key(|endpoint| endpoint.pod);
        newest.all = all.into();
        newest
    }

    fn pods(set: &Endpoints) -> Vec<Uid> {
        set.all.iter().map(|endpoint| endpoint.pod).collect()
    }

    fn newest(sets: Option<&Vec<Endpoints>>) -> Endpoints {
        sets.and_then(|sets| sets.last().cloned())
            .unwrap_or_default()
    }

    #[async_trait]
    impl ServiceRegistry for Broken {
        async fn apply(
            &self,
            service: &ServiceName,
            endpoints: Endpoints,
        ) -> Result<Applied, RegistryError> {
            let mut services = self.1.lock().unwrap();
            let sets = services.entry(self.key(service)).or_default();
            let current = newest(Some(sets)).generation;
            let refused = match self.0 {
                Bug::AcceptsLateSets => endpoints.generation == current,
                Bug::AcceptsAnotherSetAsNew => endpoints.generation < current,
                _ => endpoints.generation <= current,
            };
            if refused {
                return Ok(Applied::Superseded(current));
            }
            let lost = match self.0 {
                Bug::DropsEmptySets => endpoints.all.is_empty(),
                Bug::LooksAtPodsOnly => pods(&newest(Some(sets))) == pods(&endpoints),
                Bug::LosesASetNowAndThen => self.rarely(50),
                _ => false,
            };
            if !lost {
                sets.push(endpoints);
            }
            Ok(Applied::Published)
        }

        async fn lookup(&self, service: &ServiceName) -> Result<Endpoints, RegistryError> {
            let services = self.1.lock().unwrap();
            let sets = services.get(&self.key(service));
            Ok(match self.0 {
                Bug::KeepsRemovedEndpoints => with_removed(sets),
                Bug::KeepsRemovedEndpointsNowAndThen if self.rarely(50) => with_removed(sets),
                _ => newest(sets),
            })
        }

        async fn follow(
            &self,
            service: &ServiceName,
        ) -> Result<Box<dyn EndpointWatch>, RegistryError> {
            let last = match self.0 {
                Bug::FollowersMissTheCurrentSet => Some(self.lookup(service).await?),
                _ => None,
            };
            Ok(Box::new(BrokenWatch {
                bug: self.0,
                service: self.key(service),
                sets: Arc::clone(&self.1),
                last,
                calls: 0,
            }))
        }
    }

    struct BrokenWatch {
        bug: Bug,
        service: ServiceName,
        sets: Arc<Mutex<BTreeMap<ServiceName, Vec<Endpoints>>>>,
        last: Option<Endpoints>,
        calls: usize,
    }

    #[async_trait]
    impl EndpointWatch for BrokenWatch {
        async fn next(&mut self) -> Result<Endpoints, RegistryError> {
            loop {
                let now = {
                    let services = self.sets.lock().unwrap();
                    let sets = services.get(&self.service);
                    match self.bug {
                        Bug::TellsFollowersOfRemovedEndpoints => with_removed(sets),
                        _ => newest(sets),
                    }
                };
                self.calls += 1;
                if self.bug == Bug::FollowersGoBack && self.calls.is_multiple_of(3) {
                    let old = self.sets.lock().unwrap().get(&self.service).cloned();
                    return Ok(old
                        .and_then(|sets| sets.first().cloned())
                        .unwrap_or_default());
                }
                let is_new = self.last.as_ref() != Some(&now);
                if is_new || (self.bug == Bug::FollowersHearTwice && self.calls.is_multiple_of(2)) {
                    self.last = Some(now.clone());
                    if self.bug == Bug::DroppedWaitsLoseASet {
                        tokio::task::yield_now().await; // dropped here, it counts as told
                    }
                    return Ok(now);
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_suite_finds_each_planted_bug() {
        let (mut all, mut broken) = (BTreeSet::new(), BTreeSet::new());
        for (bug, check) in [
            (Bug::AcceptsLateSets, "a_late_set_is_refused"),
            (Bug::AcceptsAnotherSetAsNew, "repeating_changes_nothing"),
            (Bug::DropsEmptySets, "an_empty_set_is_a_set"),
            (Bug::MixesNamespaces, "services_are_apart"),
            (
                Bug::FollowersMissTheCurrentSet,
                "a_follower_starts_with_the_current_set",
            ),
            (Bug::FollowersHearTwice, "a_follower_hears_of_nothing_twice"),
            (Bug::FollowersGoBack, "a_follower_never_goes_back"),
            (Bug::DroppedWaitsLoseASet, "a_dropped_wait_loses_nothing"),
            (
                Bug::KeepsRemovedEndpoints,
                "what_was_published_is_looked_up",
            ),
            (
                Bug::KeepsRemovedEndpointsNowAndThen,
                "a_random_history_equals_its_model",
            ),
            (
                Bug::TellsFollowersOfRemovedEndpoints,
                "every_follower_comes_to_the_newest",
            ),
            (Bug::LooksAtPodsOnly, "every_difference_is_published"),
            (
                Bug::LosesASetNowAndThen,
                "a_random_history_equals_its_model",
            ),
        ] {
            let fresh = || async move {
                Arc::new(Broken(bug, Arc::default(), AtomicU64::new(0))) as Arc<dyn ServiceRegistry>
            };
            let report = run(fresh, tokio::time::sleep).await;
            all.extend(report.checks.iter().map(|check| check.name));
            broken.extend(report.failed().map(|check| check.name));
            assert!(
                report.failed().any(|failed| failed.name == check),
                "{bug:?}\n{report}"
            );
        }
        assert_eq!(broken, all, "checks that no planted bug breaks");
    }
}

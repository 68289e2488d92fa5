//! Where connections can go, and how many are there: counted without a lock, drained in order.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use orchestra_core::meta::Uid;
use orchestra_core::port::registry::{Endpoint, Endpoints};
use smol_str::SmolStr;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The targets of one listener that want connections, ordered by pod. Replaced as a whole.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    /// What a balancer chooses from.
    pub(crate) endpoints: Vec<Endpoint>,
    /// The target of each endpoint.
    targets: Vec<Arc<Target>>,
}

impl Targets {
    /// The target at `index`; `None` past the end.
    pub(crate) fn get(&self, index: usize) -> Option<&Arc<Target>> {
        self.targets.get(index)
    }

    /// The pods to be tried last at that instant.
    pub(crate) fn suspects(&self, now_ms: u64) -> impl Iterator<Item = Uid> {
        let pods = self.endpoints.iter().map(|endpoint| endpoint.pod);
        let all = pods.zip(&self.targets);
        all.filter(move |(_, target)| target.is_suspect(now_ms))
            .map(|(pod, _)| pod)
    }
}

/// One pod as every listener of a proxy sees it.
#[derive(Debug)]
pub(crate) struct Pod {
    /// Its connections, over all listeners.
    in_flight: AtomicUsize,
    /// Its targets that still accept.
    open: AtomicUsize,
    /// Wakes whoever waits for both to become zero.
    emptied: Notify,
}

impl Pod {
    fn is_drained(&self) -> bool {
        self.open.load(Ordering::SeqCst) == 0 && self.in_flight.load(Ordering::SeqCst) == 0
    }
}

/// One address of one pod behind one listener. Once closed it stays closed.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pod: Arc<Pod>,
    accepting: AtomicBool,
    /// Milliseconds since the proxy began, until which it is tried last.
    suspect_until_ms: AtomicU64,
}

impl Target {
    fn new(address: SocketAddr, pod: Arc<Pod>) -> Arc<Self> {
        pod.open.fetch_add(1, Ordering::SeqCst);
        Arc::new(Self {
            address,
            pod,
            accepting: AtomicBool::new(true),
            suspect_until_ms: AtomicU64::new(0),
        })
    }

    /// Counts a connection in, unless the target is closed.
    ///
    /// First counts, then looks: a drain first closes, then counts. Whichever comes first, no
    /// connection slips past a drain that has seen zero.
    pub(crate) fn begin(self: &Arc<Self>) -> Option<InFlight> {
        self.pod.in_flight.fetch_add(1, Ordering::SeqCst);
        let begun = InFlight(Arc::clone(self));
        self.accepting.load(Ordering::SeqCst).then_some(begun)
    }

    fn is_suspect(&self, now_ms: u64) -> bool {
        now_ms < self.suspect_until_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn suspect_until(&self, ms: u64) {
        self.suspect_until_ms.store(ms, Ordering::Relaxed);
    }

    fn close(&self) {
        if self.accepting.swap(false, Ordering::SeqCst) {
            self.pod.open.fetch_sub(1, Ordering::SeqCst);
            self.pod.emptied.notify_waiters();
        }
    }
}

/// A connection that counts, until dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Target>);

impl Drop for InFlight {
    fn drop(&mut self) {
        let before = self.0.pod.in_flight.fetch_sub(1, Ordering::SeqCst);
        // Nobody can be waiting with success in sight while the pod still accepts.
        if before == 1 && self.0.pod.open.load(Ordering::SeqCst) == 0 {
            self.0.pod.emptied.notify_waiters();
        }
    }
}

/// Every pod that some listener knows or some connection uses.
#[derive(Debug, Default)]
pub(crate) struct Pods(Mutex<BTreeMap<Uid, Weak<Pod>>>);

impl Pods {
    fn get(&self, uid: Uid) -> Option<Arc<Pod>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&uid)?
            .upgrade()
    }

    fn get_or_add(&self, uid: Uid) -> Arc<Pod> {
        let mut pods = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pod) = pods.get(&uid).and_then(Weak::upgrade) {
            return pod;
        }
        pods.retain(|_, pod| pod.strong_count() > 0);
        let pod = Arc::new(Pod {
            in_flight: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            emptied: Notify::new(),
        });
        pods.insert(uid, Arc::downgrade(&pod));
        pod
    }

    pub(crate) fn in_flight(&self, uid: Uid) -> usize {
        self.get(uid)
            .map_or(0, |pod| pod.in_flight.load(Ordering::SeqCst))
    }

    #[cfg(test)]
    pub(crate) fn accepts(&self, uid: Uid) -> bool {
        self.get(uid)
            .is_some_and(|pod| pod.open.load(Ordering::SeqCst) > 0)
    }

    /// Waits until the pod accepts nothing and has no connection left; gives the number of
    /// connections left after `patience`. A pod nobody knows is drained.
    pub(crate) async fn drained(&self, uid: Uid, patience: Duration) -> Result<(), usize> {
        let Some(pod) = self.get(uid) else {
            return Ok(());
        };
        let deadline = Instant::now() + patience;
        loop {
            let emptied = pod.emptied.notified();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            if pod.is_drained() {
                return Ok(());
            }
            if tokio::time::timeout_at(deadline, emptied).await.is_err() {
                let left = pod.in_flight.load(Ordering::SeqCst);
                return if pod.is_drained() { Ok(()) } else { Err(left) };
            }
        }
    }
}

/// The open targets of one listener, carried from one endpoint set to the next.
#[derive(Debug)]
pub(crate) struct TargetSet {
    port: SmolStr,
    open: BTreeMap<(Uid, SocketAddr), Arc<Target>>,
}

impl TargetSet {
    /// No targets yet; of each endpoint the port of that name will count.
    pub(crate) fn new(port: SmolStr) -> Self {
        Self {
            port,
            open: BTreeMap::new(),
        }
    }

    /// Moves on to `endpoints`: what left is closed, what stays keeps its counts.
    pub(crate) fn apply(&mut self, endpoints: &Endpoints, pods: &Pods) -> Targets {
        let mut before = std::mem::take(&mut self.open);
        let mut list = Targets::default();
        for endpoint in endpoints.all.iter().filter(|e| e.ready && !e.terminating) {
            let Some((_, port)) = endpoint.ports.iter().find(|(name, _)| *name == self.port) else {
                continue;
            };
            let key = (endpoint.pod, SocketAddr::new(endpoint.address, *port));
            let target = before
                .remove(&key)
                .unwrap_or_else(|| Target::new(key.1, pods.get_or_add(key.0)));
            list.endpoints.push(endpoint.clone());
            list.targets.push(Arc::clone(&target));
            self.open.insert(key, target);
        }
        before.values().for_each(|left| left.close());
        list
    }
}

impl Drop for TargetSet {
    fn drop(&mut self) {
        self.open.values().for_each(|target| target.close());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use orchestra_core::port::registry::{Endpoint, SetGeneration};

    fn endpoints(pods: &[(u128, bool)]) -> Endpoints {
        let all = pods
            .iter()
            .map(|(uid, ready)| Endpoint {
                pod: Uid(*uid),
                pod_name: SmolStr::default(),
                address: [127, 0, 0, 1].into(),
                ports: Arc::new([(SmolStr::default(), 1_000 + *uid as u16)]),
                ready: *ready,
                terminating: false,
                node: SmolStr::default(),
                zone: SmolStr::default(),
            })
            .collect();
        Endpoints {
            generation: SetGeneration(1),
            all,
        }
    }

    #[test]
    fn a_target_that_stays_keeps_its_count_and_one_that_left_takes_nothing_more() {
        let pods = Pods::default();
        let mut set = TargetSet::new(SmolStr::default());
        let before = set.apply(&endpoints(&[(1, true), (2, true)]), &pods);
        let (one, two) = (before.get(0).unwrap(), before.get(1).unwrap());
        let (one, two) = (one.begin().unwrap(), two.begin().unwrap());
        let after = set.apply(&endpoints(&[(1, true), (2, false), (3, true)]), &pods);
        assert_eq!(after.endpoints.len(), 2);
        assert!(Arc::ptr_eq(after.get(0).unwrap(), before.get(0).unwrap()));
        assert!(
            before.get(1).unwrap().begin().is_none(),
            "an old list must not reach a pod that left"
        );
        assert_eq!((pods.in_flight(Uid(1)), pods.in_flight(Uid(2))), (1, 1));
        drop((one, two));
        assert_eq!((pods.in_flight(Uid(1)), pods.in_flight(Uid(2))), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn drained_means_closed_everywhere_and_empty() {
        let pods = Arc::new(Pods::default());
        let (mut a, mut b) = (TargetSet::new("".into()), TargetSet::new("".into()));
        let list = a.apply(&endpoints(&[(1, true)]), &pods);
        b.apply(&endpoints(&[(1, true)]), &pods);
        let connection = list.get(0).unwrap().begin().unwrap();
        let second = Duration::from_secs(1);
        assert_eq!(pods.drained(Uid(1), second).await, Err(1));
        let waiting = tokio::spawn({
            let pods = Arc::clone(&pods);
            async move { pods.drained(Uid(1), Duration::MAX / 4).await }
        });
        a.apply(&endpoints(&[]), &pods);
        tokio::time::sleep(second).await;
        drop(connection);
        tokio::time::sleep(second).await;
        assert!(
            !waiting.is_finished(),
            "the other listener still sends to it"
        );
        drop(b);
        assert_eq!(waiting.await.unwrap(), Ok(()));
        assert_eq!(pods.drained(Uid(99), second).await, Ok(()));
    }
}

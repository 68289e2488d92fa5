//! A TCP proxy on the stable addresses of services.
//!
//! Each listener follows the endpoints of its service. A new connection goes to the ready endpoint
//! that its balancer chooses, and to another one if that cannot be connected to. An endpoint that
//! leaves the ready set gets no new connection from that moment on; those it has may finish, and
//! [`L4Handle::drained`] tells when they have. What ends before its time is reset, so that no
//! peer takes a part for the whole.

mod copy;
mod listener;
mod target;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use orchestra_core::meta::Uid;
use orchestra_core::port::registry::{ServiceName, ServiceRegistry};
use orchestra_sched::balance::{Balancer, RoundRobin};
use smol_str::SmolStr;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use listener::{Leftover, Listener, Shared, bind, note_panic};
pub use listener::{ListenError, ListenErrorKind};

/// The bounds of one proxy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct L4Limits {
    /// Connections open at once, over all listeners; further ones wait in the backlog. Each
    /// takes two file descriptors. 16,384 by default.
    pub connections_max: usize,
    /// Connections open at once on one listener. 8,192 by default.
    pub connections_per_listener_max: usize,
    /// Endpoints that one connection tries, each at most once. 8 by default.
    pub connect_attempts_max: usize,
    /// How long one attempt may take. 1 s by default.
    pub connect_timeout: Duration,
    /// How long an endpoint that could not be connected to is tried last. 1 s by default.
    pub suspect_for: Duration,
    /// How long a connection waits for an endpoint while there is none to try, counted from its
    /// start. Zero by default: it is reset at once.
    pub target_wait_max: Duration,
    /// How long the connections of a removed listener may go on. 30 s by default.
    pub removed_grace: Duration,
}

impl Default for L4Limits {
    fn default() -> Self {
        Self {
            connections_max: 16_384,
            connections_per_listener_max: 8_192,
            connect_attempts_max: 8,
            connect_timeout: Duration::from_secs(1),
            suspect_for: Duration::from_secs(1),
            target_wait_max: Duration::ZERO,
            removed_grace: Duration::from_secs(30),
        }
    }
}

/// What one listener serves.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct L4Route {
    /// Where it listens: the service's address and port.
    pub listen: SocketAddr,
    /// The service whose endpoints it serves.
    pub service: ServiceName,
    /// The name of the service's port; empty for a single unnamed one.
    pub port: SmolStr,
}

/// Gives the balancer of a new listener.
pub type BalancerFor = fn(&L4Route) -> Arc<dyn Balancer>;

/// What a proxy has done since it began. Counters only grow.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct L4Stats {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections reset because no endpoint could be reached.
    pub no_target: u64,
    /// Attempts to connect to an endpoint that failed.
    pub connect_failures: u64,
    /// Connections that ended by an error of either side.
    pub broken: u64,
    /// Times that accepting failed, for instance for want of file descriptors.
    pub accept_errors: u64,
    /// Bytes from clients, of connections that ended well.
    pub bytes_up: u64,
    /// Bytes to clients, of connections that ended well.
    pub bytes_down: u64,
    /// Connections open now.
    pub open: usize,
}

#[derive(Debug, Default)]
struct Stats {
    accepted: AtomicU64,
    no_target: AtomicU64,
    connect_failures: AtomicU64,
    broken: AtomicU64,
    accept_errors: AtomicU64,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
}

/// Connections were left when the patience of [`L4Handle::drained`] ran out.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("pod {pod} still has {left} connections; give it longer, or cut them by stopping it")]
pub struct NotDrained {
    /// The pod.
    pub pod: Uid,
    /// Its connections. Zero if it has none now but is still ready in some endpoint set.
    pub left: usize,
}

/// Asks about a proxy, from anywhere. Cloning shares it.
#[derive(Clone, Debug)]
pub struct L4Handle(Arc<Shared>);

impl L4Handle {
    /// How many connections the pod has, over all listeners.
    pub fn in_flight(&self, pod: Uid) -> usize {
        self.0.pods.in_flight(pod)
    }

    /// Waits until no listener sends new connections to the pod and it has none left. A pod that
    /// no listener knows is drained. Cancel-safe.
    ///
    /// Call it after the pod was published as not ready or terminating: while it is still ready
    /// somewhere this waits.
    ///
    /// # Errors
    ///
    /// [`NotDrained`] after `patience`.
    pub async fn drained(&self, pod: Uid, patience: Duration) -> Result<(), NotDrained> {
        self.0
            .pods
            .drained(pod, patience)
            .await
            .map_err(|left| NotDrained { pod, left })
    }

    /// What the proxy has done so far.
    pub fn stats(&self) -> L4Stats {
        let stats = &self.0.stats;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        L4Stats {
            accepted: read(&stats.accepted),
            no_target: read(&stats.no_target),
            connect_failures: read(&stats.connect_failures),
            broken: read(&stats.broken),
            accept_errors: read(&stats.accept_errors),
            bytes_up: read(&stats.bytes_up),
            bytes_down: read(&stats.bytes_down),
            open: self
                .0
                .limits
                .connections_max
                .saturating_sub(self.0.slots.available_permits()),
        }
    }
}

/// A TCP proxy. Dropping it cuts every connection; [`shutdown`](Self::shutdown) lets them finish.
#[derive(Debug)]
pub struct L4Proxy {
    shared: Arc<Shared>,
    listeners: BTreeMap<SocketAddr, Running>,
    /// Waits for the connections of removed listeners.
    removed: JoinSet<()>,
    /// Ends the wait.
    cut: CancellationToken,
}

/// A listener at work.
#[derive(Debug)]
struct Running {
    route: L4Route,
    accept: JoinHandle<Leftover>,
    follow: JoinHandle<()>,
    stop: DropGuard,
}

impl Running {
    fn start(
        shared: &Arc<Shared>,
        route: L4Route,
        socket: TcpListener,
        connections: JoinSet<()>,
    ) -> Self {
        let listener = Arc::new(Listener::new(Arc::clone(shared), route.clone()));
        let stop = CancellationToken::new();
        let (sender, receiver) = watch::channel(Arc::default());
        let follow = tokio::spawn(Arc::clone(&listener).follow(sender, stop.clone()));
        let accept = listener.accept(socket, connections, receiver, stop.clone());
        Self {
            route,
            accept: tokio::spawn(accept),
            follow,
            stop: stop.drop_guard(),
        }
    }

    /// Stops accepting and following. `None` if its task panicked.
    async fn stop(self) -> Option<Leftover> {
        drop(self.stop);
        let (leftover, followed) = (self.accept.await, self.follow.await);
        note_panic(followed);
        leftover
            .inspect_err(|error| tracing::error!(%error, "an accept loop panicked"))
            .ok()
    }
}

impl L4Proxy {
    /// A proxy with no listeners yet, each of which will serve its endpoints in turn.
    pub fn new(registry: Arc<dyn ServiceRegistry>, limits: L4Limits) -> Self {
        Self::with_balancers(registry, limits, |_| Arc::new(RoundRobin::new()))
    }

    /// A proxy with no listeners yet, each of which will have the balancer that `balancer` gives.
    pub fn with_balancers(
        registry: Arc<dyn ServiceRegistry>,
        limits: L4Limits,
        balancer: BalancerFor,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(
            limits.connections_max.min(Semaphore::MAX_PERMITS),
        ));
        let shared = Shared {
            registry,
            limits,
            balancer,
            pods: Default::default(),
            slots,
            stats: Stats::default(),
            began: Instant::now(),
        };
        Self {
            shared: Arc::new(shared),
            listeners: BTreeMap::new(),
            removed: JoinSet::new(),
            cut: CancellationToken::new(),
        }
    }

    /// Asks about this proxy.
    pub fn handle(&self) -> L4Handle {
        L4Handle(Arc::clone(&self.shared))
    }

    /// What it listens for, ordered by address.
    pub fn routes(&self) -> impl Iterator<Item = &L4Route> {
        self.listeners.values().map(|running| &running.route)
    }

    /// Makes the listener for `route` run. One that listens there for something else goes over
    /// to it without closing its socket; its connections go on. Idempotent.
    ///
    /// Not cancel-safe: a call dropped while it replaces a listener removes that one.
    ///
    /// # Errors
    ///
    /// [`ListenError`], naming the address and the remedy. Other listeners are not touched.
    pub async fn ensure(&mut self, route: L4Route) -> Result<(), ListenError> {
        while self.removed.try_join_next().is_some() {}
        if self
            .listeners
            .get(&route.listen)
            .is_some_and(|running| running.route == route)
        {
            return Ok(());
        }
        let before = match self.listeners.remove(&route.listen) {
            Some(running) => running.stop().await,
            None => None,
        };
        let (socket, connections) = match before {
            Some(leftover) => leftover,
            None => (bind(route.listen)?, JoinSet::new()),
        };
        let running = Running::start(&self.shared, route.clone(), socket, connections);
        self.listeners.insert(route.listen, running);
        Ok(())
    }

    /// Stops listening there; once it returns the port is free. Its connections go on for
    /// [`L4Limits::removed_grace`] at most. Returns whether there was a listener.
    pub async fn remove(&mut self, listen: SocketAddr) -> bool {
        while self.removed.try_join_next().is_some() {}
        let Some(running) = self.listeners.remove(&listen) else {
            return false;
        };
        if let Some((_, connections)) = running.stop().await {
            let (grace, cut) = (self.shared.limits.removed_grace, self.cut.clone());
            let deadline = Instant::now() + grace;
            self.removed.spawn(finish(connections, deadline, cut));
        }
        true
    }

    /// Makes exactly `routes` run: removes what is not among them, then ensures each. Where two
    /// want the same address the one that listens already has it, else the first. What failed is
    /// returned, and tried again with the next call.
    pub async fn sync<'a>(&mut self, routes: &'a [L4Route]) -> Vec<(&'a L4Route, ListenError)> {
        let gone: Vec<_> = self.listeners.keys().copied().collect();
        for listen in gone {
            if !routes.iter().any(|route| route.listen == listen) {
                self.remove(listen).await;
            }
        }
        let mut holders: BTreeMap<SocketAddr, &L4Route> = BTreeMap::new();
        for route in routes {
            let listens = self.listeners.get(&route.listen);
            if listens.is_some_and(|running| running.route.service == route.service) {
                holders.insert(route.listen, route);
            }
        }
        let mut failed = Vec::new();
        for route in routes {
            let holder = *holders.entry(route.listen).or_insert(route);
            let ensured = if holder == route {
                self.ensure(route.clone()).await
            } else {
                let error = ListenError::new(ListenErrorKind::Served, "listen on");
                Err(error
                    .about(route.listen.to_string())
                    .because(format!("it is the address of {}", holder.service)))
            };
            failed.extend(ensured.err().map(|error| (route, error)));
        }
        failed
    }

    /// Stops accepting at once, lets connections finish for `grace`, and resets those that are
    /// left. When it returns no connection is open.
    pub async fn shutdown(mut self, grace: Duration) {
        let deadline = Instant::now() + grace;
        let mut left = Vec::new();
        for (_, running) in std::mem::take(&mut self.listeners) {
            left.extend(running.stop().await.map(|(_, connections)| connections));
        }
        for connections in left {
            finish(connections, deadline, self.cut.clone()).await;
        }
        let patience = async { while self.removed.join_next().await.is_some() {} };
        if timeout_at(deadline, patience).await.is_err() {
            self.cut.cancel();
            while self.removed.join_next().await.is_some() {}
        }
    }
}

/// Waits for connections to end by themselves until `deadline` or `cut`, then resets the rest.
/// None is left when it returns.
async fn finish(mut connections: JoinSet<()>, deadline: Instant, cut: CancellationToken) {
    let all = async {
        while let Some(ended) = connections.join_next().await {
            note_panic(ended);
        }
    };
    tokio::select! {
        biased;
        () = cut.cancelled() => {}
        _ = timeout_at(deadline, all) => {}
    }
    connections.shutdown().await;
}

#[cfg(test)]
mod tests;

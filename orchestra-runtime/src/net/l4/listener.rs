//! One listener: accepts, finds a target, and hands over to the copy.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use orchestra_core::error::{ErrorKind, PortError, Retry, report};
use orchestra_core::meta::Uid;
use orchestra_core::port::registry::{ServiceRegistry, SetGeneration};
use orchestra_sched::balance::{BalanceView, Balancer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::copy::copy_both;
use super::target::{InFlight, Pods, TargetSet, Targets};
use super::{BalancerFor, L4Limits, L4Route, Stats};

/// How many connections the system may hold until they are accepted.
const BACKLOG: u32 = 1_024;

/// Where the pause after a failed accept starts, and where it stops doubling.
const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(5);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Where the pause after a failed call of the registry starts, and where it stops doubling.
const FOLLOW_PAUSE_MIN: Duration = Duration::from_millis(100);
const FOLLOW_PAUSE_MAX: Duration = Duration::from_secs(10);

/// An address cannot be listened on.
pub type ListenError = PortError<ListenErrorKind>;

/// Why an address cannot be listened on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ListenErrorKind {
    /// Somebody listens there already.
    #[error(
        "the port is in use; stop what holds it (`ss -ltnp` shows it), or choose another port; if it \
         is another orchestra of this host, give each addresses of its own: \
         `.addresses(AddressPlan::share(n)?)`"
    )]
    InUse,
    /// The proxy itself listens there, for another service.
    #[error("another service listens there; give one of the two another port")]
    Served,
    /// The process may not listen there.
    #[error("not permitted; use a port from 1024 on, or grant CAP_NET_BIND_SERVICE")]
    Denied,
    /// This host does not have the address.
    #[error("this host does not have the address; add it to an interface, or choose another")]
    NoSuchAddress,
    /// The host lacks something now.
    #[error("the host cannot open a socket now; close some or raise the limit of open files")]
    Exhausted,
    /// Anything else; the cause tells.
    #[error("the system refused")]
    Refused,
}

impl ErrorKind for ListenErrorKind {
    fn retry(self) -> Retry {
        match self {
            Self::InUse | Self::Exhausted => Retry::Backoff,
            Self::Served => Retry::AfterRefresh,
            Self::Denied | Self::NoSuchAddress | Self::Refused => Retry::Never,
        }
    }
}

/// Opens a listening socket. Does not wait for anything.
pub(crate) fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let open = || -> io::Result<TcpListener> {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|error| {
        let kind = match error.kind() {
            io::ErrorKind::AddrInUse => ListenErrorKind::InUse,
            io::ErrorKind::PermissionDenied => ListenErrorKind::Denied,
            io::ErrorKind::AddrNotAvailable => ListenErrorKind::NoSuchAddress,
            _ if is_exhaustion(&error) => ListenErrorKind::Exhausted,
            _ => ListenErrorKind::Refused,
        };
        ListenError::new(kind, "listen on")
            .about(address.to_string())
            .because(error)
    })
}

fn is_exhaustion(error: &io::Error) -> bool {
    let exhausted = [
        rustix::io::Errno::MFILE,
        rustix::io::Errno::NFILE,
        rustix::io::Errno::NOBUFS,
        rustix::io::Errno::NOMEM,
    ];
    rustix::io::Errno::from_io_error(error).is_some_and(|errno| exhausted.contains(&errno))
}

/// What all listeners of a proxy share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) registry: Arc<dyn ServiceRegistry>,
    pub(crate) limits: L4Limits,
    pub(crate) balancer: BalancerFor,
    pub(crate) pods: Pods,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) stats: Stats,
    pub(crate) began: Instant,
}

impl Shared {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// What the connections of one listener share.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) shared: Arc<Shared>,
    pub(crate) route: L4Route,
    /// Its own bound, so that one service full of stuck clients leaves room for the others.
    pub(crate) slots: Arc<Semaphore>,
    balancer: Arc<dyn Balancer>,
    /// From then on no target is a suspect: nothing to search for.
    suspects_until_ms: AtomicU64,
}

/// What an accept loop leaves behind: the socket, still listening, and its connections.
pub(crate) type Leftover = (TcpListener, JoinSet<()>);

impl Listener {
    pub(crate) fn new(shared: Arc<Shared>, route: L4Route) -> Self {
        let slots = Arc::new(Semaphore::new(shared.limits.connections_per_listener_max));
        let balancer = (shared.balancer)(&route);
        Self {
            shared,
            route,
            slots,
            balancer,
            suspects_until_ms: AtomicU64::new(0),
        }
    }

    /// Keeps the targets as the registry tells, until stopped. While the registry is away the
    /// last set stands.
    pub(crate) async fn follow(
        self: Arc<Self>,
        targets: watch::Sender<Arc<Targets>>,
        stop: CancellationToken,
    ) {
        let mut set = TargetSet::new(self.route.port.clone());
        let mut newest: Option<SetGeneration> = None;
        let mut pause = FOLLOW_PAUSE_MIN;
        let follow = async {
            loop {
                let failed = match self.shared.registry.follow(&self.route.service).await {
                    Err(error) => error,
                    Ok(mut watch) => loop {
                        match watch.next().await {
                            Err(error) => break error,
                            Ok(endpoints) => {
                                pause = FOLLOW_PAUSE_MIN;
                                if newest.is_none_or(|newest| newest <= endpoints.generation) {
                                    newest = Some(endpoints.generation);
                                    let list = set.apply(&endpoints, &self.shared.pods);
                                    targets.send_replace(Arc::new(list));
                                }
                            }
                        }
                    },
                };
                tracing::warn!(service = %self.route.service, pause_ms = pause.as_millis() as u64,
                    "endpoints are not followed: {}", report(&failed));
                sleep(pause).await;
                pause = (pause * 2).min(FOLLOW_PAUSE_MAX);
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = follow => {}
        }
    }

    /// Accepts until stopped, starting once the first endpoint set is known: until then clients
    /// wait in the backlog.
    pub(crate) async fn accept(
        self: Arc<Self>,
        socket: TcpListener,
        mut connections: JoinSet<()>,
        mut targets: watch::Receiver<Arc<Targets>>,
        stop: CancellationToken,
    ) -> Leftover {
        let serve = async {
            if targets.changed().await.is_err() {
                return;
            }
            let mut list = targets.borrow_and_update().clone();
            let mut pause = ACCEPT_PAUSE_MIN;
            loop {
                let accepted = tokio::select! {
                    biased;
                    Some(ended) = connections.join_next() => {
                        note_panic(ended);
                        continue;
                    }
                    accepted = socket.accept() => accepted,
                };
                match accepted {
                    Ok((client, _)) => {
                        let client = ResetOnDrop(Some(client));
                        pause = ACCEPT_PAUSE_MIN;
                        let Some(slots) = self.slots().await else {
                            return;
                        };
                        if targets.has_changed().unwrap_or(false) {
                            list = targets.borrow_and_update().clone();
                        }
                        let (this, list) = (Arc::clone(&self), list.clone());
                        let targets = targets.clone();
                        connections.spawn(async move {
                            this.serve(client, list, targets).await;
                            drop(slots);
                        });
                    }
                    // The client was gone before it was its turn.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(error) => {
                        if pause == ACCEPT_PAUSE_MIN {
                            let address = self.route.listen;
                            tracing::warn!(%address, %error, "connections cannot be accepted");
                        }
                        self.shared
                            .stats
                            .accept_errors
                            .fetch_add(1, Ordering::Relaxed);
                        sleep(pause).await;
                        pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
                    }
                }
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = serve => {}
        }
        (socket, connections)
    }

    async fn slots(&self) -> Option<[tokio::sync::OwnedSemaphorePermit; 2]> {
        let own = Arc::clone(&self.slots).acquire_owned().await.ok()?;
        let shared = Arc::clone(&self.shared.slots).acquire_owned().await.ok()?;
        Some([own, shared])
    }

    async fn serve(
        &self,
        mut client: ResetOnDrop,
        list: Arc<Targets>,
        targets: watch::Receiver<Arc<Targets>>,
    ) {
        let stats = &self.shared.stats;
        stats.accepted.fetch_add(1, Ordering::Relaxed);
        let Some((backend, _in_flight)) = self.connect(list, targets).await else {
            stats.no_target.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let mut backend = ResetOnDrop(Some(backend));
        let (Some(near), Some(far)) = (&mut client.0, &mut backend.0) else {
            return;
        };
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        match copy_both(near, far).await {
            Ok((up, down)) => {
                stats.bytes_up.fetch_add(up, Ordering::Relaxed);
                stats.bytes_down.fetch_add(down, Ordering::Relaxed);
                (client.0, backend.0) = (None, None);
            }
            Err(error) => {
                stats.broken.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(service = %self.route.service, %error, "a connection broke");
            }
        }
    }

    /// Connects to a target, trying others, each at most once, as long as the limits allow.
    async fn connect(
        &self,
        mut list: Arc<Targets>,
        mut targets: watch::Receiver<Arc<Targets>>,
    ) -> Option<(TcpStream, InFlight)> {
        let limits = &self.shared.limits;
        let started = Instant::now();
        let mut tried: Vec<Uid> = Vec::new();
        let mut failed = 0;
        while failed < limits.connect_attempts_max {
            let Some(index) = self.pick(&list, &tried) else {
                // Nothing is left of this list. There may be a newer one, now or soon.
                let newer = timeout_at(started + limits.target_wait_max, targets.changed());
                newer.await.ok()?.ok()?;
                list = targets.borrow_and_update().clone();
                continue;
            };
            let (Some(pod), Some(target)) = (list.endpoints.get(index), list.get(index)) else {
                return None; // the balancer broke its contract
            };
            tried.push(pod.pod);
            // Closed since the list was made: as if it were not there.
            let Some(in_flight) = target.begin() else {
                continue;
            };
            match timeout(limits.connect_timeout, TcpStream::connect(target.address)).await {
                Ok(Ok(backend)) => return Some((backend, in_flight)),
                _ => {
                    failed += 1;
                    self.shared
                        .stats
                        .connect_failures
                        .fetch_add(1, Ordering::Relaxed);
                    let pause = u64::try_from(limits.suspect_for.as_millis()).unwrap_or(u64::MAX);
                    let until_ms = self.shared.now_ms().saturating_add(pause);
                    target.suspect_until(until_ms);
                    self.suspects_until_ms
                        .fetch_max(until_ms, Ordering::Relaxed);
                }
            }
        }
        None
    }

    /// Whom the balancer chooses among those not tried; suspects only if there is nobody else.
    fn pick(&self, list: &Targets, tried: &[Uid]) -> Option<usize> {
        let view = BalanceView::new(&list.endpoints);
        let now_ms = self.shared.now_ms();
        if now_ms < self.suspects_until_ms.load(Ordering::Relaxed) {
            let avoided: Vec<Uid> = list.suspects(now_ms).chain(tried.iter().copied()).collect();
            if let Some(index) = self.balancer.pick(view.without(&avoided)) {
                return Some(index);
            }
        }
        self.balancer.pick(view.without(tried))
    }
}

/// A connection that is reset, not closed, unless taken out first: the peer of a connection that
/// was cut must not take what it got for all there was.
struct ResetOnDrop(Option<TcpStream>);

impl Drop for ResetOnDrop {
    fn drop(&mut self) {
        if let Some(stream) = &self.0 {
            let _ = stream.set_zero_linger();
        }
    }
}

pub(crate) fn note_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked");
    }
}

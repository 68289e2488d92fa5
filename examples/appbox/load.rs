//! The load: clients that write objects, read them back and check every byte.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::body::Bytes;
use hyper::{Method, StatusCode};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::programs::blob;
use crate::programs::http::Caller;

/// Clients at once. Each owns its objects, so each knows what it must read back.
const CLIENTS: u64 = 8;

/// Objects per client.
const OBJECTS: u64 = 50;

/// Requests per second and client.
const PACE: u64 = 40;

/// The largest object, in bytes.
const OBJECT_BYTES_MAX: u64 = 32 << 10;

/// How often a client asks before it counts the request as failed. Every request may be repeated
/// without harm.
const TRIES_MAX: u32 = 3;

/// How long one try may take.
const TRY_TIME_MAX: Duration = Duration::from_secs(12);

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Tally {
    /// Requests that came to an end, well or badly.
    pub(crate) requests: u64,
    /// Requests that failed for good.
    pub(crate) failed: u64,
    /// Tries that failed and were repeated.
    pub(crate) retried: u64,
    /// Reads that found less than what was acknowledged.
    pub(crate) lost: u64,
    /// Reads with a wrong byte.
    pub(crate) corrupt: u64,
    /// Bytes read back and found right.
    pub(crate) bytes_checked: u64,
    /// The longest request, in milliseconds.
    pub(crate) slowest_ms: u64,
}

#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    failed: AtomicU64,
    retried: AtomicU64,
    lost: AtomicU64,
    corrupt: AtomicU64,
    bytes_checked: AtomicU64,
    slowest_ms: AtomicU64,
}

impl Counters {
    fn tally(&self) -> Tally {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Tally {
            requests: read(&self.requests),
            failed: read(&self.failed),
            retried: read(&self.retried),
            lost: read(&self.lost),
            corrupt: read(&self.corrupt),
            bytes_checked: read(&self.bytes_checked),
            slowest_ms: read(&self.slowest_ms),
        }
    }
}

/// The running clients.
#[derive(Debug)]
pub(crate) struct Load {
    counters: Arc<Counters>,
    stop: CancellationToken,
    clients: JoinSet<()>,
}

impl Load {
    /// Starts the clients against `gateway`, an address with its port.
    pub(crate) fn start(gateway: &str) -> Self {
        let counters = Arc::new(Counters::default());
        let stop = CancellationToken::new();
        let mut clients = JoinSet::new();
        for id in 0..CLIENTS {
            let client = Client {
                id,
                base: format!("http://{gateway}/objects/"),
                caller: Caller::new(TRY_TIME_MAX),
                acknowledged: vec![0; OBJECTS as usize],
                offered: vec![0; OBJECTS as usize],
                chance: blob::checksum(id, b"client") | 1,
                counters: counters.clone(),
            };
            clients.spawn(client.run(stop.clone()));
        }
        Self {
            counters,
            stop,
            clients,
        }
    }

    /// What happened so far.
    pub(crate) fn tally(&self) -> Tally {
        self.counters.tally()
    }

    /// Tells what happened so far, also while somebody else holds the load.
    pub(crate) fn watcher(&self) -> impl Fn() -> Tally + use<> {
        let counters = self.counters.clone();
        move || counters.tally()
    }

    /// Lets every client finish its request and read all its objects back once more; then tells
    /// what happened in all.
    pub(crate) async fn finish(mut self) -> Tally {
        self.stop.cancel();
        while let Some(ended) = self.clients.join_next().await {
            if ended.is_err() {
                self.counters.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.tally()
    }
}

struct Client {
    id: u64,
    base: String,
    caller: Caller,
    /// The newest version of each object whose write was acknowledged.
    acknowledged: Vec<u64>,
    /// The newest version of each object that was ever sent: it may have landed.
    offered: Vec<u64>,
    chance: u64,
    counters: Arc<Counters>,
}

impl Client {
    async fn run(mut self, stop: CancellationToken) {
        let mut pace = tokio::time::interval(Duration::from_millis(1_000 / PACE));
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = pace.tick() => {}
            }
            let object = (self.draw() % OBJECTS) as usize;
            if self.acknowledged[object] == 0 || self.draw().is_multiple_of(4) {
                self.write(object).await;
            } else {
                self.read(object).await;
            }
        }
        for object in 0..OBJECTS as usize {
            if self.acknowledged[object] > 0 {
                self.read(object).await;
            }
        }
    }

    async fn write(&mut self, object: usize) {
        let name = self.name(object);
        let version = self.offered[object] + 1;
        self.offered[object] = version;
        let body = Bytes::from(blob::content(&name, version, len(&name, version)));
        if self
            .ask(Method::PUT, &name, body, Some(version))
            .await
            .is_some()
        {
            self.acknowledged[object] = version;
        }
    }

    async fn read(&self, object: usize) {
        let name = self.name(object);
        let Some((status, version, body)) = self.ask(Method::GET, &name, Bytes::new(), None).await
        else {
            return;
        };
        let sure = self.acknowledged[object];
        if status == StatusCode::NOT_FOUND || version < sure {
            self.counters.lost.fetch_add(1, Ordering::Relaxed);
        } else if version > self.offered[object]
            || body != blob::content(&name, version, len(&name, version))
        {
            self.counters.corrupt.fetch_add(1, Ordering::Relaxed);
        } else {
            self.counters
                .bytes_checked
                .fetch_add(body.len() as u64, Ordering::Relaxed);
        }
    }

    /// Asks until an answer comes that is not an error of the service. `None` is a failure, and
    /// counted.
    async fn ask(
        &self,
        method: Method,
        name: &str,
        body: Bytes,
        version: Option<u64>,
    ) -> Option<(StatusCode, u64, Bytes)> {
        let url = format!("{}{name}", self.base);
        let begun = Instant::now();
        let mut answer = None;
        for n in 0..TRIES_MAX {
            if n > 0 {
                self.counters.retried.fetch_add(1, Ordering::Relaxed);
            }
            match self
                .caller
                .ask(method.clone(), &url, body.clone(), version)
                .await
            {
                Ok(a) if a.status == StatusCode::OK || a.status == StatusCode::NOT_FOUND => {
                    answer = Some((a.status, a.version.unwrap_or(0), a.body));
                    break;
                }
                Ok(_) | Err(_) => {}
            }
        }
        let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.counters.slowest_ms.fetch_max(took, Ordering::Relaxed);
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        if answer.is_none() {
            self.counters.failed.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    fn name(&self, object: usize) -> String {
        format!("client{}-object{object}", self.id)
    }

    fn draw(&mut self) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance >> 8
    }
}

/// How long version `version` of an object is.
fn len(name: &str, version: u64) -> usize {
    usize::try_from(blob::checksum(version, name.as_bytes()) % OBJECT_BYTES_MAX).unwrap_or(0) + 1
}

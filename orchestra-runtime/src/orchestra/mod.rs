//! All parts in one process: the store, the controllers, nodes with their agents, the proxy.

mod builder;
mod engines;
mod explain;
mod host;
mod logs;
mod questions;
mod run_folder;
mod wait;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use orchestra_core::kind::{Protocol, Resource, Service, ServiceType};
use orchestra_core::meta::ObjectKey;
use orchestra_core::port::registry::{ServiceName, ServiceRegistry};
use orchestra_sched::place::Scheduler;
use smol_str::SmolStr;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use builder::{Builder, PROCESS, StartError, TASK};
pub use explain::{ExplainError, Standing};
pub use logs::LogsError;
pub use wait::{Cached, Settlement, Settles, WaitError};

use crate::api::{Api, ApiError, Client};
use crate::loops::{Caches, Listening};
use engines::MadeDriver;

/// A running orchestra: a whole cluster in one process, on one store.
///
/// ```
/// use orchestra_runtime::prelude::*;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let orchestra = Orchestra::builder()
///     .task("sleepy", |task: TaskContext| async move {
///         task.stopping().await;
///         Ok(())
///     })
///     .start()
///     .await?;
///
/// let sleepy = Container::new("sleepy", "sleepy");
/// orchestra.apply(Deployment::new("sleepy").replicas(3).container(sleepy)).await?;
/// let ready = orchestra.ready::<Deployment>("sleepy").await?;
/// assert_eq!(ready.status.available_replicas, 3);
/// orchestra.stop().await;
/// # Ok(())
/// # }
/// ```
///
/// Call [`stop`](Self::stop) at the end: it ends workloads in order. Dropping it instead, for instance by
/// an error or a panic in between, ends everything at once: tasks are cancelled and processes killed,
/// for which it blocks some milliseconds. Only workloads [that are to be
/// left](Builder::leave_workloads) go on. A signal that nobody handles ends a program without dropping
/// anything: [`run_until_signal`](Self::run_until_signal) handles them, from when it is called.
#[derive(Debug)]
pub struct Orchestra {
    client: Client,
    caches: Caches,
    registry: Arc<dyn ServiceRegistry>,
    /// Of pods that name none.
    scheduler: Arc<dyn Scheduler>,
    /// Of those that name one.
    schedulers: BTreeMap<SmolStr, Arc<dyn Scheduler>>,
    tasks: Tasks,
    /// What became of the proxy's listeners; `None` if there is no proxy.
    listening: Option<Listening>,
    drivers: Vec<MadeDriver>,
    /// The folder of this run, if none was named.
    own_folder: Option<PathBuf>,
    /// Whether workloads are left running at the end.
    leaves: bool,
}

/// Everything that runs, in the groups in which it is ended.
#[derive(Debug)]
struct Tasks {
    agents: JoinSet<()>,
    rest: JoinSet<()>,
    work: CancellationToken,
    proxy: CancellationToken,
    control: CancellationToken,
    events: CancellationToken,
}

impl Orchestra {
    /// Starts to say what it is made of.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// For reading and writing objects.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The objects of one kind.
    pub fn api<K: Resource>(&self) -> Api<K> {
        self.client.api()
    }

    /// The live copies of what there is.
    pub fn caches(&self) -> &Caches {
        &self.caches
    }

    /// Who answers for each service.
    pub fn registry(&self) -> &Arc<dyn ServiceRegistry> {
        &self.registry
    }

    /// Makes `object` as it is given here: creates it, or changes what is there. Idempotent. See
    /// [`Api::apply`].
    ///
    /// # Errors
    ///
    /// [`ApiErrorKind::Invalid`](crate::api::ApiErrorKind::Invalid) if it breaks rules, naming
    /// each field.
    pub async fn apply<K: Resource>(&self, object: K) -> Result<Arc<K>, ApiError> {
        self.client.api::<K>().apply(object).await
    }

    /// Applies all that a manifest holds. Idempotent. See [`Client::apply_all`].
    ///
    /// ```
    /// use orchestra_runtime::prelude::*;
    ///
    /// # async fn example(orchestra: &Orchestra) -> Result<(), BoxError> {
    /// let text = std::fs::read_to_string("shop.yaml")?;
    /// orchestra.apply_all(&manifest::load(&text)?).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Client::apply_all`].
    #[cfg(feature = "manifest")]
    pub async fn apply_all(
        &self,
        manifests: &orchestra_core::manifest::Manifests,
    ) -> Result<(), ApiError> {
        self.client.apply_all(manifests).await
    }

    /// The address of a service of the default namespace, with its first port, once it has one and
    /// the proxy listens there. Waits for that as long as it takes.
    ///
    /// # Errors
    ///
    /// [`WaitError`] if there is no such service (any more), one that never has an address, or if the proxy
    /// cannot listen there: another orchestra on this host has the same addresses (see
    /// [`Builder::addresses`]), or the port needs rights that this process lacks.
    pub async fn address(&self, service: &str) -> Result<SocketAddr, WaitError> {
        let key = ObjectKey::namespaced("default", service);
        self.address_at(&key).await
    }

    /// Like [`address`](Self::address), for the service at `key`.
    ///
    /// # Errors
    ///
    /// As [`address`](Self::address).
    pub async fn address_at(&self, key: &ObjectKey) -> Result<SocketAddr, WaitError> {
        let key = key.clone();
        let Some(fresh) = self.client.api::<Service>().find(&key).await? else {
            return Err(WaitError::gone::<Service>(key));
        };
        let seen = fresh.metadata.resource_version;
        let settled = |service: Option<&Service>| match service {
            Some(service) => {
                !service.spec.cluster_ip.is_empty()
                    || service.spec.exposure == ServiceType::ExternalName
            }
            // It was there: either the cache does not know it yet, or it is gone again.
            None => self.caches.services.through() >= seen,
        };
        let found = self.wait_for::<Service>(&key, settled).await;
        let found = found.ok_or_else(|| WaitError::gone::<Service>(key.clone()))?;
        let port = found.spec.ports.first().map_or(0, |port| port.port);
        let failed = |why| WaitError::Failed {
            plural: Service::PLURAL,
            key: key.clone(),
            why,
        };
        match found.cluster_ip() {
            Some(ip) => {
                let address = SocketAddr::new(ip, port);
                if let Some(listening) = &self.listening
                    && found
                        .spec
                        .ports
                        .first()
                        .is_some_and(|port| port.protocol == Protocol::Tcp)
                {
                    let name = ServiceName::new(key.namespace.clone(), key.name.clone());
                    let place = (name, address);
                    let gone = |now: Option<&Service>| {
                        now.is_none_or(|now| now.metadata.uid != found.metadata.uid)
                    };
                    tokio::select! {
                        biased;
                        listens = listening.at(&place) => listens.map_err(failed)?,
                        _ = self.wait_for::<Service>(&key, gone) => {
                            return Err(WaitError::gone::<Service>(key));
                        }
                    }
                }
                Ok(address)
            }
            None => Err(WaitError::Failed {
                plural: Service::PLURAL,
                key,
                why: "it is headless or external and has no address; ask the registry who answers"
                    .to_owned(),
            }),
        }
    }

    /// Ends everything in order: workloads (unless they are to be left), the proxy, controllers,
    /// drivers. Pods keep their objects. Returns once nothing of it runs any more.
    pub async fn stop(self) {
        self.boxed_stop().await;
    }

    /// Generated here once, not in each program: see `Builder::boxed_start`.
    fn boxed_stop(self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.stop_all())
    }

    async fn stop_all(mut self) {
        self.tasks.work.cancel();
        join(&mut self.tasks.agents).await;
        self.tasks.proxy.cancel();
        self.tasks.control.cancel();
        self.tasks.events.cancel();
        join(&mut self.tasks.rest).await;
        for driver in self.drivers.drain(..) {
            driver.shutdown().await;
        }
        if let Some(folder) = self.own_folder.take() {
            let _ = tokio::task::spawn_blocking(move || run_folder::tidy(&folder)).await;
        }
    }

    /// Runs until SIGINT or SIGTERM, then [stops](Self::stop). A second signal ends it at once:
    /// workloads are killed.
    ///
    /// # Errors
    ///
    /// If signals cannot be listened for.
    pub async fn run_until_signal(self) -> std::io::Result<()> {
        let signals = tokio::sync::Mutex::new(Signals::new()?);
        let next = || async { signals.lock().await.next().await };
        self.run_until(next(), next()).await;
        Ok(())
    }

    /// Runs until `told`, then [stops](Self::stop). If `again` comes before that is done, it ends
    /// at once: workloads are killed (unless they are to be left), nothing is waited for. `again`
    /// is not polled before `told` has come.
    pub async fn run_until(self, told: impl Future<Output = ()>, again: impl Future<Output = ()>) {
        told.await;
        tracing::info!("stopping; told again it stops at once");
        let (drivers, leaves) = (self.drivers.clone(), self.leaves);
        tokio::select! {
            biased;
            () = self.stop() => return,
            () = again => tracing::warn!("stopped at once"),
        }
        // With the select went all agents; a turn lets them go before it is seen what runs.
        tokio::task::yield_now().await;
        if !leaves {
            for driver in &drivers {
                driver.kill().await;
            }
        }
        for driver in drivers {
            driver.shutdown().await;
        }
    }
}

impl Drop for Orchestra {
    fn drop(&mut self) {
        for token in [
            &self.tasks.work,
            &self.tasks.proxy,
            &self.tasks.control,
            &self.tasks.events,
        ] {
            token.cancel();
        }
        if self.leaves {
            return;
        }
        for driver in &self.drivers {
            driver.kill_now();
        }
        if let Some(folder) = self.own_folder.take() {
            run_folder::tidy(&folder);
        }
    }
}

async fn join(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a part ended before its time");
        }
    }
}

/// SIGINT and SIGTERM, or Ctrl-C where there are none.
struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    #[cfg(not(unix))]
    fn new() -> std::io::Result<Self> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

//! The stage: the cluster of AppBox, what runs on it, and what acts may do to it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use orchestra_core::int_or::IntOrPercent;
use orchestra_core::kind::pod::EnvVarSource;
use orchestra_core::kind::{Container, Deployment, Node, Pod, Probe, Service};
use orchestra_core::meta::ObjectKey;
use orchestra_runtime::Orchestra;
use tokio::time::Instant;

use crate::load::Load;
use crate::programs::http::Caller;
use crate::programs::{Fault, PART, RUN};

/// The zones; each has two nodes and one replica of the data.
pub(crate) const ZONES: [&str; 3] = ["a", "b", "c"];

/// How many workers and gateways there are.
pub(crate) const WORKERS: u32 = 6;
const GATEWAYS: u32 = 2;

/// Where every program listens, on its pod's own address, and every service on its own: one that
/// needs no privileges.
pub(crate) const PORT: u16 = 8080;

/// How long an act waits for anything before it counts as broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// How often the containers of a pod were started again.
pub(crate) fn restarts(pod: &Pod) -> u32 {
    pod.status
        .container_statuses
        .iter()
        .map(|status| status.restart_count)
        .sum()
}

/// The cluster, the traffic and the folder of the run.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) orchestra: Orchestra,
    pub(crate) load: Option<Load>,
    pub(crate) caller: Caller,
    folder: PathBuf,
    begun: Instant,
}

impl Stage {
    /// Starts an empty cluster of six nodes in three zones that runs real processes.
    pub(crate) async fn set(folder: &Path) -> Result<Self, Fault> {
        let mut builder = Orchestra::builder()
            .processes()
            .drain_max(Duration::from_millis(500));
        for zone in ZONES {
            for n in 1..=2 {
                let node = Node::new(format!("node-{zone}{n}"))
                    .zone(zone)
                    .capacity(4_000, 8_192, 50);
                builder = builder.node(node);
            }
        }
        Ok(Self {
            orchestra: builder.start().await?,
            load: None,
            caller: Caller::new(Duration::from_secs(2)),
            folder: folder.to_path_buf(),
            begun: Instant::now(),
        })
    }

    /// Three storage nodes, one a zone, each with its folder on disk.
    pub(crate) async fn apply_storage(&self) -> Result<(), Fault> {
        for zone in ZONES {
            let name = format!("storage-{zone}");
            let data = self.folder.join(&name);
            let container = self
                .program("storage", "1")?
                .env("DATA_DIR", data.to_string_lossy())
                .liveness(probe());
            let template = Pod::builder("")
                .container(container)
                .node_selector(Node::ZONE_LABEL, zone);
            // Two processes on one folder would be one too many: the old one ends first.
            let storage = Deployment::new(name.as_str())
                .replicas(1)
                .template(template)
                .recreate();
            self.orchestra.apply(storage).await?;
            self.orchestra
                .apply(
                    Service::new(name.as_str())
                        .selector("app", &name)
                        .port(PORT, PORT),
                )
                .await?;
        }
        Ok(())
    }

    /// The workers at `version`.
    pub(crate) async fn apply_workers(&self, version: &str) -> Result<(), Fault> {
        let mut storage = Vec::new();
        for zone in ZONES {
            storage.push(
                self.orchestra
                    .address(&format!("storage-{zone}"))
                    .await?
                    .to_string(),
            );
        }
        let container = self
            .program("worker", version)?
            .env("STORAGE", storage.join(","))
            .liveness(probe());
        let workers = Deployment::new("worker")
            .replicas(WORKERS)
            .container(container)
            .rolling_update(IntOrPercent::Int(1), IntOrPercent::Int(2));
        self.orchestra.apply(workers).await?;
        self.orchestra
            .apply(
                Service::new("worker")
                    .selector("app", "worker")
                    .port(PORT, PORT),
            )
            .await?;
        Ok(())
    }

    /// The gateways.
    pub(crate) async fn apply_gateways(&self) -> Result<(), Fault> {
        let workers = self.orchestra.address("worker").await?;
        let container = self
            .program("gateway", "1")?
            .env("WORKERS", workers.to_string())
            .liveness(probe());
        let gateways = Deployment::new("gateway")
            .replicas(GATEWAYS)
            .container(container);
        self.orchestra.apply(gateways).await?;
        self.orchestra
            .apply(
                Service::new("gateway")
                    .selector("app", "gateway")
                    .port(PORT, PORT),
            )
            .await?;
        Ok(())
    }

    /// The pods of an app that are not about to end, by name.
    pub(crate) fn pods(&self, app: &str) -> Vec<std::sync::Arc<Pod>> {
        let mut pods = self.orchestra.caches().pods.in_namespace("default");
        pods.retain(|pod| {
            !pod.is_terminating()
                && pod
                    .metadata
                    .labels
                    .get("app")
                    .is_some_and(|label| label == app)
        });
        pods
    }

    /// Asks a pod itself, past every service.
    pub(crate) async fn ask(&self, pod: &Pod, method: Method, path: &str) -> Result<String, Fault> {
        let ip = pod
            .status
            .pod_ip
            .ok_or_else(|| format!("{} has no address", pod.metadata.name))?;
        let url = format!("http://{ip}:{PORT}{path}");
        let answer = self.caller.ask(method, &url, Bytes::new(), None).await?;
        Ok(String::from_utf8_lossy(&answer.body).into_owned())
    }

    /// Waits until a pod looks as `hoped`.
    pub(crate) async fn until(
        &self,
        key: &ObjectKey,
        what: &str,
        hoped: impl Fn(&Pod) -> bool + Send,
    ) -> Result<(), Fault> {
        let wait = self
            .orchestra
            .wait_for::<Pod>(key, |pod| pod.is_some_and(&hoped));
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(_) => Ok(()),
            Err(_) => Err(format!("{key}: not {what} within {PATIENCE:?}").into()),
        }
    }

    /// Waits until a deployment is rolled out and all its pods are available.
    pub(crate) async fn ready(&self, name: &str) -> Result<(), Fault> {
        let ready = self.orchestra.ready_within::<Deployment>(name, PATIENCE);
        Ok(ready.await.map(drop)?)
    }

    /// A container that plays a part of this very binary.
    fn program(&self, part: &str, version: &str) -> Result<Container, Fault> {
        let myself = std::env::current_exe()?;
        Ok(Container::new(part, myself.to_string_lossy())
            .port(PORT)
            .cpu_milli(200)
            .memory_mib(128)
            .env(PART, part)
            .env(RUN, self.folder.to_string_lossy())
            .env("VERSION", version)
            .env_from("POD_IP", EnvVarSource::field("status.podIP"))
            .env_from("POD_NAME", EnvVarSource::field("metadata.name"))
            .readiness(Probe::http("/healthz", PORT).period(1)))
    }

    /// How long the show has run.
    pub(crate) fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }
}

fn probe() -> Probe {
    Probe::http("/healthz", PORT)
        .period(1)
        .timeout(1)
        .failures(2)
}

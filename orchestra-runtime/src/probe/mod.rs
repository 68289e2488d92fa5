//! Looking at workloads: a prober per kind of probe, and the wheel that turns them all.

mod exec;
mod foresight;
mod health;
#[cfg(feature = "http")]
mod http;
mod spec;
mod tcp;
mod wheel;

use std::sync::Arc;

use async_trait::async_trait;
use orchestra_core::port::driver::WorkloadDriver;
use orchestra_core::port::probe::{
    ProbeError, ProbeErrorKind, ProbeSpec, ProbeTarget, Prober, Verdict,
};

pub use exec::ExecProber;
pub use foresight::Foresight;
pub use health::{ContainerHealth, ContainerState, WheelHandle, WheelStats};
#[cfg(feature = "http")]
pub use http::HttpProber;
pub use spec::{WatchedProbe, WatchedProbes};
pub use tcp::TcpProber;
pub use wheel::{ProbeWheel, WheelLimits};

/// A prober for every kind of probe. A kind without one is answered with
/// [`ProbeErrorKind::Unsupported`].
#[derive(Clone, Debug, Default)]
pub struct Probers {
    http: Option<Arc<dyn Prober>>,
    tcp: Option<Arc<dyn Prober>>,
    exec: Option<Arc<dyn Prober>>,
    grpc: Option<Arc<dyn Prober>>,
}

impl Probers {
    /// No probers yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// HTTP (with the feature `http`), TCP, and commands through `driver`.
    pub fn standard(driver: Arc<dyn WorkloadDriver>) -> Self {
        let probers = Self::new()
            .tcp(Arc::new(TcpProber))
            .exec(Arc::new(ExecProber::new(driver)));
        #[cfg(feature = "http")]
        let probers = probers.http(Arc::new(HttpProber));
        probers
    }

    /// Sets the prober for [`ProbeSpec::Http`].
    #[must_use]
    pub fn http(mut self, prober: Arc<dyn Prober>) -> Self {
        self.http = Some(prober);
        self
    }

    /// Sets the prober for [`ProbeSpec::Tcp`].
    #[must_use]
    pub fn tcp(mut self, prober: Arc<dyn Prober>) -> Self {
        self.tcp = Some(prober);
        self
    }

    /// Sets the prober for [`ProbeSpec::Exec`].
    #[must_use]
    pub fn exec(mut self, prober: Arc<dyn Prober>) -> Self {
        self.exec = Some(prober);
        self
    }

    /// Sets the prober for [`ProbeSpec::Grpc`].
    #[must_use]
    pub fn grpc(mut self, prober: Arc<dyn Prober>) -> Self {
        self.grpc = Some(prober);
        self
    }
}

#[async_trait]
impl Prober for Probers {
    async fn probe(&self, target: &ProbeTarget, spec: &ProbeSpec) -> Result<Verdict, ProbeError> {
        let (kind, prober) = match spec {
            ProbeSpec::Http { .. } => ("HTTP", &self.http),
            ProbeSpec::Tcp { .. } => ("TCP", &self.tcp),
            ProbeSpec::Exec { .. } => ("command", &self.exec),
            ProbeSpec::Grpc { .. } => ("gRPC", &self.grpc),
            _ => ("unknown", &None),
        };
        match prober {
            Some(prober) => prober.probe(target, spec).await,
            None => Err(ProbeError::new(ProbeErrorKind::Unsupported, "probe")
                .about(target.workload.to_string())
                .because(format!(
                    "there is no prober for {kind} probes; set one on `Probers`"
                ))),
        }
    }
}

#[cfg(test)]
mod tests;

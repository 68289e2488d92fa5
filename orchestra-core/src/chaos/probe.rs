//! A prober on a bad day.

use std::sync::Arc;

use async_trait::async_trait;

use super::faults::{Fault, Faults};
use crate::port::probe::{ProbeError, ProbeErrorKind, ProbeSpec, ProbeTarget, Prober, Verdict};

/// A [`Prober`] that cannot look now and then, which callers must not take for a sick target.
///
/// Unavailable, lost and ambiguous probes answer [`ProbeErrorKind::Exhausted`], the last after the
/// target was probed; duplicated ones probe twice and answer the second; delayed ones are late.
#[derive(Debug)]
pub struct ChaosProber {
    inner: Arc<dyn Prober>,
    faults: Faults,
}

impl ChaosProber {
    /// Faults for `inner`.
    pub fn new(inner: Arc<dyn Prober>, faults: Faults) -> Self {
        Self { inner, faults }
    }
}

#[async_trait]
impl Prober for ChaosProber {
    async fn probe(&self, target: &ProbeTarget, spec: &ProbeSpec) -> Result<Verdict, ProbeError> {
        let possible = [
            Fault::Unavailable,
            Fault::Lost,
            Fault::Ambiguous,
            Fault::Duplicated,
            Fault::Delayed,
        ];
        let blind = || {
            ProbeError::new(ProbeErrorKind::Exhausted, "probe")
                .about(target.workload.to_string())
                .because("an injected fault")
        };
        match self.faults.strike(&possible).await {
            Fault::Unavailable | Fault::Lost => Err(blind()),
            Fault::Ambiguous => {
                let _ = self.inner.probe(target, spec).await;
                Err(blind())
            }
            Fault::Duplicated => {
                let _ = self.inner.probe(target, spec).await;
                self.inner.probe(target, spec).await
            }
            _ => self.inner.probe(target, spec).await,
        }
    }
}

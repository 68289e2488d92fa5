//! A driver on a bad day.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::faults::{Fault, Faults};
use crate::port::driver::{
    DriverError, DriverErrorKind, ExecSource, Exit, LogSource, Observed, UsageSource, Workload,
    WorkloadDriver, WorkloadId,
};

/// A [`WorkloadDriver`] that is away now and then.
///
/// Lost, ambiguous and unavailable calls all answer [`DriverErrorKind::Unavailable`]; an
/// ambiguous one has reached the driver. Duplicated ones reach it twice, which its contract makes
/// harmless. The powers (exec, logs, usage) are passed on as they are.
#[derive(Debug)]
pub struct ChaosDriver {
    inner: Arc<dyn WorkloadDriver>,
    faults: Faults,
}

impl ChaosDriver {
    /// Faults for `inner`.
    pub fn new(inner: Arc<dyn WorkloadDriver>, faults: Faults) -> Self {
        Self { inner, faults }
    }

    async fn strike(&self) -> Fault {
        self.faults
            .strike(&[
                Fault::Unavailable,
                Fault::Lost,
                Fault::Ambiguous,
                Fault::Duplicated,
                Fault::Delayed,
            ])
            .await
    }
}

fn away(op: &'static str, about: &WorkloadId) -> DriverError {
    DriverError::new(DriverErrorKind::Unavailable, op)
        .about(about.to_string())
        .because("an injected fault")
}

#[async_trait]
impl WorkloadDriver for ChaosDriver {
    async fn ensure(&self, want: &Workload) -> Result<Observed, DriverError> {
        match self.strike().await {
            Fault::Unavailable | Fault::Lost => Err(away("ensure", &want.id)),
            Fault::Ambiguous => {
                let _ = self.inner.ensure(want).await;
                Err(away("ensure", &want.id))
            }
            Fault::Duplicated => {
                let _ = self.inner.ensure(want).await;
                self.inner.ensure(want).await
            }
            _ => self.inner.ensure(want).await,
        }
    }

    async fn wait(&self, id: &WorkloadId) -> Result<Exit, DriverError> {
        match self.strike().await {
            Fault::Unavailable | Fault::Lost | Fault::Ambiguous => Err(away("wait", id)),
            _ => self.inner.wait(id).await,
        }
    }

    async fn stop(&self, id: &WorkloadId, grace: Duration) -> Result<(), DriverError> {
        match self.strike().await {
            Fault::Unavailable | Fault::Lost => Err(away("stop", id)),
            Fault::Ambiguous => {
                let _ = self.inner.stop(id, grace).await;
                Err(away("stop", id))
            }
            Fault::Duplicated => {
                let _ = self.inner.stop(id, grace).await;
                self.inner.stop(id, grace).await
            }
            _ => self.inner.stop(id, grace).await,
        }
    }

    async fn remove(&self, id: &WorkloadId) -> Result<(), DriverError> {
        match self.strike().await {
            Fault::Unavailable | Fault::Lost => Err(away("remove", id)),
            Fault::Ambiguous => {
                let _ = self.inner.remove(id).await;
                Err(away("remove", id))
            }
            Fault::Duplicated => {
                let _ = self.inner.remove(id).await;
                self.inner.remove(id).await
            }
            _ => self.inner.remove(id).await,
        }
    }

    async fn survey(&self) -> Result<Vec<Observed>, DriverError> {
        match self.strike().await {
            Fault::Unavailable | Fault::Lost | Fault::Ambiguous => {
                Err(DriverError::new(DriverErrorKind::Unavailable, "survey")
                    .because("an injected fault"))
            }
            _ => self.inner.survey().await,
        }
    }

    fn exec(&self) -> Option<&dyn ExecSource> {
        self.inner.exec()
    }

    fn logs(&self) -> Option<&dyn LogSource> {
        self.inner.logs()
    }

    fn usage(&self) -> Option<&dyn UsageSource> {
        self.inner.usage()
    }
}

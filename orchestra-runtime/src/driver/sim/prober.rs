//! Probes answered from the state of the simulation.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use orchestra_core::port::driver::{DriverErrorKind, ExecSource};
use orchestra_core::port::probe::{
    ProbeError, ProbeErrorKind, ProbeSpec, ProbeTarget, Prober, Verdict,
};
use orchestra_core::time::Timestamp;
use tokio::sync::watch;

use super::SimDriver;
use crate::driver::table::lock;
use crate::probe::Foresight;

/// Answers probes of every kind as the workloads of a [`SimDriver`] would: well after
/// `answers_in`, badly before they are ready or when sick, never while they hang.
#[derive(Clone, Debug)]
pub struct SimProber {
    driver: Arc<SimDriver>,
}

impl SimProber {
    /// Probes the workloads of `driver`.
    pub fn new(driver: Arc<SimDriver>) -> Self {
        Self { driver }
    }
}

#[async_trait]
impl Prober for SimProber {
    async fn probe(&self, target: &ProbeTarget, _: &ProbeSpec) -> Result<Verdict, ProbeError> {
        let began = self.driver.held.clock.now();
        match self.driver.held.exec(&target.workload, &[]).await {
            Ok(answer) if answer.code == 0 => {
                let took: Duration = self.driver.held.clock.now().since(began);
                Ok(Verdict::Pass { took })
            }
            Ok(answer) => Ok(Verdict::Fail {
                reason: answer.output,
            }),
            Err(error) if error.kind() == DriverErrorKind::Unknown => Ok(Verdict::Fail {
                reason: "connection refused: it does not run".to_owned(),
            }),
            Err(error) => Err(ProbeError::new(ProbeErrorKind::Exhausted, "probe")
                .about(target.workload.to_string())
                .because(error)),
        }
    }
}

/// It knows the script. While the driver cannot be reached it knows nothing.
impl Foresight for SimProber {
    fn passes_until(&self, target: &ProbeTarget) -> Option<Timestamp> {
        let held = &self.driver.held;
        let record = held.find(&target.workload, "exec").ok()?;
        lock(&record.life).well_until(held.clock.now())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.driver.held.changes.subscribe()
    }
}

//! How the nodes of a process get their engines.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use orchestra_core::error::report;
use orchestra_core::port::clock::Clock;
use orchestra_core::port::driver::{DriverError, WorkloadDriver};
use orchestra_core::port::probe::Prober;
use smol_str::SmolStr;

use crate::agent::Engine;
use crate::driver::process::ProcessDriver;
use crate::driver::task::{TaskDriver, TaskDriverBuilder};
use crate::probe::Probers;

/// Makes the driver of one node.
pub(super) type MakeDriver = Arc<dyn Fn(&str) -> Arc<dyn WorkloadDriver> + Send + Sync>;

/// Makes the prober of one node, which is given by its name, for what its driver runs.
pub(super) type MakeProber =
    Arc<dyn Fn(&str, Arc<dyn WorkloadDriver>) -> Arc<dyn Prober> + Send + Sync>;

/// One kind of engine, to be made for each node.
#[derive(Clone)]
pub(super) enum EngineKind {
    Tasks(TaskDriverBuilder),
    Processes(PathBuf),
    Custom(MakeDriver),
}

impl fmt::Debug for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tasks(tasks) => f.debug_tuple("Tasks").field(tasks).finish(),
            Self::Processes(folder) => f.debug_tuple("Processes").field(folder).finish(),
            Self::Custom(_) => f.write_str("Custom"),
        }
    }
}

impl EngineKind {
    pub(super) async fn make(
        &self,
        node: &SmolStr,
        clock: &Arc<dyn Clock>,
        prober: Option<&MakeProber>,
    ) -> Result<(Engine, MadeDriver), DriverError> {
        let (driver, made): (Arc<dyn WorkloadDriver>, _) = match self {
            Self::Tasks(tasks) => {
                let driver = Arc::new(tasks.clone().clock(clock.clone()).build());
                (driver.clone(), Made::Task(driver))
            }
            Self::Processes(folder) => {
                let builder = ProcessDriver::builder(folder.join(node.as_str()));
                let driver = Arc::new(builder.clock(clock.clone()).open().await?);
                (driver.clone(), Made::Process(driver))
            }
            Self::Custom(make) => {
                let driver = make(node);
                (driver.clone(), Made::Custom(driver))
            }
        };
        let prober = match prober {
            Some(make) => make(node, driver.clone()),
            None => Arc::new(Probers::standard(driver.clone())),
        };
        let engine = Engine {
            driver,
            prober,
            foresight: None,
        };
        let node = node.clone();
        Ok((engine, MadeDriver { node, made }))
    }
}

/// A driver of ours, to be shut down at the end.
#[derive(Clone, Debug)]
pub(super) struct MadeDriver {
    /// Whose it is.
    pub(super) node: SmolStr,
    made: Made,
}

#[derive(Clone, Debug)]
enum Made {
    Task(Arc<TaskDriver>),
    Process(Arc<ProcessDriver>),
    Custom(Arc<dyn WorkloadDriver>),
}

impl MadeDriver {
    pub(super) fn driver(&self) -> &dyn WorkloadDriver {
        match &self.made {
            Made::Task(driver) => driver.as_ref(),
            Made::Process(driver) => driver.as_ref(),
            Made::Custom(driver) => driver.as_ref(),
        }
    }

    /// Kills what the driver runs.
    pub(super) async fn kill(&self) {
        let driver = self.driver();
        let found = match driver.survey().await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(error = %report(&error), "what runs is not known, and left");
                return;
            }
        };
        for observed in found {
            if let Err(error) = driver.stop(&observed.id, Duration::ZERO).await {
                tracing::warn!(workload = %observed.id, error = %report(&error), "not killed");
            }
        }
    }

    /// Kills what the driver runs, without waiting for anybody. Custom drivers see to that themselves
    /// when they are dropped.
    pub(super) fn kill_now(&self) {
        if let Made::Process(driver) = &self.made {
            driver.kill_now();
        }
    }

    /// Joins what the driver runs. Its workloads have ended, or are left on purpose.
    pub(super) async fn shutdown(self) {
        match self.made {
            Made::Task(driver) => driver.shutdown(Duration::ZERO).await,
            Made::Process(driver) => driver.shutdown().await,
            Made::Custom(_) => {}
        }
    }
}

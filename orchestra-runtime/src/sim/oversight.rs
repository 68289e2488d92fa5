//! Drivers under the eyes of the checker: what starts where.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use orchestra_core::meta::Uid;
use orchestra_core::port::driver::{
    DriverError, ExecSource, Exit, LogSource, Observed, UsageSource, Workload, WorkloadDriver,
    WorkloadId,
};
use smol_str::SmolStr;

use super::wire::Line;
use crate::driver::sim::SimDriver;

/// Which pod was last started where, over all nodes.
#[derive(Debug, Default)]
pub(super) struct Oversight {
    seen: Mutex<Seen>,
    starts: AtomicU64,
}

#[derive(Debug, Default)]
struct Seen {
    /// The node where each pod was last started.
    homes: BTreeMap<Uid, Home>,
    /// The pod that last had each `namespace/name`.
    names: BTreeMap<String, Uid>,
}

#[derive(Clone, Debug)]
struct Home {
    node: SmolStr,
    driver: Arc<SimDriver>,
}

impl Oversight {
    /// Notes a start; tells what is wrong with it.
    fn start(&self, node: &SmolStr, driver: &Arc<SimDriver>, want: &Workload) -> Option<String> {
        self.starts.fetch_add(1, Ordering::Relaxed);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let uid = want.id.pod;
        let mut wrong = None;
        if let Some(home) = seen.homes.get(&uid)
            && home.node != *node
            && home.driver.runs_any_of(uid)
        {
            wrong = Some(format!(
                "pod {} ({uid}) is started on {node} while it runs on {}",
                want.pod_name, home.node
            ));
        }
        if let Some(before) = seen
            .names
            .get(&want.pod_name)
            .filter(|before| **before != uid)
            && let Some(home) = seen.homes.get(before)
            && home.driver.runs_any_of(*before)
        {
            wrong = Some(format!(
                "pod {} is started on {node} as {uid} while it runs on {} as {before}",
                want.pod_name, home.node
            ));
        }
        seen.homes.insert(
            uid,
            Home {
                node: node.clone(),
                driver: driver.clone(),
            },
        );
        seen.names.insert(want.pod_name.clone(), uid);
        wrong
    }

    /// Forgets a pod whose object is gone and that runs nowhere.
    pub(super) fn forget(&self, uid: Uid, name: &str) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen
            .homes
            .get(&uid)
            .is_none_or(|home| !home.driver.runs_any_of(uid))
        {
            seen.homes.remove(&uid);
            if seen.names.get(name) == Some(&uid) {
                seen.names.remove(name);
            }
        }
    }

    pub(super) fn starts(&self) -> u64 {
        self.starts.load(Ordering::Relaxed)
    }
}

/// Told of what is wrong with a start.
pub(super) type Complain = Arc<dyn Fn(String) + Send + Sync>;

/// A driver as one agent reaches it: its starts are looked at, and a dead agent starts nothing.
pub(super) struct Overseen {
    node: SmolStr,
    line: Arc<Line>,
    inner: Arc<SimDriver>,
    oversight: Arc<Oversight>,
    complain: Complain,
}

impl Overseen {
    pub(super) fn new(
        node: SmolStr,
        line: Arc<Line>,
        inner: Arc<SimDriver>,
        oversight: Arc<Oversight>,
        complain: Complain,
    ) -> Arc<Self> {
        Arc::new(Self {
            node,
            line,
            inner,
            oversight,
            complain,
        })
    }
}

impl std::fmt::Debug for Overseen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Overseen")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl WorkloadDriver for Overseen {
    async fn ensure(&self, want: &Workload) -> Result<Observed, DriverError> {
        self.line.live().await;
        if let Some(wrong) = self.oversight.start(&self.node, &self.inner, want) {
            (self.complain)(wrong);
        }
        self.inner.ensure(want).await
    }

    async fn wait(&self, id: &WorkloadId) -> Result<Exit, DriverError> {
        self.inner.wait(id).await
    }

    async fn stop(&self, id: &WorkloadId, grace: Duration) -> Result<(), DriverError> {
        self.line.live().await;
        self.inner.stop(id, grace).await
    }

    async fn remove(&self, id: &WorkloadId) -> Result<(), DriverError> {
        self.line.live().await;
        self.inner.remove(id).await
    }

    async fn survey(&self) -> Result<Vec<Observed>, DriverError> {
        self.line.live().await;
        self.inner.survey().await
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

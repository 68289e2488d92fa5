//! What the node's workloads use, seen from time to time and noted on the node's object.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use orchestra_core::error::report;
use orchestra_core::kind::Node;
use orchestra_core::kind::usage::Usage;
use orchestra_core::meta::ObjectKey;
use orchestra_core::port::driver::{RunState, WorkloadDriver, WorkloadId};
use orchestra_core::time::Timestamp;
use smol_str::SmolStr;

use crate::api::{ApiError, Client};

/// What changed by less than this part of what was noted last is not noted anew: each note is a
/// commit that every scheduler sees.
const NEWS_PART: i64 = 10;

/// What changed by less is no news either, however little there was before.
const NEWS_CPU_MILLI: i64 = 50;
const NEWS_MEMORY: i64 = 16 << 20;

/// Looks at what runs on one node.
pub(crate) struct Sampler<'a> {
    pub(crate) client: &'a Client,
    pub(crate) node: &'a SmolStr,
    pub(crate) drivers: Vec<Arc<dyn WorkloadDriver>>,
    pub(crate) every: Option<Duration>,
    /// CPU time of each workload when it was looked at before, and when that was.
    before: BTreeMap<WorkloadId, (Timestamp, u64)>,
    noted: Option<Usage>,
}

impl<'a> Sampler<'a> {
    pub(crate) fn new(
        client: &'a Client,
        node: &'a SmolStr,
        drivers: Vec<Arc<dyn WorkloadDriver>>,
        every: Option<Duration>,
    ) -> Self {
        Self {
            client,
            node,
            drivers,
            every,
            before: BTreeMap::new(),
            noted: None,
        }
    }

    /// Looks until dropped; waits for ever if it is not to look.
    pub(crate) async fn run(&mut self) {
        let Some(every) = self.every else {
            return std::future::pending().await;
        };
        loop {
            tokio::time::sleep(every).await;
            let seen = self.look().await;
            if self.noted.is_some_and(|noted| !is_news(&noted, &seen)) {
                continue;
            }
            match self.note(seen).await {
                Ok(()) => self.noted = Some(seen),
                Err(error) => {
                    let node = self.node;
                    tracing::debug!(%node, error = %report(&error), "its use was not noted");
                }
            }
        }
    }

    /// What runs now. Who runs for the first time is taken to use CPU as evenly as since it began.
    async fn look(&mut self) -> Usage {
        let at = self.client.now();
        let mut seen = Usage {
            cpu_milli: 0,
            memory: 0,
            at,
        };
        let mut now = BTreeMap::new();
        for driver in &self.drivers {
            let (Some(usage), Ok(found)) = (driver.usage(), driver.survey().await) else {
                continue;
            };
            for observed in found {
                let RunState::Running { since } = observed.state else {
                    continue;
                };
                let Ok(used) = usage.usage(&observed.id).await else {
                    continue; // it has just ended
                };
                let known = self.before.get(&observed.id);
                // A later attempt begins anew, with less than the one before had.
                let known = known.filter(|(_, micros)| *micros <= used.cpu_micros);
                let (from, micros) = known.copied().unwrap_or((since, 0));
                let span = at.since(from).as_millis().max(1);
                let milli = u128::from(used.cpu_micros - micros) / span;
                seen.cpu_milli = seen.cpu_milli.saturating_add(clamped(milli));
                seen.memory = seen
                    .memory
                    .saturating_add(clamped(used.memory_bytes.into()));
                now.insert(observed.id, (at, used.cpu_micros));
            }
        }
        self.before = now;
        seen
    }

    async fn note(&self, seen: Usage) -> Result<(), ApiError> {
        let key = ObjectKey::cluster(self.node.clone());
        let nodes = self.client.api::<Node>();
        let noted = nodes.update(&key, |node| seen.note(node));
        noted.await.map(drop)
    }
}

fn clamped(amount: u128) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

fn is_news(noted: &Usage, seen: &Usage) -> bool {
    let moved = |was: i64, is: i64, least: i64| {
        was.abs_diff(is) >= (was / NEWS_PART).max(least).unsigned_abs()
    };
    moved(noted.cpu_milli, seen.cpu_milli, NEWS_CPU_MILLI)
        || moved(noted.memory, seen.memory, NEWS_MEMORY)
}

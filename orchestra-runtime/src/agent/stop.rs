//! Stopping: hooks, the driver's stop, and workloads whose pod is gone.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use orchestra_core::error::{Retry, report};
use orchestra_core::kind::Container;
use orchestra_core::meta::Uid;
use orchestra_core::port::driver::{Observed, WorkloadId};

use super::Running;
use super::container::run_handler;
use super::life::Hooked;
use super::pod::{PodShared, REPORT_RETRY_BASE, REPORT_RETRY_MAX};

/// What a container always gets between SIGTERM and SIGKILL, even if its preStop hook took all of
/// the pod's grace (unless that was zero).
const GRACE_AFTER_HOOK_MIN: Duration = Duration::from_secs(2);

/// preStop, then the driver's stop, within `grace` in all.
pub(super) async fn stop_container(
    shared: Arc<PodShared>,
    container: Container,
    grace: Duration,
    hooked: Hooked,
) {
    let id = shared.workload_id(&container.name);
    let first = hooked
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(container.name.clone());
    let left = if first && shared.runs(&container.name) {
        pre_stop(&shared, &container, &id, grace).await
    } else {
        grace
    };
    stop_surely(&shared, &id, left).await;
}

/// Runs the preStop hook, if there is one and `grace` leaves room for it. Returns what is left of
/// the grace.
pub(crate) async fn pre_stop(
    shared: &PodShared,
    container: &Container,
    id: &WorkloadId,
    grace: Duration,
) -> Duration {
    let lifecycle = container.lifecycle.as_ref();
    let Some(hook) = lifecycle.and_then(|l| l.pre_stop.as_ref()) else {
        return grace;
    };
    if grace.is_zero() {
        return grace;
    }
    let begun = tokio::time::Instant::now();
    match tokio::time::timeout(grace, run_handler(shared, container, id, hook)).await {
        Ok(Ok(())) => {}
        Ok(Err(why)) => shared.warn("FailedPreStopHook", &why),
        Err(_) => shared.warn("FailedPreStopHook", "it took longer than the pod's grace"),
    }
    grace
        .saturating_sub(begun.elapsed())
        .max(GRACE_AFTER_HOOK_MIN)
}

/// Asks the driver to stop it, until it has.
pub(crate) async fn stop_surely(shared: &PodShared, id: &WorkloadId, grace: Duration) {
    let begun = tokio::time::Instant::now();
    let mut rest = REPORT_RETRY_BASE;
    loop {
        let left = grace.saturating_sub(begun.elapsed());
        match shared.engine.driver.stop(id, left).await {
            Ok(()) => return,
            Err(error) => shared.warn("FailedKillContainer", &report(&error).to_string()),
        }
        tokio::time::sleep(rest).await;
        rest = rest.saturating_mul(2).min(REPORT_RETRY_MAX);
    }
}

/// Stops and forgets workloads whose pod is gone; returns the others.
pub(crate) async fn stop_strays(
    engine: &Running,
    survey: Vec<Observed>,
    pods: &BTreeSet<Uid>,
) -> Vec<Observed> {
    let (known, strays): (Vec<_>, Vec<_>) = survey
        .into_iter()
        .partition(|observed| pods.contains(&observed.id.pod));
    for stray in strays {
        tracing::info!(workload = %stray.id, "stopped: its pod is gone");
        end_stray(engine, &stray.id).await;
    }
    known
}

pub(super) async fn end_stray(engine: &Running, id: &WorkloadId) {
    let mut rest = REPORT_RETRY_BASE;
    while let Err(error) = engine.driver.stop(id, Duration::ZERO).await {
        tracing::warn!(workload = %id, error = %report(&error), "stray not stopped");
        if error.retry() == Retry::Never {
            break;
        }
        tokio::time::sleep(rest).await;
        rest = rest.saturating_mul(2).min(REPORT_RETRY_MAX);
    }
    remove(engine, id).await;
}

/// Frees what the driver kept of an ended workload: nobody would ever ask again.
pub(super) async fn remove(engine: &Running, id: &WorkloadId) {
    let mut rest = REPORT_RETRY_BASE;
    while let Err(error) = engine.driver.remove(id).await {
        tracing::warn!(workload = %id, error = %report(&error), "not removed");
        if error.retry() == Retry::Never {
            break;
        }
        tokio::time::sleep(rest).await;
        rest = rest.saturating_mul(2).min(REPORT_RETRY_MAX);
    }
}

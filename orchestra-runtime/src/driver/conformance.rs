//! The port's suite on the three drivers, and on broken ones that it must catch.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use orchestra_core::conformance::driver::{Workloads, run};
use orchestra_core::port::driver::{
    DriverError, DriverErrorKind, ExecSource, Exit, LogSource, Observed, RunState, Usage,
    UsageSource, Workload, WorkloadDriver, WorkloadId,
};

use super::sim::{Behavior, Match, SimDriver, SimScript};
use super::table::lock;
use super::task::{ExitCode, TaskDriver};

fn by_image() -> Workloads {
    let named = |image: &str| Workload {
        image: image.into(),
        ..Workload::default()
    };
    Workloads {
        forever: named("forever"),
        exits_0: named("exits-0"),
        exits_3: named("exits-3"),
        ignores_term: named("ignores-term"),
        invalid: Some(named("invalid")),
    }
}

#[tokio::test(start_paused = true)]
async fn the_task_driver_keeps_the_contract() {
    let fresh = || async {
        let driver = TaskDriver::builder()
            .task("forever", |context| async move {
                context.stopping().await;
                Ok(())
            })
            .task("exits-0", |_| async { Ok(()) })
            .task("exits-3", |_| async { Err(ExitCode(3).into()) })
            .task("ignores-term", |_| std::future::pending())
            .build();
        Arc::new(driver) as Arc<dyn WorkloadDriver>
    };
    run(fresh, by_image(), tokio::time::sleep)
        .await
        .assert_passed();
}

fn sim() -> SimDriver {
    let day = Duration::from_secs(24 * 3600);
    let script = SimScript::new()
        .when(
            Match::any().image("exits-0"),
            Behavior::exits(Duration::ZERO, 0),
        )
        .when(
            Match::any().image("exits-3"),
            Behavior::exits(Duration::from_millis(1), 3),
        )
        .when(
            Match::any().image("ignores-term"),
            Behavior::runs().ignores_term_for(day),
        )
        .when(
            Match::any().image("invalid"),
            Behavior::runs().refuses(1, DriverErrorKind::Invalid),
        );
    SimDriver::new(script, 1)
}

#[tokio::test(start_paused = true)]
async fn the_sim_driver_keeps_the_contract() {
    let fresh = || async { Arc::new(sim()) as Arc<dyn WorkloadDriver> };
    run(fresh, by_image(), tokio::time::sleep)
        .await
        .assert_passed();
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_driver_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let count = AtomicU64::new(0);
    let fresh = || async {
        let state = dir
            .path()
            .join(count.fetch_add(1, Ordering::Relaxed).to_string());
        let driver = super::process::ProcessDriver::builder(state)
            .open()
            .await
            .unwrap();
        Arc::new(driver) as Arc<dyn WorkloadDriver>
    };
    let sh = |script: &str| Workload {
        command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        ..Workload::default()
    };
    let workloads = Workloads {
        forever: sh("exec /bin/sleep 100000 || exec sleep 100000"),
        exits_0: sh("exit 0"),
        exits_3: sh("exit 3"),
        ignores_term: sh("trap '' TERM; while :; do sleep 1; done"),
        invalid: Some(Workload {
            image: "/no/such/program".into(),
            ..Workload::default()
        }),
    };
    run(fresh, workloads, tokio::time::sleep)
        .await
        .assert_passed();
}

/// What a broken driver does wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fault {
    ForgetsEnded,
    StartsTwice,
    StopReturnsEarly,
    StopIsTakenBack,
    KillsBeforeGrace,
    SurveyMisses,
    SurveyUnordered,
    AcceptsStale,
    RemovesRunning,
    RunsEndedAgain,
    WaitsForUnknown,
    InvalidIsRemembered,
    LosesAnEndNowAndThen,
    TellsTheFirstEndAgain,
    TellsAnEndDifferently,
    SurveysAnEndTwice,
    RemembersAttempts,
    GivesGraceUnasked,
    KeepsTheFirstGrace,
    TailsTooMuch,
    ForgetsWhatItUsed,
    RefusesASecondWisher,
    ADroppedWaitStops,
    KnowsAStranger,
}

/// A good driver with one fault.
#[derive(Debug)]
struct Broken {
    inner: SimDriver,
    fault: Fault,
    shift: Mutex<BTreeMap<WorkloadId, u32>>,
    told: Mutex<BTreeMap<WorkloadId, Exit>>,
    newest: Mutex<BTreeMap<WorkloadId, u32>>,
    calls: AtomicU64,
}

/// How the suite calls what is never told.
async fn never<T>() -> T {
    std::future::pending().await
}

impl Broken {
    /// Makes the inner driver see a newer attempt than was asked for.
    fn shifted(&self, want: &Workload) -> Workload {
        let shift = lock(&self.shift).get(&want.id).copied().unwrap_or(0);
        Workload {
            attempt: want.attempt + shift,
            ..want.clone()
        }
    }

    async fn forced(&self, want: &Workload) -> Result<Observed, DriverError> {
        self.inner.stop(&want.id, Duration::ZERO).await?;
        *lock(&self.shift).entry(want.id.clone()).or_default() += 100;
        let mut seen = self.inner.ensure(&self.shifted(want)).await?;
        seen.attempt = want.attempt;
        Ok(seen)
    }
}

#[async_trait]
impl WorkloadDriver for Broken {
    async fn ensure(&self, want: &Workload) -> Result<Observed, DriverError> {
        let known = self
            .survey()
            .await?
            .into_iter()
            .find(|seen| seen.id == want.id);
        let runs = known
            .as_ref()
            .is_some_and(|seen| matches!(seen.state, RunState::Running { .. }));
        if self.fault == Fault::RemembersAttempts {
            let mut newest = lock(&self.newest);
            let newest = newest.entry(want.id.clone()).or_default();
            if want.attempt < *newest {
                return Err(DriverError::new(DriverErrorKind::Stale, "ensure"));
            }
            *newest = want.attempt;
        }
        if self.fault == Fault::RefusesASecondWisher {
            if lock(&self.newest).insert(want.id.clone(), 0).is_some() {
                return Err(DriverError::new(DriverErrorKind::Running, "ensure"));
            }
            tokio::task::yield_now().await;
            lock(&self.newest).remove(&want.id);
        }
        match self.fault {
            Fault::StartsTwice if runs => self.forced(want).await,
            Fault::RunsEndedAgain if known.is_some() && !runs => self.forced(want).await,
            Fault::AcceptsStale if known.is_some_and(|seen| seen.attempt > want.attempt) => {
                self.forced(want).await
            }
            Fault::InvalidIsRemembered if want.image == "invalid" => {
                let other = Workload {
                    image: "forever".into(),
                    ..want.clone()
                };
                self.inner.ensure(&other).await?;
                self.inner.ensure(want).await?;
                Err(DriverError::new(DriverErrorKind::Invalid, "ensure"))
            }
            _ => {
                let mut seen = self.inner.ensure(&self.shifted(want)).await?;
                seen.attempt = want.attempt;
                Ok(seen)
            }
        }
    }

    async fn wait(&self, id: &WorkloadId) -> Result<Exit, DriverError> {
        if self.fault == Fault::ADroppedWaitStops {
            // Somebody began to wait, and has not heard.
            if lock(&self.newest).insert(id.clone(), 0).is_some() {
                self.inner.stop(id, Duration::ZERO).await?;
            }
        }
        let told = self.inner.wait(id).await;
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        match (self.fault, told) {
            (Fault::WaitsForUnknown, Err(_)) => never().await,
            (Fault::LosesAnEndNowAndThen, Ok(_)) if call % 50 == 25 => never().await,
            (Fault::TellsTheFirstEndAgain, Ok(exit)) => {
                Ok(lock(&self.told).entry(id.clone()).or_insert(exit).clone())
            }
            (Fault::TellsAnEndDifferently, Ok(mut exit)) if call % 50 == 25 => {
                exit.reason = "Lost".into();
                Ok(exit)
            }
            (_, told) => told,
        }
    }

    async fn stop(&self, id: &WorkloadId, grace: Duration) -> Result<(), DriverError> {
        match self.fault {
            Fault::StopReturnsEarly => {
                let _ = tokio::time::timeout(Duration::ZERO, async {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    self.inner.stop(id, grace).await
                })
                .await;
                Ok(())
            }
            Fault::StopIsTakenBack => {
                tokio::time::sleep(Duration::from_millis(5)).await;
                self.inner.stop(id, grace).await
            }
            Fault::KillsBeforeGrace => self.inner.stop(id, Duration::ZERO).await,
            Fault::KeepsTheFirstGrace => {
                if lock(&self.newest).insert(id.clone(), 0).is_none() {
                    return self.inner.stop(id, grace).await;
                }
                self.inner.wait(id).await.map(drop)
            }
            Fault::GivesGraceUnasked => {
                self.inner
                    .stop(id, grace.max(Duration::from_secs(30)))
                    .await
            }
            _ => self.inner.stop(id, grace).await,
        }
    }

    async fn remove(&self, id: &WorkloadId) -> Result<(), DriverError> {
        if self.fault == Fault::RemovesRunning {
            self.inner.stop(id, Duration::ZERO).await?;
        }
        lock(&self.shift).remove(id);
        self.inner.remove(id).await
    }

    async fn survey(&self) -> Result<Vec<Observed>, DriverError> {
        let mut survey = self.inner.survey().await?;
        for seen in &mut survey {
            seen.attempt -= lock(&self.shift)
                .get(&seen.id)
                .copied()
                .unwrap_or(0)
                .min(seen.attempt);
        }
        match self.fault {
            Fault::ForgetsEnded => {
                survey.retain(|seen| matches!(seen.state, RunState::Running { .. }));
            }
            Fault::SurveyMisses => {
                survey.retain(|seen| seen.id.pod.0 != 3);
            }
            Fault::SurveyUnordered => survey.reverse(),
            Fault::KnowsAStranger => survey.extend(survey.last().cloned().or_else(|| {
                let since = orchestra_core::time::Timestamp::EPOCH;
                Some(Observed {
                    id: WorkloadId::default(),
                    attempt: 0,
                    state: RunState::Running { since },
                })
            })),
            Fault::SurveysAnEndTwice if survey.len() > 20 => {
                survey.insert(7, survey[7].clone());
            }
            _ => {}
        }
        Ok(survey)
    }

    fn exec(&self) -> Option<&dyn ExecSource> {
        self.inner.exec()
    }

    fn logs(&self) -> Option<&dyn LogSource> {
        match self.fault {
            Fault::TailsTooMuch => Some(self),
            _ => self.inner.logs(),
        }
    }

    fn usage(&self) -> Option<&dyn UsageSource> {
        match self.fault {
            Fault::ForgetsWhatItUsed => Some(self),
            _ => self.inner.usage(),
        }
    }
}

#[async_trait]
impl LogSource for Broken {
    async fn tail(&self, id: &WorkloadId, bytes_max: usize) -> Result<Vec<u8>, DriverError> {
        match self.inner.survey().await?.iter().any(|seen| seen.id == *id) {
            true => Ok(vec![b'.'; bytes_max + 1]),
            false => Err(DriverError::new(DriverErrorKind::Unknown, "tail")),
        }
    }
}

#[async_trait]
impl UsageSource for Broken {
    async fn usage(&self, id: &WorkloadId) -> Result<Usage, DriverError> {
        let survey = self.inner.survey().await?;
        let runs = |seen: &&Observed| matches!(seen.state, RunState::Running { .. });
        match survey.iter().filter(runs).any(|seen| seen.id == *id) {
            true => Ok(Usage {
                cpu_micros: 1_000 - self.calls.fetch_add(1, Ordering::Relaxed),
                ..Usage::default()
            }),
            false => Err(DriverError::new(DriverErrorKind::Unknown, "usage")),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_suite_catches_each_fault_by_its_check() {
    let faults = [
        (Fault::ForgetsEnded, "an_ended_workload_is_remembered"),
        (Fault::StartsTwice, "a_workload_that_runs_is_left_alone"),
        (Fault::StopReturnsEarly, "stop_returns_after_the_end"),
        (Fault::StopIsTakenBack, "a_dropped_stop_still_stops"),
        (
            Fault::KillsBeforeGrace,
            "a_deaf_workload_is_killed_after_its_grace",
        ),
        (Fault::SurveyMisses, "the_survey_is_whole_and_ordered"),
        (Fault::SurveyUnordered, "the_survey_is_whole_and_ordered"),
        (Fault::AcceptsStale, "an_older_attempt_is_stale"),
        (Fault::RemovesRunning, "what_runs_cannot_be_removed"),
        (Fault::RunsEndedAgain, "an_ended_attempt_does_not_run_again"),
        (
            Fault::WaitsForUnknown,
            "unknown_workloads_cannot_be_waited_for",
        ),
        (
            Fault::InvalidIsRemembered,
            "what_cannot_run_is_invalid_and_leaves_nothing",
        ),
        (Fault::LosesAnEndNowAndThen, "each_of_many_ends_is_told"),
        (Fault::TellsTheFirstEndAgain, "each_of_many_ends_is_told"),
        (Fault::TellsAnEndDifferently, "each_of_many_ends_is_told"),
        (Fault::SurveysAnEndTwice, "each_of_many_ends_is_told"),
        (Fault::RemembersAttempts, "removal_may_be_repeated"),
        (Fault::GivesGraceUnasked, "zero_grace_kills_at_once"),
        (Fault::KeepsTheFirstGrace, "a_shorter_grace_hurries"),
        (Fault::TailsTooMuch, "powers_answer_while_it_runs"),
        (Fault::RefusesASecondWisher, "concurrent_wishes_start_one"),
        (Fault::ADroppedWaitStops, "a_dropped_wait_changes_nothing"),
        (Fault::KnowsAStranger, "knows_nothing_at_first"),
        (Fault::ForgetsWhatItUsed, "powers_answer_while_it_runs"),
    ];
    let (mut all, mut broken) = (BTreeSet::new(), BTreeSet::new());
    for (fault, check) in faults {
        let fresh = || async move {
            Arc::new(Broken {
                inner: sim(),
                fault,
                shift: Mutex::default(),
                told: Mutex::default(),
                newest: Mutex::default(),
                calls: AtomicU64::new(0),
            }) as Arc<dyn WorkloadDriver>
        };
        let report = run(fresh, by_image(), tokio::time::sleep).await;
        all.extend(report.checks.iter().map(|check| check.name));
        broken.extend(report.failed().map(|check| check.name));
        assert!(
            report.failed().any(|failed| failed.name == check),
            "{fault:?} is not caught by {check}\n{report}"
        );
    }
    assert_eq!(broken, all, "checks that no planted bug breaks");
}

//! The suite for [`WorkloadDriver`].

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::{Finding, Report, Suite, Timer, ensure, ensure_eq, fail, join_all, skip};
use crate::meta::Uid;
use crate::port::driver::{
    DriverError, DriverErrorKind, Exit, Observed, RunState, Workload, WorkloadDriver, WorkloadId,
};

/// How long a workload of [`Workloads::forever`] must go on to be believed.
const GOES_ON_FOR: Duration = Duration::from_millis(100);

/// The grace of a workload that ends when asked: more than it should ever need.
const GRACE_LONG: Duration = Duration::from_secs(60);

/// The grace of a workload that does not.
const GRACE_SHORT: Duration = Duration::from_millis(200);

/// How soon a workload without grace must have ended.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Workloads that run, and end, side by side.
const MANY: u128 = 40;

/// Which workload ended, the code it should have, and how it ended.
type Ended = Result<(WorkloadId, i32, Exit), super::Stop>;

/// Workloads that the caller's driver can run, and of which the suite knows what they do. It sets
/// their ids and attempts itself.
#[derive(Clone, Debug)]
pub struct Workloads {
    /// Runs until it is asked to end, and then ends soon.
    pub forever: Workload,
    /// Ends by itself at once with code 0.
    pub exits_0: Workload,
    /// Ends by itself at once with code 3.
    pub exits_3: Workload,
    /// Runs for ever, and ignores that it is asked to end. The suite gives it a moment to begin.
    pub ignores_term: Workload,
    /// What the driver cannot run, if there is any such thing.
    pub invalid: Option<Workload>,
}

/// Tests a driver. `fresh` gives one that knows no workload; the same one may be given again,
/// for every check removes what it started.
///
/// ```
/// # use std::sync::Arc;
/// # use orchestra_core::conformance;
/// # use orchestra_core::port::driver::WorkloadDriver;
/// # mod tokio { pub mod time { pub async fn sleep(_: std::time::Duration) {} } }
/// # async fn test<MyDriver: WorkloadDriver + Default>(workloads: conformance::driver::Workloads) {
/// let fresh = || async { Arc::new(MyDriver::default()) as Arc<dyn WorkloadDriver> };
/// conformance::driver::run(fresh, workloads, tokio::time::sleep).await.assert_passed();
/// # }
/// ```
pub async fn run<F, A, S, Z>(fresh: F, workloads: Workloads, sleep: S) -> Report
where
    F: Fn() -> A + Send + Sync,
    A: Future<Output = Arc<dyn WorkloadDriver>> + Send,
    S: Fn(Duration) -> Z + Send + Sync + 'static,
    Z: Future<Output = ()> + Send + 'static,
{
    // On the heap: two dozen checks make a large future.
    Box::pin(check_all(fresh, workloads, Timer::new(sleep))).await
}

async fn check_all<F, A>(fresh: F, workloads: Workloads, timer: Timer) -> Report
where
    F: Fn() -> A + Send + Sync,
    A: Future<Output = Arc<dyn WorkloadDriver>> + Send,
{
    let mut suite = Suite::new("driver", timer.clone());
    macro_rules! check {
        ($name:ident, $sentence:literal) => {
            let bench = Bench {
                driver: fresh().await,
                workloads: workloads.clone(),
                timer: timer.clone(),
            };
            suite
                .check(stringify!($name), $sentence, $name(&bench))
                .await;
            bench.clear().await;
        };
    }
    check!(
        knows_nothing_at_first,
        "Everything this driver knows, ordered by id."
    );
    check!(
        a_workload_that_runs_is_left_alone,
        "`ensure` is idempotent: a workload that runs at this attempt is left alone."
    );
    check!(
        concurrent_wishes_start_one,
        "At most one attempt of a workload ever runs."
    );
    check!(
        an_ended_attempt_does_not_run_again,
        "Makes `want` run, or tells that this attempt already ran and ended."
    );
    check!(
        a_newer_attempt_follows_an_ended_one,
        "A newer attempt runs once the one before has ended."
    );
    check!(
        a_newer_attempt_waits_for_the_end,
        "A newer attempt is refused with `Running` while the one before runs."
    );
    check!(
        an_older_attempt_is_stale,
        "An older attempt than the newest seen is refused with `Stale`."
    );
    check!(
        wait_tells_the_exit,
        "Waits until the workload has ended, and tells how."
    );
    check!(
        every_waiter_is_told,
        "Every waiter is told of the same end."
    );
    check!(
        each_of_many_ends_is_told,
        "Waits until the workload has ended, and tells how: every end, of its own attempt, always \
         the same."
    );
    check!(
        a_dropped_wait_changes_nothing,
        "Cancel-safe: dropping a call's future never stops a workload."
    );
    check!(
        unknown_workloads_cannot_be_waited_for,
        "An unknown workload is `Unknown` to `wait`, to `exec`, `tail` and `usage`."
    );
    check!(
        stop_returns_after_the_end,
        "Asks the workload to end, and returns once it has ended."
    );
    check!(
        a_deaf_workload_is_killed_after_its_grace,
        "Kills the workload after `grace`; not before, and then surely."
    );
    check!(
        zero_grace_kills_at_once,
        "With a zero grace it is killed at once."
    );
    check!(
        a_shorter_grace_hurries,
        "Of several calls the soonest deadline holds."
    );
    check!(
        a_dropped_stop_still_stops,
        "Dropping the call does not take back what was asked."
    );
    check!(
        stopping_may_be_repeated,
        "One that has ended, or was never known, is already stopped."
    );
    check!(
        an_ended_workload_is_remembered,
        "An ended workload is remembered, with its exit, until `remove`."
    );
    check!(
        what_runs_cannot_be_removed,
        "Removal is refused with `Running` while it runs."
    );
    check!(
        removal_may_be_repeated,
        "An unknown workload is already removed. Which attempts were seen is forgotten too."
    );
    check!(
        the_survey_is_whole_and_ordered,
        "Tells of everything that runs or is remembered, ordered by id."
    );
    check!(
        powers_answer_while_it_runs,
        "What a power gives is bounded: usage is of what runs, a tail no longer than asked for."
    );
    check!(
        what_cannot_run_is_invalid_and_leaves_nothing,
        "What cannot be run is refused with `Invalid`, and nothing of it is known."
    );
    suite.finish()
}

struct Bench {
    driver: Arc<dyn WorkloadDriver>,
    workloads: Workloads,
    timer: Timer,
}

fn named(workload: &Workload, pod: u128, attempt: u32) -> Workload {
    let id = WorkloadId {
        pod: Uid(pod),
        container: "main".into(),
    };
    Workload {
        id,
        attempt,
        ..workload.clone()
    }
}

fn kind<T>(outcome: Result<T, DriverError>) -> Option<DriverErrorKind> {
    outcome.err().map(|error| error.kind())
}

impl Bench {
    /// Stops and removes everything, whatever a check left. A broken driver may hang in it.
    async fn clear(&self) {
        let clearing = async {
            for seen in self.driver.survey().await.unwrap_or_default() {
                // What fails here has failed in a check, or will.
                let _ = self.driver.stop(&seen.id, Duration::ZERO).await;
                let _ = self.driver.remove(&seen.id).await;
            }
        };
        self.timer.within(GRACE_LONG, clearing).await;
    }

    async fn running(&self, workload: &Workload) -> Result<Workload, super::Stop> {
        let want = named(workload, 1, 0);
        let seen = self.driver.ensure(&want).await?;
        ensure_eq("the id told by `ensure`", &seen.id, &want.id)?;
        ensure(
            matches!(seen.state, RunState::Running { .. }),
            "it runs",
            seen,
        )?;
        Ok(want)
    }

    async fn find(&self, id: &WorkloadId) -> Result<Observed, super::Stop> {
        let survey = self.driver.survey().await?;
        match survey.iter().find(|seen| seen.id == *id) {
            Some(seen) => Ok(seen.clone()),
            None => fail(format!("the survey tells of {id}"), format!("{survey:?}")),
        }
    }

    async fn ended(&self, workload: &Workload, attempt: u32) -> Result<Exit, super::Stop> {
        let want = named(workload, 1, attempt);
        self.driver.ensure(&want).await?;
        Ok(self.driver.wait(&want.id).await?)
    }

    /// Fails if the workload ends within a moment.
    async fn goes_on(&self, id: &WorkloadId) -> Finding {
        match self.timer.within(GOES_ON_FOR, self.driver.wait(id)).await {
            None => Ok(()),
            Some(exit) => fail("it goes on", format!("{exit:?}")),
        }
    }
}

async fn knows_nothing_at_first(bench: &Bench) -> Finding {
    ensure_eq("the survey", bench.driver.survey().await?, Vec::new())
}

async fn a_workload_that_runs_is_left_alone(bench: &Bench) -> Finding {
    let want = bench.running(&bench.workloads.forever).await?;
    let first = bench.find(&want.id).await?;
    bench.timer.sleep(GOES_ON_FOR).await;
    ensure_eq(
        "the second answer",
        bench.driver.ensure(&want).await?,
        first.clone(),
    )?;
    ensure_eq("the survey's entry", bench.find(&want.id).await?, first)?;
    bench.goes_on(&want.id).await
}

async fn concurrent_wishes_start_one(bench: &Bench) -> Finding {
    let want = named(&bench.workloads.forever, 1, 0);
    let calls = (0..8)
        .map(|_| Box::pin(bench.driver.ensure(&want)) as _)
        .collect();
    let answers = join_all::<Result<Observed, DriverError>>(calls).await;
    let mut seen = Vec::new();
    for answer in answers {
        seen.push(answer?);
    }
    ensure(
        seen.iter().all(|one| *one == seen[0]),
        "every call tells of the same start",
        &seen,
    )?;
    ensure_eq("workloads known", bench.driver.survey().await?.len(), 1)
}

async fn an_ended_attempt_does_not_run_again(bench: &Bench) -> Finding {
    let exit = bench.ended(&bench.workloads.exits_3, 0).await?;
    let again = bench
        .driver
        .ensure(&named(&bench.workloads.exits_3, 1, 0))
        .await?;
    ensure_eq("its state", again.state, RunState::Ended(exit))
}

async fn a_newer_attempt_follows_an_ended_one(bench: &Bench) -> Finding {
    for attempt in [0, 1, 5] {
        let exit = bench.ended(&bench.workloads.exits_3, attempt).await?;
        ensure_eq("the code", exit.code, 3)?;
        let id = named(&bench.workloads.exits_3, 1, 0).id;
        ensure_eq("the attempt", bench.find(&id).await?.attempt, attempt)?;
    }
    ensure_eq("workloads known", bench.driver.survey().await?.len(), 1)
}

async fn a_newer_attempt_waits_for_the_end(bench: &Bench) -> Finding {
    let want = bench.running(&bench.workloads.forever).await?;
    let newer = named(&bench.workloads.forever, 1, 1);
    let refused = kind(bench.driver.ensure(&newer).await);
    ensure_eq("the error", refused, Some(DriverErrorKind::Running))?;
    ensure_eq("the attempt", bench.find(&want.id).await?.attempt, 0)?;
    bench.goes_on(&want.id).await
}

async fn an_older_attempt_is_stale(bench: &Bench) -> Finding {
    let stale = Some(DriverErrorKind::Stale);
    bench.ended(&bench.workloads.exits_0, 4).await?;
    let older = named(&bench.workloads.forever, 1, 3);
    ensure_eq(
        "the error after an end",
        kind(bench.driver.ensure(&older).await),
        stale,
    )?;
    let newer = named(&bench.workloads.forever, 1, 5);
    bench.driver.ensure(&newer).await?;
    ensure_eq(
        "the error while it runs",
        kind(bench.driver.ensure(&older).await),
        stale,
    )?;
    bench.goes_on(&newer.id).await
}

async fn wait_tells_the_exit(bench: &Bench) -> Finding {
    for (attempt, workload, code) in [
        (0, &bench.workloads.exits_0, 0),
        (1, &bench.workloads.exits_3, 3),
    ] {
        let exit = bench.ended(workload, attempt).await?;
        ensure_eq("the code", exit.code, code)?;
        ensure_eq("the signal", exit.signal, None)?;
        ensure(!exit.reason.is_empty(), "a reason", &exit)?;
        ensure_eq(
            "the exit told again",
            bench.driver.wait(&named(workload, 1, 0).id).await?,
            exit,
        )?;
    }
    Ok(())
}

async fn every_waiter_is_told(bench: &Bench) -> Finding {
    let want = bench.running(&bench.workloads.forever).await?;
    let waits = (0..4)
        .map(|_| Box::pin(bench.driver.wait(&want.id)) as _)
        .collect();
    let (told, stopped) = super::join(
        join_all::<Result<Exit, DriverError>>(waits),
        bench.driver.stop(&want.id, GRACE_LONG),
    )
    .await;
    stopped?;
    let exit = bench.driver.wait(&want.id).await?;
    for one in told {
        ensure_eq("what a waiter was told", one?, exit.clone())?;
    }
    Ok(())
}

async fn each_of_many_ends_is_told(bench: &Bench) -> Finding {
    let codes = |pod: u128, attempt: u32| (pod + u128::from(attempt)).is_multiple_of(2);
    let mut ids = Vec::new();
    for attempt in 0..2 {
        // All at once: whoever waits is told by the end, and not before.
        let runs = (1..=MANY).map(|pod| {
            let (workload, code) = match codes(pod, attempt) {
                true => (&bench.workloads.exits_0, 0),
                false => (&bench.workloads.exits_3, 3),
            };
            let want = named(workload, pod, attempt);
            let run = async move {
                bench.driver.ensure(&want).await?;
                let exit = bench.driver.wait(&want.id).await?;
                Ok((want.id, code, exit))
            };
            Box::pin(run) as Pin<Box<dyn Future<Output = Ended> + Send + '_>>
        });
        let mut told = Vec::new();
        for run in join_all(runs.collect()).await {
            let (id, code, exit) = run?;
            let what = format!("the code of {id}, attempt {attempt}");
            ensure_eq(&what, exit.code, code)?;
            told.push(Observed {
                id,
                attempt,
                state: RunState::Ended(exit),
            });
        }
        ensure_eq("the survey", &bench.driver.survey().await?, &told)?;
        for one in told {
            let again = RunState::Ended(bench.driver.wait(&one.id).await?);
            ensure_eq(
                &format!("the end of {}, told again", one.id),
                again,
                one.state,
            )?;
            ids.push(one.id);
        }
    }
    ids.truncate(usize::try_from(MANY).unwrap_or(0));
    for id in ids {
        bench.driver.remove(&id).await?;
    }
    ensure_eq("the survey", bench.driver.survey().await?, Vec::new())
}

async fn a_dropped_wait_changes_nothing(bench: &Bench) -> Finding {
    let want = bench.running(&bench.workloads.forever).await?;
    for _ in 0..3 {
        bench.goes_on(&want.id).await?; // drops its wait
    }
    let state = bench.find(&want.id).await?.state;
    ensure(matches!(state, RunState::Running { .. }), "it runs", state)
}

async fn unknown_workloads_cannot_be_waited_for(bench: &Bench) -> Finding {
    let unknown = Some(DriverErrorKind::Unknown);
    let id = named(&bench.workloads.forever, 9, 0).id;
    ensure_eq("wait", kind(bench.driver.wait(&id).await), unknown)?;
    if let Some(exec) = bench.driver.exec() {
        ensure_eq(
            "exec",
            kind(exec.exec(&id, &["true".to_owned()]).await),
            unknown,
        )?;
    }
    if let Some(logs) = bench.driver.logs() {
        ensure_eq("tail", kind(logs.tail(&id, 1).await), unknown)?;
    }
    bench.ended(&bench.workloads.exits_0, 0).await?;
    let ended = named(&bench.workloads.exits_0, 1, 0).id;
    if let Some(exec) = bench.driver.exec() {
        let command = ["true".to_owned()];
        let refused = kind(exec.exec(&ended, &command).await);
        ensure_eq("exec after the end", refused, unknown)?;
    }
    if let Some(logs) = bench.driver.logs() {
        let tail = logs.tail(&ended, 1).await?;
        ensure(tail.len() <= 1, "a tail after the end", tail)?;
    }
    if let Some(usage) = bench.driver.usage() {
        ensure_eq("usage", kind(usage.usage(&id).await), unknown)?;
        ensure_eq(
            "usage after the end",
            kind(usage.usage(&ended).await),
            unknown,
        )?;
    }
    Ok(())
}

async fn stop_returns_after_the_end(bench: &Bench) -> Finding {
    let want = bench.running(&bench.workloads.forever).await?;
    bench.driver.stop(&want.id, GRACE_LONG).await?;
    let state = bench.find(&want.id).await?.state;
    ensure(
        matches!(state, RunState::Ended(_)),
        "it has ended when `stop` returns",
        state,
    )
}

async fn a_deaf_workload_is_killed_after_its_grace(bench: &Bench) -> Finding {
    let want = bench.running(&bench.workloads.ignores_term).await?;
    bench.timer.sleep(GOES_ON_FOR * 5).await; // it may first have to say that it ignores
    let half = bench
        .timer
        .within(GRACE_SHORT / 2, bench.driver.stop(&want.id, GRACE_SHORT))
        .await;
    if let Some(done) = half {
        done?;
        return fail(
            format!("it lives for its grace of {GRACE_SHORT:?}"),
            format!("{:?}", bench.find(&want.id).await?.state),
        );
    }
    bench.driver.stop(&want.id, GRACE_LONG).await?;
    let exit = bench.driver.wait(&want.id).await?;
    ensure(exit.code != 0, "a killed workload is no success", exit)
}

async fn zero_grace_kills_at_once(bench: &Bench) -> Finding {
    let want = bench.running(&bench.workloads.ignores_term).await?;
    let stop = bench.driver.stop(&want.id, Duration::ZERO);
    match bench.timer.within(AT_ONCE, stop).await {
        Some(stopped) => stopped?,
        None => return fail(format!("it ends within {AT_ONCE:?}"), "it goes on"),
    }
    let exit = bench.driver.wait(&want.id).await?;
    ensure(exit.code != 0, "a killed workload is no success", exit)
}

async fn a_shorter_grace_hurries(bench: &Bench) -> Finding {
    let want = bench.running(&bench.workloads.ignores_term).await?;
    bench.timer.sleep(GOES_ON_FOR * 5).await; // it may first have to say that it ignores
    let patient = bench.driver.stop(&want.id, GRACE_LONG);
    if let Some(done) = bench.timer.within(GOES_ON_FOR, patient).await {
        done?;
        return fail("it lives for its grace", "it ended");
    }
    let hurried = bench.driver.stop(&want.id, Duration::ZERO);
    match bench.timer.within(AT_ONCE, hurried).await {
        Some(stopped) => Ok(stopped?),
        None => fail(format!("it ends within {AT_ONCE:?}"), "it goes on"),
    }
}

async fn a_dropped_stop_still_stops(bench: &Bench) -> Finding {
    let want = bench.running(&bench.workloads.forever).await?;
    // Polled once at least; it may even be done.
    bench
        .timer
        .within(Duration::ZERO, bench.driver.stop(&want.id, GRACE_LONG))
        .await;
    match bench
        .timer
        .within(GRACE_LONG, bench.driver.wait(&want.id))
        .await
    {
        Some(exit) => exit.map(drop).map_err(Into::into),
        None => fail("it ends", "it goes on"),
    }
}

async fn stopping_may_be_repeated(bench: &Bench) -> Finding {
    let want = bench.running(&bench.workloads.forever).await?;
    bench.driver.stop(&want.id, GRACE_LONG).await?;
    let exit = bench.driver.wait(&want.id).await?;
    bench.driver.stop(&want.id, GRACE_LONG).await?;
    ensure_eq("the exit", bench.driver.wait(&want.id).await?, exit)?;
    Ok(bench
        .driver
        .stop(&named(&want, 9, 0).id, GRACE_LONG)
        .await?)
}

async fn an_ended_workload_is_remembered(bench: &Bench) -> Finding {
    let exit = bench.ended(&bench.workloads.exits_3, 2).await?;
    let id = named(&bench.workloads.exits_3, 1, 0).id;
    bench.timer.sleep(GOES_ON_FOR).await;
    let expected = Observed {
        id: id.clone(),
        attempt: 2,
        state: RunState::Ended(exit),
    };
    ensure_eq("the survey's entry", bench.find(&id).await?, expected)?;
    bench.driver.remove(&id).await?;
    ensure_eq("the survey", bench.driver.survey().await?, Vec::new())?;
    ensure_eq(
        "wait",
        kind(bench.driver.wait(&id).await),
        Some(DriverErrorKind::Unknown),
    )
}

async fn what_runs_cannot_be_removed(bench: &Bench) -> Finding {
    let want = bench.running(&bench.workloads.forever).await?;
    let refused = kind(bench.driver.remove(&want.id).await);
    ensure_eq("the error", refused, Some(DriverErrorKind::Running))?;
    bench.goes_on(&want.id).await
}

async fn removal_may_be_repeated(bench: &Bench) -> Finding {
    bench.ended(&bench.workloads.exits_0, 4).await?;
    let id = named(&bench.workloads.exits_0, 1, 0).id;
    bench.driver.remove(&id).await?;
    bench.driver.remove(&id).await?;
    // What was forgotten may begin again.
    ensure_eq(
        "the code",
        bench.ended(&bench.workloads.exits_0, 0).await?.code,
        0,
    )
}

async fn powers_answer_while_it_runs(bench: &Bench) -> Finding {
    let (logs, usage) = (bench.driver.logs(), bench.driver.usage());
    if logs.is_none() && usage.is_none() {
        return skip("the driver has neither logs nor usage");
    }
    let want = bench.running(&bench.workloads.forever).await?;
    if let Some(logs) = logs {
        for bytes_max in [0, 1, 100] {
            let tail = logs.tail(&want.id, bytes_max).await?;
            let what = format!("at most {bytes_max} bytes");
            ensure(tail.len() <= bytes_max, what, tail.len())?;
        }
    }
    if let Some(usage) = usage {
        let before = usage.usage(&want.id).await?.cpu_micros;
        bench.timer.sleep(GOES_ON_FOR).await;
        let after = usage.usage(&want.id).await?.cpu_micros;
        let what = format!("CPU time of at least {before} µs, as before");
        ensure(after >= before, what, after)?;
    }
    bench.goes_on(&want.id).await
}

async fn the_survey_is_whole_and_ordered(bench: &Bench) -> Finding {
    let pods = [7, 3, 9, 1, 5];
    for pod in pods {
        let ends = pod > 5;
        let workload = if ends {
            &bench.workloads.exits_0
        } else {
            &bench.workloads.forever
        };
        let want = named(workload, pod, 2);
        bench.driver.ensure(&want).await?;
        if ends {
            bench.driver.wait(&want.id).await?;
        }
    }
    let survey = bench.driver.survey().await?;
    let seen = survey
        .iter()
        .map(|seen| (seen.id.pod.0, seen.attempt))
        .collect::<Vec<_>>();
    ensure_eq(
        "pods and attempts",
        seen,
        vec![(1, 2), (3, 2), (5, 2), (7, 2), (9, 2)],
    )?;
    let ended = |seen: &&Observed| matches!(seen.state, RunState::Ended(_));
    let ended = survey
        .iter()
        .filter(ended)
        .map(|seen| seen.id.pod.0)
        .collect::<Vec<_>>();
    ensure_eq("pods that ended", ended, vec![7, 9])
}

async fn what_cannot_run_is_invalid_and_leaves_nothing(bench: &Bench) -> Finding {
    let Some(invalid) = &bench.workloads.invalid else {
        return skip("the caller knows nothing that this driver cannot run");
    };
    let want = named(invalid, 1, 0);
    let refused = kind(bench.driver.ensure(&want).await);
    ensure_eq("the error", refused, Some(DriverErrorKind::Invalid))?;
    ensure_eq("the survey", bench.driver.survey().await?, Vec::new())?;
    // A refused start does not count as seen.
    ensure_eq(
        "the code",
        bench.ended(&bench.workloads.exits_0, 0).await?.code,
        0,
    )
}

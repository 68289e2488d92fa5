//! The suite for [`Prober`].

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::{Finding, Report, Suite, Timer, ensure, ensure_eq, fail, join_all, skip};
use crate::port::probe::{ProbeError, ProbeErrorKind, ProbeSpec, ProbeTarget, Prober, Verdict};

/// How long a probe of a silent target is left waiting.
const SILENT_FOR: Duration = Duration::from_millis(100);

/// How often each target is looked at beside the others.
const ROUNDS: u32 = 100;

/// What was asked, whether it should pass, and the answer.
type Look<'a> = (&'a ProbeSpec, bool, Result<Verdict, ProbeError>);

/// Whom to probe, and how.
pub type Case = (ProbeTarget, ProbeSpec);

/// What the suite probes: set up and kept running by the caller.
#[derive(Clone, Debug)]
pub struct Cases {
    /// A target that is well.
    pub well: Case,
    /// Targets that answer badly, or refuse: each must fail.
    pub sick: Vec<Case>,
    /// A target that takes the question and never answers, if there can be one.
    pub silent: Option<Case>,
    /// A kind of probe that this prober does not know, if there is one.
    pub unknown: Option<Case>,
}

/// Tests a prober. `sleep` waits.
///
/// ```
/// # use std::sync::Arc;
/// # use orchestra_core::conformance::{self, probe::{Case, Cases}};
/// # use orchestra_core::port::probe::Prober;
/// # mod tokio { pub mod time { pub async fn sleep(_: std::time::Duration) {} } }
/// # async fn test<MyProber: Prober + Default>(well: Case, refused: Case) {
/// let cases = Cases { well, sick: vec![refused], silent: None, unknown: None };
/// let prober = Arc::new(MyProber::default());
/// conformance::probe::run(prober, cases, tokio::time::sleep).await.assert_passed();
/// # }
/// ```
pub async fn run<S, Z>(prober: Arc<dyn Prober>, cases: Cases, sleep: S) -> Report
where
    S: Fn(Duration) -> Z + Send + Sync + 'static,
    Z: Future<Output = ()> + Send + 'static,
{
    let timer = Timer::new(sleep);
    let mut suite = Suite::new("probe", timer.clone());
    let (prober, cases) = (&*prober, &cases);
    suite
        .check(
            "well_passes",
            "Pass: it answered as hoped.",
            passes(prober, cases),
        )
        .await;
    suite
        .check(
            "sick_fails_with_a_reason",
            "A target that answers badly, or not at all, is a failure, not an error.",
            fails(prober, cases),
        )
        .await;
    suite
        .check(
            "each_of_many_is_told_of_its_own",
            "Looks at one target once: what it tells is of that target, however often and whoever \
             else is asked.",
            many(prober, cases),
        )
        .await;
    suite
        .check(
            "unknown_is_unsupported",
            "Err means that the prober could not look.",
            refuses(prober, cases),
        )
        .await;
    suite
        .check(
            "a_silent_target_is_waited_for",
            "The caller owns time-outs, and cancels by dropping the future.",
            waits(prober, cases, &timer),
        )
        .await;
    suite
        .check(
            "others_do_not_wait",
            "Probes of different targets do not wait for each other.",
            apart(prober, cases, &timer),
        )
        .await;
    suite
        .check(
            "dropped_probes_leave_nothing",
            "A dropped probe leaves nothing running.",
            dropped(prober, cases, &timer),
        )
        .await;
    suite.finish()
}

async fn well(prober: &dyn Prober, cases: &Cases) -> Finding {
    match prober.probe(&cases.well.0, &cases.well.1).await? {
        Verdict::Pass { .. } => Ok(()),
        Verdict::Fail { reason } => fail("a well target passes", reason),
    }
}

async fn passes(prober: &dyn Prober, cases: &Cases) -> Finding {
    for _ in 0..5 {
        well(prober, cases).await?;
    }
    Ok(())
}

async fn fails(prober: &dyn Prober, cases: &Cases) -> Finding {
    for (target, spec) in &cases.sick {
        match prober.probe(target, spec).await {
            Ok(Verdict::Fail { reason }) => {
                ensure(!reason.trim().is_empty(), "a reason for people", reason)?;
            }
            other => return fail(format!("Ok(Fail) for {spec:?}"), format!("{other:?}")),
        }
        well(prober, cases).await?;
    }
    Ok(())
}

/// Well and sick ones side by side, again and again.
async fn many(prober: &dyn Prober, cases: &Cases) -> Finding {
    for _ in 0..ROUNDS {
        let well = cases.sick.iter().map(|_| (&cases.well, true));
        let sick = cases.sick.iter().map(|case| (case, false));
        let looks = well.chain(sick).map(|((target, spec), well)| {
            let look = async move { (spec, well, prober.probe(target, spec).await) };
            Box::pin(look) as Pin<Box<dyn Future<Output = Look<'_>> + Send + '_>>
        });
        for (spec, well, seen) in join_all(looks.collect()).await {
            match (well, seen) {
                (true, Ok(Verdict::Pass { .. })) | (false, Ok(Verdict::Fail { .. })) => {}
                (_, seen) => {
                    let verdict = if well { "Pass" } else { "Fail" };
                    return fail(format!("Ok({verdict}) for {spec:?}"), format!("{seen:?}"));
                }
            }
        }
    }
    Ok(())
}

async fn refuses(prober: &dyn Prober, cases: &Cases) -> Finding {
    let Some((target, spec)) = &cases.unknown else {
        return skip("it knows every kind");
    };
    match prober.probe(target, spec).await {
        Err(error) => ensure_eq("the error", error.kind(), ProbeErrorKind::Unsupported),
        Ok(verdict) => fail("Unsupported", format!("{verdict:?}")),
    }
}

async fn waits(prober: &dyn Prober, cases: &Cases, timer: &Timer) -> Finding {
    let Some((target, spec)) = &cases.silent else {
        return skip("no target is silent");
    };
    let seen = timer.within(SILENT_FOR, prober.probe(target, spec)).await;
    ensure(seen.is_none(), "it waits until the caller gives up", seen)
}

async fn apart(prober: &dyn Prober, cases: &Cases, timer: &Timer) -> Finding {
    let Some((target, spec)) = &cases.silent else {
        return skip("no target is silent");
    };
    let mut silent =
        std::pin::pin!(timer.within(super::CHECK_TIME_MAX, prober.probe(target, spec)));
    let mut well = std::pin::pin!(well(prober, cases));
    std::future::poll_fn(|cx| {
        if let std::task::Poll::Ready(seen) = silent.as_mut().poll(cx) {
            let seen = format!("{seen:?} from the silent one");
            return std::task::Poll::Ready(fail("the well one answers first", seen));
        }
        well.as_mut().poll(cx)
    })
    .await
}

async fn dropped(prober: &dyn Prober, cases: &Cases, timer: &Timer) -> Finding {
    let Some((target, spec)) = &cases.silent else {
        return skip("no target is silent");
    };
    for _ in 0..200 {
        let seen = timer
            .within(Duration::ZERO, prober.probe(target, spec))
            .await;
        ensure(seen.is_none(), "no answer", seen)?;
    }
    // Leftovers would hold what a new probe needs: slots, connections, descriptors.
    well(prober, cases).await
}

//! The suite for [`Meter`].

use std::sync::{Arc, Barrier};
use std::time::Duration;

use super::{Finding, Report, Suite, Timer, ensure_eq};
use crate::port::meter::{Labels, Meter};

/// Threads that count at once, and how often each counts.
const THREADS: u64 = 8;
const COUNTS: u64 = 2_000;
/// Series that all threads begin to count at about the same time.
const SERIES: u64 = 200;

/// A meter that can be read back, for the suite.
pub trait ReadMeter: Meter {
    /// What the counter stands at; `None` if it was never counted.
    fn read_count(&self, name: &str, labels: Labels<'_>) -> Option<u64>;

    /// What the gauge was last set to.
    fn read_gauge(&self, name: &str, labels: Labels<'_>) -> Option<f64>;

    /// How many values were observed, and their sum.
    fn read_observed(&self, name: &str, labels: Labels<'_>) -> Option<(u64, f64)>;
}

/// Tests a meter. `fresh` gives one that has no numbers yet, `sleep` waits.
///
/// ```
/// # use std::sync::Arc;
/// # use orchestra_core::conformance::{self, meter::ReadMeter};
/// # mod tokio { pub mod time { pub async fn sleep(_: std::time::Duration) {} } }
/// # async fn test<MyMeter: ReadMeter + Default>() {
/// let fresh = || Arc::new(MyMeter::default()) as Arc<dyn ReadMeter>;
/// conformance::meter::run(fresh, tokio::time::sleep).await.assert_passed();
/// # }
/// ```
pub async fn run<F, S, Z>(fresh: F, sleep: S) -> Report
where
    F: Fn() -> Arc<dyn ReadMeter>,
    S: Fn(Duration) -> Z + Send + Sync + 'static,
    Z: Future<Output = ()> + Send + 'static,
{
    let mut suite = Suite::new("meter", Timer::new(sleep));
    macro_rules! check {
        ($name:ident, $sentence:literal) => {
            let meter = fresh();
            suite
                .check(stringify!($name), $sentence, async { $name(&meter) })
                .await;
        };
    }
    check!(counters_add_up, "Adds to a counter, which only ever grows.");
    check!(
        no_count_is_lost,
        "Calls from many threads add up: no count is lost."
    );
    check!(
        no_first_count_is_lost,
        "Calls from many threads add up: no count is lost, also where a series begins."
    );
    check!(
        series_are_apart,
        "Series are told apart by name and labels."
    );
    check!(a_gauge_is_its_last_value, "Sets a gauge.");
    check!(
        observations_are_counted_and_summed,
        "Records one value of a distribution."
    );
    check!(
        odd_numbers_are_survived,
        "No call blocks, fails or waits; a meter that cannot keep a number drops it."
    );
    suite.finish()
}

fn counters_add_up(meter: &Arc<dyn ReadMeter>) -> Finding {
    ensure_eq(
        "before the first count",
        meter.read_count("a_total", &[]),
        None,
    )?;
    for by in [1, 0, 41] {
        meter.count("a_total", &[], by);
    }
    ensure_eq("1 + 0 + 41", meter.read_count("a_total", &[]), Some(42))
}

fn no_count_is_lost(meter: &Arc<dyn ReadMeter>) -> Finding {
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..COUNTS {
                    meter.count("a_total", &[("shard", "x")], 1);
                    meter.observe("b_seconds", &[], 1.0);
                }
            });
        }
    });
    let all = THREADS * COUNTS;
    ensure_eq(
        "counted",
        meter.read_count("a_total", &[("shard", "x")]),
        Some(all),
    )?;
    let observed = meter.read_observed("b_seconds", &[]);
    ensure_eq("observed", observed, Some((all, all as f64)))
}

fn no_first_count_is_lost(meter: &Arc<dyn ReadMeter>) -> Finding {
    let names: Vec<_> = (0..SERIES).map(|n| n.to_string()).collect();
    let together = Barrier::new(usize::try_from(THREADS).unwrap_or(1));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                together.wait();
                for name in &names {
                    meter.count("begun_total", &[("n", name)], 1);
                }
            });
        }
    });
    for name in &names {
        let read = meter.read_count("begun_total", &[("n", name)]);
        ensure_eq(&format!("series {name}"), read, Some(THREADS))?;
    }
    Ok(())
}

fn series_are_apart(meter: &Arc<dyn ReadMeter>) -> Finding {
    let all: [(&'static str, Labels<'_>); 6] = [
        ("a_total", &[]),
        ("b_total", &[]),
        ("a_total", &[("x", "1")]),
        ("a_total", &[("x", "2")]),
        ("a_total", &[("y", "1")]),
        ("a_total", &[("x", "1"), ("y", "1")]),
    ];
    for (n, (name, labels)) in all.iter().enumerate() {
        meter.count(name, labels, n as u64 + 1);
    }
    for (n, (name, labels)) in all.iter().enumerate() {
        let what = format!("{name}{labels:?}");
        ensure_eq(&what, meter.read_count(name, labels), Some(n as u64 + 1))?;
    }
    Ok(())
}

fn a_gauge_is_its_last_value(meter: &Arc<dyn ReadMeter>) -> Finding {
    for value in [3.0, -1.5, 2.25] {
        meter.gauge("depth_items", &[("queue", "q")], value);
        let read = meter.read_gauge("depth_items", &[("queue", "q")]);
        ensure_eq("the gauge", read, Some(value))?;
    }
    Ok(())
}

fn observations_are_counted_and_summed(meter: &Arc<dyn ReadMeter>) -> Finding {
    for value in [0.5, 0.25, 4.0] {
        meter.observe("took_seconds", &[], value);
    }
    ensure_eq(
        "count and sum",
        meter.read_observed("took_seconds", &[]),
        Some((3, 4.75)),
    )
}

fn odd_numbers_are_survived(meter: &Arc<dyn ReadMeter>) -> Finding {
    for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, f64::MAX] {
        meter.gauge("odd_bytes", &[], odd);
        meter.observe("odd_seconds", &[], odd);
    }
    meter.count("full_total", &[], u64::MAX);
    meter.count("full_total", &[], u64::MAX);
    for n in 0..10_000 {
        meter.count("many_total", &[("n", &n.to_string())], 1);
    }
    meter.count("after_total", &[], 1);
    let after = meter.read_count("after_total", &[]);
    // A meter that is full may drop a new series, but must not answer nonsense.
    super::ensure(after.is_none() || after == Some(1), "1, or nothing", after)
}

//! A meter in memory, to be read by whoever shows or ships the numbers.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use orchestra_core::port::meter::{Labels, Meter};

/// The most series that one meter keeps; numbers of further ones are dropped, and counted.
pub const SERIES_MAX: usize = 20_000;

/// What one series holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reading {
    /// A counter's total. Stays at its greatest value rather than start anew.
    Count(u64),
    /// A gauge's last value.
    Gauge(f64),
    /// A distribution.
    Observed {
        /// How many values.
        count: u64,
        /// Their sum.
        sum: f64,
        /// The greatest of them.
        max: f64,
    },
}

/// One series, as it stood when it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The metric.
    pub name: &'static str,
    /// Label names and their values, in the order in which they were given.
    pub labels: Vec<(&'static str, String)>,
    /// What it holds.
    pub reading: Reading,
}

type SeriesKey = (&'static str, Vec<(&'static str, String)>);

/// Keeps numbers in memory, apart from every other meter of the process.
///
/// A call takes a lock for one search in a map. A series that is given another kind of number
/// than its first keeps the first kind and drops the number; so does NaN.
#[derive(Debug, Default)]
pub struct MemoryMeter {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    series: BTreeMap<SeriesKey, Reading>,
    dropped: u64,
}

impl MemoryMeter {
    /// A meter without numbers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Every series, ordered by name and labels.
    pub fn series(&self) -> Vec<Series> {
        let inner = self.lock();
        let all = inner.series.iter().map(|((name, labels), reading)| Series {
            name,
            labels: labels.clone(),
            reading: *reading,
        });
        all.collect()
    }

    /// What one series holds; `None` if it has no number yet.
    pub fn read(&self, name: &str, labels: Labels<'_>) -> Option<Reading> {
        let inner = self.lock();
        let found = inner.series.iter().find(|((series, with), _)| {
            *series == name
                && with
                    .iter()
                    .map(|(label, value)| (*label, value.as_str()))
                    .eq(labels.iter().copied())
        });
        found.map(|(_, reading)| *reading)
    }

    /// How many numbers were dropped: NaN, those of series past [`SERIES_MAX`], and those of
    /// another kind than their series.
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Every series in the text format of Prometheus; a distribution as its `_count`, `_sum` and
    /// `_max`.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for series in self.series() {
            let parts: &[(&str, f64)] = match series.reading {
                Reading::Count(total) => &[("", total as f64)],
                Reading::Gauge(value) => &[("", value)],
                Reading::Observed { count, sum, max } => {
                    &[("_count", count as f64), ("_sum", sum), ("_max", max)]
                }
            };
            for (suffix, value) in parts {
                // Writing to a String cannot fail.
                let _ = write!(text, "{}{suffix}", series.name);
                for (n, (label, value)) in series.labels.iter().enumerate() {
                    let value = value
                        .replace('\\', "\\\\")
                        .replace('"', "\\\"")
                        .replace('\n', "\\n");
                    let _ = write!(
                        text,
                        "{}{label}=\"{value}\"",
                        if n == 0 { '{' } else { ',' }
                    );
                }
                let close = if series.labels.is_empty() { "" } else { "}" };
                let _ = writeln!(text, "{close} {value}");
            }
        }
        text
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here panics between two changes that belong together.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a series by `change`, which answers whether the number was of its kind.
    fn record(
        &self,
        name: &'static str,
        labels: Labels<'_>,
        first: Reading,
        change: impl FnOnce(&mut Reading) -> bool,
    ) {
        let key = (
            name,
            labels
                .iter()
                .map(|(label, value)| (*label, (*value).to_owned()))
                .collect(),
        );
        let mut inner = self.lock();
        let room = inner.series.len() < SERIES_MAX;
        let kept = match inner.series.get_mut(&key) {
            Some(reading) => change(reading),
            None if room => {
                inner.series.insert(key, first);
                true
            }
            None => false,
        };
        inner.dropped += u64::from(!kept);
    }
}

impl Meter for MemoryMeter {
    fn count(&self, name: &'static str, labels: Labels<'_>, by: u64) {
        self.record(name, labels, Reading::Count(by), |reading| {
            let Reading::Count(total) = reading else {
                return false;
            };
            *total = total.saturating_add(by);
            true
        });
    }

    fn gauge(&self, name: &'static str, labels: Labels<'_>, value: f64) {
        if value.is_nan() {
            self.lock().dropped += 1;
            return;
        }
        self.record(name, labels, Reading::Gauge(value), |reading| {
            let Reading::Gauge(last) = reading else {
                return false;
            };
            *last = value;
            true
        });
    }

    fn observe(&self, name: &'static str, labels: Labels<'_>, value: f64) {
        if value.is_nan() {
            self.lock().dropped += 1;
            return;
        }
        let first = Reading::Observed {
            count: 1,
            sum: value,
            max: value,
        };
        self.record(name, labels, first, |reading| {
            let Reading::Observed { count, sum, max } = reading else {
                return false;
            };
            (*count, *sum, *max) = (*count + 1, *sum + value, max.max(value));
            true
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use orchestra_core::conformance::meter::{ReadMeter, run};
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};
    use std::thread::ThreadId;

    impl ReadMeter for MemoryMeter {
        fn read_count(&self, name: &str, labels: Labels<'_>) -> Option<u64> {
            match self.read(name, labels)? {
                Reading::Count(total) => Some(total),
                _ => None,
            }
        }

        fn read_gauge(&self, name: &str, labels: Labels<'_>) -> Option<f64> {
            match self.read(name, labels)? {
                Reading::Gauge(value) => Some(value),
                _ => None,
            }
        }

        fn read_observed(&self, name: &str, labels: Labels<'_>) -> Option<(u64, f64)> {
            match self.read(name, labels)? {
                Reading::Observed { count, sum, .. } => Some((count, sum)),
                _ => None,
            }
        }
    }

    #[tokio::test]
    async fn it_keeps_the_contract() {
        let fresh = || Arc::new(MemoryMeter::new()) as Arc<dyn ReadMeter>;
        run(fresh, tokio::time::sleep).await.assert_passed();
    }

    #[test]
    fn it_renders_what_it_holds_and_tells_what_it_dropped() {
        let meter = MemoryMeter::new();
        meter.count("b_total", &[("path", "a\"b\\\n"), ("x", "1")], 3);
        meter.gauge("a_items", &[], 1.5);
        meter.observe("c_seconds", &[], 0.5);
        meter.observe("c_seconds", &[], 0.25);
        meter.observe("c_seconds", &[], f64::NAN);
        meter.gauge("c_seconds", &[], 1.0);
        assert_eq!(
            meter.render(),
            "a_items 1.5\nb_total{path=\"a\\\"b\\\\\\n\",x=\"1\"} 3\n\
             c_seconds_count 2\nc_seconds_sum 0.75\nc_seconds_max 0.5\n"
        );
        assert_eq!(meter.dropped(), 2);
    }

    #[test]
    fn a_series_too_many_is_dropped() {
        let meter = MemoryMeter::new();
        for n in 0..SERIES_MAX + 5 {
            meter.count("many_total", &[("n", &n.to_string())], 1);
        }
        assert_eq!((meter.series().len(), meter.dropped()), (SERIES_MAX, 5));
        meter.count("many_total", &[("n", "0")], 1);
        assert_eq!(
            meter.read("many_total", &[("n", "0")]),
            Some(Reading::Count(2))
        );
    }

    /// Meters that each break one sentence.
    #[derive(Clone, Copy, Debug)]
    enum Bug {
        LosesCounts,
        LosesCountsRarely,
        CountsOnes,
        LosesFirstCounts,
        MixesLabels,
        AddsGauges,
        CountsOnlyTheSum,
        PanicsOnOverflow,
    }

    /// By series: who counted first, and how many counts there were.
    type Begun = BTreeMap<String, (ThreadId, u32)>;

    #[derive(Debug)]
    struct Broken(MemoryMeter, Bug, AtomicU64, Mutex<Begun>);

    impl Meter for Broken {
        fn count(&self, name: &'static str, labels: Labels<'_>, by: u64) {
            match self.1 {
                Bug::LosesCounts if self.2.fetch_add(1, Ordering::Relaxed) % 100 == 99 => {}
                Bug::LosesCountsRarely
                    if self.2.fetch_add(1, Ordering::Relaxed) % 5_000 == 4_999 => {}
                // As if two threads had begun the series at one time: the second to come, if it is another's.
                Bug::LosesFirstCounts => {
                    let series = format!("{name}{labels:?}");
                    let this = std::thread::current().id();
                    let mut begun = self.3.lock().unwrap();
                    let (first, counts) = begun.entry(series).or_insert((this, 0));
                    *counts += 1;
                    let is_lost = *counts == 2 && *first != this;
                    drop(begun);
                    if !is_lost {
                        self.0.count(name, labels, by);
                    }
                }
                Bug::CountsOnes => self.0.count(name, labels, by.min(1)),
                Bug::MixesLabels => self.0.count(name, &[], by),
                Bug::PanicsOnOverflow => {
                    self.read_count(name, labels)
                        .unwrap_or(0)
                        .checked_add(by)
                        .unwrap();
                    self.0.count(name, labels, by);
                }
                _ => self.0.count(name, labels, by),
            }
        }

        fn gauge(&self, name: &'static str, labels: Labels<'_>, value: f64) {
            let add = matches!(self.1, Bug::AddsGauges);
            let before = self.read_gauge(name, labels).filter(|_| add).unwrap_or(0.0);
            self.0.gauge(name, labels, before + value);
        }

        fn observe(&self, name: &'static str, labels: Labels<'_>, value: f64) {
            if !matches!(self.1, Bug::CountsOnlyTheSum)
                || self.read_observed(name, labels).is_none()
            {
                self.0.observe(name, labels, value);
            }
        }
    }

    impl ReadMeter for Broken {
        fn read_count(&self, name: &str, labels: Labels<'_>) -> Option<u64> {
            let mixed = matches!(self.1, Bug::MixesLabels);
            self.0.read_count(name, if mixed { &[] } else { labels })
        }

        fn read_gauge(&self, name: &str, labels: Labels<'_>) -> Option<f64> {
            self.0.read_gauge(name, labels)
        }

        fn read_observed(&self, name: &str, labels: Labels<'_>) -> Option<(u64, f64)> {
            self.0.read_observed(name, labels)
        }
    }

    #[tokio::test]
    async fn the_suite_finds_each_planted_bug() {
        let (mut all, mut broken) = (BTreeSet::new(), BTreeSet::new());
        for (bug, check) in [
            (Bug::LosesCounts, "no_count_is_lost"),
            (Bug::LosesCountsRarely, "no_count_is_lost"),
            (Bug::CountsOnes, "counters_add_up"),
            (Bug::LosesFirstCounts, "no_first_count_is_lost"),
            (Bug::MixesLabels, "series_are_apart"),
            (Bug::AddsGauges, "a_gauge_is_its_last_value"),
            (Bug::CountsOnlyTheSum, "observations_are_counted_and_summed"),
            (Bug::PanicsOnOverflow, "odd_numbers_are_survived"),
        ] {
            let fresh = || {
                let begun = Mutex::default();
                Arc::new(Broken(MemoryMeter::new(), bug, AtomicU64::new(0), begun))
                    as Arc<dyn ReadMeter>
            };
            let report = run(fresh, tokio::time::sleep).await;
            all.extend(report.checks.iter().map(|check| check.name));
            broken.extend(report.failed().map(|check| check.name));
            assert!(
                report.failed().any(|failed| failed.name == check),
                "{bug:?}\n{report}"
            );
        }
        assert_eq!(broken, all, "checks that no planted bug breaks");
    }
}

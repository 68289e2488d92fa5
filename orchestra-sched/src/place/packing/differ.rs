//! Whether what comes is what was expected.

use std::collections::BTreeMap;

use orchestra_core::kind::accelerator::WHOLE_MILLI;

use super::prices::{ONE, log};
use super::workload::{Class, Workload};

/// The natural logarithm of one over the chance that a difference is seen where there is none: one in a
/// million.
const SURE: i128 = 14;
/// A sample of more pods counts as one of so many.
const SAMPLE_MAX: i128 = 1 << 20;

/// For how many pods what was expected counts, beside those that came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Worth {
    /// In what pods want.
    pub(super) kinds: u64,
    /// In which models they name.
    pub(super) names: u64,
}

/// How many pods a workload that was `expected` should count for beside those that `came`. `None` if the
/// two differ by no more than chance would have them, so that there is nothing to learn.
///
/// Two likelihood-ratio tests of homogeneity (the G-test; Wilks, "The large-sample distribution of the
/// likelihood ratio for testing composite hypotheses", 1938): one by whether pods want shares, single devices or
/// several and which models they name, which sees early that a third of them name models; one by what they want of
/// CPU, memory and devices. They differ if either statistic is beyond the bound that one with a chi-squared
/// distribution is not beyond but once in a million (Laurent and Massart, "Adaptive estimation of a quadratic
/// functional by model selection", 2000, lemma 1). Kinds too rare for that distribution make the statistic smaller
/// than it, not larger.
///
/// If every cluster's mix is drawn around the one expected, as if that had been seen on so many pods (a
/// Dirichlet-multinomial; Mosimann, "On the compound multinomial distribution", 1962), then the statistic
/// is on average `(pods that came + worth) / (1 + worth)` for each degree of freedom. That is what the
/// expected workload is worth by each test: little where the two have little in common, and all of it in what pods
/// want if only what they name is new.
pub(super) fn worth_beside(expected: &Workload, came: &Workload) -> Option<Worth> {
    let names = difference(expected, came, |class| {
        let shares = class.milli < WHOLE_MILLI;
        (class.count.min(2), shares, class.models.as_slice())
    });
    let kinds = difference(expected, came, |class| {
        (class.cpu_milli, class.memory, class.count, class.milli)
    });
    if !names.is_sure() && !kinds.is_sure() {
        return None;
    }
    let (known, pods) = (expected.pods(), came.pods());
    Some(Worth {
        kinds: kinds.worth(known, pods),
        names: names.worth(known, pods),
    })
}

/// What a test says.
struct Difference {
    /// In [`ONE`]ths.
    statistic: i128,
    /// Degrees of freedom.
    freedom: i128,
}

impl Difference {
    fn is_sure(&self) -> bool {
        let spread = 2 * (self.freedom * SURE * ONE * ONE).isqrt();
        self.statistic > (self.freedom + 2 * SURE) * ONE + spread
    }

    /// How many pods the `known` ones count for when so many came.
    fn worth(&self, known: u64, pods: u64) -> u64 {
        let chance = self.freedom * ONE;
        if self.statistic <= chance {
            return known;
        }
        let worth = (i128::from(pods) * chance - self.statistic) / (self.statistic - chance);
        worth.clamp(0, known.into()) as u64
    }
}

/// How far two samples are apart, by the cells that kinds of pod fall into.
fn difference<'a, K: Ord>(
    one: &'a Workload,
    other: &'a Workload,
    cell: impl Fn(&'a Class) -> K,
) -> Difference {
    let mut cells: BTreeMap<K, [i128; 2]> = BTreeMap::new();
    for (at, sample) in [one, other].into_iter().enumerate() {
        let pods = i128::from(sample.pods());
        for (class, count) in sample.classes() {
            let count = i128::from(count) * pods.min(SAMPLE_MAX);
            cells.entry(cell(class)).or_default()[at] += (count + pods - 1) / pods;
        }
    }
    let sizes = [0, 1].map(|at| cells.values().map(|cell| cell[at]).sum::<i128>());
    let all: i128 = sizes.iter().sum();
    let statistic = cells.values().map(|cell| {
        let both: i128 = cell.iter().sum();
        let parts = cell
            .iter()
            .zip(sizes)
            .map(|(&pods, size)| pods * ratio_log(pods * all, both * size));
        2 * parts.sum::<i128>()
    });
    Difference {
        statistic: statistic.sum(),
        freedom: cells.len().saturating_sub(1) as i128,
    }
}

/// The natural logarithm of `of / by` in [`ONE`]ths; 0 if `of` is.
fn ratio_log(of: i128, by: i128) -> i128 {
    match of {
        0 => 0,
        _ if of >= by => log(of, by),
        _ => -log(by, of),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn workload(kinds: &[(u16, &str, u64)]) -> Workload {
        let mut workload = Workload::default();
        for &(milli, model, pods) in kinds {
            let class = Class {
                cpu_milli: 1_000,
                count: u32::from(milli > 0),
                milli,
                models: (!model.is_empty())
                    .then(|| model.into())
                    .into_iter()
                    .collect(),
                ..Class::default()
            };
            workload.count(class, pods);
        }
        workload
    }

    #[test]
    fn the_same_mix_is_no_difference() {
        let kinds = [(0, "", 1_300), (1_000, "", 5_000), (470, "", 2_000)];
        let few = kinds.map(|(milli, model, pods)| (milli, model, pods / 100));
        assert_eq!(worth_beside(&workload(&kinds), &workload(&few)), None);
        let all = workload(&kinds);
        assert_eq!(worth_beside(&all, &all), None);
        assert_eq!(worth_beside(&all, &Workload::default()), None);
    }

    #[test]
    fn names_that_nobody_expected_are_seen_early() {
        let file = workload(&[(0, "", 1_300), (1_000, "", 5_000), (470, "", 2_000)]);
        let come = |pods: u64| {
            let named = (1_000, "T4", pods / 3);
            worth_beside(&file, &workload(&[(1_000, "", pods - pods / 3), named]))
        };
        for (pods, worth) in [(32, come(32)), (1_024, come(1_024))] {
            assert!(
                worth.is_some_and(|worth| worth.names < 32),
                "{pods} {worth:?}"
            );
        }
        // One such pod may be chance.
        let one = workload(&[(0, "", 5), (1_000, "", 18), (470, "", 8), (1_000, "T4", 1)]);
        assert_eq!(worth_beside(&file, &one), None);
    }

    #[test]
    fn what_has_nothing_in_common_is_worth_next_to_nothing() {
        let file = workload(&[(500, "", 4_000), (320, "", 4_000)]);
        let came = workload(&[(0, "", 40), (1_000, "", 60)]);
        assert!(worth_beside(&file, &came).is_some_and(|worth| worth.kinds < 3));
    }

    #[test]
    fn new_names_leave_what_is_known_of_what_pods_want() {
        let file = workload(&[(0, "", 1_300), (1_000, "", 5_000), (470, "", 2_000)]);
        let came = workload(&[
            (0, "", 130),
            (1_000, "", 400),
            (1_000, "T4", 100),
            (470, "", 200),
        ]);
        let worth = worth_beside(&file, &came);
        assert!(
            worth.is_some_and(|worth| worth.kinds == 8_300 && worth.names < 100),
            "{worth:?}"
        );
    }

    proptest! {
        /// Against the formula in floating point.
        #[test]
        fn the_statistic_is_the_likelihood_ratio(
            kinds in vec((1u16..1_000, 0u64..5_000, 0u64..500), 1..20),
        ) {
            let one: Vec<_> = kinds.iter().map(|&(milli, a, _)| (milli, "", a)).collect();
            let other: Vec<_> = kinds.iter().map(|&(milli, _, b)| (milli, "", b)).collect();
            let (one, other) = (workload(&one), workload(&other));
            prop_assume!(one.pods() > 0 && other.pods() > 0);
            let (n, m) = (one.pods() as f64, other.pods() as f64);
            let mut plain = 0.0;
            let mut cells = 0;
            for class in one.classes().map(|(class, _)| class) {
                let (a, b) = (one.pods_of(class) as f64, other.pods_of(class) as f64);
                let part = |o: f64, size: f64| match o > 0.0 {
                    true => 2.0 * o * (o * (n + m) / ((a + b) * size)).ln(),
                    false => 0.0,
                };
                plain += part(a, n) + part(b, m);
                cells += 1;
            }
            let whole = difference(&one, &other, |class| class);
            prop_assert_eq!(whole.freedom, cells - 1);
            let statistic = whole.statistic as f64 / ONE as f64;
            prop_assert!((statistic - plain).abs() < 0.5 + plain * 1e-3, "{statistic} {plain}");
        }
    }
}

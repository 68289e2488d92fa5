//! What to expect of what was expected and what came.

use std::collections::BTreeMap;

use orchestra_core::kind::accelerator::WHOLE_MILLI;
use smol_str::SmolStr;

use super::workload::{Class, Workload};

/// How many pods a blend has in all, but for rounding.
const MILLION: u128 = 1_000_000;
/// Parts of one of them, to be rounded up at the end.
const FINE: u128 = 1 << 20;
/// How many pods of its sort stand for each set of models that pods name, besides those that name it.
const ALIKE: u128 = 8;

/// What was expected and what came together, where the former counts for `worth` pods: of a million, at
/// least one of each kind.
///
/// Of those who name a rare model a small sample has a few pods, and what they want besides is chance: where
/// none of five wants much CPU, the CPU of that model's nodes seems to be of no use to anybody. So for each
/// set of models, and for shares, single devices and several each where pods of that sort name it, they are
/// taken to want what they do want and what [`ALIKE`] pods of that sort want, at even distances in their order
/// by CPU; together no more than they are. (A Dirichlet prior around what is coarser; MacKay and Peto, "A
/// hierarchical Dirichlet language model", 1995.)
pub(super) fn blend(expected: &Workload, worth: u64, came: &Workload) -> Workload {
    let (known, pods) = (u128::from(expected.pods()).max(1), u128::from(came.pods()));
    let whole = (known * (pods + u128::from(worth))).max(1);
    let mut parts: BTreeMap<&Class, u128> = BTreeMap::new();
    for (class, count) in came.classes() {
        *parts.entry(class).or_default() += u128::from(count) * known;
    }
    for (class, count) in expected.classes().filter(|_| worth > 0) {
        *parts.entry(class).or_default() += u128::from(count) * u128::from(worth);
    }
    let fine = |part: u128| (part * MILLION).div_ceil(whole) * FINE;
    let one = fine(known);
    let mut sorts: BTreeMap<Sort, Vec<(&Class, u128)>> = BTreeMap::new();
    let mut named: BTreeMap<(Sort, &[SmolStr]), u128> = BTreeMap::new();
    for (class, part) in &mut parts {
        *part = fine(*part);
        sorts.entry(sort(class)).or_default().push((class, *part));
        *named.entry((sort(class), &class.models)).or_default() += *part;
    }
    let mut mix = Workload::default();
    let mut count = |class: Class, part: u128| {
        mix.count(class, part.div_ceil(FINE) as u64);
    };
    for (&class, &part) in &parts {
        let all = named[&(sort(class), class.models.as_slice())];
        let kept = match class.models.is_empty() {
            true => part,
            false => part * all / (all + ALIKE * one),
        };
        count(class.clone(), kept);
    }
    for ((sort, models), all) in named
        .into_iter()
        .filter(|((_, models), _)| !models.is_empty())
    {
        for nth in 0..ALIKE {
            let Some(class) = at(&sorts[&sort], 2 * nth + 1, 2 * ALIKE) else {
                continue;
            };
            let class = Class {
                models: models.to_vec(),
                ..class.clone()
            };
            count(class, all * one / (all + ALIKE * one));
        }
    }
    mix
}

/// None, one or several devices, and whether a share.
type Sort = (u32, bool);

fn sort(class: &Class) -> Sort {
    (class.count.min(2), class.milli < WHOLE_MILLI)
}

/// The kind `part` of `whole` of the way through the pods.
fn at<'a>(classes: &[(&'a Class, u128)], part: u128, whole: u128) -> Option<&'a Class> {
    let all: u128 = classes.iter().map(|(_, pods)| pods).sum();
    let mut at = all * part / whole;
    let found = classes.iter().find(|(_, pods)| {
        let here = at < *pods;
        at = at.saturating_sub(*pods);
        here
    });
    found.map(|(class, _)| *class)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// By thousandths of a device, model and CPU.
    fn workload(kinds: &[(u16, &str, i64, u64)]) -> Workload {
        let mut workload = Workload::default();
        for &(milli, model, cpu_milli, pods) in kinds {
            let class = Class {
                cpu_milli,
                count: u32::from(milli > 0),
                milli,
                models: Some(model)
                    .filter(|model| !model.is_empty())
                    .map(SmolStr::new)
                    .into_iter()
                    .collect(),
                ..Class::default()
            };
            workload.count(class, pods);
        }
        workload
    }

    #[test]
    fn a_blend_has_both_in_proportion() {
        let file = workload(&[(500, "", 1, 30), (320, "", 1, 10)]);
        let came = workload(&[(500, "", 1, 50), (1_000, "", 1, 50)]);
        let parts = |worth| -> Vec<u64> {
            let mix = blend(&file, worth, &came);
            mix.classes().map(|(_, pods)| pods).collect()
        };
        // By kind in order: 320, 500, 1000.
        assert_eq!(parts(0), [500_000, 500_000]);
        assert_eq!(parts(100), [125_000, 625_000, 250_000]);
        let none = blend(&Workload::default(), 0, &Workload::default());
        assert_eq!(none, Workload::default());
    }

    #[test]
    fn who_names_a_rare_model_may_want_what_others_want() {
        let came = workload(&[
            (1_000, "", 2_000, 600),
            (1_000, "", 8_000, 398),
            (1_000, "V100", 2_000, 2),
        ]);
        let mix = blend(&Workload::default(), 0, &came);
        let named = |cpu_milli: i64| {
            let of = mix
                .classes()
                .filter(|(class, _)| class.cpu_milli == cpu_milli && !class.models.is_empty());
            of.map(|(_, pods)| pods).sum::<u64>()
        };
        // Two, as before: a fifth by what they want, and an eighth of the rest by each of eight others.
        assert_eq!((named(2_000), named(8_000)), (400 + 5 * 200, 3 * 200));
    }

    proptest! {
        #[test]
        fn a_blend_loses_no_kind_that_came_and_names_no_model_that_nobody_did(
            kinds in vec((1u16..=1_000, 0usize..3, 1i64..5, 1u64..5_000, 0u64..500), 1..20),
            worth in 0u64..10_000,
        ) {
            let named = |by: fn(u64, u64) -> u64| -> Vec<_> {
                let of = |&(milli, model, cpu, a, b): &(u16, usize, i64, u64, u64)| {
                    (milli, ["", "T4", "G2"][model], cpu, by(a, b))
                };
                kinds.iter().map(of).collect()
            };
            let (file, came) = (workload(&named(|a, _| a)), workload(&named(|_, b| b)));
            let mix = blend(&file, worth, &came);
            for (class, pods) in came.classes() {
                let kept = mix.classes().find(|(other, _)| *other == class);
                prop_assert!(pods == 0 || kept.is_some_and(|(_, pods)| pods > 0));
            }
            for (class, _) in mix.classes().filter(|(class, _)| !class.models.is_empty()) {
                let like = |(other, _): (&Class, u64)| {
                    other.models == class.models && sort(other) == sort(class)
                };
                prop_assert!(file.classes().any(like));
            }
        }
    }
}

//! What to expect of what was expected and what came.

use std::collections::BTreeMap;

use orchestra_core::kind::accelerator::WHOLE_MILLI;
use smol_str::SmolStr;

use super::workload::{Class, Workload};

/// How many pods a blend has in all, but for rounding.
const MILLION: u128 = 1_000_000;
/// Parts of one of them, to be rounded up at the end.
const FINE: u128 = 1 << 20;
/// How many pods of its sort count beside those that name a set of models, in what the latter want.
const ALIKE: u128 = 32;
/// By how many kinds those pods are stood for.
const STAND_INS: u128 = 8;

/// A workload, and how many pods it counts for.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) workload: &'a Workload,
    /// In what pods want.
    pub(super) kinds: u64,
    /// In which models pods of one sort name: at least one if it counts at all.
    pub(super) names: u64,
}

impl<'a> Source<'a> {
    /// One that counts for as many as there were.
    pub(super) fn all(workload: &'a Workload) -> Self {
        Self {
            workload,
            kinds: workload.pods(),
            names: workload.pods(),
        }
    }
}

/// What several sources say together: of a million pods, at least one of each kind.
///
/// What pods want and which models they name are blended each by itself, as a source that knows the one may know
/// nothing of the other: the pods of each sort (shares, single devices, several) want what `kinds` say, and what part
/// of them names which models is what `names` say.
///
/// Of those who name a rare model a small sample has a few pods, and what they want besides is chance: where
/// none of five wants much CPU, the CPU of that model's nodes seems to be of no use to anybody. So for each sort
/// and set of models they are taken to want what they do want and what [`ALIKE`] pods of that sort want, at even
/// distances in their order by CPU; together no more than they are. (A Dirichlet prior around what is coarser; MacKay
/// and Peto, "A hierarchical Dirichlet language model", 1995.)
pub(super) fn blend(sources: &[Source<'_>]) -> Workload {
    let (kinds, _) = parts(sources, |source| source.kinds, |class| class);
    let (names, one) = parts(
        sources,
        |source| source.names.max(source.kinds.min(1)),
        |class| (sort(class), class.models.as_slice()),
    );
    let mut sorts: BTreeMap<Sort, Vec<(&Class, u128)>> = BTreeMap::new();
    let mut groups: BTreeMap<(Sort, &[SmolStr]), u128> = BTreeMap::new();
    for (&class, &part) in &kinds {
        sorts.entry(sort(class)).or_default().push((class, part));
        *groups.entry((sort(class), &class.models)).or_default() += part;
    }
    let mut mix = Workload::default();
    let mut count = |class: Class, part: u128| {
        mix.count(class, part.div_ceil(FINE) as u64);
    };
    for (sort, classes) in &sorts {
        let pods: u128 = classes.iter().map(|(_, part)| part).sum();
        let here = |((other, _), _): &(&(Sort, &[SmolStr]), &u128)| other == sort;
        let all: u128 = names.iter().filter(here).map(|(_, part)| part).sum();
        // Of all pods, how many name these models; and how many of them want what those before them did.
        let shares = |models: &[SmolStr]| {
            let named = names.get(&(*sort, models)).copied().unwrap_or(0);
            let part = pods * named / all.max(1);
            match models.is_empty() {
                true => (part, part),
                false => (part, part * named / (named + ALIKE * one).max(1)),
            }
        };
        for &(class, part) in classes {
            let (_, kept) = shares(&class.models);
            let group = groups[&(*sort, class.models.as_slice())];
            count(class.clone(), (part * kept).div_ceil(group.max(1)));
        }
        for (_, models) in groups.keys().filter(|(other, _)| other == sort) {
            let (part, kept) = shares(models);
            for nth in 0..STAND_INS {
                let Some(class) = at(classes, 2 * nth + 1, 2 * STAND_INS) else {
                    continue;
                };
                let class = Class {
                    models: models.to_vec(),
                    ..class.clone()
                };
                count(class, (part - kept) / STAND_INS);
            }
        }
    }
    mix
}

/// What part of all pods is in each cell, and what part one pod is, in [`FINE`] parts of a millionth.
fn parts<'a, K: Ord>(
    sources: &[Source<'a>],
    worth: impl Fn(&Source<'a>) -> u64,
    cell: impl Fn(&'a Class) -> K,
) -> (BTreeMap<K, u128>, u128) {
    let counts = |source: &&Source<'a>| source.workload.pods() > 0 && worth(source) > 0;
    let all = sources.iter().filter(counts).map(&worth).map(u128::from);
    let all = all.sum::<u128>().max(1);
    let mut parts: BTreeMap<K, u128> = BTreeMap::new();
    for source in sources.iter().filter(counts) {
        let pods = u128::from(source.workload.pods());
        for (class, count) in source.workload.classes() {
            let part = u128::from(count) * u128::from(worth(source)) * MILLION * FINE;
            *parts.entry(cell(class)).or_default() += part.div_ceil(pods * all);
        }
    }
    (parts, MILLION * FINE / all)
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

    fn sources<'a>(
        came: &'a Workload,
        workload: &'a Workload,
        kinds: u64,
        names: u64,
    ) -> [Source<'a>; 2] {
        let known = Source {
            workload,
            kinds,
            names,
        };
        [Source::all(came), known]
    }

    #[test]
    fn a_blend_has_both_in_proportion() {
        let file = workload(&[(500, "", 1, 30), (320, "", 1, 10)]);
        let none = Workload::default();
        let came = workload(&[(500, "", 1, 50), (1_000, "", 1, 50)]);
        let parts = |worth| -> Vec<u64> {
            let mix = blend(&sources(&came, &file, worth, worth));
            mix.classes().map(|(_, pods)| pods).collect()
        };
        // By kind in order: 320, 500, 1000.
        assert_eq!(parts(0), [500_000, 500_000]);
        assert_eq!(parts(100), [125_000, 625_000, 250_000]);
        assert_eq!(blend(&sources(&none, &none, 0, 0)), none);
    }

    #[test]
    fn who_names_a_rare_model_may_want_what_others_want() {
        let came = workload(&[
            (1_000, "", 2_000, 600),
            (1_000, "", 8_000, 398),
            (1_000, "V100", 2_000, 2),
        ]);
        let mix = blend(&[Source::all(&came)]);
        let named = |cpu_milli: i64| {
            let of = mix
                .classes()
                .filter(|(class, _)| class.cpu_milli == cpu_milli && !class.models.is_empty());
            of.map(|(_, pods)| pods).sum::<u64>()
        };
        // Two, as before: of 34 parts two by what they want, and four by each of eight others.
        let part = 2_000 / 34;
        let near = |pods: u64, parts: u64| pods.abs_diff(parts * part) <= 16 + parts;
        assert!(near(named(2_000), 2 + 5 * 4), "{}", named(2_000));
        assert!(near(named(8_000), 3 * 4), "{}", named(8_000));
    }

    #[test]
    fn a_source_may_know_what_pods_want_and_not_what_they_name() {
        let file = workload(&[(1_000, "", 2_000, 500), (1_000, "", 8_000, 500)]);
        let came = workload(&[(1_000, "", 8_000, 6), (1_000, "T4", 8_000, 4)]);
        let mix = blend(&sources(&came, &file, 1_000, 0));
        let pods = |of: &dyn Fn(&Class) -> bool| -> u64 {
            let of = mix.classes().filter(|(class, _)| of(class));
            of.map(|(_, pods)| pods).sum()
        };
        // About half want little CPU, as in the file. Four of eleven name T4: those that came, and one for the file.
        let little = pods(&|class| class.cpu_milli == 2_000);
        assert!((470_000..490_000).contains(&little), "{little}");
        let named = pods(&|class| !class.models.is_empty());
        assert!((363_630..363_650).contains(&named), "{named}");
        let both = pods(&|class| class.cpu_milli == 2_000 && !class.models.is_empty());
        assert!((150_000..182_000).contains(&both), "{both}");
    }

    proptest! {
        #[test]
        fn a_blend_loses_no_kind_that_came_and_names_no_model_that_nobody_did(
            kinds in vec((1u16..=1_000, 0usize..3, 1i64..5, 1u64..5_000, 0u64..500), 1..20),
            worth in 0u64..10_000,
            names in 0u64..10_000,
        ) {
            let named = |by: fn(u64, u64) -> u64| -> Vec<_> {
                let of = |&(milli, model, cpu, a, b): &(u16, usize, i64, u64, u64)| {
                    (milli, ["", "T4", "G2"][model], cpu, by(a, b))
                };
                kinds.iter().map(of).collect()
            };
            let (file, came) = (workload(&named(|a, _| a)), workload(&named(|_, b| b)));
            let mix = blend(&sources(&came, &file, worth, names));
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

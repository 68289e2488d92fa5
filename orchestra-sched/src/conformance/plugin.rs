//! The suites for [`Filter`] and [`Scorer`], and, from a file of its own, for
//! [`ReserveFactory`](crate::place::plugin::ReserveFactory).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use orchestra_core::conformance::{Finding, Report, ensure, ensure_eq};
use orchestra_core::kind::Node;
use orchestra_core::meta::Uid;
use orchestra_core::port::store::Revision;
use orchestra_core::quantity::Quantity;

use super::cases::Cases;
use super::check;
use super::fields::FIELDS;
pub use super::reserve::{reserve, reserve_in};
use crate::fixture::Cluster;
use crate::place::Pending;
use crate::place::plugin::{Cycle, Filter, PodFields, Reach, SCORE_MAX, Scale, Score, Scorer};
use crate::snapshot::{Future, Ledger, NodeIx, Rows, Running, Snapshot, SnapshotBuilder};

/// What both kinds of plugin have: a pure answer for each row.
trait Plugin {
    fn name(&self) -> &'static str;
    fn depends(&self) -> PodFields;
    fn reach(&self, cycle: &Cycle<'_>) -> Reach;
    /// One number a row: for filters 1 where the pod fits.
    fn answers(&self, cycle: &Cycle<'_>, rows: Rows<'_>) -> Vec<Score>;
}

struct OfFilter<'a>(&'a dyn Filter);

impl Plugin for OfFilter<'_> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn depends(&self) -> PodFields {
        self.0.depends()
    }

    fn reach(&self, cycle: &Cycle<'_>) -> Reach {
        self.0.reach(cycle)
    }

    fn answers(&self, cycle: &Cycle<'_>, rows: Rows<'_>) -> Vec<Score> {
        let mut fits = vec![true; rows.len()];
        self.0.filter(cycle, rows, &mut fits);
        fits.into_iter().map(Score::from).collect()
    }
}

struct OfScorer<'a>(&'a dyn Scorer);

impl Plugin for OfScorer<'_> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn depends(&self) -> PodFields {
        self.0.depends()
    }

    fn reach(&self, cycle: &Cycle<'_>) -> Reach {
        self.0.reach(cycle)
    }

    fn answers(&self, cycle: &Cycle<'_>, rows: Rows<'_>) -> Vec<Score> {
        let mut out = vec![0; rows.len()];
        self.0.score(cycle, rows, &vec![true; rows.len()], &mut out);
        out
    }
}

/// Tests a filter. `seed` draws the clusters, and repeats them.
///
/// What is drawn knows nothing of labels of your own. A filter that goes by those says
/// nothing there, and fails for it: test it [in clusters of your own](filter_in) too.
pub fn filter(filter: &dyn Filter, seed: u64) -> Report {
    filter_in(filter, seed, &[])
}

/// Tests a filter in clusters of your own, and in those that `seed` draws.
pub fn filter_in(filter: &dyn Filter, seed: u64, own: &[Cluster]) -> Report {
    let cases = Cases { seed, own };
    let mut report = both(&OfFilter(filter), "filter", cases);
    check(
        &mut report,
        "only_ever_clears",
        "Clears `fits[i]` where row `i` cannot run the pod. Never sets it.",
        || {
            cases.each(|_, cycle| {
                let rows = cycle.ledger.rows();
                let mut fits = vec![false; rows.len()];
                filter.filter(cycle, rows, &mut fits);
                ensure_eq("rows that were cleared", fits.contains(&true), false)
            })
        },
    );
    check(
        &mut report,
        "says_why_exactly_where_it_turns_down",
        "Everything that is in the way there, and nothing exactly where `filter` lets the node pass.",
        || {
            cases.each(|snapshot, cycle| {
                if filter.reach(cycle) == Reach::Nothing {
                    return Ok(());
                }
                let fits = OfFilter(filter).answers(cycle, cycle.ledger.rows());
                for (node, row) in snapshot.nodes() {
                    let (obstacles, name) = (filter.obstacles(cycle, node), row.name());
                    let passes = fits[node.row()] == 1;
                    let expected = match passes {
                        true => format!("no obstacle on {name}, which `filter` lets pass"),
                        false => format!("an obstacle on {name}, which `filter` turns down"),
                    };
                    ensure(obstacles.is_empty() == passes, expected, &obstacles)?;
                }
                Ok(())
            })
        },
    );
    report
}

/// Tests a scorer. `seed` draws the clusters, and repeats them. One that goes by labels of your own
/// is to be tested [in clusters of your own](scorer_in).
pub fn scorer(scorer: &dyn Scorer, seed: u64) -> Report {
    scorer_in(scorer, seed, &[])
}

/// Tests a scorer in clusters of your own, and in those that `seed` draws.
pub fn scorer_in(scorer: &dyn Scorer, seed: u64, own: &[Cluster]) -> Report {
    let cases = Cases { seed, own };
    let mut report = both(&OfScorer(scorer), "scorer", cases);
    check(
        &mut report,
        "scores_are_in_range",
        "With `Scale::AsIs` they are that already: 0 to 100. Other numbers have another scale.",
        || {
            cases.each(|_, cycle| {
                if scorer.scale() != Scale::AsIs {
                    return Ok(());
                }
                let scores = OfScorer(scorer).answers(cycle, cycle.ledger.rows());
                let most = scores.into_iter().max().unwrap_or(0);
                ensure(most <= SCORE_MAX, "no score above 100", most)
            })
        },
    );
    check(
        &mut report,
        "looks_at_what_fits_only_if_it_looks_at_all_rows",
        "Only a scorer of `Reach::Cluster` may let `fits` change its other answers.",
        || {
            cases.each(|_, cycle| {
                if scorer.reach(cycle) == Reach::Cluster {
                    return Ok(());
                }
                let rows = cycle.ledger.rows();
                let all = OfScorer(scorer).answers(cycle, rows);
                let fits: Vec<bool> = (0..rows.len()).map(|row| row % 2 == 0).collect();
                let mut some = vec![0; rows.len()];
                scorer.score(cycle, rows, &fits, &mut some);
                for row in (0..rows.len()).step_by(2) {
                    ensure_eq("the score of a row that fits", some[row], all[row])?;
                }
                Ok(())
            })
        },
    );
    report
}

fn both(plugin: &dyn Plugin, suite: &'static str, cases: Cases<'_>) -> Report {
    let mut report = Report {
        suite: plugin.name(),
        seed: Some(cases.seed),
        checks: Vec::new(),
    };
    macro_rules! check {
        ($name:ident, $sentence:literal) => {
            check(&mut report, stringify!($name), $sentence, || {
                cases.each(|snapshot, cycle| $name(plugin, snapshot, cycle))
            });
        };
    }
    check!(has_a_name, "For reports and metrics.");
    check(
        &mut report,
        "is_put_to_the_test",
        "The clusters make it say something: else nothing below would find anything.",
        || says_something(plugin, suite, cases),
    );
    check!(
        equal_questions_get_equal_answers,
        "A pure function: no clock, no chance, nothing remembered."
    );
    check!(
        one_row_alone_is_answered_alike,
        "Asked about one row it says what it says of that row among all."
    );
    check!(
        nothing_to_say_means_that,
        "`Reach::Nothing`: every node passes, all score alike."
    );
    check(
        &mut report,
        "fields_not_declared_do_not_matter",
        "The fields of the pod that its answers depend on, `reach` included.",
        || {
            cases.each_beside(|_, cycle, others| {
                fields_not_declared_do_not_matter(plugin, cycle, others)
            })
        },
    );
    check!(
        placements_beyond_its_reach_do_not_matter,
        "How far an answer looks, and so how far a placement's effect on it reaches."
    );
    check!(
        pods_beyond_its_reach_do_not_matter,
        "`Reach::Fixed` looks at no pod that runs, `Reach::Node` at none on other nodes."
    );
    check!(
        other_nodes_do_not_matter,
        "Those of other nodes too if it declares `PodFields::NODES`."
    );
    report
}

/// A filter turns a node down somewhere, a scorer does not always say the same.
fn says_something(plugin: &dyn Plugin, suite: &str, cases: Cases<'_>) -> Finding {
    let mut said = BTreeSet::new();
    cases.each(|_, cycle| {
        if plugin.reach(cycle) != Reach::Nothing {
            said.extend(plugin.answers(cycle, cycle.ledger.rows()));
        }
        Ok(())
    })?;
    let (enough, expected) = match suite {
        "filter" => (said.contains(&0), "a node that it turns down"),
        _ => (said.len() > 1, "two nodes that it scores differently"),
    };
    let remedy = "none; give clusters of your own in which there are: `filter_in`, `scorer_in`";
    ensure(enough, expected, format_args!("{remedy}"))
}

fn has_a_name(plugin: &dyn Plugin, _: &Snapshot, _: &Cycle<'_>) -> Finding {
    ensure(!plugin.name().is_empty(), "a name", plugin.name())
}

fn equal_questions_get_equal_answers(
    plugin: &dyn Plugin,
    _: &Snapshot,
    cycle: &Cycle<'_>,
) -> Finding {
    let rows = cycle.ledger.rows();
    let expected = plugin.answers(cycle, rows);
    ensure_eq("the same again", plugin.answers(cycle, rows), expected)
}

fn one_row_alone_is_answered_alike(
    plugin: &dyn Plugin,
    snapshot: &Snapshot,
    cycle: &Cycle<'_>,
) -> Finding {
    if matches!(plugin.reach(cycle), Reach::Cluster | Reach::Nothing) {
        return Ok(());
    }
    let all = plugin.answers(cycle, cycle.ledger.rows());
    for (node, _) in snapshot.nodes() {
        let alone = plugin.answers(cycle, cycle.ledger.row(node));
        ensure_eq("the answer for one row", alone, vec![all[node.row()]])?;
    }
    Ok(())
}

fn nothing_to_say_means_that(plugin: &dyn Plugin, _: &Snapshot, cycle: &Cycle<'_>) -> Finding {
    if plugin.reach(cycle) != Reach::Nothing {
        return Ok(());
    }
    let mut all = plugin.answers(cycle, cycle.ledger.rows());
    all.dedup();
    ensure(all.len() <= 1, "the same answer for every row", &all)
}

fn fields_not_declared_do_not_matter(
    plugin: &dyn Plugin,
    cycle: &Cycle<'_>,
    others: &[Pending],
) -> Finding {
    let declared = plugin.depends();
    let ask = |cycle: &Cycle<'_>| {
        let reach = plugin.reach(cycle);
        let asked = reach != Reach::Nothing;
        let answers = asked.then(|| plugin.answers(cycle, cycle.ledger.rows()));
        (reach, answers)
    };
    let expected = ask(cycle);
    for field in FIELDS.iter().filter(|field| !field.is_among(declared)) {
        for other in others {
            let Some(changed) = field.taken(cycle.pod, other) else {
                continue;
            };
            let seen = ask(&Cycle::new(cycle.ledger, &changed, cycle.now));
            let what = format!(
                "the answer with another {}, that of {}, which is not declared: add {:?} to \
                 `depends`, or do not look at it",
                field.name, other.id, field.field
            );
            ensure_eq(&what, seen, expected.clone())?;
        }
    }
    if !declared.has(PodFields::NOW) {
        let later = cycle.now + Duration::from_secs(3_600);
        let seen = ask(&Cycle::new(cycle.ledger, cycle.pod, later));
        ensure_eq(
            "the answer an hour later, with PodFields::NOW not declared: add it to `depends`, or do \
             not look at the time",
            seen,
            expected,
        )?;
    }
    Ok(())
}

fn placements_beyond_its_reach_do_not_matter(
    plugin: &dyn Plugin,
    snapshot: &Snapshot,
    cycle: &Cycle<'_>,
) -> Finding {
    beyond_reach(plugin, snapshot, cycle, "a placement", |node| {
        let mut ledger = cycle.ledger.clone();
        ledger.charge(node, &cycle.pod.demand);
        ledger
    })
}

/// Those that run when a plan begins: what one plan learned serves the next.
fn pods_beyond_its_reach_do_not_matter(
    plugin: &dyn Plugin,
    snapshot: &Snapshot,
    cycle: &Cycle<'_>,
) -> Finding {
    beyond_reach(plugin, snapshot, cycle, "one more pod that runs", |node| {
        let mut future = Future::of(snapshot);
        let mut id = cycle.pod.id.clone();
        id.uid = Uid(997);
        let running = Running {
            id,
            demand: Arc::clone(&cycle.pod.demand),
            priority: cycle.pod.priority,
            ..Running::default()
        };
        future.add_pod(node, Arc::new(running));
        Ledger::open(&future.snapshot())
    })
}

/// Tries `change` on each node; `what` it is.
fn beyond_reach(
    plugin: &dyn Plugin,
    snapshot: &Snapshot,
    cycle: &Cycle<'_>,
    what: &str,
    change: impl Fn(NodeIx) -> Ledger,
) -> Finding {
    let reach = plugin.reach(cycle);
    let wider = match reach {
        Reach::Fixed => "Reach::Node, or Reach::Cluster for one that looks at other rows",
        Reach::Node => "Reach::Cluster",
        _ => return Ok(()),
    };
    let before = plugin.answers(cycle, cycle.ledger.rows());
    for (node, row) in snapshot.nodes() {
        let ledger = change(node);
        let after = Cycle::new(&ledger, cycle.pod, cycle.now);
        let what = format!("{what} on {}", row.name());
        ensure_eq(
            &format!("its reach, after {what}"),
            plugin.reach(&after),
            reach,
        )?;
        let mut seen = plugin.answers(&after, ledger.rows());
        if reach == Reach::Node {
            seen[node.row()] = before[node.row()];
        }
        let what = format!(
            "its answers after {what}, which Reach::{reach:?} may not see; what looks further declares {wider}"
        );
        ensure_eq(&what, &seen, &before)?;
    }
    Ok(())
}

fn other_nodes_do_not_matter(
    plugin: &dyn Plugin,
    snapshot: &Snapshot,
    cycle: &Cycle<'_>,
) -> Finding {
    let reach = plugin.reach(cycle);
    if plugin.depends().has(PodFields::NODES) || !matches!(reach, Reach::Fixed | Reach::Node) {
        return Ok(());
    }
    let before = plugin.answers(cycle, cycle.ledger.rows());
    // The same nodes, and one more at the end that is like none of them.
    let mut builder = SnapshotBuilder::new();
    for (_, row) in snapshot.nodes() {
        builder.set_node(row.facts().clone());
        for pod in row.pods() {
            builder.set_pod(row.name(), Running::clone(pod));
        }
    }
    let other = Node::new("another")
        .capacity(64_000, 65_536, 200)
        .resource("example.com/thing", Quantity::from_int(9))
        .label("disk", "nvme");
    builder.apply_node(&other);
    let wider = builder.snapshot(Revision(9));
    let ledger = Ledger::open(&wider);
    let after = Cycle::new(&ledger, cycle.pod, cycle.now);
    if plugin.reach(&after) != reach {
        return Ok(()); // it may depend on what no placement changes
    }
    let seen = plugin.answers(&after, ledger.rows());
    ensure_eq(
        "its answers with one more node; what looks at others declares PodFields::NODES or \
         Reach::Cluster",
        &seen[..before.len()],
        &before[..],
    )
}

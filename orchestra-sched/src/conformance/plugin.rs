//! The suites for [`Filter`] and [`Scorer`], and, from a file of its own, for
//! [`ReserveFactory`](crate::place::plugin::ReserveFactory).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use orchestra_core::conformance::{Finding, Report, ensure, ensure_eq};
use orchestra_core::kind::pod::{ContainerPort, Toleration, TopologySpreadConstraint};
use orchestra_core::kind::{Container, Node, Pod, accelerator, forecast, locality};
use orchestra_core::meta::Uid;
use orchestra_core::port::store::Revision;
use orchestra_core::quantity::Quantity;
use orchestra_core::time::Timestamp;

use super::cases::Cases;
use super::check;
pub use super::reserve::{reserve, reserve_in};
use crate::fixture::Cluster;
use crate::place::Pending;
use crate::place::plugin::{Cycle, Filter, PodFields, Reach, SCORE_MAX, Scale, Score, Scorer};
use crate::snapshot::{Demand, Ledger, Rows, Running, Snapshot, SnapshotBuilder};

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
    check!(
        fields_not_declared_do_not_matter,
        "The fields of the pod that its answers depend on, `reach` included."
    );
    check!(
        placements_beyond_its_reach_do_not_matter,
        "How far an answer looks, and so how far a placement's effect on it reaches."
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
    _: &Snapshot,
    cycle: &Cycle<'_>,
) -> Finding {
    let declared = plugin.depends();
    let ask = |cycle: &Cycle<'_>| {
        let reach = plugin.reach(cycle);
        let asked = reach != Reach::Nothing;
        let answers = asked.then(|| plugin.answers(cycle, cycle.ledger.rows()));
        (reach, answers)
    };
    let expected = ask(cycle);
    for (field, name, covered_by, change) in CHANGES {
        if declared.has(*field) || covered_by.iter().any(|wider| declared.has(*wider)) {
            continue;
        }
        let mut other = cycle.pod.clone();
        change(&mut other);
        let seen = ask(&Cycle::new(cycle.ledger, &other, cycle.now));
        let what = format!(
            "the answer with another {name}, which is not declared: add {field:?} to `depends`, or \
             do not look at it"
        );
        ensure_eq(&what, seen, expected.clone())?;
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

/// A pod that asks for what the drawn ones do not.
fn differing() -> Demand {
    let container = Container::new("c", "another:2");
    let one = Quantity::from_int(1);
    let mut pod = Pod::builder("other").container(container.request(accelerator::RESOURCE, one));
    let annotations = &mut pod.metadata.annotations;
    annotations.insert(locality::NEEDS_ANNOTATION.into(), "elsewhere".into());
    let day = ["500m"; forecast::HOURS].join(",");
    annotations.insert(forecast::CPU_ANNOTATION.into(), day.into());
    let spread = TopologySpreadConstraint {
        max_skew: 1,
        topology_key: Node::HOSTNAME_LABEL.into(),
        ..TopologySpreadConstraint::default()
    };
    pod.spec.topology_spread_constraints.push(spread);
    Demand::of(&pod)
}

/// A field, its name, the fields that include it, and a pod that differs in it.
type Change = (
    PodFields,
    &'static str,
    &'static [PodFields],
    fn(&mut Pending),
);

const CHANGES: &[Change] = &[
    (PodFields::REQUESTS, "request", &[], |pod| {
        let demand = Arc::make_mut(&mut pod.demand);
        demand.requests.cpu_milli += 700;
        demand.scored.cpu_milli += 700;
        demand.requests.memory += 300 << 20;
        demand.scored.memory += 300 << 20;
    }),
    (PodFields::NODE_NAME, "node name", &[], |pod| {
        Arc::make_mut(&mut pod.demand).node_name = Some("n1".into());
    }),
    (
        PodFields::NODE_AFFINITY,
        "node selector",
        &[PodFields::SPREAD],
        |pod| {
            let selector = &mut Arc::make_mut(&mut pod.demand).node_selector;
            selector.insert("disk".into(), "hdd".into());
        },
    ),
    (
        PodFields::TOLERATIONS,
        "toleration",
        &[PodFields::SPREAD],
        |pod| {
            let tolerations = &mut Arc::make_mut(&mut pod.demand).tolerations;
            match tolerations.is_empty() {
                true => tolerations.push(Toleration::exists("")),
                false => tolerations.clear(),
            }
        },
    ),
    (PodFields::HOST_PORTS, "host port", &[], |pod| {
        let port = ContainerPort {
            container_port: 80,
            host_port: 81,
            ..ContainerPort::default()
        };
        let mut other = Pod::builder("other");
        let container = Container::new("c", "i");
        other.spec.containers.push(container);
        other.spec.containers[0].ports.push(port);
        let ports = Demand::of(&other).host_ports;
        let demand = Arc::make_mut(&mut pod.demand);
        demand.host_ports = match demand.host_ports.is_empty() {
            true => ports,
            false => Vec::new(),
        };
    }),
    (
        PodFields::NAMESPACE,
        "namespace",
        &[PodFields::SPREAD, PodFields::POD_AFFINITY],
        |pod| Arc::make_mut(&mut pod.demand).namespace = "elsewhere".into(),
    ),
    (
        PodFields::LABELS,
        "label",
        &[PodFields::SPREAD, PodFields::POD_AFFINITY],
        |pod| {
            let labels = &mut Arc::make_mut(&mut pod.demand).labels;
            labels.insert("app".into(), "c".into());
        },
    ),
    (PodFields::PRIORITY, "priority", &[], |pod| {
        pod.priority += 5
    }),
    (
        PodFields::SPREAD,
        "spread constraint",
        &[PodFields::POD_AFFINITY],
        |pod| {
            let other = differing().relations;
            let demand = Arc::make_mut(&mut pod.demand);
            demand.relations = other.filter(|_| demand.relations.is_none());
        },
    ),
    (PodFields::IMAGES, "image", &[], |pod| {
        Arc::make_mut(&mut pod.demand).images = differing().images;
    }),
    (PodFields::DATA, "need of data", &[], |pod| {
        Arc::make_mut(&mut pod.demand).reads = differing().reads;
    }),
    (PodFields::ACCELERATORS, "accelerator", &[], |pod| {
        Arc::make_mut(&mut pod.demand).accelerators = differing().accelerators;
    }),
    (PodFields::FORECAST, "forecast", &[], |pod| {
        Arc::make_mut(&mut pod.demand).forecast = differing().forecast;
    }),
    (PodFields::IDENTITY, "identity", &[], |pod| {
        pod.id.uid = Uid(999);
        pod.id.key.name = "another".into();
        pod.arrived = Timestamp::from_secs(99);
    }),
];

fn placements_beyond_its_reach_do_not_matter(
    plugin: &dyn Plugin,
    snapshot: &Snapshot,
    cycle: &Cycle<'_>,
) -> Finding {
    let reach = plugin.reach(cycle);
    if !matches!(reach, Reach::Fixed | Reach::Node) {
        return Ok(());
    }
    let before = plugin.answers(cycle, cycle.ledger.rows());
    for (node, _) in snapshot.nodes() {
        let mut ledger = cycle.ledger.clone();
        ledger.charge(node, &cycle.pod.demand);
        let after = Cycle::new(&ledger, cycle.pod, cycle.now);
        ensure_eq("its reach, after a placement", plugin.reach(&after), reach)?;
        let mut seen = plugin.answers(&after, ledger.rows());
        if reach == Reach::Node {
            seen[node.row()] = before[node.row()];
        }
        let wider = match reach {
            Reach::Fixed => "Reach::Node, or Reach::Cluster for one that looks at other rows",
            _ => "Reach::Cluster",
        };
        let what = format!(
            "its answers after a placement on {}, which Reach::{reach:?} may not see; what looks \
             further declares {wider}",
            snapshot.node(node).name()
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

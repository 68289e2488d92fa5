//! The suite for [`Scheduler`].

use std::sync::Arc;

use orchestra_core::conformance::{Finding, Report, ensure, ensure_eq, fail};
use orchestra_core::error::report as chain;
use orchestra_core::port::store::Revision;

use super::world::{World, apply};
use super::{check, contained, inputs};
use crate::fits;
use crate::place::{Pending, Placement, Plan, Scheduler};
use crate::snapshot::Ledger;

/// How many clusters each check looks at.
const WORLDS: u64 = 100;

/// Tests a scheduler. `fresh` gives one that has planned nothing yet; `seed` draws the clusters,
/// and repeats them.
pub fn run(fresh: impl Fn() -> Arc<dyn Scheduler>, seed: u64) -> Report {
    let mut report = Report {
        suite: "scheduler",
        seed: Some(seed),
        checks: Vec::new(),
    };
    macro_rules! check {
        ($name:ident, $sentence:literal) => {
            check(&mut report, stringify!($name), $sentence, || {
                each_world(seed, |world| $name(&fresh, world, seed))
            });
        };
    }
    check!(
        each_pod_is_in_the_plan_once,
        "Each of them is in the plan exactly once."
    );
    check!(
        what_is_placed_fits,
        "A proposal; whoever commits it asks `fits` again."
    );
    check!(
        equal_inputs_give_equal_plans,
        "A pure function: same inputs, same plan, on any machine."
    );
    check!(
        what_it_learned_does_not_show,
        "A pure function: what it planned before does not show in a plan."
    );
    check!(
        a_plan_carried_out_leaves_nothing_to_plan,
        "Unplaced pods found no node, with the whole plan carried out."
    );
    check!(
        who_is_refused_is_told_what_could_help,
        "An explanation says which kinds of change could help."
    );
    report
}

/// Tests that two schedulers always plan alike: a fast one and its plain twin. `fast` is kept from
/// one cluster to the next, with whatever it learns.
pub fn twins(fast: &dyn Scheduler, plain: &dyn Scheduler, seed: u64) -> Report {
    let mut report = Report {
        suite: "twins",
        seed: Some(seed),
        checks: Vec::new(),
    };
    let sentence = "What is faster plans the same.";
    check(&mut report, "both_plan_alike", sentence, || {
        each_world(seed, |world| {
            let (snapshot, pending) = (world.snapshot(), world.pending());
            let expected = plain.plan(&snapshot, &pending, inputs(seed));
            let seen = fast.plan(&snapshot, &pending, inputs(seed));
            ensure_alike("the plan of the plain one", &seen, &expected)
        })
    });
    report
}

type Fresh<'a> = &'a dyn Fn() -> Arc<dyn Scheduler>;

fn each_world(seed: u64, mut body: impl FnMut(&World) -> Finding) -> Finding {
    for n in 0..WORLDS {
        contained(|| body(&World::draw(seed, n)))
            .map_err(|stop| stop.at(format_args!("cluster {n}")))?;
    }
    Ok(())
}

fn plan(scheduler: &dyn Scheduler, world: &World, seed: u64) -> (Vec<Pending>, Plan) {
    let pending = world.pending();
    let plan = scheduler.plan(&world.snapshot(), &pending, inputs(seed));
    (pending, plan)
}

fn each_pod_is_in_the_plan_once(fresh: Fresh<'_>, world: &World, seed: u64) -> Finding {
    let (pending, plan) = plan(&*fresh(), world, seed);
    let placed = plan.placed.iter().map(|one| (one.pending, &one.pod));
    let unplaced = plan.unplaced.iter().map(|one| (one.pending, &one.pod));
    let seen: Vec<_> = placed.chain(unplaced).collect();
    for (at, pod) in pending.iter().enumerate() {
        let times = seen.iter().filter(|(_, id)| **id == pod.id).count();
        let expected = format!("{} once among the placed and the unplaced", pod.id);
        ensure(times == 1, expected, format_args!("{times} times"))?;
        let expected = format!("{} as number {at} of the pending", pod.id);
        let numbered = seen.iter().find(|(_, id)| **id == pod.id);
        ensure(numbered == Some(&(at, &pod.id)), expected, numbered)?;
    }
    ensure_eq("no pod that does not wait", seen.len(), pending.len())?;
    ensure_eq("the snapshot's revision in `base`", plan.base, Revision(7))
}

/// Fails unless the plans are equal, with what differs rather than with both.
fn ensure_alike(what: &str, seen: &Plan, expected: &Plan) -> Finding {
    if seen == expected {
        return Ok(());
    }
    let (had, has) = (lines(expected), lines(seen));
    let only = |these: &[String], those: &[String]| {
        let mut lines = these.iter().filter(|line| !those.contains(line));
        let first: Vec<_> = lines.by_ref().take(3).cloned().collect();
        let more = lines.count();
        match (first.is_empty(), more) {
            (true, _) => "the same pods on the same nodes, otherwise told".to_owned(),
            (_, 0) => first.join(", "),
            _ => format!("{} and {more} more", first.join(", ")),
        }
    };
    fail(format!("{what}: {}", only(&had, &has)), only(&has, &had))
}

/// What a plan says of each pod, in few words.
fn lines(plan: &Plan) -> Vec<String> {
    let placed = plan.placed.iter().map(|one| {
        let Placement {
            pod,
            node,
            score,
            devices,
            ..
        } = one;
        match devices.is_empty() {
            true => format!("{pod} on {node} with score {score}"),
            false => format!("{pod} on {node} with score {score} and {devices:?}"),
        }
    });
    let unplaced = plan
        .unplaced
        .iter()
        .map(|one| format!("{} nowhere: {}", one.pod, one.why));
    let room = plan.preemptions.iter().map(|one| {
        let victims: Vec<_> = one
            .victims
            .iter()
            .map(|victim| victim.pod.to_string())
            .collect();
        format!(
            "{} makes {} leave {}",
            one.pod,
            victims.join(" and "),
            one.node
        )
    });
    let held = plan
        .held
        .iter()
        .map(|one| format!("{} keeps room on {}", one.pod, one.node));
    let faults = plan
        .faults
        .iter()
        .map(|one| format!("{} {}", one.plugin, one.note));
    placed
        .chain(unplaced)
        .chain(room)
        .chain(held)
        .chain(faults)
        .collect()
}

fn what_is_placed_fits(fresh: Fresh<'_>, world: &World, seed: u64) -> Finding {
    let (pending, plan) = plan(&*fresh(), world, seed);
    let mut ledger = Ledger::open(&world.snapshot());
    for placement in &plan.placed {
        let demand = &pending[placement.pending].demand;
        if let Err(misfit) = fits::claim(&mut ledger, &placement.node, demand) {
            let (pod, node) = (&placement.pod, &placement.node);
            let expected = format!("{pod} fits on {node}, with those before it");
            return fail(expected, chain(&misfit).to_string());
        }
    }
    Ok(())
}

fn equal_inputs_give_equal_plans(fresh: Fresh<'_>, world: &World, seed: u64) -> Finding {
    let (_, expected) = plan(&*fresh(), world, seed);
    let (_, seen) = plan(&*fresh(), world, seed);
    ensure_alike("the same plan again", &seen, &expected)
}

fn what_it_learned_does_not_show(fresh: Fresh<'_>, world: &World, seed: u64) -> Finding {
    let used = fresh();
    let mut builder = world.builder();
    let pending = world.pending();
    // One pod at a time on a cluster that changes, and a node that comes and goes.
    for (n, pod) in pending.iter().enumerate() {
        let one = std::slice::from_ref(pod);
        let snapshot = builder.snapshot(Revision(n as u64));
        let seen = used.plan(&snapshot, one, inputs(seed));
        let expected = fresh().plan(&snapshot, one, inputs(seed));
        ensure_alike("the plan of one that has planned nothing", &seen, &expected)?;
        apply(&mut builder, one, &seen);
        match world.nodes.first() {
            Some(node) if n % 3 == 0 => drop(builder.remove_node(&node.metadata.name)),
            Some(node) => drop(builder.apply_node(node)),
            None => {}
        }
    }
    Ok(())
}

fn a_plan_carried_out_leaves_nothing_to_plan(
    fresh: Fresh<'_>,
    world: &World,
    seed: u64,
) -> Finding {
    let scheduler = fresh();
    let (pending, plan) = plan(&*scheduler, world, seed);
    if !plan.preemptions.is_empty() {
        return Ok(()); // it waits for pods to leave, which they do not here
    }
    let mut builder = world.builder();
    apply(&mut builder, &pending, &plan);
    let rest = plan.unplaced.iter().map(|one| pending[one.pending].clone());
    let rest: Vec<Pending> = rest.collect();
    let again = scheduler.plan(&builder.snapshot(Revision(8)), &rest, inputs(seed));
    let more = again
        .placed
        .iter()
        .map(|one| format!("{} on {}", one.pod, one.node));
    ensure_eq(
        "placed by a second plan",
        more.collect(),
        Vec::<String>::new(),
    )
}

fn who_is_refused_is_told_what_could_help(fresh: Fresh<'_>, world: &World, seed: u64) -> Finding {
    let (_, plan) = plan(&*fresh(), world, seed);
    for unplaced in &plan.unplaced {
        let helps = !unplaced.why.helped_by.is_empty();
        let expected = format!("{} waits for some change", unplaced.pod);
        ensure(helps, expected, &unplaced.why)?;
    }
    Ok(())
}

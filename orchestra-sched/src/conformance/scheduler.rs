//! The suite for [`Scheduler`].

use std::sync::Arc;

use orchestra_core::conformance::{Finding, Report, ensure, ensure_eq, fail};
use orchestra_core::error::report as chain;
use orchestra_core::port::store::Revision;

use super::world::{World, apply};
use super::{check, inputs};
use crate::fits;
use crate::place::{Pending, Plan, Scheduler};
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
            ensure_eq("the plan of the plain one", seen, expected)
        })
    });
    report
}

type Fresh<'a> = &'a dyn Fn() -> Arc<dyn Scheduler>;

fn each_world(seed: u64, mut body: impl FnMut(&World) -> Finding) -> Finding {
    for n in 0..WORLDS {
        body(&World::draw(seed, n)).map_err(|stop| stop.at(format_args!("cluster {n}")))?;
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
    let mut seen: Vec<_> = placed.chain(unplaced).collect();
    seen.sort_unstable();
    let expected = pending.iter().enumerate().map(|(at, pod)| (at, &pod.id));
    ensure_eq("all pending pods", seen, expected.collect())?;
    ensure_eq("the snapshot's revision", plan.base, Revision(7))
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
    ensure_eq("the same plan again", seen, expected)
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
        ensure_eq("the plan of one that has planned nothing", &seen, &expected)?;
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
    ensure_eq("nothing more is placed", again.placed, Vec::new())
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

//! Small problems, drawn at random: differences against prices from nothing, answers against all
//! answers there are.

use rand::Rng as _;
use rand_pcg::Pcg64;

use super::excess::Excess;
use super::state::State;
use super::*;
use crate::rng::PlanRng;

/// A number from 0 to below `n`.
fn draw(rng: &mut Pcg64, n: u64) -> u64 {
    rng.next_u64() % n
}

/// A problem of that many machines and processes, and an assignment that it allows.
fn problem(seed: u64, machines: u32, processes: u32) -> (Problem, Vec<u32>) {
    let rng = &mut PlanRng::new(seed).stream("problem");
    let resources = 1 + draw(rng, 3) as usize;
    let services = 1 + draw(rng, u64::from(processes)) as u32;
    let amounts = |rng: &mut Pcg64, from, to: u64| -> Vec<i64> {
        (0..resources)
            .map(|_| from + draw(rng, to) as i64)
            .collect()
    };
    let mut problem = Problem {
        resources: (0..resources)
            .map(|_| Resource {
                transient: draw(rng, 3) == 0,
                load_weight: draw(rng, 4) as i64,
            })
            .collect(),
        machines: (0..machines)
            .map(|_| Machine {
                neighbourhood: 7 * draw(rng, 2) as u32,
                location: draw(rng, 3) as u32,
                capacity: amounts(rng, 0, 12),
                safety: amounts(rng, 0, 20),
            })
            .collect(),
        services: vec![Service::default(); services as usize],
        balances: (0..draw(rng, 3))
            .map(|_| Balance {
                first: draw(rng, resources as u64) as usize,
                second: draw(rng, resources as u64) as usize,
                target: draw(rng, 4) as i64,
                weight: draw(rng, 3) as i64,
            })
            .collect(),
        machine_moves: (0..machines * machines)
            .map(|way| draw(rng, 3) as u32 * u32::from(way / machines != way % machines))
            .collect(),
        weights: Weights {
            process_move: draw(rng, 2) as i64,
            service_move: draw(rng, 3) as i64,
            machine_move: draw(rng, 2) as i64,
        },
        ..Problem::default()
    };
    if draw(rng, 4) == 0 {
        problem.machine_moves.clear();
    }
    if draw(rng, 3) == 0 {
        problem.moves_max = Some(draw(rng, 4) as u32);
    }
    let mut assignment: Vec<u32> = Vec::new();
    for _ in 0..processes {
        let machine = draw(rng, u64::from(machines)) as u32;
        let mut free = (0..services).filter(|&s| {
            let mut others = problem.processes.iter().zip(&assignment);
            others.all(|(other, &at)| other.service != s || at != machine)
        });
        let Some(service) = free.nth(draw(rng, 2) as usize) else {
            continue;
        };
        let needs = amounts(rng, 0, 8);
        for (capacity, need) in problem.machines[machine as usize]
            .capacity
            .iter_mut()
            .zip(&needs)
        {
            *capacity += need;
        }
        assignment.push(machine);
        problem.processes.push(Process {
            service,
            needs,
            move_cost: draw(rng, 4) as i64,
        });
    }
    // Whatever holds of spread and dependencies may be asked for.
    let machines_of = |s: u32| {
        let all = problem.processes.iter().zip(&assignment);
        all.filter(move |(p, _)| p.service == s)
            .map(|(_, &m)| &problem.machines[m as usize])
    };
    for s in 0..services {
        let mut locations: Vec<u32> = machines_of(s).map(|m| m.location).collect();
        locations.sort_unstable();
        locations.dedup();
        let depends_on = (0..services)
            .filter(|&t| {
                let near = |m: &Machine| machines_of(t).any(|o| o.neighbourhood == m.neighbourhood);
                draw(rng, 3) == 0 && machines_of(s).all(near)
            })
            .collect();
        problem.services[s as usize] = Service {
            spread_min: draw(rng, locations.len() as u64 + 1) as u32,
            depends_on,
        };
    }
    (problem, assignment)
}

#[test]
fn differences_are_those_of_whole_prices() {
    let (mut allowed, mut refused) = (0, 0);
    for seed in 0..300 {
        let (problem, assignment) = problem(seed, 4, 9);
        let model = Model::new(&problem, &assignment).expect("it was made to be allowed");
        let mut state = State::new(&model, &model.origin);
        assert_eq!(state.cost, model.cost(&assignment).total());
        let rng = &mut PlanRng::new(seed).stream("changes");
        for _ in 0..60 {
            let p = draw(rng, model.processes as u64) as usize;
            let q = draw(rng, model.processes as u64) as usize;
            let to = draw(rng, model.machines as u64) as u32;
            let swap = draw(rng, 2) == 0;
            let mut at = state.at.clone();
            match swap {
                true => at.swap(p, q),
                false => at[p] = to,
            }
            if at == state.at {
                continue;
            }
            let up_to = |limit| match swap {
                true => state.swap(p, q, limit),
                false => state.shift(p, to, limit),
            };
            let difference = up_to(i64::MAX);
            if let Some(by) = difference {
                assert_eq!(
                    up_to(by),
                    difference,
                    "seed {seed}: a limit hides nothing below"
                );
            }
            let whole = model.to_outside(&at);
            let broken = model.violations(&whole);
            match difference {
                Some(by) => {
                    assert_eq!(broken, [], "seed {seed}");
                    let cost = state.cost + by;
                    assert_eq!(cost, model.cost(&whole).total(), "seed {seed}");
                    match swap {
                        true => state.apply_swap(p, q),
                        false => state.apply_shift(p, to),
                    }
                    assert_eq!((state.cost, &state.at), (cost, &at), "seed {seed}");
                    allowed += 1;
                }
                // Of swaps only, those across a dependency of their own are not looked into.
                None => {
                    assert!(swap || !broken.is_empty(), "seed {seed}: {p} to {to}");
                    refused += 1;
                }
            }
        }
        let anew = State::new(&model, &state.at);
        assert_eq!((anew.cost, anew.moved), (state.cost, state.moved));
    }
    assert!(allowed > 1_000 && refused > 1_000, "{allowed} {refused}");
}

/// Processes of a machine, each with a chance of `often` in four.
fn some_together(state: &State<'_>, machine: u32, often: u64, rng: &mut Pcg64) -> Vec<u32> {
    let on = state.on(machine).iter().copied();
    on.filter(|_| draw(rng, 4) < often).collect()
}

#[test]
fn exchanges_are_allowed_and_cost_what_they_say() {
    let (mut done, mut undone) = (0, 0);
    for seed in 0..300 {
        let (problem, assignment) = problem(seed, 4, 9);
        let model = Model::new(&problem, &assignment).expect("it was made to be allowed");
        let mut state = State::new(&model, &model.origin);
        let rng = &mut PlanRng::new(seed).stream("changes");
        for _ in 0..60 {
            let a = draw(rng, model.machines as u64) as u32;
            let b = draw(rng, model.machines as u64) as u32;
            let (some, others) = (
                some_together(&state, a, 2, rng),
                some_together(&state, b, 1, rng),
            );
            if a == b || some.is_empty() {
                continue;
            }
            let (at, cost) = (state.at.clone(), state.cost);
            let limit = [-3, 0, 10, i64::MAX][draw(rng, 4) as usize];
            if state.exchange(&some, &others, b, limit) {
                assert!(state.cost - cost <= limit, "seed {seed}");
                for p in 0..model.processes {
                    let to = match p as u32 {
                        p if some.contains(&p) => b,
                        p if others.contains(&p) => a,
                        p => at[p as usize],
                    };
                    assert_eq!(state.at[p], to, "seed {seed}");
                }
                done += 1;
            } else {
                assert_eq!((&state.at, state.cost), (&at, cost), "seed {seed}");
                undone += 1;
            }
            let whole = model.to_outside(&state.at);
            assert_eq!(model.violations(&whole), [], "seed {seed}");
            assert_eq!(state.cost, model.cost(&whole).total(), "seed {seed}");
            let anew = State::new(&model, &state.at);
            assert_eq!((anew.cost, anew.moved), (state.cost, state.moved));
        }
    }
    assert!(done > 300 && undone > 1_000, "{done} {undone}");
}

#[test]
fn machines_may_be_too_full_for_a_while_and_nothing_else_may_be_wrong() {
    let mut too_full = 0;
    for seed in 0..300 {
        let (problem, assignment) = problem(seed, 4, 9);
        let model = Model::new(&problem, &assignment).expect("it was made to be allowed");
        let mut state = State::new(&model, &model.origin);
        state.excess = Some(Excess::new(&model));
        let rng = &mut PlanRng::new(seed).stream("changes");
        for _ in 0..60 {
            let p = draw(rng, model.processes as u64) as usize;
            let q = draw(rng, model.processes as u64) as usize;
            let to = draw(rng, model.machines as u64) as u32;
            match draw(rng, 2) == 0 {
                true if state.at[p] != state.at[q] && state.swap(p, q, i64::MAX).is_some() => {
                    state.apply_swap(p, q);
                }
                false if state.at[p] != to && state.shift(p, to, i64::MAX).is_some() => {
                    state.apply_shift(p, to);
                }
                _ => {}
            }
            let whole = model.to_outside(&state.at);
            let broken = model.violations(&whole);
            let of_capacity = |v: &Violation| matches!(v, Violation::Capacity { .. });
            assert!(broken.iter().all(of_capacity), "seed {seed}: {broken:?}");
            assert_eq!(state.fits(), broken.is_empty(), "seed {seed}");
            assert_eq!(state.cost, model.cost(&whole).total(), "seed {seed}");
            too_full += usize::from(!state.fits());
        }
    }
    assert!(too_full > 1_000, "{too_full}");
}

/// The least that any allowed assignment costs.
fn cheapest(model: &Model) -> i64 {
    let mut best = i64::MAX;
    let mut at = vec![0u32; model.processes];
    loop {
        if model.violations(&at).is_empty() {
            best = best.min(model.cost(&at).total());
        }
        let Some(next) = at.iter().position(|&m| (m as usize) < model.machines - 1) else {
            return best;
        };
        at[next] += 1;
        at[..next].fill(0);
    }
}

const VARIANTS: [Variant; 3] = [Variant::Plain, Variant::Exchanges, Variant::Overfull];

fn solve(model: &Model, seed: u64, variant: Variant) -> (i64, Vec<u32>) {
    let mut search = Search::with(model, PlanRng::new(seed), variant);
    for share in 0..=20 {
        search.set_progress(share * PROGRESS_DONE / 20);
        search.advance(500);
    }
    (search.best_cost(), search.best())
}

#[test]
fn small_problems_are_solved_to_the_end() {
    let mut solved = [0; 3];
    for seed in 0..100 {
        let (problem, assignment) = problem(seed, 3, 6);
        let model = Model::new(&problem, &assignment).expect("it was made to be allowed");
        let cheapest = cheapest(&model);
        assert!(cheapest >= model.lower_bound());
        for (variant, solved) in VARIANTS.into_iter().zip(&mut solved) {
            let (cost, best) = solve(&model, seed, variant);
            assert_eq!(cost, model.cost(&best).total());
            assert_eq!(model.violations(&best), []);
            assert!(cost <= model.cost(&assignment).total());
            assert!(cost >= cheapest);
            *solved += usize::from(cost == cheapest);
        }
    }
    // Some lie behind a change of three at once, which not all try.
    assert!(solved.iter().all(|&n| n >= 90), "{solved:?} of 100");
}

#[test]
fn answers_are_allowed_and_repeat() {
    for (seed, variant) in (0..20).flat_map(|seed| VARIANTS.map(|variant| (seed, variant))) {
        let (problem, assignment) = problem(seed, 12, 60);
        let model = Model::new(&problem, &assignment).expect("it was made to be allowed");
        let (cost, best) = solve(&model, seed, variant);
        assert_eq!(solve(&model, seed, variant), (cost, best.clone()));
        assert_eq!(model.violations(&best), []);
        assert_eq!(cost, model.cost(&best).total());
    }
}

#[test]
fn nothing_to_do_is_no_trouble() {
    let model = Model::new(&Problem::default(), &[]).expect("an empty problem");
    for variant in VARIANTS {
        assert_eq!(solve(&model, 1, variant), (0, Vec::new()));
    }
    let one = Problem {
        machines: vec![Machine::default()],
        services: vec![Service::default()],
        processes: vec![Process::default()],
        ..Problem::default()
    };
    let model = Model::new(&one, &[0]).expect("one of each");
    for variant in VARIANTS {
        assert_eq!(solve(&model, 1, variant), (0, vec![0]));
    }
}

#[test]
fn what_makes_no_sense_is_named() {
    let good = Problem {
        resources: vec![Resource::default()],
        machines: vec![
            Machine {
                capacity: vec![10],
                safety: vec![5],
                ..Machine::default()
            };
            2
        ],
        services: vec![Service::default()],
        processes: vec![
            Process {
                needs: vec![3],
                ..Process::default()
            };
            2
        ],
        ..Problem::default()
    };
    assert!(Model::new(&good, &[0, 1]).is_ok());
    let says = |change: &dyn Fn(&mut Problem), assignment: &[u32]| {
        let mut problem = good.clone();
        change(&mut problem);
        Model::new(&problem, assignment)
            .expect_err("it makes no sense")
            .to_string()
    };
    let texts = [
        says(&|_| (), &[0, 0]),
        says(&|_| (), &[0]),
        says(&|_| (), &[0, 2]),
        says(&|p| p.machines[1].capacity[0] = 2, &[0, 1]),
        says(&|p| p.machines[1].safety.clear(), &[0, 1]),
        says(&|p| p.machine_moves.push(1), &[0, 1]),
        says(&|p| p.processes[1].needs[0] = -1, &[0, 1]),
        says(&|p| p.processes[1].service = 1, &[0, 1]),
        says(&|p| p.services[0].depends_on.push(4), &[0, 1]),
        says(&|p| p.services[0].spread_min = 2, &[0, 1]),
        says(&|p| p.resources[0].load_weight = i64::MAX / 2, &[0, 1]),
    ];
    assert_eq!(
        texts,
        [
            "the assignment to start from is not allowed: service 0 runs twice on machine 0",
            "assignment 0 has 1 entries in machines, not 2",
            "process 1 names machine 2; there are 2, counted from 0",
            "the assignment to start from is not allowed: machine 1 uses 3 of resource 0 and has 2",
            "machine 1 has 0 entries in safety, not 1",
            "model 0 has 1 entries in machine moves, not 4",
            "process 1 has a negative need; amounts, costs and weights are from 0",
            "process 1 names service 1; there are 1, counted from 0",
            "service 0 names service 4; there are 1, counted from 0",
            "the assignment to start from is not allowed: service 0 runs in 1 locations and needs 2",
            "the largest possible cost is 2^61 or more; scale amounts or weights down",
        ]
    );
}

//! A small cluster, made up: some machines too full, others nearly empty.

use orchestra_sched::rebalance::{Balance, Machine, Problem, Process, Resource, Service, Weights};
use orchestra_sched::rng::PlanRng;
use rand::Rng as _;

const MACHINES: u32 = 24;
const SERVICES: u32 = 120;
const PROCESSES: u32 = 400;

/// A problem and the assignment to start from.
pub(crate) fn cluster(seed: u64) -> (Problem, Vec<u32>) {
    let mut rng = PlanRng::new(seed).stream("reassign-example");
    let mut draw = |from: i64, to: i64| from + (rng.next_u64() % (to - from) as u64) as i64;
    let machines = (0..MACHINES).map(|m| Machine {
        neighbourhood: m % 2,
        location: m % 6,
        capacity: vec![160_000, 800_000, 200_000],
        safety: vec![60_000, 280_000, 200_000],
    });
    let services = (0..SERVICES).map(|s| Service {
        spread_min: u32::from(s % 3 == 0) + 1,
        depends_on: Vec::new(),
    });
    // The first half of the machines gets most of them; those of one service lie side by side.
    let mut assignment = Vec::new();
    let mut processes = Vec::new();
    for p in 0..PROCESSES {
        let half = MACHINES / 2;
        let first = if p % 4 == 3 { half } else { 0 };
        assignment.push(first + (p / 2 + p / SERVICES) % half);
        processes.push(Process {
            service: p % SERVICES,
            needs: vec![draw(500, 5_000), draw(2_000, 25_000), draw(0, 4_000)],
            move_cost: draw(1, 10),
        });
    }
    let problem = Problem {
        resources: [(false, 100), (false, 10), (true, 10)]
            .map(|(transient, load_weight)| Resource {
                transient,
                load_weight,
            })
            .into(),
        machines: machines.collect(),
        services: services.collect(),
        processes,
        balances: vec![Balance {
            first: 0,
            second: 1,
            target: 2,
            weight: 1,
        }],
        machine_moves: (0..MACHINES * MACHINES)
            .map(|way| u32::from(way / MACHINES != way % MACHINES))
            .collect(),
        weights: Weights {
            process_move: 1,
            service_move: 10,
            machine_move: 100,
        },
        moves_max: None,
    };
    (problem, assignment)
}

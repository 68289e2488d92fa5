//! Clusters, made up: some machines too full, others nearly empty.
//!
//! They are drawn so as the challenge's look: needs spread over a thousandfold, alike in all resources of a
//! process; some services with many processes, which depend on each other, and many with one.

use clap::Args;
use orchestra_sched::rebalance::{Balance, Machine, Problem, Process, Resource, Service, Weights};
use orchestra_sched::rng::PlanRng;
use rand::Rng;

/// How large a made-up cluster is.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Size {
    /// Machines of a made-up cluster.
    #[arg(long, default_value_t = 24, conflicts_with = "model", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    machines: u32,
    /// Processes of a made-up cluster.
    #[arg(long, default_value_t = 400, conflicts_with = "model", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    processes: u32,
    /// Resources of a made-up cluster.
    #[arg(long, default_value_t = 3, conflicts_with = "model", value_parser = clap::value_parser!(u32).range(1..=100))]
    resources: u32,
    /// How many of them are transient: the last ones.
    #[arg(long, default_value_t = 1, conflicts_with = "model")]
    transient: u32,
    /// Locations of a made-up cluster. So many processes a service has at most.
    #[arg(long, default_value_t = 6, conflicts_with = "model", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    locations: u32,
    /// Dependencies between services of a made-up cluster, if so many can be found.
    #[arg(long, default_value_t = 40, conflicts_with = "model", value_parser = clap::value_parser!(u32).range(..=10_000_000))]
    dependencies: u32,
}

const NEIGHBOURHOODS: u32 = 5;

/// How many services have more than one process, at most.
const LARGE_MAX: u32 = 1_000;

struct Chance(Box<dyn Rng>);

impl Chance {
    /// A number from `from` to before `to`, which is larger.
    fn draw(&mut self, from: i64, to: i64) -> i64 {
        from + (self.0.next_u64() % (to - from) as u64) as i64
    }

    fn below(&mut self, n: usize) -> usize {
        self.draw(0, n.max(1) as i64) as usize
    }

    /// 1,000 to 1,000,000 or so, as often below 32,000 as above.
    fn amount(&mut self) -> i64 {
        (self.draw(1_000, 2_000)) << self.draw(0, 10)
    }
}

/// A problem and the assignment to start from.
pub(crate) fn cluster(size: Size, seed: u64) -> (Problem, Vec<u32>) {
    let chance = &mut Chance(Box::new(PlanRng::new(seed).stream("reassign-example")));
    let resources = size.resources as usize;
    let places: Vec<(u32, u32)> = (0..size.machines)
        .map(|m| (m % NEIGHBOURHOODS, m / NEIGHBOURHOODS % size.locations))
        .collect();

    let of_service = services(size, chance);
    let mut assignment = Vec::with_capacity(size.processes as usize);
    let mut processes = Vec::with_capacity(size.processes as usize);
    for (service, &count) in of_service.iter().enumerate() {
        let first = assignment.len();
        for _ in 0..count {
            let mut machine = chance.below(places.len()) as u32;
            while assignment[first..].contains(&machine) {
                machine = (machine + 1) % size.machines;
            }
            assignment.push(machine);
            let amount = chance.amount();
            processes.push(Process {
                service: service as u32,
                // From half of it to twice as much.
                needs: (0..resources)
                    .map(|_| (amount * chance.draw(512, 1_024)) >> chance.draw(9, 11))
                    .collect(),
                move_cost: 1,
            });
        }
    }

    let mut used = vec![vec![0; resources]; places.len()];
    let mut all = vec![0; resources];
    for (process, &machine) in processes.iter().zip(&assignment) {
        let used = used[machine as usize].iter_mut().zip(&mut all);
        for ((used, all), need) in used.zip(&process.needs) {
            *used += need;
            *all += need;
        }
    }
    let machines = (places.iter().zip(&used))
        .map(|(&(neighbourhood, location), used)| {
            let spare = chance.draw(0, 30);
            let capacity: Vec<i64> = (used.iter().zip(&all))
                .map(|(used, all)| {
                    let common = all / i64::from(size.machines);
                    used + (used * spare + common * chance.draw(0, 10)) / 100
                })
                .collect();
            let safety = capacity.iter().map(|c| c * chance.draw(80, 95) / 100);
            Machine {
                neighbourhood,
                location,
                safety: safety.collect(),
                capacity,
            }
        })
        .collect();
    let way = |(a, b): ((u32, u32), (u32, u32))| match (a.0 == b.0, a.1 == b.1) {
        (_, true) => 0,
        (true, _) => 1,
        _ => 2,
    };
    let problem = Problem {
        resources: (0..size.resources)
            .map(|r| Resource {
                transient: r + size.transient >= size.resources,
                load_weight: 10,
            })
            .collect(),
        machines,
        services: rules(size, &of_service, &assignment, &places, chance),
        processes,
        balances: match resources {
            1 => Vec::new(),
            _ => vec![Balance {
                first: 0,
                second: 1,
                target: 2,
                weight: 10,
            }],
        },
        machine_moves: (places.iter())
            .flat_map(|&a| places.iter().map(move |&b| way((a, b))))
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

/// How many processes each service has: first those with many.
fn services(size: Size, chance: &mut Chance) -> Vec<u32> {
    let count_max = size.locations.min(size.machines);
    let mut left = size.processes;
    let mut counts = Vec::new();
    while count_max > 1
        && (counts.len() as u32) < LARGE_MAX.min(size.processes / 10)
        && left > size.processes / 20 + count_max
    {
        counts.push(chance.draw(2, i64::from(count_max) + 1) as u32);
        left -= counts[counts.len() - 1];
    }
    counts.extend((0..left).map(|_| 1));
    counts
}

/// What the services ask for, so that the assignment grants it.
fn rules(
    size: Size,
    of_service: &[u32],
    assignment: &[u32],
    places: &[(u32, u32)],
    chance: &mut Chance,
) -> Vec<Service> {
    let mut first = 0;
    let mut found = Vec::new();
    let mut services = Vec::new();
    for &count in of_service {
        let machines = &assignment[first..first + count as usize];
        first += count as usize;
        let of = |name: fn(&(u32, u32)) -> u32| {
            let mut names: Vec<u32> = (machines.iter())
                .map(|&m| name(&places[m as usize]))
                .collect();
            names.sort_unstable();
            names.dedup();
            names
        };
        services.push(Service {
            spread_min: chance.below(of(|place| place.1).len()) as u32,
            depends_on: Vec::new(),
        });
        found.push(of(|place| place.0));
    }
    let large = of_service.partition_point(|&count| count > 1);
    let mut tries = u64::from(size.dependencies) * 20;
    let mut wanted = size.dependencies;
    while large > 1 && wanted > 0 && tries > 0 {
        tries -= 1;
        let service = 1 + chance.below(large - 1);
        let other = chance.below(service);
        let depends_on = &mut services[service].depends_on;
        if found[service]
            .iter()
            .all(|hood| found[other].contains(hood))
            && !depends_on.contains(&(other as u32))
        {
            depends_on.push(other as u32);
            wanted -= 1;
        }
    }
    services
}

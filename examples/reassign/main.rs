//! Plays an instance of the ROADEF/EURO challenge 2012, machine reassignment, with the rebalancer:
//!
//! ```text
//! cargo run --release --example reassign -- MODEL ASSIGNMENT --seconds 300 --out NEW
//! ```
//!
//! `MODEL` and `ASSIGNMENT` are in the challenge's formats; without them a small cluster is made up.
//! The library knows no clock; this program holds it, and some threads, each of which searches as often as
//! the time allows.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod generate;
mod roadef;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use clap::Parser;
use orchestra_examples::files::{Output, read_text};
use orchestra_sched::rebalance::{Model, PROGRESS_DONE, Problem, Search, Variant};
use orchestra_sched::rng::PlanRng;

/// What `--help` says of the files.
const FORMAT: &str = "\
The format is that of the ROADEF/EURO challenge 2012 (https://www.roadef.org/challenge/2012/): whole numbers
between spaces and line ends, in this order. How many resources; of each, whether it is transient (0, 1) and the
weight of its load. How many machines; of each, neighbourhood, location, the capacity and then the safety capacity
of every resource, and the cost of a move from it to every machine. How many services; of each, over how many
locations it spreads at least, and how many services it depends on and which. How many processes; of each, its
service, what it needs of every resource, and the cost of moving it. How many balances; of each, two resources,
target and weight. The weights of process, service and machine moves. --save writes an example.";

/// Moves processes between machines so that everything costs less.
#[derive(Debug, Parser)]
#[command(after_help = FORMAT)]
struct Args {
    /// The machines, services and processes, in the format below. Left out: a small cluster is made up.
    #[arg(requires = "assignment")]
    model: Option<PathBuf>,
    /// Which machine each process runs on now: one number a process, the first machine is 0.
    assignment: Option<PathBuf>,
    /// How long it may take, reading and writing included, in seconds.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Where chance begins. Every search has a seed of its own from there on.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many searches run side by side, 1 to 256.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=256))]
    threads: u64,
    /// How many processes may move. Left out: any number.
    #[arg(long)]
    moves: Option<u32>,
    /// The file to write the new assignment to.
    #[arg(long)]
    out: Option<PathBuf>,
    #[command(flatten)]
    size: generate::Size,
    /// Writes the made-up cluster to two files of this name, which end in `.model` and `.assignment`.
    #[arg(long, conflicts_with = "model")]
    save: Option<PathBuf>,
}

/// The cheapest assignment that any thread found.
#[derive(Debug)]
struct Best {
    cost: i64,
    assignment: Vec<u32>,
}

fn main() -> ExitCode {
    orchestra_examples::end_with_the_reader();
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let started = Instant::now();
    let limit = Duration::try_from_secs_f64(args.seconds)
        .map_err(|_| "--seconds must be a number from 0")?;
    // So that the answer is checked and written when the time is up.
    let limit = limit - limit / LEFT_FOR_THE_END;
    // Not after the search that a folder is missing.
    let output = args.out.as_ref().map(Output::open).transpose()?;
    let (mut problem, assignment) = load(args)?;
    problem.moves_max = args.moves;
    let model = Model::new(&problem, &assignment)?;
    drop(problem);
    let before = model.cost(&assignment);
    println!(
        "{} processes on {} machines cost {}, at least {}; read in {:.1} s",
        model.processes(),
        model.machines(),
        before.total(),
        model.lower_bound(),
        started.elapsed().as_secs_f64()
    );

    let best = Mutex::new(Best {
        cost: before.total(),
        assignment,
    });
    let threads = args.threads;
    let rounds = rounds(&model, limit.saturating_sub(started.elapsed()));
    std::thread::scope(|scope| {
        for nth in 0..threads {
            let (model, best, begun) = (&model, &best, started.elapsed());
            scope.spawn(move || {
                for round in 0..rounds {
                    let until = begun + limit.saturating_sub(begun) * (round + 1) / rounds;
                    let nth = nth + threads * u64::from(round);
                    search(model, args.seed, nth, started, until, best);
                }
            });
        }
    });
    let best = best.into_inner()?;
    let broken = model.violations(&best.assignment);
    if let Some(first) = broken.first() {
        return Err(format!("the answer is not allowed: {first}").into());
    }
    let cost = model.cost(&best.assignment);
    println!("{cost}");
    println!(
        "{:.2} % cheaper in {:.1} s",
        100.0 * (before.total() - cost.total()) as f64 / before.total().max(1) as f64,
        started.elapsed().as_secs_f64()
    );
    if let Some(output) = output {
        output.write(&roadef::assignment_text(&best.assignment))?;
    }
    Ok(())
}

fn load(args: &Args) -> Result<(Problem, Vec<u32>), Box<dyn Error>> {
    let (Some(model), Some(assignment)) = (&args.model, &args.assignment) else {
        let (problem, now) = generate::cluster(args.size, args.seed);
        if let Some(path) = &args.save {
            let open = |end| Output::open(path.with_added_extension(end));
            open("model")?.write(&roadef::problem_text(&problem))?;
            open("assignment")?.write(&roadef::assignment_text(&now))?;
        }
        return Ok((problem, now));
    };
    let problem = roadef::problem(&read_text(model)?).map_err(|e| about(model, &e))?;
    let now = roadef::assignment(&read_text(assignment)?, problem.processes.len())
        .map_err(|e| about(assignment, &e))?;
    Ok((problem, now))
}

fn about(path: &Path, error: &dyn Error) -> String {
    format!("{}: {error}", path.display())
}

/// This part of the time is not spent on searching.
const LEFT_FOR_THE_END: u32 = 100;

/// So much time one search gets for each process. With much less it cools too fast.
const SEARCH_PER_PROCESS: Duration = Duration::from_millis(6);

/// How many searches a thread makes one after the other at most.
const ROUNDS_MAX: u32 = 8;

/// How many searches a thread has time for. More than one, each by other chance, finds more than one that
/// cools more slowly: where resources are transient a search hardly takes back what it decided early.
fn rounds(model: &Model, time: Duration) -> u32 {
    let processes = u32::try_from(model.processes()).unwrap_or(u32::MAX);
    let one = SEARCH_PER_PROCESS.saturating_mul(processes.max(1));
    let fit = time.as_micros() / one.as_micros().max(1);
    u32::try_from(fit).unwrap_or(u32::MAX).clamp(1, ROUNDS_MAX)
}

/// The `nth` search, until the time is up.
fn search(
    model: &Model,
    seed: u64,
    nth: u64,
    started: Instant,
    limit: Duration,
    best: &Mutex<Best>,
) {
    let seed = seed + nth;
    let begun = started.elapsed();
    let left = limit.saturating_sub(begun).as_secs_f64();
    let mut search = Search::with(model, PlanRng::new(seed), Variant::nth(model, nth));
    let (mut report, mut steps) = (begun, 1_000);
    loop {
        let now = started.elapsed();
        if now >= limit {
            break;
        }
        let share = (now - begun).as_secs_f64() / left;
        search.set_progress((share * f64::from(PROGRESS_DONE)) as u32);
        search.advance(steps);
        // About a hundredth of a second a time, so that the end is met.
        let took = (started.elapsed() - now).as_secs_f64();
        steps = ((steps as f64 * (0.01 / took.max(1e-6)).clamp(0.5, 2.0)) as u64).max(100);
        if started.elapsed() >= report {
            println!(
                "{:>6.1} s  seed {seed}  best {:>14}  at {:>14}  {:>7.1} M steps",
                started.elapsed().as_secs_f64(),
                search.best_cost(),
                search.cost(),
                search.steps() as f64 / 1e6
            );
            report += (limit / 20).max(Duration::from_millis(500));
        }
    }
    let mut best = best.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if search.best_cost() < best.cost {
        best.cost = search.best_cost();
        best.assignment = search.best();
    }
}

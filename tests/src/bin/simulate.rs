//! Runs simulated clusters through trouble drawn from seeds.
//!
//! ```sh
//! cargo run --release -p orchestra-tests --bin simulate -- --seed 7
//! cargo run --release -p orchestra-tests --bin simulate -- --seeds 0..1000 --quiet
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::fs::File;
use std::io::BufWriter;
use std::ops::Range;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use orchestra_runtime::sim::{Chaos, Sim};

const USAGE: &str = "\
usage: simulate (--seed N | --seeds A..B) [--nodes N] [--hours H] [--history FILE] [--quiet]

  --seed N        one run, with all chance from this seed
  --seeds A..B    one run for each seed from A up to, not including, B
  --nodes N       machines at the start (5)
  --hours H       hours of trouble in the cluster's own time (6)
  --history FILE  writes a line for each change and each fault; with several seeds, of the last run
  --quiet         prints only violations and the closing line

Exits with 1 if an invariant was broken in any run, and says how to replay it.";

struct Options {
    seeds: Range<u64>,
    nodes: u32,
    hours: u64,
    history: Option<String>,
    quiet: bool,
}

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("simulate: {why}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let began = Instant::now();
    let runs = options.seeds.end - options.seeds.start;
    let mut broken = 0_u64;
    for seed in options.seeds.clone() {
        let run = Instant::now();
        let mut sim = Sim::seed(seed).nodes(options.nodes);
        if let Some(path) = &options.history {
            match File::create(path) {
                Ok(file) => sim = sim.history(BufWriter::new(file)),
                Err(error) => {
                    eprintln!("simulate: {path} cannot be written: {error}");
                    return ExitCode::from(2);
                }
            }
        }
        let chaos = Chaos::sized(options.nodes, Duration::from_secs(options.hours * 3_600));
        match sim.random(chaos) {
            Ok(report) if options.quiet => drop(report),
            Ok(report) => println!("{report}, {:.2} s", run.elapsed().as_secs_f64()),
            Err(failure) => {
                broken += 1;
                println!("{failure}\n");
            }
        }
    }
    let took = began.elapsed().as_secs_f64();
    println!("{runs} runs, {broken} broken, {took:.1} s");
    if broken == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// `None` if help was asked for.
fn options(mut args: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let mut options = Options {
        seeds: 0..0,
        nodes: 5,
        hours: 6,
        history: None,
        quiet: false,
    };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--seed" => {
                let seed = number(&value()?)?;
                options.seeds = seed..seed.saturating_add(1);
            }
            "--seeds" => {
                let text = value()?;
                let (from, to) = text
                    .split_once("..")
                    .ok_or_else(|| format!("{text:?} is no range; write it like 0..100"))?;
                options.seeds = number(from)?..number(to)?;
            }
            "--nodes" => {
                let nodes = number(&value()?)?;
                options.nodes = u32::try_from(nodes)
                    .ok()
                    .filter(|nodes| (1..=1_000).contains(nodes))
                    .ok_or_else(|| format!("{nodes} nodes; give 1 to 1000"))?;
            }
            "--hours" => {
                let hours = number(&value()?)?;
                if hours > 24 * 365 {
                    return Err(format!("{hours} hours; give at most {}", 24 * 365));
                }
                options.hours = hours;
            }
            "--history" => options.history = Some(value()?),
            "--quiet" => options.quiet = true,
            "--help" | "-h" => return Ok(None),
            other => return Err(format!("what is {other:?}?")),
        }
    }
    if options.seeds.is_empty() {
        return Err("give --seed N, or --seeds A..B with A below B".to_owned());
    }
    Ok(Some(options))
}

fn number(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is not a number"))
}

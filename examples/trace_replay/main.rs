//! Plays a workload trace one arrival at a time and says how well each policy packs accelerators.
//!
//! ```text
//! cargo run --release --example trace_replay -- --nodes N.csv --pods P.csv --workload W.csv \
//!     --policy orchestra,fgd --out placement.csv [--tie-rank T.csv] [--plot out.svg]
//! ```
//!
//! Without files it plays a small trace that it makes up. `--policy` takes what `--help` lists, among them
//! `most-cpu`, which `plugin.rs` adds to show how. With several, placements go to `placement-POLICY.csv`.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod plot;
mod plugin;

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use orchestra_examples::files::{Output, read_text};
use orchestra_sched::trace::{Outcome, Policies, Trace, play};

/// Loads at which the summary looks, in percent of all devices.
const LOADS: [u32; 3] = [100, 120, 130];

/// Plays a workload trace with one or several packing policies.
#[derive(Debug, Parser)]
struct Args {
    /// The nodes: sn, cpu_milli, memory_mib, gpu, model.
    #[arg(long, requires = "pods")]
    nodes: Option<PathBuf>,
    /// The pods, first come first: name, cpu_milli, memory_mib, num_gpu, gpu_milli, gpu_spec.
    #[arg(long, requires = "nodes")]
    pods: Option<PathBuf>,
    /// Pods such as are to be expected, in the same columns. Without it orchestra learns from what comes alone;
    /// fgd, and the measure of fragments, go by the mix of --pods.
    #[arg(long, requires = "pods")]
    workload: Option<PathBuf>,
    /// Which node wins among equals: sn, tie_rank, lowest first.
    #[arg(long, requires = "pods")]
    tie_rank: Option<PathBuf>,
    // Its help is made of what there is.
    #[arg(
        long,
        help = policies_help(),
        value_delimiter = ',',
        default_value = "orchestra,fgd,first-fit,best-fit,dot-product,random"
    )]
    policy: Vec<String>,
    /// Where to write what went where: pod, node, gpus. With several policies each has a file of its
    /// own: for fgd, `placement.csv` becomes `placement-fgd.csv`.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Where to draw allocation and fragmentation against the load that came, as SVG.
    #[arg(long)]
    plot: Option<PathBuf>,
    /// What settles what the trace leaves open.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    orchestra_examples::end_with_the_reader();
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("trace_replay: {error}");
            ExitCode::FAILURE
        }
    }
}

fn policies() -> Policies {
    Policies::known().with("most-cpu", plugin::most_cpu)
}

fn policies_help() -> String {
    let all = policies();
    let all: Vec<&str> = all.names().collect();
    format!(
        "Which policies, several with commas or by saying it again: {}",
        all.join(", ")
    )
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let trace = load(args)?;
    let policies = policies();
    // A name that is not known is told before anything is played.
    for name in &args.policy {
        if !policies.names().any(|known| known == name) {
            policies.make(name, &trace)?;
        }
    }
    // And so is where nothing can be written.
    let mut outputs = Vec::new();
    for name in &args.policy {
        outputs.push(match &args.out {
            Some(out) if args.policy.len() > 1 => Some(Output::open(beside(out, name))?),
            Some(out) => Some(Output::open(out)?),
            None => None,
        });
    }
    let chart = args.plot.as_ref().map(Output::open).transpose()?;
    let mut outcomes = Vec::new();
    for (name, output) in args.policy.iter().zip(outputs) {
        let began = Instant::now();
        let policy = policies.make(name, &trace)?;
        let bar = progress(name, trace.pods.len());
        let outcome = play(&trace, &policy, args.seed, |seen| {
            if seen % 64 == 0 {
                bar.set_position(seen as u64);
            }
        });
        bar.finish_and_clear();
        println!("{}", summary(&outcome, began.elapsed().as_secs_f64()));
        if let Some(output) = output {
            let path = output.path().to_owned();
            output.write(&placement(&trace, &outcome))?;
            println!("{:>15}  written to {}", "", path.display());
        }
        for fault in &outcome.faults {
            let (plugin, note, pod) = (fault.plugin, &fault.note, &fault.pod.key.name);
            println!("{:>15}  {plugin}: {note} (first for pod {pod})", "");
        }
        outcomes.push(outcome);
    }
    if let Some(chart) = chart {
        let path = chart.path().to_owned();
        chart.write(&plot::draw(&outcomes)?)?;
        println!("drawn to {}", path.display());
    }
    Ok(())
}

fn load(args: &Args) -> Result<Trace, Box<dyn Error>> {
    let (Some(nodes), Some(pods)) = (&args.nodes, &args.pods) else {
        println!("no --nodes and --pods: playing a small trace that is made up");
        return Ok(Trace::generated(args.seed));
    };
    let mut trace = Trace::openb(&read_text(nodes)?, &read_text(pods)?).map_err(|error| {
        let of_nodes = error.table == Trace::NODES;
        at(if of_nodes { nodes } else { pods }, error)
    })?;
    if let Some(path) = &args.workload {
        let workload = read_text(path)?;
        trace = trace.with_workload(&workload).map_err(|e| at(path, e))?;
    }
    if let Some(path) = &args.tie_rank {
        let ranks = read_text(path)?;
        trace = trace.with_ranks(&ranks).map_err(|e| at(path, e))?;
    }
    println!(
        "{} nodes with {} devices, {} pods",
        trace.nodes.len(),
        trace.device_milli() / 1_000,
        trace.pods.len()
    );
    Ok(trace)
}

fn at(path: &Path, error: impl Error) -> String {
    format!("{}: {error}", path.display())
}

fn progress(name: &str, pods: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:>15} {wide_bar} {pos}/{len} {eta}");
    let bar = ProgressBar::new(pods as u64).with_prefix(name.to_owned());
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// One line: what was in use and in fragments at each load, and who found no node.
fn summary(outcome: &Outcome, seconds: f64) -> String {
    let mut line = format!("{:>15}", outcome.policy);
    if outcome.capacity_milli == 0 {
        line += "  no node has a device;";
    }
    let loads = LOADS.iter().filter(|_| outcome.capacity_milli > 0);
    for &load in loads {
        if let (Some(used), Some(fragment)) =
            (outcome.allocated_at(load), outcome.fragmented_at(load))
        {
            let _ = write!(
                line,
                "  at {load} %: {used:.2} used, {fragment:.2} in fragments;"
            );
        }
    }
    if let Some(last) = outcome.points.last()
        && outcome.capacity_milli > 0
    {
        let _ = write!(
            line,
            "  at the end ({:.0} %): {:.2} used;",
            outcome.load_percent(last),
            outcome.used_percent(last)
        );
    }
    let no = outcome.unplaced;
    let _ = write!(
        line,
        "  {} unplaced ({} cpu, {} share, {} one, {} several), {} spurned, {seconds:.1} s",
        no.total(),
        no.cpu,
        no.share,
        no.one,
        no.several,
        outcome.spurned
    );
    line
}

/// One row a pod, in the order of the trace.
fn placement(trace: &Trace, outcome: &Outcome) -> String {
    let mut text = String::from("pod,node,gpus\n");
    for (pod, place) in trace.pods.iter().zip(&outcome.places) {
        let _ = match place {
            Some(place) => writeln!(text, "{},{},{}", pod.name, place.node, place.devices),
            None => writeln!(text, "{},unscheduled,", pod.name),
        };
    }
    text
}

/// `placement.csv` for `fgd` is `placement-fgd.csv`.
fn beside(path: &Path, name: &str) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let end = path
        .extension()
        .map(|end| format!(".{}", end.to_string_lossy()));
    path.with_file_name(format!("{stem}-{name}{}", end.unwrap_or_default()))
}

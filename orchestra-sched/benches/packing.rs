//! How well each policy packs the openb traces, and how fast.
//!
//! ```text
//! cargo bench -p orchestra-sched --features trace --bench packing -- FOLDER [POLICY,POLICY …] [FAMILY]
//! ```
//!
//! `FOLDER` holds `nodes/openb_node_list_gpu_node.csv`, `arrivals/FAMILY_sSEED.csv` and, if it has them,
//! `base/openb_pod_list_FAMILY.csv` and `nodes/tie_rank_FAMILY_sSEED.csv`. Without a folder it plays a small
//! trace that it makes up. Where the folder has `published_alloc.csv` and `published_frag.csv` too, each line
//! ends with how far its curves are from the published ones at most, at any load from 0 to 130 %; what was
//! published is rounded to 0.01.
//! Not a timed test: the figures are how full the devices got.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Instant;

use orchestra_sched::trace::{Outcome, Policies, Trace, play};

const ALL: &str = "best-fit,dot-product,fgd,first-fit,orchestra";

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with("--"))
        .collect();
    let names = args.get(1).map_or(ALL, String::as_str);
    let names: Vec<&str> = names.split(',').collect();
    let folder = args.first().map(Path::new);
    let published = ["published_alloc.csv", "published_frag.csv"]
        .map(|file| folder.and_then(|folder| fs::read_to_string(folder.join(file)).ok()));
    let mut means: BTreeMap<(String, &str), Vec<[f64; 4]>> = BTreeMap::new();
    for (family, set, trace) in traces(folder, args.get(2)) {
        for name in &names {
            let policy = Policies::known().make(name, &trace).unwrap();
            let began = Instant::now();
            let outcome = play(&trace, &policy, 1, |_| {});
            let micros = began.elapsed().as_micros() / trace.pods.len().max(1) as u128;
            let used = |load| outcome.allocated_at(load).unwrap_or_default();
            let fragments = |load| outcome.fragmented_at(load).unwrap_or_default();
            let figures = [used(100), used(130), fragments(100), fragments(130)];
            let off = |at: usize, figure: fn(&Outcome, u32) -> Option<f64>| {
                let table = published[at].as_deref()?;
                furthest(table, &set, name, |load| figure(&outcome, load))
            };
            let off = off(0, Outcome::allocated_at).zip(off(1, Outcome::fragmented_at));
            let off = off.map_or_else(String::new, |(used, fragments)| {
                format!("  off the published {used:.4} {fragments:.4}")
            });
            println!(
                "{set:16} {name:15} used {:.2} {:.2}  fragments {:.2} {:.2}  spurned {}  {micros} us a pod{off}",
                figures[0], figures[1], figures[2], figures[3], outcome.spurned
            );
            means
                .entry((family.clone(), name))
                .or_default()
                .push(figures);
        }
    }
    for ((family, name), sets) in means {
        let mean = |at: usize| sets.iter().map(|set| set[at]).sum::<f64>() / sets.len() as f64;
        println!(
            "mean of {:2} {family:14} {name:15} used {:.2} {:.2}  fragments {:.2} {:.2}",
            sets.len(),
            mean(0),
            mean(1),
            mean(2),
            mean(3)
        );
    }
}

/// How far a curve is from the published one at most; `None` if none was published.
fn furthest(
    table: &str,
    set: &str,
    policy: &str,
    figure: impl Fn(u32) -> Option<f64>,
) -> Option<f64> {
    let policy = match policy {
        "dot-product" => "02-DotProd",
        "gpu-clustering" => "03-GpuClustering",
        "gpu-packing" => "04-GpuPacking",
        "best-fit" => "05-BestFit",
        "fgd" => "06-FGD",
        _ => return None,
    };
    let (family, seed) = set.rsplit_once("_s")?;
    let of_set = format!("openb_pod_list_{family},{policy},");
    let mut lines = table.lines();
    let columns: Vec<&str> = lines.next()?.split(',').collect();
    let column = columns.iter().position(|column| *column == "seed")?;
    let row = lines
        .filter(|line| line.starts_with(&of_set))
        .map(|line| line.split(',').collect::<Vec<_>>())
        .find(|row| row.get(column) == Some(&seed))?;
    let off = columns.iter().zip(row).filter_map(|(load, published)| {
        let ours = figure(load.parse().ok()?)?;
        let published: f64 = published.parse().ok()?;
        Some((ours - published).abs())
    });
    Some(off.fold(0.0, f64::max))
}

/// Every set of the folder, by name: its family, its name and the trace.
fn traces(folder: Option<&Path>, only: Option<&String>) -> Vec<(String, String, Trace)> {
    let Some(folder) = folder else {
        return vec![("made up".into(), "made up".into(), Trace::generated(1))];
    };
    let read = |path: String| fs::read_to_string(folder.join(path));
    let files = fs::read_dir(folder.join("arrivals")).unwrap();
    let mut sets: Vec<String> = files
        .filter_map(|file| Some(file.ok()?.path().file_stem()?.to_str()?.to_owned()))
        .filter(|set| only.is_none_or(|only| set.starts_with(only.as_str())))
        .collect();
    sets.sort();
    let nodes = read("nodes/openb_node_list_gpu_node.csv".into()).unwrap();
    let load = |set: String| {
        let family = set
            .rsplit_once("_s")
            .map_or(&*set, |(family, _)| family)
            .to_owned();
        let pods = read(format!("arrivals/{set}.csv")).unwrap();
        let mut trace = Trace::openb(&nodes, &pods).unwrap();
        if let Ok(workload) = read(format!("base/openb_pod_list_{family}.csv")) {
            trace = trace.with_workload(&workload).unwrap();
        }
        if let Ok(ranks) = read(format!("nodes/tie_rank_{set}.csv")) {
            trace = trace.with_ranks(&ranks).unwrap();
        }
        (family, set, trace)
    };
    sets.into_iter().map(load).collect()
}

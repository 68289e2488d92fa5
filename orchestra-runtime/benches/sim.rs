//! What a quiet day of a simulated cluster costs. Run with
//!
//! ```text
//! cargo bench -p orchestra-runtime --features sim --bench sim
//! ```
//!
//! 100 nodes and 1,000 pods of one deployment behind a service live a day in which nothing happens:
//! once without probes, once with a readiness and a liveness probe on every pod. Days of trouble are
//! `simulate`'s, in `tests/`.

#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use std::time::{Duration, Instant};

use orchestra_runtime::prelude::*;
use orchestra_runtime::sim::Sim;

const DAY: Duration = Duration::from_hours(24);

fn main() {
    quiet("without probes", |container| container);
    quiet("with two probes on every pod", |container| {
        container
            .readiness(Probe::tcp(8080).period(10))
            .liveness(Probe::tcp(8080).period(10))
    });
}

fn quiet(what: &str, probed: impl Fn(Container) -> Container) {
    let begun = Instant::now();
    let cpu = cpu_seconds();
    let report = Sim::seed(1)
        .nodes(100)
        .run(async |sim| {
            let container = Container::new("web", "web").cpu_milli(100).port(8080);
            let deployment = Deployment::new("web")
                .replicas(1_000)
                .container(probed(container));
            sim.apply(deployment).await?;
            sim.apply(Service::new("web").selector("app", "web").port(80, 8080))
                .await?;
            sim.settle().await?;
            sim.still(DAY).await?;
            Ok(())
        })
        .unwrap();
    let cpu = cpu.zip(cpu_seconds()).map_or(0.0, |(a, b)| b - a);
    println!(
        "a quiet day of 100 nodes and 1,000 pods {what}: {:.2?}, {cpu:.2} s of CPU, {} commits",
        begun.elapsed(),
        report.commits
    );
}

/// User and system time of this process so far.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(ticks / 100.0)
}

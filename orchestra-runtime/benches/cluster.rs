//! What a whole orchestra costs. Run with
//!
//! ```text
//! cargo bench -p orchestra-runtime --bench cluster             # everything
//! cargo bench -p orchestra-runtime --bench cluster -- start idle kill scale large
//! cargo bench -p orchestra-runtime --bench cluster -- large 1000 5000   # so many pods
//! ```
//!
//! * `start`: from the builder to the first pod ready, under the task driver.
//! * `idle`: CPU share and resident memory of an orchestra with nothing to do (Linux only).
//! * `kill`: from the SIGKILL of a process pod to its next start.
//! * `scale`: 10,000 pods on 1,000 simulated nodes, from `apply` to all ready, in real time on two
//!   threads.
//! * `large`: the CPU time of a pod at 1,000, 10,000 and 100,000 pods, or at so many as are named:
//!   the median of several runs.

#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use orchestra_runtime::driver::sim::{SimDriver, SimScript};
use orchestra_runtime::prelude::*;

fn main() {
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .collect();
    let wanted = |name: &str| asked.is_empty() || asked.iter().any(|word| word == name);
    if wanted("start") {
        block_on(1, start());
    }
    if wanted("idle") {
        block_on(1, idle());
    }
    if wanted("kill") {
        block_on(1, kill());
    }
    if wanted("scale") {
        tell(10_000, vec![block_on(2, scale(10_000, 1_000))]);
    }
    if wanted("large") {
        let mut sizes: Vec<u32> = asked.iter().filter_map(|word| word.parse().ok()).collect();
        if sizes.is_empty() {
            sizes = vec![1_000, 10_000, 100_000];
        }
        for pods in sizes {
            // What takes long is measured once.
            let runs = (20_000 / pods.max(1)).clamp(1, 15);
            let took = (0..runs).map(|_| block_on(2, scale(pods, pods.div_ceil(10))));
            tell(pods, took.collect());
        }
    }
}

fn block_on<F: Future>(threads: usize, future: F) -> F::Output {
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        n => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(n);
            builder
        }
    };
    builder.enable_all().build().unwrap().block_on(future)
}

async fn start() {
    const RUNS: usize = 20;
    let mut took = Vec::new();
    for _ in 0..RUNS {
        let begun = Instant::now();
        let orchestra = Orchestra::builder()
            .task("rest", |task: TaskContext| async move {
                task.stopping().await;
                Ok(())
            })
            .start()
            .await
            .unwrap();
        orchestra
            .apply(Pod::builder("first").container(Container::new("rest", "rest")))
            .await
            .unwrap();
        orchestra.ready::<Pod>("first").await.unwrap();
        took.push(begun.elapsed());
        orchestra.stop().await;
    }
    took.sort();
    println!(
        "start: empty runtime to first pod ready: median {:?}, worst of {RUNS} {:?}",
        took[RUNS / 2],
        took[RUNS - 1]
    );
}

async fn idle() {
    const SPAN: Duration = Duration::from_secs(20);
    let orchestra = Orchestra::builder()
        .task("rest", |task: TaskContext| async move {
            task.stopping().await;
            Ok(())
        })
        .start()
        .await
        .unwrap();
    let (cpu, begun) = (cpu_seconds(), Instant::now());
    tokio::time::sleep(SPAN).await;
    if let (Some(before), Some(after), Some(rss)) = (cpu, cpu_seconds(), resident_bytes()) {
        let share = (after - before) / begun.elapsed().as_secs_f64() * 100.0;
        println!(
            "idle: {share:.3} % of one core over {SPAN:?}, {:.1} MB resident",
            rss as f64 / 1e6
        );
    } else {
        println!("idle: skipped, this system has no /proc");
    }
    orchestra.stop().await;
}

async fn kill() {
    const RUNS: usize = 10;
    let folder = tempfile::tempdir().unwrap();
    let orchestra = Orchestra::builder()
        .processes_in(folder.path())
        .drain_max(Duration::ZERO)
        .start()
        .await
        .unwrap();
    let mut took = Vec::new();
    for run in 0..RUNS {
        let name = format!("victim-{run}");
        let sleep = Container::new("sleep", "/bin/sh").command([
            "/bin/sh",
            "-c",
            "echo $$; exec sleep 1000",
        ]);
        orchestra
            .apply(
                Pod::builder(name.as_str())
                    .grace_seconds(0)
                    .container(sleep),
            )
            .await
            .unwrap();
        orchestra.ready::<Pod>(name.as_str()).await.unwrap();
        let Some(pid) = newest_child() else {
            println!("kill: skipped, this system has no /proc");
            return;
        };
        let begun = Instant::now();
        let killed = std::process::Command::new("kill")
            .args(["-9", &pid.to_string()])
            .status();
        assert!(killed.unwrap().success());
        let again = |pod: Option<&Pod>| {
            pod.is_some_and(|pod| {
                pod.status
                    .container_statuses
                    .iter()
                    .all(|status| status.restart_count == 1 && status.state.running().is_some())
            })
        };
        let key = ObjectKey::namespaced("default", name);
        orchestra.wait_for::<Pod>(&key, again).await;
        took.push(begun.elapsed());
    }
    took.sort();
    println!(
        "kill: SIGKILL to running again: median {:?}, worst of {RUNS} {:?}",
        took[RUNS / 2],
        took[RUNS - 1]
    );
    orchestra.stop().await;
}

/// What a cluster took to come up.
struct Took {
    wall: Duration,
    cpu_seconds: f64,
    resident_bytes: u64,
}

/// The median of several runs, and between what they lay.
fn tell(pods: u32, mut runs: Vec<Took>) {
    runs.sort_by(|one, other| one.cpu_seconds.total_cmp(&other.cpu_seconds));
    let each = |run: &Took| run.cpu_seconds * 1e6 / f64::from(pods);
    let (first, last, median) = (&runs[0], &runs[runs.len() - 1], &runs[runs.len() / 2]);
    println!(
        "{pods} pods: {:.2?} from apply to all ready, {:.1} us of CPU a pod ({:.1} to {:.1} in {} \
         runs), {:.0} MB resident",
        median.wall,
        each(median),
        each(first),
        each(last),
        runs.len(),
        median.resident_bytes as f64 / 1e6
    );
}

async fn scale(pods: u32, nodes: u32) -> Took {
    let mut builder = Orchestra::builder()
        .seed(1)
        .proxy(None)
        .driver("sim", |node| {
            Arc::new(SimDriver::new(SimScript::new(), node.len() as u64))
        });
    for n in 0..nodes {
        builder = builder.node(Node::new(format!("node-{n}")).capacity(16_000, 65_536, 110));
    }
    let orchestra = builder.start().await.unwrap();
    let cpu = cpu_seconds();
    let begun = Instant::now();
    let container = Container::new("c", "c").cpu_milli(100).memory_mib(128);
    orchestra
        .apply(Deployment::new("web").replicas(pods).container(container))
        .await
        .unwrap();
    orchestra.ready::<Deployment>("web").await.unwrap();
    let wall = begun.elapsed();
    let cpu = cpu.zip(cpu_seconds());
    drop(orchestra);
    Took {
        wall,
        cpu_seconds: cpu.map_or(0.0, |(before, after)| after - before),
        resident_bytes: resident_bytes().unwrap_or(0),
    }
}

/// User and system time of the threads of this process so far. By the nanosecond: the counts of
/// ticks in `/proc/self/stat` tell a short run by steps of 10 ms.
fn cpu_seconds() -> Option<f64> {
    let mut nanos = 0.0;
    for thread in std::fs::read_dir("/proc/self/task").ok()?.flatten() {
        let stat = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        nanos += stat.split_whitespace().next()?.parse::<f64>().ok()?;
    }
    Some(nanos / 1e9)
}

fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4_096)
}

/// The `sleep` that runs for a pod: the newest one that is a child of this process.
fn newest_child() -> Option<u32> {
    let me = std::process::id().to_string();
    let mut found = None;
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        let Some((head, tail)) = stat.rsplit_once(')') else {
            continue;
        };
        let parent = tail.split_whitespace().nth(1);
        if parent == Some(&me) && (head.ends_with("(sleep") || head.ends_with("(sh")) {
            found = found.max(Some(pid));
        }
    }
    found
}

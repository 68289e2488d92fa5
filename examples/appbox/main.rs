//! AppBox: a small cloud storage service of real processes (gateways, stateless workers, storage
//! nodes with replicas on disk) under real HTTP traffic that checks every byte, run by orchestra.
//!
//! ```sh
//! cargo run --release --example appbox                     # the whole story
//! cargo run --release --example appbox -- --json report.json
//! ```
//!
//! The exit status is 0 only if every act's invariant held, no request failed, no object was lost
//! or corrupt, and no process was left behind.

mod acts;
mod load;
mod programs;
mod report;
mod screen;
mod stage;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use programs::Fault;
use report::Report;
use screen::{FRAME, Screen};
use stage::Stage;
use tokio::time::Instant;

/// A small cloud storage service, run by orchestra, and what happens to it.
#[derive(Debug, Parser)]
struct Options {
    /// Writes the closing report to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Plays only these acts, by name, after the start.
    #[arg(long, value_name = "ACT")]
    only: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    if let Ok(part) = std::env::var(programs::PART) {
        return match programs::play(&part).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(fault) => {
                complain(&format!("{part}: {fault}"));
                ExitCode::FAILURE
            }
        };
    }
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    tokio::select! {
        biased;
        // With the show its orchestra is dropped, and with that all that it runs.
        () = interrupted() => {
            complain("interrupted: all that ran was ended");
            ExitCode::from(130)
        }
        shown = show(Options::parse()) => match shown {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(fault) => {
                complain(&format!("appbox: {fault}"));
                ExitCode::FAILURE
            }
        }
    }
}

/// SIGINT or SIGTERM.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        biased;
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// The folder of a run, which goes with it.
struct RunFolder(PathBuf);

impl RunFolder {
    fn new() -> std::io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("appbox-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            complain(&format!("{} is left behind: {error}", self.0.display()));
        }
    }
}

async fn show(options: Options) -> Result<bool, Fault> {
    let screen = Screen::new();
    if let Some(unknown) = options
        .only
        .iter()
        .find(|name| !acts::ALL.iter().any(|act| act.name == **name))
    {
        let known: Vec<_> = acts::ALL.iter().map(|act| act.name).collect();
        return Err(format!(
            "there is no act {unknown:?}; the acts are {}",
            known.join(", ")
        )
        .into());
    }
    // Not at the end, when the whole was played in vain.
    let json = match &options.json {
        Some(path) => {
            let file = std::fs::File::create(path);
            Some(file.map_err(|fault| format!("--json {}: {fault}", path.display()))?)
        }
        None => None,
    };
    screen.line(
        "AppBox: a storage service of real processes (2 gateways, 6 workers, 3 storage nodes with a \
         replica each) on 6 nodes in 3 zones, under traffic that checks every byte",
    );
    let folder = RunFolder::new()?;
    let mut stage = Stage::set(&folder.0).await?;
    let acts: Vec<_> = acts::ALL
        .iter()
        .enumerate()
        .filter(|(n, act)| {
            *n == 0 || options.only.is_empty() || options.only.iter().any(|name| name == act.name)
        })
        .map(|(_, act)| act)
        .collect();

    let mut reports = Vec::new();
    for (n, act) in acts.iter().enumerate() {
        screen.begins(n + 1, acts.len(), act.name, act.invariant);
        let begun = Instant::now();
        let report = {
            let tally = stage.load.as_ref().map(load::Load::watcher);
            let playing = act.perform(&mut stage);
            tokio::pin!(playing);
            loop {
                tokio::select! {
                    biased;
                    report = &mut playing => break report,
                    () = tokio::time::sleep(FRAME) => {
                        let now = tally.as_ref().map(|read| read()).unwrap_or_default();
                        screen.frame(act.name, begun.elapsed().as_secs_f64(), now);
                    }
                }
            }
        };
        screen.ends(&report);
        let stands = report.held || n > 0;
        reports.push(report);
        if !stands {
            screen.line("    the other acts need what did not start, and are not played");
            break;
        }
    }

    let tally = match stage.load.take() {
        Some(load) => load.finish().await,
        None => load::Tally::default(),
    };
    let seconds = stage.seconds();
    stage.orchestra.stop().await;
    let orphans = programs::left_behind(&folder.0)?;
    let report = Report::new(reports, tally, orphans, seconds);
    screen.closes(&report);
    if let Some(file) = json {
        report.write(file)?;
    }
    Ok(report.held)
}

#[allow(clippy::print_stderr)] // where a program complains
fn complain(text: &str) {
    eprintln!("{text}");
}

//! Commands inside workloads.

use std::process::Stdio;
use std::sync::Arc;

use async_trait::async_trait;
use orchestra_core::port::driver::{
    DriverError, DriverErrorKind, ExecOutput, ExecSource, WorkloadId,
};
use rustix::process::Pid;
use tokio_util::sync::CancellationToken;

use super::capture::{self, Log};
use super::main_process::{self, Main, Status};
use super::program::{self, Refusal, Surroundings};
use super::{Run, Shared, proc_fs};
use crate::driver::table::Slot;

/// What is kept of a command's output: the last of it, in bytes.
const EXEC_OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// The power to run commands in workloads of one driver.
#[derive(Debug)]
pub(super) struct Exec(pub(super) Arc<Shared>);

/// Runs in the workload's environment, working directory and control group. A command that
/// outlasts its workload is killed with it; what it leaves behind is killed at its end.
#[async_trait]
impl ExecSource for Exec {
    async fn exec(&self, id: &WorkloadId, command: &[String]) -> Result<ExecOutput, DriverError> {
        let slot = self.0.table.find_running(id, "exec")?;
        let dropped = CancellationToken::new();
        let _guard = dropped.clone().drop_guard();
        // In a task of its own, which ends the command in order if this call is dropped.
        let work = run(Arc::clone(&self.0), slot, command.to_vec(), dropped);
        let done = self.0.tracker.spawn(work).await;
        let refused = |(kind, why): Refusal| {
            DriverError::new(kind, "exec")
                .about(id.to_string())
                .because(why)
        };
        done.map_err(|error| refused((DriverErrorKind::Unavailable, error.to_string())))?
            .map_err(refused)
    }
}

async fn run(
    shared: Arc<Shared>,
    slot: Arc<Slot<Run>>,
    words: Vec<String>,
    dropped: CancellationToken,
) -> Result<ExecOutput, Refusal> {
    let started = {
        let slot = Arc::clone(&slot);
        tokio::task::spawn_blocking(move || start(&slot, &words)).await
    };
    let (pid, handle, reader) =
        started.map_err(|error| (DriverErrorKind::Unavailable, error.to_string()))??;
    let start = proc_fs::stat(pid.as_raw_nonzero().get()).map(|stat| stat.start);
    let main = Main::new(pid, start, handle, None, None);
    let log = Arc::new(Log::new(None, EXEC_OUTPUT_BYTES_MAX, 0));
    let ended = CancellationToken::new();
    let pump = shared.tracker.spawn(capture::pump(
        reader,
        Arc::clone(&log),
        ended.clone(),
        CancellationToken::new(),
    ));
    tokio::select! {
        biased;
        () = main.gone() => {}
        () = dropped.cancelled() => {}
        () = shared.detach.cancelled() => {}
        _ = slot.ended() => {}
    }
    main.kill_all();
    main.gone().await;
    let status = main.reap();
    ended.cancel();
    let _ = pump.await;
    let code = match status {
        Status::Code(code) => code,
        Status::Signal(signal) => 128 + signal,
        Status::Unknown => {
            return Err((
                DriverErrorKind::Unavailable,
                "its exit code was lost".to_owned(),
            ));
        }
    };
    let output = String::from_utf8_lossy(&log.tail(EXEC_OUTPUT_BYTES_MAX)).into_owned();
    Ok(ExecOutput { code, output })
}

type Started = (Pid, Option<std::os::fd::OwnedFd>, std::os::fd::OwnedFd);

/// Blocks while the process is made.
fn start(slot: &Slot<Run>, words: &[String]) -> Result<Started, Refusal> {
    let main = slot.run.main.get();
    let surroundings = match (&slot.run.surroundings, main) {
        (Some(surroundings), _) => surroundings.clone(),
        (None, Some(main)) => {
            let pid = main.pid.as_raw_nonzero().get();
            Surroundings {
                env: proc_fs::environment(pid).unwrap_or_default(),
                working_dir: proc_fs::working_dir(pid),
            }
        }
        (None, None) => Surroundings::default(),
    };
    let words = words.iter().map(String::as_str).collect::<Vec<_>>();
    let mut command = surroundings.command(&words)?;
    let exhausted = |error: std::io::Error| (DriverErrorKind::Exhausted, error.to_string());
    let ends = capture::plain_pipe().map_err(exhausted)?;
    command
        .stdin(Stdio::null())
        .stdout(ends.output)
        .stderr(ends.error);
    let child = command
        .spawn()
        .map_err(|error| program::refusal(&command, &error))?;
    drop(command); // with our copies of the ends that are the child's
    let raw = i32::try_from(child.id()).unwrap_or(0);
    let pid = Pid::from_raw(raw).ok_or_else(|| exhausted(std::io::Error::other("no id")))?;
    let handle = main_process::handle(pid);
    if let Some(leaf) = main.and_then(|main| main.leaf()) {
        let _ = main_process::confine(raw, leaf); // fails if it has ended already
    }
    Ok((pid, handle, ends.reader))
}

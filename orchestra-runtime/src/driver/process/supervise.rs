//! From a running process to its recorded end.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use orchestra_core::port::driver::Exit;
use orchestra_core::time::Timestamp;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::main_process::{Main, Status};
use super::record::{Record, State};
use super::{LOST_CODE, Run, Shared, capture};
use crate::driver::table::{Phase, Slot};

/// What a driver did to a process before it ended.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    terminated: bool,
    killed: bool,
}

/// Declares the workload running, reads what it prints, and supervises it in a task.
pub(super) fn take_charge(
    shared: &Arc<Shared>,
    slot: Arc<Slot<Run>>,
    main: Main,
    reader: Option<OwnedFd>,
    record: Option<Record>,
    since: Timestamp,
) {
    let main = Arc::new(main);
    let ended = CancellationToken::new();
    let pump = reader.map(|reader| {
        let log = Arc::clone(&slot.run.log);
        let detach = shared.detach.clone();
        shared
            .tracker
            .spawn(capture::pump(reader, log, ended.clone(), detach))
    });
    let _ = slot.run.main.set(Arc::clone(&main)); // nobody else sets it
    slot.advance(Phase::Running(since));
    let work = supervise(Arc::clone(shared), slot, main, record, ended, pump);
    shared.tracker.spawn(work);
}

async fn supervise(
    shared: Arc<Shared>,
    slot: Arc<Slot<Run>>,
    main: Arc<Main>,
    record: Option<Record>,
    ended: CancellationToken,
    pump: Option<JoinHandle<()>>,
) {
    let mut asked = Asked::default();
    loop {
        tokio::select! {
            biased;
            () = shared.detach.cancelled() => return,
            () = main.gone() => break,
            () = slot.grace_is_over(), if !asked.killed => {
                asked = Asked { terminated: true, killed: true };
                kill_all(&main).await;
            }
            () = slot.asked_to_end(), if !asked.terminated => {
                asked.terminated = true;
                main.terminate();
            }
        }
    }
    // From here on the end is recorded even if the driver goes: it takes but a moment.
    kill_all(&main).await; // before it is reaped, so that the ids are still its own
    let status = main.reap();
    main.rest_is_gone().await;
    ended.cancel();
    if let Some(pump) = pump {
        let _ = pump.await;
    }
    let at = shared.clock.now();
    let run = Arc::clone(&slot);
    let exit = tokio::task::spawn_blocking(move || {
        let exit = exit(
            status,
            asked,
            main.ran_out_of_memory(),
            run.run.log.degraded(),
            at,
        );
        if let Some(leaf) = main.leaf()
            && !leaf.remove()
        {
            tracing::warn!(workload = %run.id, groups = ?leaf.dirs, "its control group is left");
        }
        if !shared.is_killed() {
            write_down(&run, record, &exit);
        }
        exit
    });
    let exit = exit
        .await
        .unwrap_or_else(|error| lost(&error.to_string(), at));
    slot.advance(Phase::Ended(exit));
}

async fn kill_all(main: &Arc<Main>) {
    let main = Arc::clone(main);
    // Fails only if the runtime ends, which also ends this task.
    let _ = tokio::task::spawn_blocking(move || main.kill_all()).await;
}

/// Records an end. Blocks.
pub(super) fn write_down(slot: &Slot<Run>, record: Option<Record>, exit: &Exit) {
    if let (Some(place), Some(mut record)) = (&slot.run.place, record) {
        record.state = State::Ended(exit.clone());
        if let Err(error) = place.write(&record) {
            tracing::warn!(workload = %slot.id, %error, "its end was not written down");
        }
        let _ = std::fs::remove_file(place.pipe());
    }
}

/// The exit of a workload whose end nobody saw.
pub(super) fn lost(why: &str, at: Timestamp) -> Exit {
    Exit {
        code: LOST_CODE,
        signal: None,
        reason: "Lost".into(),
        message: why.to_owned(),
        at,
    }
}

fn exit(
    status: Status,
    asked: Asked,
    out_of_memory: bool,
    degraded: Option<&str>,
    at: Timestamp,
) -> Exit {
    let (code, signal) = match status {
        Status::Code(code) => (code, None),
        Status::Signal(signal) => (128 + signal, Some(signal)),
        Status::Unknown if asked.killed => (137, Some(9)),
        Status::Unknown => (LOST_CODE, None),
    };
    let (reason, mut message) = match (status, signal) {
        _ if out_of_memory && code != 0 => {
            ("OOMKilled", "it used more memory than its limit".to_owned())
        }
        (_, Some(9)) if asked.killed => ("Killed", "it outlasted its grace".to_owned()),
        (Status::Unknown, _) => (
            "Lost",
            "another program started it, and its exit code is not known".to_owned(),
        ),
        (_, Some(signal)) => ("Error", format!("ended by signal {signal}")),
        (_, None) if code == 0 => ("Completed", String::new()),
        (_, None) => ("Error", String::new()),
    };
    if let Some(note) = degraded {
        message = if message.is_empty() {
            note.to_owned()
        } else {
            format!("{message}; {note}")
        };
    }
    Exit {
        code,
        signal,
        reason: reason.into(),
        message,
        at,
    }
}

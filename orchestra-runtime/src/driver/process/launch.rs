//! Starting a process.

use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::Arc;

use orchestra_core::port::driver::{DriverErrorKind, Limits, Workload};
use orchestra_core::time::Timestamp;
use rustix::process::{Pid, Signal, kill_process};

use super::capture::{self, Ends};
use super::cgroup::{Kept, Leaf};
use super::main_process::{self, Main};
use super::program::{self, Refusal};
use super::record::{Place, Record, State};
use super::{Run, Shared, clear, kill, proc_fs, supervise};
use crate::driver::table::{Phase, Slot};

/// A process just started.
struct Launched {
    pid: Pid,
    start: Option<u64>,
    handle: Option<OwnedFd>,
    reader: OwnedFd,
    leaf: Option<Leaf>,
    record: Option<Record>,
    since: Timestamp,
}

/// Starts what `want` says and leaves it to its supervisor; or refuses, and leaves no trace.
pub(super) async fn start(
    shared: Arc<Shared>,
    slot: Arc<Slot<Run>>,
    before: Option<Arc<Slot<Run>>>,
    want: Workload,
) {
    let launched = {
        let (shared, slot) = (Arc::clone(&shared), Arc::clone(&slot));
        tokio::task::spawn_blocking(move || launch(&shared, &slot.run, &want)).await
    };
    let launched = match launched {
        Ok(Ok(launched)) => launched,
        Ok(Err((kind, why))) => {
            shared.table.take_back(&slot, before);
            return slot.advance(Phase::Refused(kind, why.into()));
        }
        Err(error) => {
            shared.table.take_back(&slot, before);
            return slot.advance(Phase::Refused(
                DriverErrorKind::Unavailable,
                error.to_string().into(),
            ));
        }
    };
    if let Some(before) = before {
        // Its traces made place for those of the newer attempt.
        let _ = tokio::task::spawn_blocking(move || clear(&before)).await;
    }
    let pipe = launched
        .record
        .as_ref()
        .and(slot.run.place.as_ref())
        .map(Place::pipe);
    let main = Main::new(
        launched.pid,
        launched.start,
        launched.handle,
        launched.leaf,
        pipe,
    );
    supervise::take_charge(
        &shared,
        slot,
        main,
        Some(launched.reader),
        launched.record,
        launched.since,
    );
}

/// Blocks while files are written and the process is made.
fn launch(shared: &Shared, run: &Run, want: &Workload) -> Result<Launched, Refusal> {
    let image = std::slice::from_ref(&want.image);
    let program = if want.command.is_empty() {
        image
    } else {
        &want.command[..]
    };
    let words = program
        .iter()
        .chain(&want.args)
        .map(String::as_str)
        .collect::<Vec<_>>();
    let surroundings = run.surroundings.clone().unwrap_or_default();
    let mut command = surroundings.command(&words)?;

    let (leaf, kept) = make_group(shared, want);
    let mut record = Record::starting(want.id.clone(), want.attempt, shared.boot.clone());
    record.cgroups = leaf
        .as_ref()
        .map(|leaf| leaf.dirs.clone())
        .unwrap_or_default();
    let undo = || {
        if let Some(leaf) = &leaf {
            leaf.remove();
        }
        if let Some(place) = &run.place {
            place.clear();
        }
    };
    let (ends, recorded) = match open_ends(run, &record) {
        Ok(ends) => ends,
        Err(error) => {
            undo();
            return Err((
                DriverErrorKind::Exhausted,
                format!("no pipe for its output: {error}"),
            ));
        }
    };
    command
        .stdin(Stdio::null())
        .stdout(ends.output)
        .stderr(ends.error);
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            undo();
            return Err(program::refusal(&command, &error));
        }
    };
    drop(command); // with our copies of the ends that are the child's
    let since = shared.clock.now();
    let raw = i32::try_from(child.id()).unwrap_or(0);
    let Some(pid) = Pid::from_raw(raw) else {
        return Err((
            DriverErrorKind::Unavailable,
            format!("the system gave {raw} as its id"),
        ));
    };
    let _ = run.pid.set(pid); // nobody else sets it
    if shared.is_killed() {
        kill::kill_started(pid);
        undo();
        return Err((
            DriverErrorKind::Unavailable,
            "the driver was told to kill all".to_owned(),
        ));
    }
    let handle = main_process::handle(pid);
    // Entering a group can take milliseconds, in which a program could start more than its limit
    // allows. So it waits, hardly begun. (A shell between us and it would enter the group first,
    // but no shell hands an environment on unchanged.)
    let waits = leaf.is_some() && kill_process(pid, Signal::STOP).is_ok();
    let (leaf, kept) = match leaf.map(|leaf| (main_process::confine(raw, &leaf), leaf)) {
        Some((Ok(()), leaf)) => (Some(leaf), kept),
        Some((Err(error), leaf)) => {
            // ESRCH: it has ended already, and needs no limits.
            tracing::debug!(workload = %want.id, %error, "it did not enter its control group");
            leaf.remove();
            (None, Kept::default())
        }
        None => (None, kept),
    };
    limit(raw, &want.limits, kept, want);
    if waits {
        let _ = kill_process(pid, Signal::CONT);
    }
    let start = proc_fs::stat(raw).map(|stat| stat.start);
    let record = recorded.then(|| {
        // Without a start time it could not be known again; its pipe then tells who it is.
        if let Some(start) = start {
            record.state = State::Running {
                pid: raw,
                start,
                since,
            };
        }
        if let Some(Err(error)) = run.place.as_ref().map(|place| place.write(&record)) {
            run.log
                .degrade(&format!("its record was not written: {error}"));
        }
        record
    });
    Ok(Launched {
        pid,
        start,
        handle,
        reader: ends.reader,
        leaf,
        record,
        since,
    })
}

/// A named pipe in the workload's directory, recorded before anything runs; else a plain one.
fn open_ends(run: &Run, record: &Record) -> std::io::Result<(Ends, bool)> {
    let Some(place) = &run.place else {
        run.log.degrade("the driver has no state directory");
        return Ok((capture::plain_pipe()?, false));
    };
    place.clear();
    match place
        .write(record)
        .and_then(|()| capture::named_pipe(&place.pipe()))
    {
        Ok(ends) => Ok((ends, true)),
        Err(error) => {
            run.log.degrade(&format!(
                "{} cannot be written: {error}; it will not be found again after a restart. Make \
                 room, or name another state directory",
                place.dir.display()
            ));
            place.clear();
            Ok((capture::plain_pipe()?, false))
        }
    }
}

fn make_group(shared: &Shared, want: &Workload) -> (Option<Leaf>, Kept) {
    let name = Place::of("".as_ref(), &want.id, want.attempt)
        .dir
        .display()
        .to_string();
    match shared.cgroups.create(&name, &want.limits) {
        Ok(Some((leaf, kept))) => (Some(leaf), kept),
        Ok(None) => (None, Kept::default()),
        Err(error) => {
            tracing::warn!(workload = %want.id, %error, "no control group could be made for it");
            (None, Kept::default())
        }
    }
}

/// Keeps by rlimit what no control group keeps, and says what cannot be kept at all.
fn limit(pid: i32, limits: &Limits, kept: Kept, want: &Workload) {
    if let Some(bytes) = limits.memory_bytes.filter(|_| !kept.memory)
        && !limit_address_space(pid, bytes)
    {
        tracing::warn!(workload = %want.id, bytes, "its memory limit cannot be kept here");
    }
    if limits.cpu_milli.is_some() && !kept.cpu {
        tracing::warn!(workload = %want.id, "its CPU limit needs control groups, and is not kept");
    }
    // RLIMIT_NPROC counts all processes of the user, not those of the workload.
    if limits.pids.is_some() && !kept.pids {
        tracing::warn!(
            workload = %want.id, "its limit of processes needs control groups, and is not kept"
        );
    }
}

#[cfg(target_os = "linux")]
fn limit_address_space(pid: i32, bytes: u64) -> bool {
    use rustix::process::{Resource, Rlimit, prlimit};
    let limit = Rlimit {
        current: Some(bytes),
        maximum: Some(bytes),
    };
    Pid::from_raw(pid).is_some_and(|pid| prlimit(Some(pid), Resource::As, limit).is_ok())
}

#[cfg(not(target_os = "linux"))]
fn limit_address_space(_: i32, _: u64) -> bool {
    false
}

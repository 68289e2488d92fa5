//! Finding what the driver before started.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use orchestra_core::port::driver::{DriverError, DriverErrorKind, Exit};
use orchestra_core::time::Timestamp;
use rustix::process::{Pid, Signal, kill_process};

use super::cgroup::Leaf;
use super::main_process::{self, Main};
use super::record::{self, Place, Record, State};
use super::{Shared, blocking, capture, proc_fs, supervise};
use crate::driver::table::{Phase, Slot};

/// What became of one record.
enum Found {
    /// It still runs, or has ended and can still be reaped by us.
    Running {
        pid: Pid,
        start: u64,
        handle: Option<OwnedFd>,
        since: Timestamp,
    },
    /// It has ended.
    Ended(Exit),
}

/// Takes charge of everything recorded. Call it before anything is started.
pub(super) async fn adopt_all(shared: &Arc<Shared>) -> Result<(), DriverError> {
    let Some(root) = shared.root.clone() else {
        return Ok(());
    };
    let looker = Arc::clone(shared);
    let found = blocking("open", move || look(&looker, &root)).await?;
    let found = found
        .map_err(|error| DriverError::new(DriverErrorKind::Unavailable, "open").because(error))?;
    for (record, reader, found) in found {
        let run = shared.run(&record.id, record.attempt, None);
        let slot = |phase| Arc::new(Slot::new(record.id.clone(), record.attempt, phase, run));
        match found {
            Found::Ended(exit) => shared.table.adopt(slot(Phase::Ended(exit))),
            Found::Running {
                pid,
                start,
                handle,
                since,
            } => {
                let slot = slot(Phase::Starting);
                shared.table.adopt(Arc::clone(&slot));
                let pipe = slot.run.place.as_ref().map(Place::pipe);
                let main = Main::new(pid, Some(start), handle, leaf_of(&record), pipe);
                tracing::info!(workload = %record.id, attempt = record.attempt, "adopted");
                supervise::take_charge(shared, slot, main, reader, Some(record), since);
            }
        }
    }
    Ok(())
}

type Adopted = (Record, Option<OwnedFd>, Found);

fn look(shared: &Shared, root: &Path) -> std::io::Result<Vec<Adopted>> {
    let records = record::read_all(root)?;
    let pipes = records
        .iter()
        .filter(|(_, record)| matches!(record.state, State::Starting))
        .map(|(place, _)| place.pipe())
        .collect::<Vec<PathBuf>>();
    let holders = if pipes.is_empty() {
        Default::default()
    } else {
        proc_fs::holders_of(&pipes)
    };
    let mut found = Vec::<Adopted>::new();
    for (place, mut record) in records {
        let now = shared.clock.now();
        let none = Vec::new();
        let holders = holders.get(&place.pipe()).unwrap_or(&none);
        let Some(what) = find(&place, &mut record, &shared.boot, holders, now) else {
            place.clear(); // it was never started
            continue;
        };
        // Attempts of one workload follow each other in the list; the newest counts.
        if found.last().is_some_and(|(last, ..)| last.id == record.id)
            && let Some((older, ..)) = found.pop()
        {
            Place::of(root, &older.id, older.attempt).clear();
        }
        let reader = match &what {
            Found::Running { .. } => capture::reader(&place.pipe()).ok(),
            Found::Ended(_) => None,
        };
        found.push((record, reader, what));
    }
    Ok(found)
}

fn find(
    place: &Place,
    record: &mut Record,
    boot: &str,
    holders: &[i32],
    now: Timestamp,
) -> Option<Found> {
    let same_boot = record.boot == boot;
    let lost = |record: &mut Record, why: &str| {
        if same_boot {
            let leaf = leaf_of(record);
            main_process::kill_rest(leaf.as_ref(), Some(&place.pipe()));
            if let Some(leaf) = leaf {
                leaf.remove();
            }
        }
        let exit = supervise::lost(why, now);
        record.state = State::Ended(exit.clone());
        if let Err(error) = place.write(record) {
            tracing::warn!(workload = %record.id, %error, "its end was not written down");
        }
        Some(Found::Ended(exit))
    };
    match record.state.clone() {
        State::Ended(exit) => Some(Found::Ended(exit)),
        _ if !same_boot => lost(record, "the machine was restarted"),
        State::Running { pid, start, since } => running(pid, start, since)
            .or_else(|| lost(record, "it ended while no driver was there to see it")),
        State::Starting => {
            // The start was interrupted. The process, if there is one, leads its group and
            // holds the pipe that was made for it alone.
            let stats = holders.iter().filter_map(|pid| proc_fs::stat(*pid));
            let main = stats.into_iter().find(|stat| stat.pid == stat.group);
            match main {
                Some(stat) => {
                    record.state = State::Running {
                        pid: stat.pid,
                        start: stat.start,
                        since: now,
                    };
                    if let Err(error) = place.write(record) {
                        tracing::warn!(workload = %record.id, %error, "not written down");
                    }
                    if let Some(pid) = Pid::from_raw(stat.pid) {
                        // It may still wait for its start to be completed.
                        let _ = kill_process(pid, Signal::CONT);
                    }
                    running(stat.pid, stat.start, now)
                }
                None if holders.is_empty() => {
                    if let Some(leaf) = leaf_of(record) {
                        leaf.remove();
                    }
                    None
                }
                None => lost(record, "its start was interrupted, and it ended since"),
            }
        }
    }
}

/// The process, if it is still that very one. The handle is taken first: from then on the kernel
/// itself tells whose end it is.
fn running(pid: i32, start: u64, since: Timestamp) -> Option<Found> {
    let raw = pid;
    let pid = Pid::from_raw(raw)?;
    let handle = main_process::handle(pid);
    let same = proc_fs::stat(raw).is_some_and(|stat| stat.start == start);
    same.then_some(Found::Running {
        pid,
        start,
        handle,
        since,
    })
}

fn leaf_of(record: &Record) -> Option<Leaf> {
    let dirs = record
        .cgroups
        .iter()
        .filter(|dir| dir.exists())
        .cloned()
        .collect::<Vec<_>>();
    (!dirs.is_empty()).then_some(Leaf { dirs })
}

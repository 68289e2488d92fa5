//! What is written down of each start, so that the next driver on the directory finds it.
//!
//! Neither the environment nor the arguments are written: they may hold secrets.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use orchestra_core::port::driver::{Exit, WorkloadId};
use orchestra_core::time::Timestamp;
use serde::{Deserialize, Serialize};

/// The version of the form below.
const FORMAT: u32 = 1;

/// The directory of one attempt of one workload.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) dir: PathBuf,
}

impl Place {
    /// Where this attempt belongs. Anything but letters, digits and `-` is written as hex, so
    /// that no name leaves the directory.
    pub(super) fn of(root: &Path, id: &WorkloadId, attempt: u32) -> Self {
        let mut name = format!("{}.", id.pod);
        for byte in id.container.bytes() {
            if byte.is_ascii_alphanumeric() || byte == b'-' {
                name.push(char::from(byte));
            } else {
                let _ = write!(name, "_{byte:02x}");
            }
        }
        let _ = write!(name, ".{attempt}");
        Self {
            dir: root.join(name),
        }
    }

    /// The named pipe that is the process's standard output and error.
    pub(super) fn pipe(&self) -> PathBuf {
        self.dir.join("output.pipe")
    }

    /// What it printed.
    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("output.log")
    }

    /// What it printed before that.
    pub(super) fn log_before(&self) -> PathBuf {
        self.dir.join("output.log.1")
    }

    /// Frees everything kept for the attempt. What cannot be freed is told, and left.
    pub(super) fn clear(&self) {
        if let Err(error) = fs::remove_dir_all(&self.dir)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(dir = %self.dir.display(), %error, "state of a workload is left behind");
        }
    }

    /// Writes the record, wholly or not at all.
    pub(super) fn write(&self, record: &Record) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        let next = self.dir.join("record.next");
        fs::write(&next, serde_json::to_vec(record).map_err(io::Error::other)?)?;
        fs::rename(next, self.dir.join("record.json"))
    }
}

/// One start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    format: u32,
    pub(super) id: WorkloadId,
    pub(super) attempt: u32,
    /// Which boot of the machine: no process outlives it.
    pub(super) boot: String,
    /// The cgroups made for it.
    pub(super) cgroups: Vec<PathBuf>,
    pub(super) state: State,
}

/// How far it got.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum State {
    /// It may have been started, or not: whoever holds its pipe is it.
    Starting,
    /// It runs as this process.
    Running {
        pid: i32,
        /// See [`Stat::start`](super::proc_fs::Stat).
        start: u64,
        since: Timestamp,
    },
    /// It has ended.
    Ended(Exit),
}

impl Record {
    pub(super) fn starting(id: WorkloadId, attempt: u32, boot: String) -> Self {
        Self {
            format: FORMAT,
            id,
            attempt,
            boot,
            cgroups: Vec::new(),
            state: State::Starting,
        }
    }
}

/// Every record under `root`. One that cannot be read is told, and left where it is.
pub(super) fn read_all(root: &Path) -> io::Result<Vec<(Place, Record)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root)? {
        let place = Place { dir: entry?.path() };
        if !place.dir.is_dir() {
            continue;
        }
        let path = place.dir.join("record.json");
        let record = fs::read(&path)
            .and_then(|bytes| serde_json::from_slice::<Record>(&bytes).map_err(io::Error::other));
        match record {
            Ok(record) if record.format == FORMAT => found.push((place, record)),
            Ok(record) => tracing::warn!(
                path = %path.display(), format = record.format,
                "a record of another version is left alone"
            ),
            // Made, and not yet written into: nothing was started there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => place.clear(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "an unreadable record is left alone");
            }
        }
    }
    found.sort_by(|(_, a), (_, b)| (&a.id, a.attempt).cmp(&(&b.id, b.attempt)));
    Ok(found)
}

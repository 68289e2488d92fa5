//! What processes print: from a pipe into memory and a bounded pair of files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use tokio::net::unix::pipe;
use tokio_util::sync::CancellationToken;

use super::record::Place;
use crate::driver::ring::Ring;
use crate::driver::table::lock;

/// Read at once, in bytes.
const CHUNK_BYTES: usize = 32 * 1024;

/// What an ended process left in its pipe is read up to here, in bytes: no more than fits into a
/// pipe, so that something that still writes cannot hold the end up.
const DRAIN_BYTES_MAX: usize = 2 * PIPE_BYTES;

/// How much a process may print while no driver reads, before it must wait, in bytes.
const PIPE_BYTES: usize = 1024 * 1024;

/// What one attempt printed, as far as it is kept.
#[derive(Debug)]
pub(super) struct Log {
    ring: Mutex<Ring>,
    place: Option<Place>,
    file_bytes_max: u64,
    degraded: OnceLock<String>,
}

impl Log {
    pub(super) fn new(place: Option<Place>, memory_bytes_max: usize, file_bytes_max: u64) -> Self {
        let ring = Mutex::new(Ring::new(memory_bytes_max));
        Self {
            ring,
            place,
            file_bytes_max,
            degraded: OnceLock::new(),
        }
    }

    /// From now on only memory is used. Said once: to the operator, in the log, and in the exit.
    pub(super) fn degrade(&self, why: &str) {
        let note = format!("output is kept in memory only: {why}");
        if self.degraded.set(note.clone()).is_ok() {
            tracing::warn!(place = ?self.place.as_ref().map(|place| &place.dir), "{note}");
            lock(&self.ring).push(format!("[orchestra: {note}]\n").as_bytes());
        }
    }

    /// Why output is no longer kept on disk, if so.
    pub(super) fn degraded(&self) -> Option<&str> {
        self.degraded.get().map(String::as_str)
    }

    /// The newest bytes. Reads files: for threads that may block.
    pub(super) fn tail(&self, bytes_max: usize) -> Vec<u8> {
        let (held, tail) = {
            let ring = lock(&self.ring);
            (ring.len(), ring.tail(bytes_max))
        };
        match &self.place {
            Some(place) if held < bytes_max && self.degraded().is_none() => {
                let from_disk = tail_of_files(place, bytes_max).unwrap_or_default();
                if from_disk.len() > tail.len() {
                    from_disk
                } else {
                    tail
                }
            }
            _ => tail,
        }
    }
}

fn tail_of_files(place: &Place, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut newest = tail_of(&place.log(), bytes_max)?;
    if newest.len() < bytes_max
        && let Ok(mut older) = tail_of(&place.log_before(), bytes_max - newest.len())
    {
        older.append(&mut newest);
        return Ok(older);
    }
    Ok(newest)
}

fn tail_of(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let bytes_max = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    let from = file.metadata()?.len().saturating_sub(bytes_max);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The file of a [`Log`], at most half of its bytes, with the half before beside it.
#[derive(Debug)]
struct LogFile {
    file: File,
    bytes: u64,
}

impl LogFile {
    fn open(place: &Place) -> io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(place.log())?;
        let bytes = file.metadata()?.len();
        Ok(Self { file, bytes })
    }

    fn append(mut self, place: &Place, half: u64, bytes: &[u8]) -> io::Result<Self> {
        if self.bytes > 0 && self.bytes + bytes.len() as u64 > half {
            fs::rename(place.log(), place.log_before())?;
            self = Self::open(place)?;
        }
        self.file.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(self)
    }
}

/// Both ends of what a process prints into.
#[derive(Debug)]
pub(super) struct Ends {
    /// For the driver.
    pub(super) reader: OwnedFd,
    /// For the process's standard output.
    pub(super) output: OwnedFd,
    /// For its standard error.
    pub(super) error: OwnedFd,
}

/// A named pipe at `path`. The process holds it for reading too, so that it neither ends by
/// SIGPIPE nor loses what it printed while no driver is there: it only waits once
/// `PIPE_BYTES` are full.
pub(super) fn named_pipe(path: &Path) -> io::Result<Ends> {
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    #[cfg(not(target_vendor = "apple"))]
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0)?;
    #[cfg(target_vendor = "apple")]
    rustix::fs::mkfifoat(rustix::fs::CWD, path, mode)?;
    let output = OpenOptions::new().read(true).write(true).open(path)?;
    #[cfg(target_os = "linux")]
    let _ = rustix::pipe::fcntl_setpipe_size(&output, PIPE_BYTES); // a smaller one serves too
    let error = output.try_clone()?;
    Ok(Ends {
        reader: reader(path)?,
        output: output.into(),
        error: error.into(),
    })
}

/// The driver's end of the named pipe at `path`.
pub(super) fn reader(path: &Path) -> io::Result<OwnedFd> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    Ok(OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?
        .into())
}

/// A pipe without a name, for what shall not outlive the driver.
pub(super) fn plain_pipe() -> io::Result<Ends> {
    let (reader, output) = io::pipe()?;
    let error = output.try_clone()?;
    Ok(Ends {
        reader: reader.into(),
        output: output.into(),
        error: error.into(),
    })
}

/// Moves what comes out of `from` into `log`, until nobody can write any more, or `ended` and
/// the rest is read, or `detached`.
pub(super) async fn pump(
    from: OwnedFd,
    log: Arc<Log>,
    ended: CancellationToken,
    detached: CancellationToken,
) {
    let from = match pipe::Receiver::from_owned_fd(from) {
        Ok(from) => from,
        Err(error) => return log.degrade(&format!("its pipe cannot be read: {error}")),
    };
    let mut file = None;
    if let Some(place) = &log.place {
        let place = place.clone();
        file = settle(
            &log,
            tokio::task::spawn_blocking(move || LogFile::open(&place)).await,
        );
    }
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut drained = None;
    loop {
        if drained.is_none() {
            tokio::select! {
                biased;
                () = detached.cancelled() => return,
                () = ended.cancelled() => drained = Some(0),
                ready = from.readable() => if ready.is_err() { return },
            }
        }
        match from.try_read(&mut chunk) {
            Ok(0) => return,
            Ok(length) => {
                if let Some(bytes) = &mut drained {
                    *bytes += length;
                    if *bytes > DRAIN_BYTES_MAX {
                        return;
                    }
                }
                (chunk, file) = keep(&log, file, chunk, length).await;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if drained.is_some() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

/// Keeps the first `length` bytes of `chunk`; gives back the buffer, and the file if it is well.
async fn keep(
    log: &Arc<Log>,
    file: Option<LogFile>,
    chunk: Vec<u8>,
    length: usize,
) -> (Vec<u8>, Option<LogFile>) {
    lock(&log.ring).push(&chunk[..length]);
    let (Some(file), Some(place)) = (file, log.place.clone()) else {
        return (chunk, None);
    };
    let half = log.file_bytes_max / 2;
    let written = tokio::task::spawn_blocking(move || {
        let file = file.append(&place, half, &chunk[..length]);
        (chunk, file)
    });
    match written.await {
        Ok((chunk, file)) => (chunk, settle(log, Ok(file))),
        Err(error) => {
            log.degrade(&error.to_string());
            (vec![0; CHUNK_BYTES], None)
        }
    }
}

fn settle(
    log: &Log,
    outcome: Result<io::Result<LogFile>, tokio::task::JoinError>,
) -> Option<LogFile> {
    match outcome.map_err(io::Error::other).flatten() {
        Ok(file) => Some(file),
        Err(error) => {
            log.degrade(&format!("writing the log failed: {error}"));
            None
        }
    }
}

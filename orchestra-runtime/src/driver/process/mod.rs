//! Processes of the operating system.

mod adopt;
mod capture;
mod cgroup;
mod exec;
mod kill;
mod launch;
mod main_process;
mod proc_fs;
mod program;
mod record;
mod supervise;

use std::fmt;
use std::fs::{self, File};
use std::hash::Hasher;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use orchestra_core::port::clock::Clock;
use orchestra_core::port::driver::{
    DriverError, DriverErrorKind, ExecSource, Exit, LogSource, Observed, Usage, UsageSource,
    Workload, WorkloadDriver, WorkloadId,
};
use rustix::process::Pid;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::capture::Log;
use self::cgroup::Cgroups;
use self::main_process::Main;
use self::program::Surroundings;
use self::record::Place;
use super::table::{Admitted, Slot, Table};
use crate::clock::TokioClock;

/// What is kept in memory of each workload's output unless set otherwise, in bytes.
pub const LOG_MEMORY_BYTES_MAX: usize = 64 * 1024;

/// What is kept on disk of each workload's output unless set otherwise, in bytes.
pub const LOG_FILE_BYTES_MAX: u64 = 10 * 1024 * 1024;

/// How long a driver waits for the one before it to let go of the state directory.
pub const LOCK_WAIT_MAX: Duration = Duration::from_secs(5);

/// The exit code of a workload that ended while no driver was there to see it.
pub const LOST_CODE: i32 = 255;

const LOCK_LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a [`ProcessDriver`] is made of.
#[derive(Debug)]
pub struct ProcessDriverBuilder {
    root: PathBuf,
    clock: Option<Arc<dyn Clock>>,
    cgroups: bool,
    log_memory_bytes_max: usize,
    log_file_bytes_max: u64,
}

impl ProcessDriverBuilder {
    /// Takes the time from `clock` instead of the wall.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Whether control groups are used where the system allows it; they are unless told
    /// otherwise. Without them memory is limited by rlimit, CPU and number of processes are not.
    #[must_use]
    pub fn cgroups(mut self, used: bool) -> Self {
        self.cgroups = used;
        self
    }

    /// How much of each workload's output is kept, in bytes: in memory, and on disk.
    #[must_use]
    pub fn log_bytes_max(mut self, memory: usize, file: u64) -> Self {
        self.log_memory_bytes_max = memory;
        self.log_file_bytes_max = file;
        self
    }

    /// Takes the state directory over, adopts what still runs, and makes the driver.
    ///
    /// # Errors
    ///
    /// [`DriverErrorKind::Unavailable`] if another driver still uses the directory after
    /// [`LOCK_WAIT_MAX`]. A directory that cannot be used is no error: the driver then says so in
    /// its trace, and keeps everything in memory; nothing is adopted after a restart.
    pub async fn open(self) -> Result<ProcessDriver, DriverError> {
        let state = take_over(&self.root).await?;
        let (root, lock) = state.map_or((None, None), |(root, lock)| (Some(root), Some(lock)));
        let name = match &root {
            Some(root) => group_name(root),
            // Not locked, so not to be shared.
            None => format!("{}-{}", group_name(&self.root), std::process::id()),
        };
        let cgroups = match self.cgroups {
            true => blocking("open", move || Cgroups::detect(&name)).await?,
            false => Cgroups::default(),
        };
        let shared = Arc::new(Shared {
            root,
            _lock: lock,
            boot: proc_fs::boot(),
            cgroups,
            clock: self.clock.unwrap_or_else(|| Arc::new(TokioClock::wall())),
            log_memory_bytes_max: self.log_memory_bytes_max,
            log_file_bytes_max: self.log_file_bytes_max,
            table: Table::default(),
            tracker: TaskTracker::new(),
            detach: CancellationToken::new(),
            killed: AtomicBool::new(false),
        });
        let exec = exec::Exec(Arc::clone(&shared));
        let driver = ProcessDriver { shared, exec };
        adopt::adopt_all(&driver.shared).await?;
        Ok(driver)
    }
}

/// Runs real processes, each in a process group of its own and, where allowed, in a control group
/// of its own.
///
/// * **Program**: `command`, or else `image` as the path of a program, then `args`. It is looked
///   for in the workload's own `PATH` (or the system's usual places if it has none) before the
///   start, so that what is missing is an error and not an exit. Without a working directory it
///   starts in the host program's. Mounts are not bound: a process sees the host's files.
/// * **Output** of both streams goes into a named pipe and from there into memory and a rotated
///   pair of files, all bounded.
/// * **End**: SIGTERM to the group, SIGKILL to everything after the grace. What the main process
///   leaves behind when it ends is killed.
/// * **Limits** are kept by control groups of either version. Where there are none, memory is
///   limited by rlimit (address space); other limits are traced as not kept.
/// * **Adoption**: what runs goes on when the driver goes. The next one on the same state
///   directory finds it by pid, start time and boot. How an adopted process ended is known only
///   if it is a child of this very program; else its exit is [`LOST_CODE`], reason `Lost`.
///
/// All calls must be made within a tokio runtime with I/O and time enabled.
#[derive(Debug)]
pub struct ProcessDriver {
    shared: Arc<Shared>,
    exec: exec::Exec,
}

/// One start of a workload.
#[derive(Debug)]
struct Run {
    place: Option<Place>,
    log: Arc<Log>,
    /// `None` if it was started by a driver before this one.
    surroundings: Option<Surroundings>,
    /// Its process, as soon as there is one.
    pid: OnceLock<Pid>,
    main: OnceLock<Arc<Main>>,
}

/// What the driver and its tasks share; has the optional powers.
struct Shared {
    /// `None`: nothing can be written down.
    root: Option<PathBuf>,
    /// Held as long as anything of this driver may still write.
    _lock: Option<File>,
    boot: String,
    cgroups: Cgroups,
    clock: Arc<dyn Clock>,
    log_memory_bytes_max: usize,
    log_file_bytes_max: u64,
    table: Table<Run>,
    tracker: TaskTracker,
    /// The driver goes; what it started stays.
    detach: CancellationToken,
    /// The driver goes, and takes what it started with it.
    killed: AtomicBool,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("root", &self.root)
            .field("workloads", &self.table.survey().len())
            .finish_non_exhaustive()
    }
}

impl ProcessDriver {
    /// A driver whose state lives in the directory `root`; it is created if need be.
    pub fn builder(root: impl Into<PathBuf>) -> ProcessDriverBuilder {
        ProcessDriverBuilder {
            root: root.into(),
            clock: None,
            cgroups: true,
            log_memory_bytes_max: LOG_MEMORY_BYTES_MAX,
            log_file_bytes_max: LOG_FILE_BYTES_MAX,
        }
    }

    /// Asks everything to end, all at once, kills what is left after `grace`, and returns once
    /// all has ended: afterwards nothing that this driver knows of runs.
    pub async fn stop_all(&self, grace: Duration) {
        let slots = self.shared.table.all();
        for slot in &slots {
            slot.ask_to_end(grace);
        }
        for slot in &slots {
            tokio::select! {
                biased;
                _ = slot.ended() => {}
                () = self.shared.detach.cancelled() => return,
            }
        }
    }

    /// Lets go of everything and joins every task of this driver. What runs goes on and is found
    /// by the next driver on the same directory; to end it, call [`stop_all`](Self::stop_all)
    /// before. Afterwards calls that would start or wait fail with `Unavailable`.
    pub async fn shutdown(&self) {
        self.shared.table.close();
        self.shared.detach.cancel();
        self.shared.tracker.close();
        self.shared.tracker.wait().await;
    }
}

/// Lets go of everything; see [`ProcessDriver::shutdown`], which also joins.
impl Drop for ProcessDriver {
    fn drop(&mut self) {
        self.shared.table.close();
        self.shared.detach.cancel();
        self.shared.tracker.close();
    }
}

/// The last of driver and tasks frees the directories of its control groups; the state directory
/// is still locked, so no successor has begun to use them.
impl Drop for Shared {
    fn drop(&mut self) {
        self.cgroups.remove_if_empty();
    }
}

impl Shared {
    fn run(&self, id: &WorkloadId, attempt: u32, surroundings: Option<Surroundings>) -> Run {
        let place = self
            .root
            .as_deref()
            .map(|root| Place::of(root, id, attempt));
        let log = Log::new(
            place.clone(),
            self.log_memory_bytes_max,
            self.log_file_bytes_max,
        );
        Run {
            place,
            log: Arc::new(log),
            surroundings,
            pid: OnceLock::new(),
            main: OnceLock::new(),
        }
    }

    /// What `work` gives, unless the driver lets go of everything first.
    async fn while_attached<T>(
        &self,
        op: &'static str,
        id: &WorkloadId,
        work: impl Future<Output = T>,
    ) -> Result<T, DriverError> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = self.detach.cancelled() => Err(
                DriverError::new(DriverErrorKind::Unavailable, op)
                    .about(id.to_string())
                    .because("the driver was shut down; make a new one on the same directory"),
            ),
        }
    }
}

#[async_trait]
impl WorkloadDriver for ProcessDriver {
    async fn ensure(&self, want: &Workload) -> Result<Observed, DriverError> {
        let shared = &self.shared;
        let admitted = shared.table.admit(&want.id, want.attempt, || {
            shared.run(&want.id, want.attempt, Some(Surroundings::of(want)))
        })?;
        let slot = match admitted {
            Admitted::Known(slot) => slot,
            Admitted::New { slot, before } => {
                // In a task of its own, so that a dropped call does not leave half a start.
                let start =
                    launch::start(Arc::clone(shared), Arc::clone(&slot), before, want.clone());
                shared.tracker.spawn(start);
                slot
            }
        };
        slot.started().await
    }

    async fn wait(&self, id: &WorkloadId) -> Result<Exit, DriverError> {
        self.shared
            .while_attached("wait", id, self.shared.table.wait(id))
            .await?
    }

    async fn stop(&self, id: &WorkloadId, grace: Duration) -> Result<(), DriverError> {
        if let Some(slot) = self.shared.table.get(id) {
            slot.ask_to_end(grace);
            self.shared.while_attached("stop", id, slot.ended()).await?;
        }
        Ok(())
    }

    async fn remove(&self, id: &WorkloadId) -> Result<(), DriverError> {
        if let Some(slot) = self.shared.table.remove(id)? {
            blocking("remove", move || clear(&slot)).await?;
        }
        Ok(())
    }

    async fn survey(&self) -> Result<Vec<Observed>, DriverError> {
        Ok(self.shared.table.survey())
    }

    fn exec(&self) -> Option<&dyn ExecSource> {
        Some(&self.exec)
    }

    fn logs(&self) -> Option<&dyn LogSource> {
        Some(&*self.shared)
    }

    fn usage(&self) -> Option<&dyn UsageSource> {
        Some(&*self.shared)
    }
}

#[async_trait]
impl LogSource for Shared {
    async fn tail(&self, id: &WorkloadId, bytes_max: usize) -> Result<Vec<u8>, DriverError> {
        let log = Arc::clone(&self.table.find(id, "tail")?.run.log);
        blocking("tail", move || log.tail(bytes_max)).await
    }
}

#[async_trait]
impl UsageSource for Shared {
    async fn usage(&self, id: &WorkloadId) -> Result<Usage, DriverError> {
        let slot = self.table.find_running(id, "usage")?;
        let Some(main) = slot.run.main.get().map(Arc::clone) else {
            return Err(DriverError::new(DriverErrorKind::Unknown, "usage").about(id.to_string()));
        };
        blocking("usage", move || {
            let members = main.members();
            let ticks = members.iter().map(|stat| stat.cpu_ticks).sum::<u64>();
            let pages = members.iter().map(|stat| stat.rss_pages).sum::<u64>();
            Usage {
                cpu_micros: ticks.saturating_mul(1_000_000)
                    / rustix::param::clock_ticks_per_second().max(1),
                memory_bytes: pages.saturating_mul(rustix::param::page_size() as u64),
                processes: u32::try_from(members.len()).unwrap_or(u32::MAX),
            }
        })
        .await
    }
}

/// Frees what is kept for an ended attempt.
fn clear(slot: &Slot<Run>) {
    if let Some(place) = &slot.run.place {
        place.clear();
    }
}

/// Runs what may block where it may.
async fn blocking<T: Send + 'static>(
    op: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, DriverError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| DriverError::new(DriverErrorKind::Unavailable, op).because(error))
}

/// Makes the state directory ours. `None`: it cannot be used.
async fn take_over(root: &Path) -> Result<Option<(PathBuf, File)>, DriverError> {
    let until = tokio::time::Instant::now() + LOCK_WAIT_MAX;
    loop {
        let dir = root.to_owned();
        let taken = blocking("open", move || {
            fs::create_dir_all(&dir)?;
            let dir = fs::canonicalize(dir)?;
            let file = File::create(dir.join("lock"))?;
            match file.try_lock() {
                Ok(()) => Ok(Some((dir, file))),
                Err(fs::TryLockError::WouldBlock) => Ok(None),
                Err(fs::TryLockError::Error(error)) => Err(error),
            }
        })
        .await?;
        match taken {
            Ok(Some(taken)) => return Ok(Some(taken)),
            Ok(None) if tokio::time::Instant::now() < until => {
                tokio::time::sleep(LOCK_LOOK_EVERY).await;
            }
            Ok(None) => {
                return Err(DriverError::new(DriverErrorKind::Unavailable, "open")
                    .about(root.display().to_string())
                    .because(io::Error::other(
                        "another driver uses this directory; end it, or name another directory",
                    )));
            }
            Err(error) => {
                tracing::warn!(
                    root = %root.display(), %error,
                    "the state directory cannot be used: everything is kept in memory, and what \
                     runs ends unseen if this program does; make it writable or name another"
                );
                return Ok(None);
            }
        }
    }
}

/// The name of this driver's control groups: the same for the same directory.
fn group_name(root: &Path) -> String {
    // Fowler-Noll-Vo: std's hasher may change between releases, and names must outlive them.
    struct Fnv(u64);
    impl Hasher for Fnv {
        fn finish(&self) -> u64 {
            self.0
        }
        fn write(&mut self, bytes: &[u8]) {
            for byte in bytes {
                self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
    }
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    hash.write(root.as_os_str().as_encoded_bytes());
    format!("orchestra-{:016x}", hash.finish())
}

#[cfg(test)]
mod tests;

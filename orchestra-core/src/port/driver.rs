//! Running workloads on one host.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::error::{ErrorKind, PortError, Retry};
use crate::meta::Uid;
use crate::time::Timestamp;

/// Names one container of one pod, for as long as that pod lives.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct WorkloadId {
    /// The pod.
    pub pod: Uid,
    /// The container's name within it.
    pub container: SmolStr,
}

impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pod, self.container)
    }
}

/// What to run, fully decided: the driver has no choice left to make.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// Which container of which pod.
    pub id: WorkloadId,
    /// Counts its starts: 0 for the first, one more for each restart.
    pub attempt: u32,
    /// For people: `namespace/pod`.
    pub pod_name: String,
    /// What the pod's manifest calls its image: an image, or the name of a registered task.
    pub image: String,
    /// The program and its first arguments; empty means what the image says.
    pub command: Vec<String>,
    /// Further arguments.
    pub args: Vec<String>,
    /// The environment, complete: nothing is inherited.
    pub env: BTreeMap<String, String>,
    /// Where it starts; `None` leaves it to the driver.
    pub working_dir: Option<PathBuf>,
    /// The pod's address, if it has one.
    pub pod_ip: Option<IpAddr>,
    /// What it may use at most.
    pub limits: Limits,
    /// Directories prepared for its volume mounts, by mount path.
    pub mounts: BTreeMap<PathBuf, PathBuf>,
}

impl Default for WorkloadId {
    fn default() -> Self {
        Self {
            pod: Uid::NIL,
            container: SmolStr::default(),
        }
    }
}

/// What a workload may use at most. `None` is no limit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Thousandths of a core.
    pub cpu_milli: Option<u64>,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// How a workload came to its end.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    /// Its exit code: 0 is success. 128 + *n* if signal *n* ended it.
    pub code: i32,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// Why, in a word for machines: `Completed`, `Error`, `Killed` (it outlasted its grace),
    /// `OOMKilled`, `Panicked`, `Abandoned` (it cannot be ended), `Lost` (nobody saw its end) …
    pub reason: SmolStr,
    /// Why, for people; may be empty. Bounded by the driver.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

/// What a workload is doing.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum RunState {
    /// It runs since that instant.
    Running {
        /// Since when.
        since: Timestamp,
    },
    /// It has ended.
    Ended(Exit),
}

/// What the driver knows of one workload.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// Which.
    pub id: WorkloadId,
    /// Which of its starts.
    pub attempt: u32,
    /// What it is doing.
    pub state: RunState,
}

/// What a workload uses.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time used since its start, in microseconds.
    pub cpu_micros: u64,
    /// Memory held now, in bytes.
    pub memory_bytes: u64,
    /// Processes now.
    pub processes: u32,
}

/// What a command run inside a workload answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExecOutput {
    /// Its exit code: 0 is success.
    pub code: i32,
    /// What it printed, both streams, bounded by the driver; bytes that are not UTF-8 are
    /// replaced.
    pub output: String,
}

/// Runs workloads on one host.
///
/// # Contract
///
/// * [`ensure`](Self::ensure) is idempotent: a workload that runs at this attempt is left alone.
///   At most one attempt of a workload ever runs: a newer attempt is refused with
///   [`DriverErrorKind::Running`] until the one before has ended, and an older attempt than the
///   newest seen with [`DriverErrorKind::Stale`]. A start that failed does not count as seen.
/// * An ended workload is remembered, with its [`Exit`], until [`remove`](Self::remove).
/// * [`survey`](Self::survey) tells of everything that runs or is remembered, whoever started it:
///   after a restart of the host program the agent surveys and carries on from what it finds.
/// * Every call may be repeated. Dropping a call's future never stops a workload.
///
/// The suite `conformance::driver` tests each of these sentences.
#[async_trait]
pub trait WorkloadDriver: fmt::Debug + Send + Sync + 'static {
    /// Makes `want` run and returns once it does, or tells that this attempt already ran and
    /// ended. Dropping the call does not take back what was asked.
    async fn ensure(&self, want: &Workload) -> Result<Observed, DriverError>;

    /// Waits until the workload has ended, and tells how. Returns at once if it has. Cancel-safe.
    ///
    /// An unknown workload is [`DriverErrorKind::Unknown`].
    async fn wait(&self, id: &WorkloadId) -> Result<Exit, DriverError>;

    /// Asks the workload to end, kills it and all it started after `grace`, and returns once it
    /// has ended. With a zero grace it is killed at once. Of several calls the soonest deadline
    /// holds: a later, shorter grace hurries, a longer one spares nothing. One that has ended, or
    /// was never known, is already stopped. Dropping the call does not take back what was asked.
    async fn stop(&self, id: &WorkloadId, grace: Duration) -> Result<(), DriverError>;

    /// Forgets an ended workload and frees what was kept for it. Refused with
    /// [`DriverErrorKind::Running`] while it runs. An unknown one is already removed. Which
    /// attempts were seen is forgotten too.
    async fn remove(&self, id: &WorkloadId) -> Result<(), DriverError>;

    /// Everything this driver knows, ordered by id.
    async fn survey(&self) -> Result<Vec<Observed>, DriverError>;

    /// The power to run a command inside a workload, if this driver has it.
    fn exec(&self) -> Option<&dyn ExecSource>;

    /// The power to give back what a workload printed, if this driver has it.
    fn logs(&self) -> Option<&dyn LogSource>;

    /// The power to measure a workload, if this driver has it.
    fn usage(&self) -> Option<&dyn UsageSource>;
}

const _: Option<&dyn WorkloadDriver> = None;

/// Runs commands inside workloads.
#[async_trait]
pub trait ExecSource: fmt::Debug + Send + Sync {
    /// Runs `command` in the workload's own surroundings and waits for it. Dropping the call
    /// kills the command. [`DriverErrorKind::Unknown`] if the workload does not run; one that
    /// cannot run the command is [`DriverErrorKind::Invalid`], or a code that is not 0.
    async fn exec(&self, id: &WorkloadId, command: &[String]) -> Result<ExecOutput, DriverError>;
}

/// Gives back what workloads printed.
#[async_trait]
pub trait LogSource: fmt::Debug + Send + Sync {
    /// The last `bytes_max` bytes that the newest attempt printed, both streams in the order they
    /// came. Bounded by what the driver keeps. Of an ended workload too, until
    /// [`remove`](WorkloadDriver::remove); an unknown one is [`DriverErrorKind::Unknown`].
    async fn tail(&self, id: &WorkloadId, bytes_max: usize) -> Result<Vec<u8>, DriverError>;
}

/// Measures workloads.
#[async_trait]
pub trait UsageSource: fmt::Debug + Send + Sync {
    /// What the workload uses now; [`DriverErrorKind::Unknown`] if it does not run.
    async fn usage(&self, id: &WorkloadId) -> Result<Usage, DriverError>;
}

/// A driver call failed.
pub type DriverError = PortError<DriverErrorKind>;

/// Why a driver call failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DriverErrorKind {
    /// No such workload.
    #[error("no such workload here")]
    Unknown,
    /// A newer attempt was seen already.
    #[error("a newer attempt was already asked for")]
    Stale,
    /// It still runs.
    #[error("it still runs; stop it first")]
    Running,
    /// What to run cannot be run: no such program, task or image. The cause has the remedy.
    #[error("it cannot be started as asked")]
    Invalid,
    /// The host lacks something now: processes, memory, disk.
    #[error("the host cannot run it now; try again with back-off")]
    Exhausted,
    /// The driver cannot reach what it drives.
    #[error("the driver is not available now; try again with back-off")]
    Unavailable,
}

impl ErrorKind for DriverErrorKind {
    fn retry(self) -> Retry {
        match self {
            Self::Exhausted | Self::Unavailable => Retry::Backoff,
            Self::Unknown | Self::Stale => Retry::AfterRefresh,
            Self::Running | Self::Invalid => Retry::Never,
        }
    }
}

//! Async functions of the app, supervised like processes.

use std::any::Any;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use orchestra_core::error::report;
use orchestra_core::port::clock::Clock;
use orchestra_core::port::driver::{
    DriverError, DriverErrorKind, ExecOutput, ExecSource, Exit, LogSource, Observed, Usage,
    UsageSource, Workload, WorkloadDriver, WorkloadId,
};
use smol_str::SmolStr;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ring::Ring;
use super::table::{Admitted, Phase, Slot, Table, lock};
use crate::clock::TokioClock;

/// What one task may have printed and is still kept, in bytes.
pub const TASK_LOG_BYTES_MAX: usize = 64 * 1024;

/// How long after its kill a task that does not yield is waited for before it is given up.
pub const ABANDON_AFTER: Duration = Duration::from_secs(5);

/// The longest message of an [`Exit`], in bytes.
const MESSAGE_BYTES_MAX: usize = 1024;

/// How a task or a check fails. Anything that is an error converts into it with `?`.
pub type TaskError = Box<dyn Error + Send + Sync + 'static>;

type Work = Pin<Box<dyn Future<Output = Result<(), TaskError>> + Send>>;
type Function = Arc<dyn Fn(TaskContext) -> Work + Send + Sync>;

/// An error that ends a task with an exit code of its choice instead of 1.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("exit code {0}")]
pub struct ExitCode(pub i32);

/// What a task or a check knows of the workload it is.
#[derive(Clone, Debug)]
pub struct TaskContext {
    run: Arc<Run>,
    args: Arc<[String]>,
}

impl TaskContext {
    /// For people: `namespace/pod`.
    pub fn pod_name(&self) -> &str {
        &self.run.want.pod_name
    }

    /// Which container of which pod.
    pub fn id(&self) -> &WorkloadId {
        &self.run.want.id
    }

    /// The pod's address, if it has one: what the task should listen on.
    pub fn pod_ip(&self) -> Option<IpAddr> {
        self.run.want.pod_ip
    }

    /// One variable of the workload's environment (never the host program's own).
    pub fn env(&self, name: &str) -> Option<&str> {
        self.run.want.env.get(name).map(String::as_str)
    }

    /// The whole environment.
    pub fn envs(&self) -> &BTreeMap<String, String> {
        &self.run.want.env
    }

    /// The arguments: what follows the name in `command`, then `args`. For a check, the words
    /// that follow its name.
    pub fn args(&self) -> &[String] {
        &self.args
    }

    /// Counts the starts of this workload: 0 for the first.
    pub fn attempt(&self) -> u32 {
        self.run.want.attempt
    }

    /// The directory prepared for the volume mounted at `path`.
    pub fn mount(&self, path: impl AsRef<std::path::Path>) -> Option<&std::path::Path> {
        self.run
            .want
            .mounts
            .get(path.as_ref())
            .map(std::path::PathBuf::as_path)
    }

    /// Waits until the task is asked to end: its SIGTERM. It then has its grace to finish, after
    /// which its future is dropped. Cancel-safe.
    pub async fn stopping(&self) {
        self.run.stopping.cancelled().await;
    }

    /// Whether the task was asked to end.
    pub fn is_stopping(&self) -> bool {
        self.run.stopping.is_cancelled()
    }

    /// Prints one line into the workload's log, of which the last [`TASK_LOG_BYTES_MAX`] bytes
    /// are kept.
    pub fn log(&self, line: impl fmt::Display) {
        self.print(format!("{line}\n"));
    }

    /// Prints bytes into the workload's log, as they are.
    pub fn print(&self, bytes: impl AsRef<[u8]>) {
        lock(&self.run.log).push(bytes.as_ref());
    }
}

/// One start of a task.
#[derive(Debug)]
struct Run {
    want: Workload,
    stopping: CancellationToken,
    killed: CancellationToken,
    log: Mutex<Ring>,
    busy_micros: AtomicU64,
}

/// Collects tasks and checks for a [`TaskDriver`]. Cloning shares the functions.
#[derive(Clone, Default)]
pub struct TaskDriverBuilder {
    tasks: BTreeMap<SmolStr, Function>,
    checks: BTreeMap<SmolStr, Function>,
    clock: Option<Arc<dyn Clock>>,
}

impl fmt::Debug for TaskDriverBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskDriverBuilder")
            .field("tasks", &self.tasks.keys())
            .field("checks", &self.checks.keys())
            .finish_non_exhaustive()
    }
}

impl TaskDriverBuilder {
    /// Registers a task; a task of the same name is replaced.
    ///
    /// `Ok` ends it with code 0, an error with code 1 (or its [`ExitCode`]), a panic with code
    /// 101 and reason `Panicked`. The function must yield: what blocks its thread can neither be
    /// stopped nor killed (use `tokio::task::spawn_blocking`), and what it spawns itself is its
    /// own to end.
    #[must_use]
    pub fn task<F, W>(mut self, name: impl Into<SmolStr>, task: F) -> Self
    where
        F: Fn(TaskContext) -> W + Send + Sync + 'static,
        W: Future<Output = Result<(), TaskError>> + Send + 'static,
    {
        self.tasks.insert(
            name.into(),
            Arc::new(move |context| Box::pin(task(context))),
        );
        self
    }

    /// Registers a check, which exec probes run by its name; a check of the same name is
    /// replaced. `Ok` is healthy; an error or a panic is not. One that never answers is ended by
    /// the probe's time-out.
    #[must_use]
    pub fn check<F, W>(mut self, name: impl Into<SmolStr>, check: F) -> Self
    where
        F: Fn(TaskContext) -> W + Send + Sync + 'static,
        W: Future<Output = Result<(), TaskError>> + Send + 'static,
    {
        self.checks.insert(
            name.into(),
            Arc::new(move |context| Box::pin(check(context))),
        );
        self
    }

    /// Takes the time from `clock` instead of the wall.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// The driver.
    pub fn build(self) -> TaskDriver {
        TaskDriver {
            inner: Inner {
                tasks: self.tasks,
                checks: self.checks,
                clock: self.clock.unwrap_or_else(|| Arc::new(TokioClock::wall())),
                table: Table::default(),
                tracker: TaskTracker::new(),
            },
        }
    }
}

/// Runs async functions as workloads.
///
/// A workload's `command[0]`, or else its `image`, names the function. Starting one takes
/// microseconds: it is spawned on the tokio runtime of the caller, where all calls must be made.
/// Memory and CPU limits are not enforced: the functions share the host's process.
///
/// Stopping signals [`TaskContext::stopping`], waits for the grace, then drops the function's
/// future. A function that blocks its thread cannot be dropped: [`ABANDON_AFTER`] later it is
/// given up, and its exit has the reason `Abandoned`, so that no caller waits for ever.
///
/// Dropping the driver kills what still runs. [`shutdown`](Self::shutdown) also waits for it.
///
/// ```
/// use orchestra_core::port::driver::{Workload, WorkloadDriver};
/// use orchestra_runtime::driver::task::TaskDriver;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let driver = TaskDriver::builder()
///     .task("hello", |context| async move {
///         context.log(format_args!("hello from {}", context.pod_name()));
///         Ok(())
///     })
///     .build();
/// let hello = Workload { image: "hello".into(), ..Workload::default() };
/// driver.ensure(&hello).await?;
/// assert_eq!(driver.wait(&hello.id).await?.code, 0);
/// # Ok(())
/// # }
/// ```
pub struct TaskDriver {
    inner: Inner,
}

/// Has the optional powers, whose methods are named like those that hand them out.
struct Inner {
    tasks: BTreeMap<SmolStr, Function>,
    checks: BTreeMap<SmolStr, Function>,
    clock: Arc<dyn Clock>,
    table: Table<Arc<Run>>,
    tracker: TaskTracker,
}

impl fmt::Debug for TaskDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl TaskDriver {
    /// Starts to collect tasks and checks.
    pub fn builder() -> TaskDriverBuilder {
        TaskDriverBuilder::default()
    }

    /// Asks everything to end, all at once, kills what is left after `grace`, and returns once
    /// all has ended (or was abandoned).
    pub async fn stop_all(&self, grace: Duration) {
        let slots = self.inner.table.all();
        for slot in &slots {
            self.ask_to_end(slot, grace);
        }
        for slot in &slots {
            slot.ended().await;
        }
    }

    /// Takes nothing more, ends everything as [`stop_all`](Self::stop_all) does, and joins every
    /// task the driver spawned. What was abandoned is not waited for.
    pub async fn shutdown(&self, grace: Duration) {
        self.inner.table.close();
        self.stop_all(grace).await;
        self.inner.tracker.close();
        // Ended bodies are gone in one more poll; abandoned ones may never be.
        let _ = tokio::time::timeout(ABANDON_AFTER, self.inner.tracker.wait()).await;
    }

    fn ask_to_end(&self, slot: &Arc<Slot<Arc<Run>>>, grace: Duration) {
        if slot.ask_to_end(grace) && slot.is_running() {
            self.inner
                .tracker
                .spawn(abandon(Arc::clone(slot), Arc::clone(&self.inner.clock)));
        }
        if !grace.is_zero() {
            slot.run.stopping.cancel();
        }
    }

    fn function(&self, want: &Workload) -> Result<Function, DriverError> {
        let name = want.command.first().unwrap_or(&want.image);
        self.inner
            .tasks
            .get(name.as_str())
            .map(Arc::clone)
            .ok_or_else(|| {
                DriverError::new(DriverErrorKind::Invalid, "ensure")
                    .about(want.id.to_string())
                    .because(format!(
                        "no task is registered as {name:?}; register it with \
                     `.task(…)` on the builder. Registered: {}",
                        names(&self.inner.tasks)
                    ))
            })
    }
}

impl Drop for TaskDriver {
    fn drop(&mut self) {
        for slot in self.inner.table.all() {
            slot.run.killed.cancel();
        }
        self.inner.tracker.close();
    }
}

#[async_trait]
impl WorkloadDriver for TaskDriver {
    async fn ensure(&self, want: &Workload) -> Result<Observed, DriverError> {
        let function = self.function(want)?;
        let admitted = self.inner.table.admit(&want.id, want.attempt, || {
            Arc::new(Run {
                want: want.clone(),
                stopping: CancellationToken::new(),
                killed: CancellationToken::new(),
                log: Mutex::new(Ring::new(TASK_LOG_BYTES_MAX)),
                busy_micros: AtomicU64::new(0),
            })
        })?;
        match admitted {
            Admitted::Known(slot) => slot.started().await,
            Admitted::New { slot, .. } => {
                let args = want
                    .command
                    .iter()
                    .skip(1)
                    .chain(&want.args)
                    .cloned()
                    .collect::<Arc<[_]>>();
                let context = TaskContext {
                    run: Arc::clone(&slot.run),
                    args,
                };
                slot.advance(Phase::Running(self.inner.clock.now()));
                let observed = slot.started().await;
                self.inner.tracker.spawn(supervise(
                    slot,
                    Arc::clone(&self.inner.clock),
                    function,
                    context,
                ));
                observed
            }
        }
    }

    async fn wait(&self, id: &WorkloadId) -> Result<Exit, DriverError> {
        self.inner.table.wait(id).await
    }

    async fn stop(&self, id: &WorkloadId, grace: Duration) -> Result<(), DriverError> {
        if let Some(slot) = self.inner.table.get(id) {
            self.ask_to_end(&slot, grace);
            slot.ended().await;
        }
        Ok(())
    }

    async fn remove(&self, id: &WorkloadId) -> Result<(), DriverError> {
        self.inner.table.remove(id).map(drop)
    }

    async fn survey(&self) -> Result<Vec<Observed>, DriverError> {
        Ok(self.inner.table.survey())
    }

    fn exec(&self) -> Option<&dyn ExecSource> {
        Some(&self.inner)
    }

    fn logs(&self) -> Option<&dyn LogSource> {
        Some(&self.inner)
    }

    fn usage(&self) -> Option<&dyn UsageSource> {
        Some(&self.inner)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskDriver")
            .field("tasks", &self.tasks.keys())
            .field("checks", &self.checks.keys())
            .field("workloads", &self.table.survey().len())
            .finish_non_exhaustive()
    }
}

/// The command's first word names a check; the rest are its arguments.
#[async_trait]
impl ExecSource for Inner {
    async fn exec(&self, id: &WorkloadId, command: &[String]) -> Result<ExecOutput, DriverError> {
        let slot = self.table.find_running(id, "exec")?;
        let (name, args) = command
            .split_first()
            .map_or(("", &[][..]), |(name, args)| (name, args));
        let Some(check) = self.checks.get(name) else {
            return Err(DriverError::new(DriverErrorKind::Invalid, "exec")
                .about(id.to_string())
                .because(format!(
                    "no check is registered as {name:?}; register it with \
                     `.check(…)` on the builder. Registered: {}",
                    names(&self.checks)
                )));
        };
        let context = TaskContext {
            run: Arc::clone(&slot.run),
            args: args.into(),
        };
        let (code, output) = match contain(async { check(context).await }, None).await {
            Ok(Ok(())) => (0, String::new()),
            Ok(Err(error)) => failure(&*error),
            Err(panic) => (PANIC_CODE, panic),
        };
        Ok(ExecOutput { code, output })
    }
}

#[async_trait]
impl LogSource for Inner {
    async fn tail(&self, id: &WorkloadId, bytes_max: usize) -> Result<Vec<u8>, DriverError> {
        let slot = self.table.find(id, "tail")?;
        let tail = lock(&slot.run.log).tail(bytes_max);
        Ok(tail)
    }
}

/// CPU time is the time spent in the function itself, without what it spawned; memory cannot be
/// told apart from the host program's, and is 0.
#[async_trait]
impl UsageSource for Inner {
    async fn usage(&self, id: &WorkloadId) -> Result<Usage, DriverError> {
        let slot = self.table.find_running(id, "usage")?;
        let cpu_micros = slot.run.busy_micros.load(Ordering::Relaxed);
        Ok(Usage {
            cpu_micros,
            memory_bytes: 0,
            processes: 1,
        })
    }
}

const PANIC_CODE: i32 = 101;
const KILL_SIGNAL: i32 = 9;

/// Runs one task to its end and records it, whatever the end.
async fn supervise(
    slot: Arc<Slot<Arc<Run>>>,
    clock: Arc<dyn Clock>,
    function: Function,
    context: TaskContext,
) {
    // Declared first, dropped last: the end is told only once nothing of the task is left.
    let mut end = End {
        slot: Arc::clone(&slot),
        clock,
        told: None,
    };
    let work = contain(
        async move { function(context).await },
        Some(&slot.run.busy_micros),
    );
    end.told = tokio::select! {
        biased;
        () = slot.run.killed.cancelled() => None,
        () = slot.grace_is_over() => None,
        outcome = work => Some(match outcome {
            Ok(Ok(())) => (0, "Completed", String::new()),
            Ok(Err(error)) => {
                let (code, message) = failure(&*error);
                (code, "Error", message)
            }
            Err(panic) => (PANIC_CODE, "Panicked", panic),
        }),
    };
}

/// Records an end when it is dropped, so that an aborted or panicking supervisor does so too.
struct End {
    slot: Arc<Slot<Arc<Run>>>,
    clock: Arc<dyn Clock>,
    told: Option<(i32, &'static str, String)>,
}

impl Drop for End {
    fn drop(&mut self) {
        let at = self.clock.now();
        let exit = match self.told.take() {
            Some((code, reason, message)) => Exit {
                code,
                signal: None,
                reason: reason.into(),
                message,
                at,
            },
            None => killed("Killed", "its future was dropped", at),
        };
        self.slot.advance(Phase::Ended(exit));
    }
}

/// Gives a task up that was to be killed and does not yield.
async fn abandon(slot: Arc<Slot<Arc<Run>>>, clock: Arc<dyn Clock>) {
    let given_up = async {
        slot.grace_is_over().await;
        tokio::time::sleep(ABANDON_AFTER).await;
    };
    tokio::select! {
        biased;
        _ = slot.ended() => {}
        () = slot.run.killed.cancelled() => {}
        () = given_up => {
            let message = "it blocks its thread and could not be ended; it may still run. \
                           Blocking work belongs in `spawn_blocking`";
            tracing::warn!(workload = %slot.id, pod = slot.run.want.pod_name, "abandoned: {message}");
            slot.advance(Phase::Ended(killed("Abandoned", message, clock.now())));
        }
    }
}

fn killed(reason: &str, message: &str, at: orchestra_core::time::Timestamp) -> Exit {
    Exit {
        code: 128 + KILL_SIGNAL,
        signal: Some(KILL_SIGNAL),
        reason: reason.into(),
        message: message.into(),
        at,
    }
}

/// Polls `work` with panics contained: `Err` is a panic's message. Adds the time spent to `busy`.
async fn contain<W: Future>(work: W, busy: Option<&AtomicU64>) -> Result<W::Output, String> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        let from = busy.map(|_| Instant::now());
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx)));
        if let (Some(busy), Some(from)) = (busy, from) {
            let spent = u64::try_from(from.elapsed().as_micros()).unwrap_or(u64::MAX);
            busy.fetch_add(spent, Ordering::Relaxed);
        }
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(panic) => Poll::Ready(Err(panic_message(&*panic))),
        }
    })
    .await
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message");
    bounded(text.to_owned())
}

fn failure(error: &(dyn Error + Send + Sync + 'static)) -> (i32, String) {
    match error.downcast_ref::<ExitCode>() {
        Some(code) => (code.0, String::new()), // the code says it all
        None => (1, bounded(report(error).to_string())),
    }
}

fn bounded(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MESSAGE_BYTES_MAX));
    text
}

fn names(functions: &BTreeMap<SmolStr, Function>) -> String {
    if functions.is_empty() {
        return "none".to_owned();
    }
    functions
        .keys()
        .map(SmolStr::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests;

//! The main process of a workload: watching, signalling and reaping it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitOptions, kill_process, kill_process_group, test_kill_process, waitpid,
};
use tokio::net::unix::pipe;

use super::cgroup::Leaf;
use super::proc_fs;

/// How often a process is looked at where the kernel cannot tell of its end.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How often the killed rest of a workload is looked at until it is gone.
const REST_EVERY: Duration = Duration::from_millis(2);

/// How long the killed rest of a workload is waited for. Only what hangs in the kernel outlasts
/// a SIGKILL for long.
const REST_WAIT_MAX: Duration = Duration::from_secs(5);

/// A process and all it started.
#[derive(Debug)]
pub(super) struct Main {
    pub(super) pid: Pid,
    /// When it started; `None` where `/proc` does not tell.
    start: Option<u64>,
    /// Readable once it has ended. `None`: look from time to time.
    end: Option<pipe::Receiver>,
    leaf: Option<Leaf>,
    pipe: Option<PathBuf>,
}

/// How a process ended: a code, or a signal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Status {
    Code(i32),
    Signal(i32),
    /// It was not our child, and nobody else told.
    Unknown,
}

/// A handle by which the kernel tells of the end of `pid`, if this kernel does.
pub(super) fn handle(pid: Pid) -> Option<OwnedFd> {
    #[cfg(target_os = "linux")]
    return rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::NONBLOCK).ok();
    #[cfg(not(target_os = "linux"))]
    {
        let _ = pid;
        None
    }
}

impl Main {
    /// Watches `pid`; must be called within a tokio runtime.
    pub(super) fn new(
        pid: Pid,
        start: Option<u64>,
        handle: Option<OwnedFd>,
        leaf: Option<Leaf>,
        pipe: Option<PathBuf>,
    ) -> Self {
        // Any descriptor that epoll takes can be waited for through this type; it is never read.
        let end = handle.and_then(|handle| pipe::Receiver::from_owned_fd_unchecked(handle).ok());
        Self {
            pid,
            start,
            end,
            leaf,
            pipe,
        }
    }

    /// Waits until it has ended. It is not reaped yet, if it is our child: so its id, and that of
    /// its group, still belong to it. Cancel-safe.
    pub(super) async fn gone(&self) {
        if let Some(end) = &self.end
            && end.readable().await.is_ok()
        {
            return;
        }
        while self.runs() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn runs(&self) -> bool {
        match (proc_fs::stat(self.pid.as_raw_nonzero().get()), self.start) {
            (Some(stat), Some(start)) => stat.start == start && !stat.zombie,
            (Some(stat), None) => !stat.zombie,
            // No /proc, or it is gone. A zombie child still takes signals, but not this question.
            (None, Some(_)) => false,
            (None, None) => test_kill_process(self.pid).is_ok() && !self.is_zombie_child(),
        }
    }

    #[cfg(target_vendor = "apple")]
    fn is_zombie_child(&self) -> bool {
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        matches!(waitid(WaitId::Pid(self.pid), options), Ok(Some(_)))
    }

    #[cfg(not(target_vendor = "apple"))]
    fn is_zombie_child(&self) -> bool {
        false
    }

    /// Whether the id may have gone to another process since.
    fn is_still_itself(&self) -> bool {
        match (proc_fs::stat(self.pid.as_raw_nonzero().get()), self.start) {
            (Some(stat), Some(start)) => stat.start == start,
            _ => true,
        }
    }

    /// Asks it and its group to end. What is stopped is woken, to hear of it.
    pub(super) fn terminate(&self) {
        if self.is_still_itself() {
            let _ = kill_process_group(self.pid, Signal::TERM);
            let _ = kill_process_group(self.pid, Signal::CONT);
        }
    }

    /// Kills it, its group, everything in its control group, and everything that still prints
    /// into its pipe. May block for milliseconds.
    pub(super) fn kill_all(&self) {
        if self.is_still_itself() {
            let _ = kill_process_group(self.pid, Signal::KILL);
        }
        kill_rest(self.leaf.as_ref(), self.pipe.as_ref());
    }

    /// Reaps it, if it is our child, and tells how it ended. Call it once it is gone.
    pub(super) fn reap(&self) -> Status {
        let reaped = loop {
            match waitpid(Some(self.pid), WaitOptions::NOHANG) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other,
            }
        };
        let Ok(Some((_, status))) = reaped else {
            return Status::Unknown;
        };
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Status::Code(code),
            (None, Some(signal)) => Status::Signal(signal),
            (None, None) => Status::Unknown,
        }
    }

    /// Whether it has ended. Reaps it, if it is our child.
    pub(super) fn has_gone(&self) -> bool {
        self.reap() != Status::Unknown || !self.runs()
    }

    /// Waits until nothing that was killed with it is left, at most `REST_WAIT_MAX`.
    pub(super) async fn rest_is_gone(&self) {
        let until = tokio::time::Instant::now() + REST_WAIT_MAX;
        while self.has_rest() && tokio::time::Instant::now() < until {
            tokio::time::sleep(REST_EVERY).await;
        }
    }

    fn has_rest(&self) -> bool {
        if self
            .leaf
            .as_ref()
            .is_some_and(|leaf| !leaf.members().is_empty())
        {
            return true;
        }
        // Zombies that nobody reaped yet still make up a group; look closer only then.
        rustix::process::test_kill_process_group(self.pid).is_ok()
            && proc_fs::all()
                .iter()
                .any(|stat| stat.group == self.pid.as_raw_nonzero().get() && !stat.zombie)
    }

    /// The processes that belong to it now.
    pub(super) fn members(&self) -> Vec<proc_fs::Stat> {
        members(self.pid.as_raw_nonzero().get(), self.leaf.as_ref())
    }

    /// Whether the kernel killed something of it for want of memory.
    pub(super) fn ran_out_of_memory(&self) -> bool {
        self.leaf.as_ref().is_some_and(Leaf::ran_out_of_memory)
    }

    /// Its control group.
    pub(super) fn leaf(&self) -> Option<&Leaf> {
        self.leaf.as_ref()
    }
}

/// Kills what is left of a workload whose main process is gone. A main process that ended before it
/// was confined has left what it started outside of its control group: that still prints into its
/// pipe.
pub(super) fn kill_rest(leaf: Option<&Leaf>, pipe: Option<&PathBuf>) {
    if let Some(leaf) = leaf {
        leaf.kill();
    }
    let holders = pipe.map(|pipe| proc_fs::holders(pipe)).unwrap_or_default();
    for pid in holders.into_iter().filter_map(Pid::from_raw) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn members(group: i32, leaf: Option<&Leaf>) -> Vec<proc_fs::Stat> {
    match leaf {
        Some(leaf) => leaf
            .members()
            .into_iter()
            .filter_map(proc_fs::stat)
            .collect(),
        None => proc_fs::all()
            .into_iter()
            .filter(|stat| stat.group == group)
            .collect(),
    }
}

/// Moves a process that was just started, and what it started meanwhile, into `leaf`.
pub(super) fn confine(pid: i32, leaf: &Leaf) -> io::Result<()> {
    leaf.enter(pid)?;
    let mut fresh = proc_fs::children(pid);
    while let Some(pid) = fresh.pop() {
        // What a member starts is a member, so this ends with the first generation inside.
        if !leaf.members().contains(&pid) && leaf.enter(pid).is_ok() {
            fresh.extend(proc_fs::children(pid));
        }
    }
    Ok(())
}

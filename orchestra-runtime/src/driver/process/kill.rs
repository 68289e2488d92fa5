//! The end without waiting: for programs that go without stopping what they run.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::main_process::Main;
use super::{ProcessDriver, Shared, clear};

/// How long what was killed is waited for, to be reaped and its traces removed.
const GONE_MAX: Duration = Duration::from_millis(200);

/// How often it is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(1);

impl ProcessDriver {
    /// Kills all that runs, starts nothing any more, and removes its traces. Needs no runtime: it is
    /// for the end of a program that cannot wait, in a `Drop` for instance. Blocks until what was
    /// killed is gone, at most 200 ms for each workload that hangs in the kernel. Whoever can wait
    /// calls [`stop_all`](Self::stop_all) and [`shutdown`](Self::shutdown).
    pub fn kill_now(&self) {
        let shared = &self.shared;
        shared.table.close();
        // Whoever starts something now sees this after it has written down what it started.
        shared.killed.store(true, Ordering::SeqCst);
        let slots = shared.table.all();
        for slot in &slots {
            match (slot.run.main.get(), slot.run.pid.get()) {
                (Some(main), _) => main.kill_all(),
                (None, Some(pid)) => kill_started(*pid),
                (None, None) => {}
            }
        }
        for slot in &slots {
            if let Some(main) = slot.run.main.get() {
                bury(main);
            }
            clear(slot);
        }
    }
}

impl Shared {
    /// Whether what was just started has to go again.
    pub(super) fn is_killed(&self) -> bool {
        self.killed.load(Ordering::SeqCst)
    }
}

/// Kills what has no supervisor yet.
pub(super) fn kill_started(pid: Pid) {
    let _ = kill_process_group(pid, Signal::KILL);
}

/// Waits for the end of what was killed, reaps it and frees its control group.
fn bury(main: &Main) {
    let until = Instant::now() + GONE_MAX;
    while !main.has_gone() && Instant::now() < until {
        std::thread::sleep(LOOK_EVERY);
    }
    if let Some(leaf) = main.leaf() {
        while !leaf.remove() && Instant::now() < until {
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

#![allow(clippy::unwrap_used)]

use super::*;
use orchestra_core::error::report;
use orchestra_core::port::driver::{Limits, RunState};
use std::collections::BTreeMap;
use tempfile::TempDir;

mod adoption;
mod ends;
mod limits;
mod output;

/// No test comes near it; one that does has failed.
const DEADLINE: Duration = Duration::from_secs(60);

const GRACE: Duration = Duration::from_secs(30);

struct Bench {
    dir: TempDir,
    driver: ProcessDriver,
}

impl Bench {
    async fn new() -> Self {
        Self::with(|builder| builder).await
    }

    async fn with(set: impl FnOnce(ProcessDriverBuilder) -> ProcessDriverBuilder) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let driver = set(ProcessDriver::builder(dir.path().join("state")))
            .open()
            .await
            .unwrap();
        Self { dir, driver }
    }

    /// A driver after this one, on the same directory.
    async fn restarted(mut self) -> Self {
        self.driver.shutdown().await;
        self.reopen().await;
        self
    }

    async fn reopen(&mut self) {
        self.driver = ProcessDriver::builder("/dev/null/none")
            .open()
            .await
            .unwrap();
        let state = self.path("state");
        self.driver = ProcessDriver::builder(state).open().await.unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn run(&self, want: &Workload) -> Exit {
        self.driver.ensure(want).await.unwrap();
        within(self.driver.wait(&want.id)).await.unwrap()
    }

    async fn log(&self, want: &Workload) -> String {
        let log = self
            .driver
            .logs()
            .unwrap()
            .tail(&want.id, usize::MAX)
            .await
            .unwrap();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Waits until the log holds `lines` lines, and gives them.
    async fn lines(&self, want: &Workload, lines: usize) -> Vec<String> {
        within(async {
            loop {
                let log = self.log(want).await;
                if log.lines().count() >= lines && log.ends_with('\n') {
                    return log.lines().map(str::to_owned).collect();
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await
    }

    async fn refused(&self, want: &Workload) -> String {
        let error = self.driver.ensure(want).await.unwrap_err();
        assert_eq!(error.kind(), DriverErrorKind::Invalid, "{}", report(&error));
        assert_eq!(
            self.driver.survey().await.unwrap(),
            [],
            "nothing of it remains"
        );
        report(&error).to_string()
    }

    fn pid(&self, want: &Workload) -> i32 {
        let slot = self.driver.shared.table.get(&want.id).unwrap();
        slot.run.main.get().unwrap().pid.as_raw_nonzero().get()
    }

    async fn stop(&self, want: &Workload) -> Exit {
        within(self.driver.stop(&want.id, GRACE)).await.unwrap();
        self.driver.wait(&want.id).await.unwrap()
    }
}

impl Drop for Bench {
    /// Whatever a failed test left running ends with it.
    fn drop(&mut self) {
        for slot in self.driver.shared.table.all() {
            if let Some(main) = slot.run.main.get()
                && slot.is_running()
            {
                main.kill_all();
                main.reap();
            }
        }
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work)
        .await
        .expect("the deadline")
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let looked = tokio::time::timeout(DEADLINE, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    looked.await.unwrap_or_else(|_| panic!("never: {what}"));
}

fn is_gone(pid: i32) -> bool {
    proc_fs::stat(pid).is_none_or(|stat| stat.zombie)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn workload(command: &[&str]) -> Workload {
    let path = ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned());
    Workload {
        pod_name: "default/it".into(),
        command: words(command),
        env: BTreeMap::from([path]),
        ..Workload::default()
    }
}

fn sh(script: &str) -> Workload {
    workload(&["sh", "-c", script])
}

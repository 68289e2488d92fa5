//! The folder of one run below the system's temporary folder: `orchestra-`*pid*.
//!
//! A run that is killed takes nothing with it. Nobody would ever look into its folder again, and what
//! it ran goes on and holds addresses. So the next run that has such a folder looks for those whose
//! drivers are gone, ends what still runs there, and removes them.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use orchestra_core::error::report;
use orchestra_core::port::driver::{DriverError, WorkloadDriver};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::driver::process::ProcessDriver;

const PREFIX: &str = "orchestra-";

/// The file that a driver locks in its folder.
const LOCK: &str = "lock";

/// The file that says that what runs is left on purpose.
const LEFT: &str = "left";

/// The folder of this run.
pub(super) fn own() -> PathBuf {
    std::env::temp_dir().join(format!("{PREFIX}{}", std::process::id()))
}

/// Has what runs in `folder` left alone after this run.
pub(super) fn leave(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    File::create(folder.join(LEFT)).map(drop)
}

/// Ends what runs go on without their programs, and removes their folders.
pub(super) async fn sweep() {
    let found = tokio::task::spawn_blocking(deserted).await;
    for folder in found.unwrap_or_default() {
        tracing::info!(folder = %folder.display(), "what a run left that was killed is ended");
        let mut ended = true;
        for driver in drivers(&folder) {
            if let Err(error) = end(&driver).await {
                tracing::warn!(folder = %driver.display(), error = %report(&error), "it is left");
                ended = false;
            }
        }
        if ended {
            let _ = tokio::task::spawn_blocking(move || fs::remove_dir_all(folder)).await;
        }
    }
}

/// Folders of other runs of this user whose drivers are all gone.
fn deserted() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in entries(&std::env::temp_dir()) {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let pid = pid.and_then(|pid| Pid::from_raw(pid.parse().ok()?));
        let folder = entry.path();
        // Another program may have its pid by now: then the folder waits for its turn.
        if pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
            && is_ours(&folder)
            && !folder.join(LEFT).exists()
            && drivers(&folder).iter().all(|driver| is_free(driver))
        {
            found.push(folder);
        }
    }
    found
}

/// The folders of the drivers of a run.
fn drivers(run: &Path) -> Vec<PathBuf> {
    let folders = entries(run).map(|entry| entry.path());
    folders
        .filter(|folder| folder.join(LOCK).exists())
        .collect()
}

fn entries(folder: &Path) -> impl Iterator<Item = fs::DirEntry> {
    fs::read_dir(folder).into_iter().flatten().flatten()
}

fn is_ours(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let found = fs::symlink_metadata(folder);
    found.is_ok_and(|found| found.is_dir() && found.uid() == rustix::process::geteuid().as_raw())
}

fn is_free(driver: &Path) -> bool {
    File::open(driver.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok())
}

async fn end(folder: &Path) -> Result<(), DriverError> {
    let driver = ProcessDriver::builder(folder).open().await?;
    driver.stop_all(Duration::ZERO).await;
    for observed in driver.survey().await? {
        driver.remove(&observed.id).await?;
    }
    driver.shutdown().await;
    Ok(())
}

/// Removes a folder in which nothing stands but folders like it and the locks of drivers that are
/// gone. What cannot be removed stays.
pub(super) fn tidy(folder: &Path) {
    for entry in entries(folder).filter(|entry| entry.path().is_dir()) {
        tidy(&entry.path());
    }
    if entries(folder).all(|entry| entry.file_name() == LOCK) {
        let _ = fs::remove_file(folder.join(LOCK));
        let _ = fs::remove_dir(folder);
    }
}

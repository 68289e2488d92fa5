//! The programs of AppBox: what runs in its pods, each a real process.
//!
//! The example's own binary plays every part: the environment variable `APPBOX_PART` says which.

pub(crate) mod blob;
pub(crate) mod gateway;
pub(crate) mod http;
pub(crate) mod storage;
pub(crate) mod worker;

use std::error::Error;

/// The variable that makes the binary play a part instead of running the show.
pub(crate) const PART: &str = "APPBOX_PART";

/// The variable that marks every process of one run with the run's folder.
pub(crate) const RUN: &str = "APPBOX_RUN";

/// Whatever stops a program.
pub(crate) type Fault = Box<dyn Error + Send + Sync>;

/// Plays the part until SIGTERM, then finishes what is under way.
pub(crate) async fn play(part: &str) -> Result<(), Fault> {
    match part {
        "gateway" => gateway::run().await,
        "worker" => worker::run().await,
        "storage" => storage::run().await,
        other => Err(format!("{PART} is {other:?}; the parts are gateway, worker, storage").into()),
    }
}

/// A variable that the pod's manifest must set.
pub(crate) fn env(name: &str) -> Result<String, Fault> {
    std::env::var(name).map_err(|_| format!("{name} is not set; the manifest must set it").into())
}

/// How many processes of the run are still there, by the mark in their environment. Needs `/proc`;
/// elsewhere it finds none.
pub(crate) fn left_behind(folder: &std::path::Path) -> Result<u64, Fault> {
    if !std::path::Path::new("/proc/self/environ").exists() {
        return Ok(0);
    }
    let mark = format!("{RUN}={}", folder.display()).into_bytes();
    let has = |bytes: Vec<u8>| bytes.windows(mark.len()).any(|part| part == mark);
    let mut found = 0;
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        let number = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes()[0].is_ascii_digit());
        if number && std::fs::read(path.join("environ")).is_ok_and(has) {
            found += 1;
        }
    }
    Ok(found)
}

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

//! A worker dies of SIGKILL.

use tokio::time::Instant;

use super::{Act, millis};
use crate::programs::Fault;
use crate::report::Figures;
use crate::stage::{Stage, restarts};
use hyper::Method;

pub(crate) const ACT: Act = Act {
    name: "kill",
    invariant: "a worker killed with SIGKILL runs again, and no client notices",
    play: |stage| Box::pin(play(stage)),
};

async fn play(stage: &mut Stage) -> Result<Figures, Fault> {
    let pods = stage.pods("worker");
    let victim = pods.first().ok_or("there is no worker")?;
    let before = restarts(victim);
    let pid = stage.ask(victim, Method::GET, "/pid").await?;

    let begun = Instant::now();
    let killed = tokio::process::Command::new("kill")
        .args(["-9", pid.trim()])
        .status()
        .await?;
    if !killed.success() {
        return Err(format!("kill -9 {pid} failed").into());
    }
    stage
        .until(&victim.metadata.key(), "restarted", |pod| {
            restarts(pod) > before
                && pod
                    .status
                    .container_statuses
                    .iter()
                    .all(|c| c.state.running().is_some())
        })
        .await?;
    let running = begun.elapsed();
    stage
        .until(&victim.metadata.key(), "ready again", |pod| pod.is_ready())
        .await?;
    let ready = begun.elapsed();
    Ok(Figures::from([
        ("running_again_ms", millis(running)),
        ("ready_again_ms", millis(ready)),
    ]))
}

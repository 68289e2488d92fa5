//! A worker hangs: it runs, and answers nobody.

use hyper::Method;
use tokio::time::Instant;

use super::{Act, millis};
use crate::programs::Fault;
use crate::report::Figures;
use crate::stage::{Stage, restarts};

pub(crate) const ACT: Act = Act {
    name: "hang",
    invariant: "a worker that hangs is caught by its liveness probe and replaced",
    play: |stage| Box::pin(play(stage)),
};

async fn play(stage: &mut Stage) -> Result<Figures, Fault> {
    let pods = stage.pods("worker");
    let victim = pods.last().ok_or("there is no worker")?;
    let before = restarts(victim);

    let begun = Instant::now();
    stage.ask(victim, Method::POST, "/hang").await?;
    stage
        .until(&victim.metadata.key(), "taken out", |pod| !pod.is_ready())
        .await?;
    let out = begun.elapsed();
    stage
        .until(&victim.metadata.key(), "restarted and ready", |pod| {
            restarts(pod) > before && pod.is_ready()
        })
        .await?;
    let healed = begun.elapsed();
    Ok(Figures::from([
        ("out_of_service_ms", millis(out)),
        ("healed_ms", millis(healed)),
    ]))
}

//! A new version of the workers, under traffic.

use std::collections::BTreeSet;

use hyper::Method;
use tokio::time::Instant;

use super::{Act, millis};
use crate::programs::Fault;
use crate::report::Figures;
use crate::stage::{Stage, WORKERS};

pub(crate) const ACT: Act = Act {
    name: "rollout",
    invariant: "workers are replaced by a new version, never fewer than five of six available",
    play: |stage| Box::pin(play(stage)),
};

async fn play(stage: &mut Stage) -> Result<Figures, Fault> {
    let before: BTreeSet<_> = stage
        .pods("worker")
        .iter()
        .map(|pod| pod.metadata.uid)
        .collect();
    let begun = Instant::now();
    stage.apply_workers("2").await?;

    let mut fewest = usize::MAX;
    let ready = stage.ready("worker");
    tokio::pin!(ready);
    loop {
        tokio::select! {
            biased;
            outcome = &mut ready => break outcome?,
            () = tokio::time::sleep(std::time::Duration::from_millis(5)) => {
                let available = stage.pods("worker").iter().filter(|pod| pod.is_ready()).count();
                fewest = fewest.min(available);
            }
        }
    }
    let took = begun.elapsed();
    if fewest < WORKERS as usize - 1 {
        return Err(format!("only {fewest} workers were available at one time").into());
    }
    let pods = stage.pods("worker");
    if pods.iter().any(|pod| before.contains(&pod.metadata.uid)) {
        return Err("an old worker is still there".into());
    }
    for pod in &pods {
        let version = stage.ask(pod, Method::GET, "/version").await?;
        if !version.starts_with("2 ") {
            return Err(format!("{} runs version {version}", pod.metadata.name).into());
        }
    }
    Ok(Figures::from([
        ("rolled_out_ms", millis(took)),
        (
            "fewest_available",
            if fewest == usize::MAX {
                f64::from(WORKERS)
            } else {
                fewest as f64
            },
        ),
    ]))
}

//! An empty cluster becomes AppBox.

use std::collections::BTreeSet;

use tokio::time::Instant;

use super::{Act, millis};
use crate::load::Load;
use crate::programs::Fault;
use crate::report::Figures;
use crate::stage::{Stage, ZONES};

pub(crate) const ACT: Act = Act {
    name: "start",
    invariant: "every part runs as a process and is ready, spread over all three zones",
    play: |stage| Box::pin(play(stage)),
};

async fn play(stage: &mut Stage) -> Result<Figures, Fault> {
    let begun = Instant::now();
    stage.apply_storage().await?;
    stage.apply_workers("1").await?;
    stage.apply_gateways().await?;
    for zone in ZONES {
        stage.ready(&format!("storage-{zone}")).await?;
    }
    stage.ready("worker").await?;
    stage.ready("gateway").await?;
    let took = begun.elapsed();

    let zones: BTreeSet<_> = stage
        .pods("worker")
        .iter()
        .filter_map(|pod| {
            pod.spec
                .node_name
                .strip_prefix("node-")?
                .get(..1)
                .map(str::to_owned)
        })
        .collect();
    if zones.len() < ZONES.len() {
        return Err(format!("the workers stand in zones {zones:?} only").into());
    }
    let gateway = stage.orchestra.address("gateway").await?;
    stage.load = Some(Load::start(&gateway.to_string()));

    let pods = stage.pods("worker").len() + stage.pods("gateway").len() + ZONES.len();
    Ok(Figures::from([
        ("all_ready_ms", millis(took)),
        ("pods", pods as f64),
    ]))
}

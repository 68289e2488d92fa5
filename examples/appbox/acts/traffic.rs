//! Nothing happens but traffic.

use std::time::Duration;

use super::Act;
use crate::programs::Fault;
use crate::report::Figures;
use crate::stage::Stage;

pub(crate) const ACT: Act = Act {
    name: "traffic",
    invariant: "every object reads back as it was written, byte for byte",
    play: |stage| Box::pin(play(stage)),
};

/// How long traffic flows undisturbed.
const SPAN: Duration = Duration::from_secs(5);

async fn play(stage: &mut Stage) -> Result<Figures, Fault> {
    tokio::time::sleep(SPAN).await;
    let tally = stage
        .load
        .as_ref()
        .ok_or("there is no traffic: the start failed")?
        .tally();
    if tally.bytes_checked == 0 {
        return Err("no byte was read back".into());
    }
    Ok(Figures::from([
        (
            "requests_per_second",
            (tally.requests as f64 / SPAN.as_secs_f64()).round(),
        ),
        ("slowest_ms", tally.slowest_ms as f64),
        ("checked_bytes", tally.bytes_checked as f64),
    ]))
}

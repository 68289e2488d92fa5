//! What a simulated world knows ahead about its probes.

use std::fmt;

use orchestra_core::port::probe::ProbeTarget;
use orchestra_core::time::Timestamp;
use tokio::sync::watch;

/// Knows ahead how probes will end, as only a world can whose workloads are a script: a
/// [wheel](super::ProbeWheel) that has it runs no probe whose outcome is known and changes
/// nothing, and counts it as run. A day of probes then costs nothing, and ends as it would have
/// ended.
///
/// # Contract
///
/// * Between now and the instant that [`passes_until`](Self::passes_until) names, not included,
///   every probe of that target would pass at once, unless [`changes`](Self::changes) changes
///   first.
/// * Whatever voids an answer changes the number before time goes on.
pub trait Foresight: fmt::Debug + Send + Sync + 'static {
    /// Until when every probe of `target` passes, and takes no time; [`Timestamp::MAX`] is for
    /// ever. `None` where that is not known: the probe must be run.
    fn passes_until(&self, target: &ProbeTarget) -> Option<Timestamp>;

    /// A number that changes whenever answers given before may no longer hold.
    fn changes(&self) -> watch::Receiver<u64>;
}

const _: Option<&dyn Foresight> = None;

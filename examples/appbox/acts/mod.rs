//! The acts. Each states its invariant, does something to the cluster under traffic, and checks.
//!
//! To add one: a file with a `pub(crate) const ACT: Act`, and a line in [`ALL`].

mod hang;
mod kill;
mod rollout;
mod start;
mod traffic;

use std::pin::Pin;

use crate::programs::Fault;
use crate::report::{ActReport, Figures};
use crate::stage::Stage;

/// The story, in order.
pub(crate) const ALL: &[Act] = &[start::ACT, traffic::ACT, kill::ACT, hang::ACT, rollout::ACT];

type Playing<'a> = Pin<Box<dyn Future<Output = Result<Figures, Fault>> + Send + 'a>>;

/// One act: it fails with the reason if its invariant did not hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Act {
    pub(crate) name: &'static str,
    pub(crate) invariant: &'static str,
    pub(crate) play: for<'a> fn(&'a mut Stage) -> Playing<'a>,
}

impl Act {
    /// Plays it. No act may lose a request, whatever else it promises.
    pub(crate) async fn perform(&self, stage: &mut Stage) -> ActReport {
        let before = stage
            .load
            .as_ref()
            .map(|load| load.tally())
            .unwrap_or_default();
        let outcome = (self.play)(stage).await;
        let after = stage
            .load
            .as_ref()
            .map(|load| load.tally())
            .unwrap_or_default();
        let (mut figures, mut why) = match outcome {
            Ok(figures) => (figures, String::new()),
            Err(fault) => (Figures::new(), fault.to_string()),
        };
        figures.insert("requests", (after.requests - before.requests) as f64);
        for (what, now, then) in [
            ("failed", after.failed, before.failed),
            ("lost", after.lost, before.lost),
            ("corrupt", after.corrupt, before.corrupt),
        ] {
            if now > then && why.is_empty() {
                why = format!("{} requests {what}", now - then);
            }
        }
        let held = why.is_empty();
        ActReport {
            name: self.name,
            invariant: self.invariant,
            held,
            why,
            figures,
        }
    }
}

/// Milliseconds as a figure, to a tenth.
pub(crate) fn millis(span: std::time::Duration) -> f64 {
    (span.as_secs_f64() * 10_000.0).round() / 10.0
}

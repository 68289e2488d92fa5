//! What the audience sees: a live line in a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use crate::load::Tally;
use crate::report::{ActReport, Report};

/// How often the live line is drawn anew.
pub(crate) const FRAME: Duration = Duration::from_millis(200);

/// Writes to standard output.
#[derive(Debug)]
pub(crate) struct Screen {
    live: bool,
}

impl Screen {
    pub(crate) fn new() -> Self {
        Self {
            live: std::io::stdout().is_terminal(),
        }
    }

    /// A line that stays.
    pub(crate) fn line(&self, text: &str) {
        self.put(&format!("{text}\n"));
    }

    /// An act begins.
    pub(crate) fn begins(&self, n: usize, of: usize, name: &str, invariant: &str) {
        self.line(&format!("{n}/{of} {name}: {invariant}"));
    }

    /// Draws the live line; nothing where there is no terminal.
    pub(crate) fn frame(&self, what: &str, seconds: f64, tally: Tally) {
        if self.live {
            self.put(&format!(
                "    {what} … {seconds:.1} s · {} requests, {} failed, {} retried, {} MB checked",
                tally.requests,
                tally.failed,
                tally.retried,
                tally.bytes_checked >> 20
            ));
        }
    }

    /// An act ended.
    pub(crate) fn ends(&self, act: &ActReport) {
        let figures: Vec<String> = act
            .figures
            .iter()
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        let verdict = if act.held { "held" } else { "BROKEN" };
        self.line(&format!("    {verdict} · {}", figures.join(", ")));
        if !act.why.is_empty() {
            self.line(&format!("    {}", act.why));
        }
    }

    /// The whole ended.
    pub(crate) fn closes(&self, report: &Report) {
        let tally = report.tally;
        self.line(&format!(
            "{} of {} invariants held · {} requests: {} failed, {} retried, the slowest {} ms · \
             objects: {} lost, {} corrupt · {} orphans left behind · {:.1} s",
            report.acts.iter().filter(|act| act.held).count(),
            report.acts.len(),
            tally.requests,
            tally.failed,
            tally.retried,
            tally.slowest_ms,
            tally.lost,
            tally.corrupt,
            report.orphans,
            report.seconds
        ));
    }

    fn put(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        // Clears what the live line left; a closed pipe is no reason to stop the show.
        let clear = if self.live { "\r\x1b[2K" } else { "" };
        let _ = write!(out, "{clear}{text}").and_then(|()| out.flush());
    }
}

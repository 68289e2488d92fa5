//! The closing report: what each act promised, and whether it held.

use std::collections::BTreeMap;
use std::io::Write;

use serde::{Serialize, Serializer};

use crate::load::Tally;

/// Named figures of an act, each name ending in its unit.
pub(crate) type Figures = BTreeMap<&'static str, f64>;

/// What became of an act.
#[derive(Debug, Serialize)]
pub(crate) struct ActReport {
    pub(crate) name: &'static str,
    pub(crate) invariant: &'static str,
    pub(crate) held: bool,
    /// Why it did not hold; empty if it did.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) why: String,
    #[serde(serialize_with = "whole_where_whole")]
    pub(crate) figures: Figures,
}

/// Counts as counts: 11, not 11.0.
fn whole_where_whole<S: Serializer>(figures: &Figures, out: S) -> Result<S::Ok, S::Error> {
    let number = |value: f64| match value.fract() == 0.0 {
        true => serde_json::json!(value as i64),
        false => serde_json::json!(value),
    };
    out.collect_map(figures.iter().map(|(name, value)| (name, number(*value))))
}

/// What became of the whole.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) acts: Vec<ActReport>,
    #[serde(flatten)]
    pub(crate) tally: Tally,
    /// Processes of the run that were still there after its end.
    pub(crate) orphans: u64,
    pub(crate) seconds: f64,
    pub(crate) held: bool,
}

impl Report {
    /// Sums up: the whole held if every act did, and nothing failed, was lost, corrupt or left
    /// behind.
    pub(crate) fn new(acts: Vec<ActReport>, tally: Tally, orphans: u64, seconds: f64) -> Self {
        let held = acts.iter().all(|act| act.held)
            && tally.requests > 0
            && tally.failed == 0
            && tally.lost == 0
            && tally.corrupt == 0
            && orphans == 0;
        Self {
            acts,
            tally,
            orphans,
            seconds,
            held,
        }
    }

    /// Writes it as JSON.
    pub(crate) fn write(&self, mut file: std::fs::File) -> std::io::Result<()> {
        let json = serde_json::to_string_pretty(self).map_err(std::io::Error::other)?;
        writeln!(file, "{json}")
    }
}

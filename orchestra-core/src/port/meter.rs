//! Counting and measuring.

use std::fmt;

/// Label names and their values, in a fixed order for each metric.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

/// Takes numbers for whatever collects them.
///
/// # Contract
///
/// * No call blocks, fails or waits; a meter that cannot keep a number drops it.
/// * Calls from many threads add up: no count is lost.
/// * Series are told apart by name and labels.
///
/// The suite `conformance::meter` tests an implementation against this.
pub trait Meter: fmt::Debug + Send + Sync + 'static {
    /// Adds `by` to a counter, which only ever grows. Names end in `_total`.
    fn count(&self, name: &'static str, labels: Labels<'_>, by: u64);

    /// Sets a gauge. Names end in their unit.
    fn gauge(&self, name: &'static str, labels: Labels<'_>, value: f64);

    /// Records one value of a distribution. Names end in their unit, as in `_seconds`.
    fn observe(&self, name: &'static str, labels: Labels<'_>, value: f64);
}

const _: Option<&dyn Meter> = None;

/// Drops every number.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMeter;

impl Meter for NoMeter {
    fn count(&self, _name: &'static str, _labels: Labels<'_>, _by: u64) {}
    fn gauge(&self, _name: &'static str, _labels: Labels<'_>, _value: f64) {}
    fn observe(&self, _name: &'static str, _labels: Labels<'_>, _value: f64) {}
}

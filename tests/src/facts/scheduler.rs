//! Placement: filters, scores, preemption.

use super::Check;

pub(super) fn check_for(_section: &str) -> Option<Check> {
    None
}

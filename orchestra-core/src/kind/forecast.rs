//! What a pod is expected to use, hour by hour.
//!
//! Requests say how much is set aside, not when it is used. Two annotations of a pod give 24 amounts
//! each, for the hours of the day in UTC, separated by commas; whoever knows the history of a service
//! writes them into its pod template.
//!
//! ```
//! use orchestra_core::kind::Pod;
//! use orchestra_core::kind::forecast::{self, Forecast};
//!
//! let day = ["200m"; 12].join(",") + "," + &["2"; 12].join(",");
//! let pod = Pod::builder("shop").annotation(forecast::CPU_ANNOTATION, day);
//! let expected = Forecast::of(&pod).unwrap();
//! assert_eq!(expected.cpu_milli.unwrap()[11..13], [200, 2_000]);
//! assert_eq!(expected.memory, None);
//! ```

use smol_str::SmolStr;

use super::rules::Path;
use super::{Invalid, Pod};
use crate::quantity::Quantity;

/// The annotation that says how much CPU a pod is expected to use, in each hour of the day.
pub const CPU_ANNOTATION: &str = "orchestra.dev/expected-cpu";
/// The annotation that says how much memory a pod is expected to use, in each hour of the day.
pub const MEMORY_ANNOTATION: &str = "orchestra.dev/expected-memory";
/// The hours of a day.
pub const HOURS: usize = 24;
/// The most that counts of either, in thousandths of a core or bytes: 2^53.
pub const EXPECTED_MAX: i64 = 1 << 53;

/// What a pod is expected to use in each hour of the day, in UTC, from midnight. `None` where it
/// does not say: then what it requests.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Forecast {
    /// Thousandths of a core, 0 to [`EXPECTED_MAX`].
    pub cpu_milli: Option<[i64; HOURS]>,
    /// Bytes of memory, 0 to [`EXPECTED_MAX`].
    pub memory: Option<[i64; HOURS]>,
}

impl Forecast {
    /// What a pod's annotations say; `None` if that is nothing. One that says nothing valid (see
    /// [`Pod`]'s rules) counts as not there.
    pub fn of(pod: &Pod) -> Option<Self> {
        let said = |name| pod.metadata.annotations.get(name).map(SmolStr::as_str);
        let forecast = Self {
            cpu_milli: said(CPU_ANNOTATION).and_then(|text| parse(text, Quantity::as_milli)),
            memory: said(MEMORY_ANNOTATION).and_then(|text| parse(text, Quantity::as_int)),
        };
        (forecast != Self::default()).then_some(forecast)
    }
}

fn parse(text: &str, unit: fn(&Quantity) -> i64) -> Option<[i64; HOURS]> {
    let amounts = text.split(',').map(|part| {
        let amount = part.trim().parse::<Quantity>().ok()?;
        Some(unit(&amount)).filter(|amount| (0..=EXPECTED_MAX).contains(amount))
    });
    let amounts: Vec<i64> = amounts.collect::<Option<_>>()?;
    amounts.try_into().ok()
}

/// Refuses annotations of a pod that say nothing valid about what it is expected to use.
pub(super) fn check(invalid: &mut Invalid, pod: &Pod) {
    let metadata = Path::root("metadata");
    let annotations = metadata.field("annotations");
    for (name, unit) in [
        (CPU_ANNOTATION, Quantity::as_milli as fn(&Quantity) -> i64),
        (MEMORY_ANNOTATION, Quantity::as_int),
    ] {
        if let Some(text) = pod.metadata.annotations.get(name)
            && parse(text, unit).is_none()
        {
            let remedy = "write 24 amounts separated by commas, from midnight in UTC on";
            let problem = "gives no amount for each hour of the day";
            invalid.refuse(annotations.key(name), text, problem, remedy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_24_amounts_and_nothing_else_counts() {
        let of = |text: String| {
            let pod = Pod::builder("p").annotation(MEMORY_ANNOTATION, text);
            let mut invalid = Invalid::new();
            check(&mut invalid, &pod);
            (
                Forecast::of(&pod).and_then(|day| day.memory),
                invalid.errors.len(),
            )
        };
        let day = |amount: &str| [amount; HOURS].join(",");
        assert_eq!(of(day("1Ki")), (Some([1 << 10; HOURS]), 0));
        assert_eq!(of(day(" 0 ")), (Some([0; HOURS]), 0));
        for wrong in [
            day("-1"),
            day("x"),
            day("1Ei"),
            day("1") + ",1",
            "1,2".into(),
            "".into(),
        ] {
            assert_eq!(of(wrong.clone()), (None, 1), "{wrong}");
        }
    }
}

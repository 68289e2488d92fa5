//! Tolerations: which taints do not keep a pod away.

use smol_str::SmolStr;

use crate::kind::node::{Taint, TaintEffect};
use crate::kind::wire::{part, words};

part! {
    /// A taint, or many, that does not keep a pod away.
    pub struct Toleration {
        /// The taint's key. Empty, with `Exists`, is every key.
        pub key: SmolStr,
        /// How `value` and the taint's value compare.
        pub operator: TolerationOperator,
        /// What the taint's value is compared with.
        pub value: SmolStr,
        /// The effect; none is every effect.
        pub effect: Option<TaintEffect>,
        /// With `NoExecute`: how long the taint is tolerated, in seconds, from when it was
        /// added. Not said is for ever, zero or less not at all.
        pub toleration_seconds: Option<i64>,
    }
}

words! {
    /// How a toleration's value and a taint's value compare.
    pub enum TolerationOperator {
        /// The taint's value is the same.
        #[default]
        Equal = "Equal",
        /// Whatever the taint's value.
        Exists = "Exists",
        /// The taint's value is a lesser whole number.
        Lt = "Lt",
        /// The taint's value is a greater whole number.
        Gt = "Gt",
    }
}

impl Toleration {
    /// Tolerates every taint of that key.
    pub fn exists(key: impl Into<SmolStr>) -> Self {
        Self {
            key: key.into(),
            operator: TolerationOperator::Exists,
            ..Self::default()
        }
    }

    /// Tolerates taints of that key and value.
    pub fn equal(key: impl Into<SmolStr>, value: impl Into<SmolStr>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
            ..Self::default()
        }
    }

    /// Only that effect.
    #[must_use]
    pub fn effect(mut self, effect: TaintEffect) -> Self {
        self.effect = Some(effect);
        self
    }

    /// Only for so long, in seconds; for `NoExecute`.
    #[must_use]
    pub fn seconds(mut self, seconds: i64) -> Self {
        self.toleration_seconds = Some(seconds);
        self
    }

    /// Whether this taint does not keep the pod away. How long is another question:
    /// `toleration_seconds`.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        if self.effect.is_some_and(|effect| effect != taint.effect) {
            return false;
        }
        if !self.key.is_empty() && self.key != taint.key {
            return false;
        }
        match self.operator {
            TolerationOperator::Exists => true,
            TolerationOperator::Equal => self.value == taint.value,
            TolerationOperator::Lt => self.compares(taint, |taint, own| taint < own),
            TolerationOperator::Gt => self.compares(taint, |taint, own| taint > own),
        }
    }

    /// Values that are not whole numbers never compare.
    fn compares(&self, taint: &Taint, holds: impl Fn(i64, i64) -> bool) -> bool {
        match (whole(&taint.value), whole(&self.value)) {
            (Some(taint), Some(own)) => holds(taint, own),
            _ => false,
        }
    }
}

/// The value as a whole number in its plain form: no plus sign, no leading zero.
pub(super) fn whole(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = text == "0" || (digits.starts_with(|c: char| c.is_ascii_digit() && c != '0'));
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TaintEffect::{NoExecute, NoSchedule};
    use TolerationOperator::{Equal, Exists, Gt, Lt};

    #[test]
    fn a_toleration_fits_by_key_effect_and_operator() {
        let taint = Taint {
            key: "sla".into(),
            value: "950".into(),
            effect: NoSchedule,
            time_added: None,
        };
        for (key, operator, value, effect, tolerates) in [
            ("sla", Equal, "950", None, true),
            ("sla", Equal, "950", Some(NoSchedule), true),
            ("sla", Equal, "950", Some(NoExecute), false),
            ("sla", Equal, "95", None, false),
            ("other", Equal, "950", None, false),
            ("sla", Exists, "", None, true),
            ("", Exists, "", None, true),
            ("", Exists, "", Some(NoExecute), false),
            ("other", Exists, "", None, false),
            ("sla", Gt, "900", None, true),
            ("sla", Gt, "950", None, false),
            ("sla", Lt, "951", None, true),
            ("sla", Lt, "950", None, false),
            ("sla", Gt, "0900", None, false),
            ("sla", Gt, "+9", None, false),
            ("sla", Gt, "many", None, false),
            ("sla", Gt, "-5", None, true),
        ] {
            let (key, value) = (key.into(), value.into());
            let own = Toleration {
                key,
                operator,
                value,
                effect,
                toleration_seconds: None,
            };
            assert_eq!(own.tolerates(&taint), tolerates, "{own:?}");
        }
        let worded = Taint {
            value: "gold".into(),
            ..taint
        };
        let own = Toleration {
            operator: Lt,
            value: "1".into(),
            ..Toleration::exists("sla")
        };
        assert!(!own.tolerates(&worded));
    }
}

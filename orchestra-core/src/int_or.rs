//! Fields that hold a number or a text: percentages and named ports.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;

/// A count, or a percentage of one: `3` or `"25%"`. Never negative; a percentage may pass 100.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IntOrPercent {
    /// A count.
    Int(u32),
    /// Hundredths of a total.
    Percent(u32),
}

/// Which way a percentage that gives no whole number goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rounding {
    /// To the next greater number.
    Up,
    /// To the next smaller number.
    Down,
}

impl IntOrPercent {
    /// The count that this is of `total`; held at `u32::MAX`.
    pub fn resolve(self, total: u32, rounding: Rounding) -> u32 {
        match self {
            Self::Int(count) => count,
            Self::Percent(percent) => {
                let hundredths = u64::from(total) * u64::from(percent);
                let count = match rounding {
                    Rounding::Up => hundredths.div_ceil(100),
                    Rounding::Down => hundredths / 100,
                };
                u32::try_from(count).unwrap_or(u32::MAX)
            }
        }
    }

    /// Whether it is `0` or `0%`.
    pub fn is_zero(self) -> bool {
        matches!(self, Self::Int(0) | Self::Percent(0))
    }
}

impl Default for IntOrPercent {
    fn default() -> Self {
        Self::Int(0)
    }
}

impl From<u32> for IntOrPercent {
    fn from(count: u32) -> Self {
        Self::Int(count)
    }
}

impl fmt::Display for IntOrPercent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// A text is neither a count nor a percentage.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text:?} is neither a count nor a percentage; write it like 3 or \"25%\"")]
pub struct ParseIntOrPercentError {
    text: String,
}

impl FromStr for IntOrPercent {
    type Err = ParseIntOrPercentError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (digits, percent) = match text.strip_suffix('%') {
            Some(digits) => (digits, true),
            None => (text, false),
        };
        let number = digits
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| digits.parse().ok());
        match (number.flatten(), percent) {
            (Some(number), true) => Ok(Self::Percent(number)),
            (Some(number), false) => Ok(Self::Int(number)),
            (None, _) => Err(ParseIntOrPercentError {
                text: text.to_owned(),
            }),
        }
    }
}

impl Serialize for IntOrPercent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Int(count) => serializer.serialize_u32(*count),
            Self::Percent(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for IntOrPercent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = IntOrPercent;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a count of 0 to 4294967295 or a percentage like \"25%\"")
            }

            fn visit_i64<E: de::Error>(self, count: i64) -> Result<IntOrPercent, E> {
                u32::try_from(count)
                    .map(IntOrPercent::Int)
                    .map_err(|_| E::invalid_value(Unexpected::Signed(count), &self))
            }

            fn visit_u64<E: de::Error>(self, count: u64) -> Result<IntOrPercent, E> {
                u32::try_from(count)
                    .map(IntOrPercent::Int)
                    .map_err(|_| E::invalid_value(Unexpected::Unsigned(count), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<IntOrPercent, E> {
                match text.parse() {
                    Ok(percent @ IntOrPercent::Percent(_)) => Ok(percent),
                    // A count is a number; in quotes it is most likely a forgotten percent sign.
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// A number, or a name that stands for one: a port as `8080` or `"http"`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum IntOrString {
    /// The number itself.
    Int(i32),
    /// The name of it.
    String(SmolStr),
}

impl Default for IntOrString {
    fn default() -> Self {
        Self::Int(0)
    }
}

impl From<u16> for IntOrString {
    fn from(number: u16) -> Self {
        Self::Int(i32::from(number))
    }
}

impl From<&str> for IntOrString {
    fn from(name: &str) -> Self {
        Self::String(name.into())
    }
}

impl fmt::Display for IntOrString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => number.fmt(f),
            Self::String(name) => name.fmt(f),
        }
    }
}

impl Serialize for IntOrString {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Int(number) => serializer.serialize_i32(*number),
            Self::String(name) => serializer.serialize_str(name),
        }
    }
}

impl<'de> Deserialize<'de> for IntOrString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = IntOrString;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number like 8080 or a name like \"http\"")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<IntOrString, E> {
                i32::try_from(number)
                    .map(IntOrString::Int)
                    .map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<IntOrString, E> {
                i32::try_from(number)
                    .map(IntOrString::Int)
                    .map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<IntOrString, E> {
                Ok(IntOrString::String(name.into()))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn percentages_round_as_asked_and_never_overflow() {
        let quarter = IntOrPercent::Percent(25);
        for (total, up, down) in [(0, 0, 0), (1, 1, 0), (4, 1, 1), (10, 3, 2)] {
            assert_eq!(quarter.resolve(total, Rounding::Up), up);
            assert_eq!(quarter.resolve(total, Rounding::Down), down);
        }
        assert_eq!(IntOrPercent::Int(7).resolve(3, Rounding::Up), 7);
        assert_eq!(
            IntOrPercent::Percent(u32::MAX).resolve(u32::MAX, Rounding::Up),
            u32::MAX
        );
    }

    #[test]
    fn both_shapes_read_and_write_themselves() {
        for json in ["3", "\"25%\"", "0", "\"150%\""] {
            let value: IntOrPercent = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&value).unwrap(), json);
        }
        for json in ["8080", "\"http\"", "-1"] {
            let value: IntOrString = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&value).unwrap(), json);
        }
    }

    #[test]
    fn other_shapes_are_refused_clearly() {
        for (json, found) in [
            ("-1", "integer `-1`"),
            ("\"25\"", "string \"25\""),
            ("\"-5%\"", "string \"-5%\""),
            ("\"%\"", "string \"%\""),
            ("1.5", "floating point `1.5`"),
            ("4294967296", "integer `4294967296`"),
        ] {
            let error = serde_json::from_str::<IntOrPercent>(json)
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(found) && error.contains("\"25%\""),
                "{json}: {error}"
            );
        }
        assert!(serde_json::from_str::<IntOrString>("3000000000").is_err());
        assert!(serde_json::from_str::<IntOrString>("true").is_err());
    }
}

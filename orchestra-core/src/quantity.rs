//! Amounts: exact integers with Kubernetes' suffixes.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;

/// Amounts by the name of the resource: `cpu`, `memory`, `pods`, `example.com/gpu`.
pub type ResourceList = BTreeMap<SmolStr, Quantity>;

const NANOS: i128 = 1_000_000_000;
/// The largest amount, in billionths: 2^63 - 1 whole units.
const NANOS_MAX: u128 = i64::MAX as u128 * NANOS as u128;
/// The most digits of a number that count, leading zeros and the last zeros of a fraction aside.
const DIGITS_MAX: usize = 34;
/// The most digits behind the point.
const FRACTION_DIGITS_MAX: usize = 44;

/// An amount of something, exact to a billionth and at most 2^63 - 1 either way.
///
/// Reads what Kubernetes reads: `250m`, `1.5`, `2Gi`, `1e3`, `128974848`; finer than a billionth is
/// rounded up (away from zero), larger than 2^63 - 1 is an error. Writes the canonical form: no
/// fraction, the largest suffix that fits, in the family (decimal, binary, exponent) it was read
/// in. Equality, order and hash go by the amount alone: `1` equals `1000m`.
///
/// ```
/// use orchestra_core::quantity::Quantity;
///
/// let cpu: Quantity = "1.5".parse()?;
/// assert_eq!(cpu, Quantity::from_milli(1_500));
/// assert_eq!(cpu.to_string(), "1500m");
/// assert_eq!("2048Mi".parse::<Quantity>()?.to_string(), "2Gi");
/// # Ok::<(), orchestra_core::quantity::ParseQuantityError>(())
/// ```
#[derive(Clone, Copy, Default)]
pub struct Quantity {
    /// Rounded towards minus infinity. With `nanos` always within ± `NANOS_MAX`.
    whole: i64,
    /// Billionths on top, below 10^9.
    nanos: u32,
    family: Family,
}

/// How an amount is written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Family {
    #[default]
    Decimal,
    Binary,
    Exponent,
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self {
        whole: 0,
        nanos: 0,
        family: Family::Decimal,
    };

    /// So many whole units, written with decimal suffixes. `i64::MIN` becomes `-i64::MAX`.
    pub const fn from_int(whole: i64) -> Self {
        let whole = if whole == i64::MIN { -i64::MAX } else { whole };
        Self {
            whole,
            nanos: 0,
            family: Family::Decimal,
        }
    }

    /// So many whole units, written with binary suffixes: memory. `i64::MIN` becomes `-i64::MAX`.
    pub const fn from_bytes(whole: i64) -> Self {
        Self {
            family: Family::Binary,
            ..Self::from_int(whole)
        }
    }

    /// So many thousandths, written with decimal suffixes: CPU.
    pub const fn from_milli(milli: i64) -> Self {
        let nanos = milli.rem_euclid(1_000) as u32 * 1_000_000; // below 10^9
        Self {
            whole: milli.div_euclid(1_000),
            nanos,
            family: Family::Decimal,
        }
    }

    /// Whole units, a rest rounded away from zero.
    pub const fn as_int(&self) -> i64 {
        if self.nanos > 0 && self.whole >= 0 {
            self.whole.saturating_add(1)
        } else {
            self.whole
        }
    }

    /// Thousandths, a rest rounded away from zero; held at the ends of `i64`.
    pub const fn as_milli(&self) -> i64 {
        let rest = if self.whole >= 0 {
            self.nanos.div_ceil(1_000_000)
        } else {
            self.nanos / 1_000_000
        };
        match self.whole.checked_mul(1_000) {
            Some(milli) => milli.saturating_add(rest as i64),
            // The smallest whole may come back into range with its rest.
            None if self.whole < 0 => {
                let milli = self.whole as i128 * 1_000 + rest as i128;
                if milli < i64::MIN as i128 {
                    i64::MIN
                } else {
                    milli as i64
                }
            }
            None => i64::MAX,
        }
    }

    /// Whether it is nothing.
    pub const fn is_zero(&self) -> bool {
        self.whole == 0 && self.nanos == 0
    }

    /// Whether it is less than nothing.
    pub const fn is_negative(&self) -> bool {
        self.whole < 0
    }

    /// The sum, written in the family of `self` (of `other`, if `self` is zero); `None` beyond
    /// 2^63 - 1.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let family = if self.is_zero() {
            other.family
        } else {
            self.family
        };
        Self::from_nanos(self.total_nanos() + other.total_nanos(), family)
    }

    /// The difference, written in the family of `self` (of `other`, if `self` is zero); `None`
    /// beyond 2^63 - 1.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        let family = if self.is_zero() {
            other.family
        } else {
            self.family
        };
        Self::from_nanos(self.total_nanos() - other.total_nanos(), family)
    }

    /// So many times the amount, written in the same family; `None` beyond 2^63 - 1.
    #[must_use]
    pub fn checked_mul(self, times: i64) -> Option<Self> {
        Self::from_nanos(
            self.total_nanos().checked_mul(i128::from(times))?,
            self.family,
        )
    }

    /// Never overflows: at most 2^93 either way.
    fn total_nanos(self) -> i128 {
        i128::from(self.whole) * NANOS + i128::from(self.nanos)
    }

    fn from_nanos(total: i128, family: Family) -> Option<Self> {
        if total.unsigned_abs() > NANOS_MAX {
            return None;
        }
        let whole = i64::try_from(total.div_euclid(NANOS)).ok()?;
        let nanos = u32::try_from(total.rem_euclid(NANOS)).ok()?;
        Some(Self {
            whole,
            nanos,
            family,
        })
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        (self.whole, self.nanos) == (other.whole, other.nanos)
    }
}

impl Eq for Quantity {}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.whole, self.nanos).cmp(&(other.whole, other.nanos))
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for Quantity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.whole, self.nanos).hash(state);
    }
}

impl fmt::Debug for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Quantity({self})")
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Below one kibi, and where a fraction would be lost, binary is written as decimal.
        let binary = self.family == Family::Binary
            && self.nanos == 0
            && !(-1_024 < self.whole && self.whole < 1_024);
        if binary {
            let (mut number, mut power) = (self.whole, 0);
            while number % 1_024 == 0 {
                number /= 1_024;
                power += 1;
            }
            return write!(
                f,
                "{number}{}",
                ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power]
            );
        }
        if self.is_zero() {
            return f.write_str("0");
        }
        let (mut number, mut power) = if self.nanos == 0 {
            (i128::from(self.whole), 3) // spares the division by 10^9
        } else {
            (self.total_nanos(), 0)
        };
        while number % 1_000 == 0 {
            number /= 1_000;
            power += 1;
        }
        match self.family {
            Family::Exponent if power == 3 => write!(f, "{number}"),
            Family::Exponent => write!(f, "{number}e{}", power as i32 * 3 - 9),
            _ => {
                let suffix = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][power];
                write!(f, "{number}{suffix}")
            }
        }
    }
}

/// A text is not an amount.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text:?} is not a quantity: {problem}; {}", problem.remedy())]
pub struct ParseQuantityError {
    text: String,
    problem: QuantityProblem,
}

impl ParseQuantityError {
    /// What is wrong with the text.
    pub fn problem(&self) -> QuantityProblem {
        self.problem
    }
}

/// What is wrong with a text that should be an amount.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantityProblem {
    /// It does not start with a number.
    #[error("it has no number")]
    NoNumber,
    /// What follows the number is none of the suffixes.
    #[error("its suffix is unknown")]
    Suffix,
    /// It is beyond 2^63 - 1.
    #[error("it is too large")]
    Overflow,
    /// It has more digits than any amount needs.
    #[error("it has too many digits")]
    Digits,
}

impl QuantityProblem {
    fn remedy(self) -> &'static str {
        match self {
            Self::NoNumber => "write it like 500m, 1.5 or 2Gi, without spaces",
            Self::Suffix => {
                "use one of n u m k M G T P E, Ki Mi Gi Ti Pi Ei, an exponent like e3, or none"
            }
            Self::Overflow => "the largest amount is 9223372036854775807",
            Self::Digits => "nothing finer than 1n is kept",
        }
    }
}

impl FromStr for Quantity {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map_err(|problem| {
            let text = text.chars().take(80).collect();
            ParseQuantityError { text, problem }
        })
    }
}

fn parse(text: &str) -> Result<Quantity, QuantityProblem> {
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (integer, rest) = unsigned.split_at(digits(unsigned));
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("", rest),
    };
    if integer.is_empty() && fraction.is_empty() {
        return Err(QuantityProblem::NoNumber);
    }
    let (family, tens, kibis) = parse_suffix(suffix)?;
    let fraction = fraction.trim_end_matches('0');
    let mut mantissa: u128 = 0;
    let mut significant = 0;
    for digit in integer.bytes().chain(fraction.bytes()) {
        if mantissa > 0 || digit != b'0' {
            significant += 1;
            if significant > DIGITS_MAX {
                return Err(QuantityProblem::Digits);
            }
        }
        mantissa = mantissa * 10 + u128::from(digit - b'0');
    }
    if fraction.len() > FRACTION_DIGITS_MAX {
        return Err(QuantityProblem::Digits);
    }
    let scale = tens - fraction.len() as i64 + 9; // fraction is short
    let total = scaled(mantissa, scale, kibis).ok_or(QuantityProblem::Overflow)?;
    let total = i128::try_from(total).map_err(|_| QuantityProblem::Overflow)?;
    Quantity::from_nanos(if negative { -total } else { total }, family)
        .ok_or(QuantityProblem::Overflow)
}

/// The family of a suffix, and the powers of 10 and of 1024 it stands for.
fn parse_suffix(suffix: &str) -> Result<(Family, i64, u32), QuantityProblem> {
    let known = match suffix {
        "" => (Family::Decimal, 0, 0),
        "n" => (Family::Decimal, -9, 0),
        "u" => (Family::Decimal, -6, 0),
        "m" => (Family::Decimal, -3, 0),
        "k" => (Family::Decimal, 3, 0),
        "M" => (Family::Decimal, 6, 0),
        "G" => (Family::Decimal, 9, 0),
        "T" => (Family::Decimal, 12, 0),
        "P" => (Family::Decimal, 15, 0),
        "E" => (Family::Decimal, 18, 0),
        "Ki" => (Family::Binary, 0, 1),
        "Mi" => (Family::Binary, 0, 2),
        "Gi" => (Family::Binary, 0, 3),
        "Ti" => (Family::Binary, 0, 4),
        "Pi" => (Family::Binary, 0, 5),
        "Ei" => (Family::Binary, 0, 6),
        _ => {
            let exponent = suffix
                .strip_prefix(['e', 'E'])
                .ok_or(QuantityProblem::Suffix)?;
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(QuantityProblem::Suffix);
            }
            // Past a thousand either way nothing changes any more.
            let size = digits.parse::<i64>().map_or(1_000, |size| size.min(1_000));
            (
                Family::Exponent,
                if exponent.starts_with('-') {
                    -size
                } else {
                    size
                },
                0,
            )
        }
    };
    Ok(known)
}

/// `mantissa` × 10^`tens` × 1024^`kibis`, rounded up; `None` if it does not fit. `mantissa` has at
/// most 34 digits, and `kibis` is 0 wherever `tens` is below -35.
fn scaled(mantissa: u128, tens: i64, kibis: u32) -> Option<u128> {
    if mantissa == 0 {
        return Some(0);
    }
    if tens >= 0 {
        let power = 10_u128.checked_pow(u32::try_from(tens).ok()?)?;
        return mantissa
            .checked_mul(power)?
            .checked_mul(1_024_u128.pow(kibis));
    }
    let tens = u32::try_from(-tens).ok()?;
    if tens as usize > DIGITS_MAX + 1 {
        return Some(1);
    }
    // Divides first, then multiplies quotient and rest side by side: exact without wider integers.
    let divisor = 10_u128.pow(tens);
    let (mut quotient, mut rest) = (mantissa / divisor, mantissa % divisor);
    for _ in 0..kibis {
        rest *= 1_024;
        quotient = quotient.checked_mul(1_024)?.checked_add(rest / divisor)?;
        rest %= divisor;
    }
    quotient.checked_add(u128::from(rest > 0))
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(QuantityVisitor)
    }
}

struct QuantityVisitor;

impl Visitor<'_> for QuantityVisitor {
    type Value = Quantity;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a quantity like \"500m\" or \"2Gi\", or a number")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Quantity, E> {
        if number == i64::MIN {
            return self.visit_str(&number.to_string());
        }
        Ok(Quantity::from_int(number))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Quantity, E> {
        match i64::try_from(number) {
            Ok(number) => Ok(Quantity::from_int(number)),
            Err(_) => self.visit_str(&number.to_string()),
        }
    }

    /// A number with a fraction. Its shortest decimal form is what was written; that is read.
    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Quantity, E> {
        if !number.is_finite() {
            return Err(E::invalid_value(Unexpected::Float(number), &self));
        }
        self.visit_str(&format!("{number:e}")).map(|read| Quantity {
            family: Family::Decimal,
            ..read
        })
    }

    /// `null` is nothing, as in Kubernetes.
    fn visit_unit<E: de::Error>(self) -> Result<Quantity, E> {
        Ok(Quantity::ZERO)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn q(text: &str) -> Quantity {
        text.parse().unwrap()
    }

    #[test]
    fn canonical_forms() {
        for (text, canonical) in [
            ("0", "0"),
            ("-0", "0"),
            ("0Ki", "0"),
            ("0e5", "0"),
            ("500m", "500m"),
            ("0.5", "500m"),
            (".5", "500m"),
            ("5.", "5"),
            ("+1", "1"),
            ("1000m", "1"),
            ("1000", "1k"),
            ("1024", "1024"),
            ("1024Ki", "1Mi"),
            ("1Ki", "1Ki"),
            ("512Ki", "512Ki"),
            ("0.5Ki", "512"),
            ("0.1Ki", "102400m"),
            ("1.5Gi", "1536Mi"),
            ("1e3", "1e3"),
            ("1E3", "1e3"),
            ("1e+2", "100"),
            ("1.5e6", "1500e3"),
            ("100e-3", "100e-3"),
            ("1E", "1E"),
            ("128974848", "128974848"),
            ("129e6", "129e6"),
            ("129M", "129M"),
            ("123Mi", "123Mi"),
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("1e-50", "1e-9"),
            ("-0.1n", "-1n"),
            ("-1.5", "-1500m"),
            ("-2Gi", "-2Gi"),
            ("7Ei", "7Ei"),
            ("9223372036854775807", "9223372036854775807"),
            ("-9223372036854775807", "-9223372036854775807"),
            ("9.223372036854775807E", "9223372036854775807"),
        ] {
            assert_eq!(q(text).to_string(), canonical, "{text}");
            assert_eq!(q(canonical), q(text), "{text}");
        }
    }

    #[test]
    fn refusals_name_text_problem_and_remedy() {
        use QuantityProblem::*;
        for (text, problem) in [
            ("", NoNumber),
            ("-", NoNumber),
            (".", NoNumber),
            (" 1", NoNumber),
            ("Mi", NoNumber),
            ("abc", NoNumber),
            ("--1", NoNumber),
            ("1 ", Suffix),
            ("1i", Suffix),
            ("1mi", Suffix),
            ("1KI", Suffix),
            ("1K", Suffix),
            ("1.1.1", Suffix),
            ("1e", Suffix),
            ("1e1.5", Suffix),
            ("1e+-1", Suffix),
            ("1_000", Suffix),
            ("1µ", Suffix),
            ("8Ei", Overflow),
            ("10E", Overflow),
            ("9223372036854775808", Overflow),
            ("-9223372036854775808", Overflow),
            ("1e999999999999999999999", Overflow),
            ("1.00000000000000000000000000000000000001", Digits),
        ] {
            let error = text.parse::<Quantity>().unwrap_err();
            assert_eq!(error.problem(), problem, "{text}");
        }
        assert_eq!(
            "1X".parse::<Quantity>().unwrap_err().to_string(),
            "\"1X\" is not a quantity: its suffix is unknown; use one of n u m k M G T P E, \
             Ki Mi Gi Ti Pi Ei, an exponent like e3, or none"
        );
    }

    #[test]
    fn rests_round_away_from_zero() {
        for (text, int, milli) in [
            ("1", 1, 1_000),
            ("1m", 1, 1),
            ("1n", 1, 1),
            ("-1n", -1, -1),
            ("1.0001", 2, 1_001),
            ("-1.0001", -2, -1_001),
            ("100u", 1, 1),
            ("9223372036854775807", i64::MAX, i64::MAX),
            ("-9223372036854775807", -i64::MAX, i64::MIN),
            ("9223372036854775.807", 9_223_372_036_854_776, i64::MAX),
            ("-9223372036854775.808", -9_223_372_036_854_776, i64::MIN),
            (
                "-9223372036854775.5",
                -9_223_372_036_854_776,
                -9_223_372_036_854_775_500,
            ),
        ] {
            assert_eq!(
                (q(text).as_int(), q(text).as_milli()),
                (int, milli),
                "{text}"
            );
        }
    }

    #[test]
    fn arithmetic_stops_at_the_ends() {
        let max = Quantity::from_int(i64::MAX);
        assert_eq!(max.checked_add(q("1n")), None);
        assert_eq!(Quantity::from_int(i64::MIN).checked_sub(q("1n")), None);
        assert_eq!(max.checked_mul(2), None);
        assert_eq!(
            q("1Gi").checked_add(q("1Mi")).unwrap().to_string(),
            "1025Mi"
        );
        assert_eq!(q("0").checked_add(q("1Mi")).unwrap().to_string(), "1Mi");
        assert_eq!(q("1").checked_sub(q("1500m")).unwrap().to_string(), "-500m");
        assert!(q("-1n").is_negative() && !q("0").is_negative());
        assert_eq!(Quantity::from_milli(-1_500), q("-1.5"));
    }

    #[test]
    fn json_numbers_and_null_are_read_too() {
        let read = |json: &str| serde_json::from_str::<Quantity>(json);
        for (json, text) in [
            ("2", "2"),
            ("1.5", "1500m"),
            ("\"2Gi\"", "2Gi"),
            ("null", "0"),
        ] {
            assert_eq!(read(json).unwrap().to_string(), text, "{json}");
        }
        assert_eq!(read("0.1").unwrap(), q("100m"));
        for bad in ["true", "[]", "1e30", "18446744073709551615", "\"x\""] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(serde_json::to_string(&q("1024Mi")).unwrap(), "\"1Gi\"");
    }
}

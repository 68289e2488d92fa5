//! An instant, and arithmetic on it that saturates. There is no clock here: see
//! [`Clock`](crate::port::clock::Clock).

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An instant, in whole microseconds since 1970-01-01T00:00:00Z.
///
/// Reads and writes RFC 3339, as Kubernetes' `Time` and `MicroTime` do. All arithmetic saturates,
/// so that a far deadline is a far deadline and never a panic.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);
    /// The last instant that can be written as RFC 3339 (the end of the year 9999), for
    /// "never".
    pub const MAX: Self = Self(253_402_207_200_000_000);
    const MIN: Self = Self(-377_705_023_201_000_000);

    /// The instant `micros` microseconds after the epoch, held within the years -9999 to 9999.
    pub const fn from_micros(micros: i64) -> Self {
        if micros > Self::MAX.0 {
            Self::MAX
        } else if micros < Self::MIN.0 {
            Self::MIN
        } else {
            Self(micros)
        }
    }

    /// The instant `millis` milliseconds after the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self::from_micros(millis.saturating_mul(1_000))
    }

    /// The instant `seconds` seconds after the epoch.
    pub const fn from_secs(seconds: i64) -> Self {
        Self::from_micros(seconds.saturating_mul(1_000_000))
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(self.0.saturating_add(micros))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, span: Duration) -> Self {
        let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(self.0.saturating_sub(micros))
    }
}

/// The longest text of an instant of the years 0 to 9999: `2026-11-23T09:00:00.000001Z`.
const TEXT_BYTES: usize = 27;

const DAY_SECONDS: i64 = 86_400;

/// The text of an instant of the years 0 to 9999.
struct Text {
    bytes: [u8; TEXT_BYTES],
    end: usize,
}

impl Text {
    /// By hand: every stored object carries some of these. `None` for other years.
    fn of(instant: Timestamp) -> Option<Self> {
        let micros = instant.0.rem_euclid(1_000_000);
        let seconds = instant.0.div_euclid(1_000_000);
        let second = seconds.rem_euclid(DAY_SECONDS);
        let (year, month, day) = civil(seconds.div_euclid(DAY_SECONDS));
        if !(0..=9_999).contains(&year) {
            return None;
        }
        let mut bytes = *b"0000-00-00T00:00:00.000000Z";
        let parts = [
            (year, 0..4),
            (month, 5..7),
            (day, 8..10),
            (second / 3_600, 11..13),
            (second / 60 % 60, 14..16),
            (second % 60, 17..19),
            (micros, 20..26),
        ];
        for (mut number, place) in parts {
            for digit in bytes[place].iter_mut().rev() {
                *digit = b"0123456789"[(number % 10) as usize];
                number /= 10;
            }
        }
        // What the fraction says; nothing where there is none.
        let mut last = 25;
        while bytes[last] == b'0' && last > 19 {
            last -= 1;
        }
        let last = if micros == 0 { 18 } else { last };
        bytes[last + 1] = b'Z';
        let end = last + 2;
        Some(Self { bytes, end })
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.end]).unwrap_or_default()
    }
}

/// Year, month and day of the Gregorian calendar, of a day counted from 1970-01-01. By Howard Hinnant's
/// `civil_from_days` (<https://howardhinnant.github.io/date_algorithms.html>).
fn civil(days: i64) -> (i64, i64, i64) {
    // Eras of 400 years that begin on a first of March, so that leap days come last.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = 400 * era + year + i64::from(month <= 2);
    (year, month, day)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.precision().is_none()
            && let Some(text) = Text::of(*self)
        {
            return f.write_str(text.as_str());
        }
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(instant) => instant.fmt(f),
            Err(_) => write!(f, "{}us", self.0), // unreachable within MIN..=MAX
        }
    }
}

/// A text is not an instant in RFC 3339.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text:?} is not an RFC 3339 instant; write it like 2026-11-23T09:00:00Z")]
pub struct ParseTimestampError {
    text: String,
}

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<jiff::Timestamp>()
            .map(|instant| Self::from_micros(instant.as_microsecond()))
            .map_err(|_| ParseTimestampError {
                text: text.to_owned(),
            })
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match Text::of(*self) {
            Some(text) => serializer.serialize_str(text.as_str()),
            None => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::meta::read_text(
            deserializer,
            "an instant like 2026-11-23T09:00:00Z",
            str::parse,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_3339_round_trips() {
        let instant: Timestamp = "2026-11-23T09:00:00.000250Z".parse().expect("valid");
        assert_eq!(instant.to_string(), "2026-11-23T09:00:00.00025Z");
        assert_eq!(instant.to_string().parse(), Ok(instant));
    }

    proptest::proptest! {
        #[test]
        fn texts_are_those_that_jiff_writes(
            micros in Timestamp::MIN.0..=Timestamp::MAX.0,
            recent in -10_000_000_000_000_000..10_000_000_000_000_000_i64,
            round in 0..7_u32,
        ) {
            for micros in [micros, recent] {
                let instant = Timestamp(micros / 10_i64.pow(round) * 10_i64.pow(round));
                let jiff = jiff::Timestamp::from_microsecond(instant.0).expect("within its years");
                let text = jiff.to_string();
                proptest::prop_assert_eq!(serde_json::to_string(&instant).ok(), Some(format!("{text:?}")));
                proptest::prop_assert_eq!(instant.to_string(), text);
            }
        }
    }

    #[test]
    fn the_ends_can_be_written_and_arithmetic_stops_there() {
        for end in [Timestamp::MAX, Timestamp::MIN] {
            assert_eq!(end.to_string().parse(), Ok(end));
        }
        assert_eq!(Timestamp::MAX + Duration::MAX, Timestamp::MAX);
        assert_eq!(Timestamp::EPOCH - Duration::MAX, Timestamp::MIN);
        assert_eq!(Timestamp::EPOCH.since(Timestamp::MAX), Duration::ZERO);
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let error = "yesterday"
            .parse::<Timestamp>()
            .expect_err("not an instant");
        assert!(error.to_string().contains("\"yesterday\""));
    }
}

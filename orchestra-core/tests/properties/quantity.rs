//! Quantities against decimal strings, where nothing can overflow or round by accident.

use orchestra_core::quantity::Quantity;
use proptest::prelude::*;

/// Billionths of the amount, rounded up, as decimal digits with the most significant first.
fn nanos(integer: &str, fraction: &str, tens: i32, kibis: u32) -> String {
    let mut digits: Vec<u32> = format!("{integer}{fraction}")
        .bytes()
        .map(|b| u32::from(b - b'0'))
        .collect();
    for _ in 0..kibis {
        let mut carry = 0;
        for digit in digits.iter_mut().rev() {
            carry += *digit * 1_024;
            *digit = carry % 10;
            carry /= 10;
        }
        while carry > 0 {
            digits.insert(0, carry % 10);
            carry /= 10;
        }
    }
    let shift = tens - i32::try_from(fraction.len()).unwrap() + 9;
    let mut rest = false;
    for _ in 0..shift.unsigned_abs() {
        if shift > 0 {
            digits.push(0);
        } else {
            rest |= digits.pop().is_some_and(|digit| digit > 0);
        }
    }
    let mut text: String = digits.iter().map(ToString::to_string).collect();
    text = text.trim_start_matches('0').to_owned();
    if rest {
        // One more, the way it is done on paper.
        let nines = text.len() - text.trim_end_matches('9').len();
        let kept = &text[..text.len() - nines];
        let bumped = match kept.chars().next_back() {
            Some(last) => {
                let next = last.to_digit(10).unwrap() + 1;
                format!("{}{next}", &kept[..kept.len() - 1])
            }
            None => "1".to_owned(),
        };
        text = bumped + &"0".repeat(nines);
    }
    if text.is_empty() {
        "0".to_owned()
    } else {
        text
    }
}

#[derive(Clone, Debug)]
struct Written {
    text: String,
    negative: bool,
    /// As digits, without sign.
    nanos: String,
}

impl Written {
    /// Billionths, unless they are beyond what a quantity holds.
    fn value(&self) -> Option<i128> {
        let size = self.nanos.parse::<i128>().ok()?;
        let fits = size <= i128::from(i64::MAX) * 1_000_000_000;
        fits.then_some(if self.negative { -size } else { size })
    }
}

fn written() -> impl Strategy<Value = Written> {
    let suffix = prop_oneof![
        prop::sample::select(vec![
            ("n", -9, 0),
            ("u", -6, 0),
            ("m", -3, 0),
            ("", 0, 0),
            ("k", 3, 0),
            ("M", 6, 0),
            ("G", 9, 0),
            ("T", 12, 0),
            ("P", 15, 0),
            ("E", 18, 0),
            ("Ki", 0, 1),
            ("Mi", 0, 2),
            ("Gi", 0, 3),
            ("Ti", 0, 4),
            ("Pi", 0, 5),
            ("Ei", 0, 6),
        ])
        .prop_map(|(suffix, tens, kibis)| (suffix.to_owned(), tens, kibis)),
        (prop::sample::select(vec!["e", "E", "e+"]), 0..25_i32).prop_map(|(e, tens)| (
            format!("{e}{tens}"),
            tens,
            0
        )),
        (-25..0_i32).prop_map(|tens| (format!("e{tens}"), tens, 0)),
    ];
    let sign = prop::sample::select(vec!["", "+", "-"]);
    (sign, "[0-9]{1,19}", prop::option::of("[0-9]{0,14}"), suffix).prop_map(
        |(sign, integer, fraction, (suffix, tens, kibis))| {
            let point = if fraction.is_some() { "." } else { "" };
            let fraction = fraction.unwrap_or_default();
            Written {
                text: format!("{sign}{integer}{point}{fraction}{suffix}"),
                negative: sign == "-",
                nanos: nanos(&integer, &fraction, tens, kibis),
            }
        },
    )
}

/// Rounds away from zero.
fn div_away(nanos: i128, by: i128) -> i64 {
    let size = (nanos.abs() + by - 1) / by;
    let signed = if nanos < 0 { -size } else { size };
    i64::try_from(signed).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
}

proptest! {
    #[test]
    fn reading_agrees_with_paper(written in written()) {
        let read = written.text.parse::<Quantity>();
        match written.value() {
            None => prop_assert!(read.is_err(), "{}", written.text),
            Some(value) => {
                let read = read.unwrap();
                prop_assert_eq!(read.as_int(), div_away(value, 1_000_000_000));
                prop_assert_eq!(read.as_milli(), div_away(value, 1_000_000));
                prop_assert_eq!(read.is_negative(), value < 0);
                prop_assert_eq!(format!("{value}n").parse::<Quantity>().unwrap(), read);
            }
        }
    }

    #[test]
    fn writing_reads_as_the_same_and_is_final(written in written()) {
        if let Ok(read) = written.text.parse::<Quantity>() {
            let canonical = read.to_string();
            let again: Quantity = canonical.parse().unwrap();
            prop_assert_eq!(again, read);
            prop_assert_eq!(again.to_string(), canonical.clone());
            let json = serde_json::to_string(&read).unwrap();
            prop_assert_eq!(json.clone(), format!("\"{canonical}\""));
            prop_assert_eq!(serde_json::from_str::<Quantity>(&json).unwrap(), read);
        }
    }

    #[test]
    fn order_and_arithmetic_agree_with_paper(one in written(), other in written(), times in -9_i64..9) {
        if let (Some(a), Some(b)) = (one.value(), other.value()) {
            let (x, y): (Quantity, Quantity) = (one.text.parse().unwrap(), other.text.parse().unwrap());
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            let exactly = |nanos: i128| format!("{nanos}n").parse::<Quantity>().ok();
            prop_assert_eq!(x.checked_add(y), exactly(a + b));
            prop_assert_eq!(x.checked_sub(y), exactly(a - b));
            prop_assert_eq!(x.checked_mul(times), exactly(a * i128::from(times)));
        }
    }

    #[test]
    fn milli_and_int_come_back(number: i64) {
        prop_assert_eq!(Quantity::from_milli(number).as_milli(), number);
        prop_assert_eq!(Quantity::from_int(number).as_int(), number.max(-i64::MAX));
        prop_assert_eq!(Quantity::from_bytes(number), Quantity::from_int(number));
    }
}

//! Durations as people write them: `500ms`, `10s`, `1m30s`, `2h`; a bare number is seconds.

use std::time::Duration;

/// The units, largest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// What is accepted, for messages.
pub(crate) const FORM: &str = "a duration such as 500ms, 10s, 1m30s, 2h, or a number of seconds";

/// Reads a duration. Each unit may stand once, larger before smaller; fractions are allowed (`1.5s`, `.5`).
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let refuse = || format!("{text:?} is not {FORM}");
    if text.is_empty() {
        return Err(refuse());
    }
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return millis(text, 1_000).map(Duration::from_millis).ok_or_else(refuse);
    }
    let (mut rest, mut total, mut last_unit) = (text, 0_u64, u64::MAX);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(refuse)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (name, tail) = tail.split_at(letters);
        let unit = UNITS.iter().find(|(known, _)| *known == name).map(|(_, unit)| *unit).ok_or_else(refuse)?;
        if unit >= last_unit {
            return Err(refuse());
        }
        total = millis(number, unit).and_then(|n| total.checked_add(n)).ok_or_else(refuse)?;
        (rest, last_unit) = (tail, unit);
    }
    Ok(Duration::from_millis(total))
}

/// `number` of `unit`, in milliseconds; what is finer than a millisecond is rounded up, so that no time-out is
/// shorter than asked for.
fn millis(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    if number.ends_with('.') {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.checked_mul(unit)? };
    let scale = 10_u64.pow(u32::try_from(fraction.len()).ok()?);
    let part = if fraction.is_empty() { 0 } else { fraction.parse::<u64>().ok()? };
    let part = u128::from(part) * u128::from(unit);
    let rounded = part.div_ceil(u128::from(scale));
    whole.checked_add(u64::try_from(rounded).ok()?)
}

/// Writes a duration so that [`parse`] reads the same milliseconds back.
pub(crate) fn format(duration: Duration) -> String {
    let mut left = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if left == 0 {
        return "0s".into();
    }
    let mut out = String::new();
    for (name, unit) in UNITS {
        if left >= unit {
            out.push_str(&format!("{}{name}", left / unit));
            left %= unit;
        }
    }
    out
}

/// An age in one unit, for tables: `5s`, `3m`, `2h`, `4d`.
pub(crate) fn short(duration: Duration) -> String {
    let secs = duration.as_secs();
    match secs {
        0..60 => format!("{secs}s"),
        60..3_600 => format!("{}m", secs / 60),
        3_600..86_400 => format!("{}h", secs / 3_600),
        _ => format!("{}d", secs / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_read_as_the_contract_says() {
        let cases = [
            ("500ms", 500),
            ("10s", 10_000),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("7", 7_000),
            ("1.5s", 1_500),
            ("0", 0),
            ("0.0004", 1),
            (".5", 500),
            (".25m", 15_000),
            ("1m.5s", 60_500),
        ];
        for (text, millis) in cases {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in [
            "",
            "s",
            "-1",
            "1x",
            "1s1m",
            "1s1s",
            "ten",
            "1 s",
            "1.",
            ".",
            ".s",
            "1..5s",
            "99999999999999999999",
            "1m30",
            "1e3",
            "+5",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(millis in 0..u64::MAX / 2) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }

        #[test]
        fn no_text_makes_the_parser_fail_otherwise(text in "[0-9a-z. -]{0,24}") {
            let _parsed = parse(&text);
        }
    }
}

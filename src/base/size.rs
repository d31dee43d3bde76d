//! Sizes in bytes as people write them: `512m`, `2g`, `1048576`. Units are powers of 1024.

/// What is accepted, for messages.
pub(crate) const FORM: &str = "a size such as 1048576, 512k, 64m or 2g";

/// The suffixes and the shift each stands for.
const UNITS: [(char, u32); 5] = [('t', 40), ('g', 30), ('m', 20), ('k', 10), ('b', 0)];

/// Reads a size in bytes: a whole number and at most one of `b k m g t`, in either case.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let refuse = || format!("{text:?} is not {FORM}");
    let lower = text.to_ascii_lowercase();
    let (number, shift) = match UNITS.iter().find(|(unit, _)| lower.ends_with(*unit)) {
        Some((_, shift)) => (&lower[..lower.len() - 1], *shift),
        None => (lower.as_str(), 0),
    };
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(refuse());
    }
    let number = number.parse::<u64>().map_err(|_| refuse())?;
    number.checked_mul(1 << shift).ok_or_else(refuse)
}

/// A size for people: `1.4 GiB`.
pub(crate) fn human(bytes: u64) -> String {
    const NAMES: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut tenths = u128::from(bytes) * 10;
    while tenths >= 10_240 && unit + 1 < NAMES.len() {
        tenths /= 1_024;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{}.{} {}", tenths / 10, tenths % 10, NAMES[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_read_as_the_contract_says() {
        for (text, bytes) in
            [("512m", 512 << 20), ("2g", 2 << 30), ("1048576", 1 << 20), ("1K", 1024), ("0", 0), ("3b", 3)]
        {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for bad in ["", "m", "-1", "1x", "1.5g", "1 m", "16777216t", "99999999999999999999", "0x10", "1mb", "é"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(human(1_500_000_000), "1.3 GiB");
        assert_eq!(human(12), "12 B");
    }

    proptest! {
        #[test]
        fn every_number_of_bytes_is_a_size(bytes: u64) {
            prop_assert_eq!(parse(&bytes.to_string()), Ok(bytes));
        }

        #[test]
        fn no_text_makes_the_parser_fail_otherwise(text in ".{0,24}") {
            let _parsed = parse(&text);
        }
    }
}

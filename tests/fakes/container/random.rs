//! Random numbers: names, addresses, and the order of what has none.

/// So many random bytes as hex digits.
pub fn hex(bytes: usize) -> String {
    fosse::base::id::random_hex(bytes).unwrap_or_else(|error| crate::give_up(&format!("random numbers: {error}")))
}

/// A random number below a limit that is not 0.
pub fn below(limit: u64) -> u64 {
    u64::from_str_radix(&hex(7), 16).unwrap_or_default() % limit
}

pub fn shuffle<T>(items: &mut [T]) {
    for at in (1..items.len()).rev() {
        let limit = u64::try_from(at + 1).unwrap_or(1);
        items.swap(at, usize::try_from(below(limit)).unwrap_or_default());
    }
}

/// A UUID in lower case.
pub fn uuid() -> String {
    let hex = hex(16);
    format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}

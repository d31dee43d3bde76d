//! The search for the few bytes that mean something, in many that do not.

const LOW: u64 = u64::from_ne_bytes([0x01; 8]);
const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);

/// Where the first of `wanted` is. Eight bytes are looked at at once, by hand: a build that is optimized for size
/// makes no vectors of a loop.
pub(super) fn find<const N: usize>(bytes: &[u8], wanted: [u8; N]) -> Option<usize> {
    let repeated = wanted.map(|byte| u64::from_ne_bytes([byte; 8]));
    let mut words = bytes.chunks_exact(8);
    let mut before = 0;
    for eight in &mut words {
        // Each has eight bytes.
        let word = u64::from_ne_bytes(eight.try_into().unwrap_or_default());
        let found = repeated.iter().fold(0, |found, wanted| {
            // A byte that is wanted becomes zero; the rest of the line is not zero if and only if a byte is.
            let difference = word ^ wanted;
            found | (difference.wrapping_sub(LOW) & !difference & HIGH)
        });
        if found != 0 {
            break;
        }
        before += 8;
    }
    let rest = bytes.get(before..)?;
    rest.iter().position(|byte| wanted.contains(byte)).map(|at| before + at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_finds_what_a_look_at_every_byte_finds(bytes in proptest::collection::vec(0_u8..=255, 0..80), wanted: [u8; 3]) {
            prop_assert_eq!(find(&bytes, wanted), bytes.iter().position(|byte| wanted.contains(byte)));
        }
    }

    #[test]
    fn neighbours_of_what_is_wanted_are_told_apart() {
        for wanted in 0..=255_u8 {
            for (at, other) in [(0, 1), (3, 0x80), (7, 0xff), (8, 1), (15, 0x81)] {
                let mut bytes = [wanted.wrapping_add(other); 20];
                assert_eq!(find(&bytes, [wanted]), None, "{wanted}");
                bytes[at] = wanted;
                assert!(find(&bytes, [wanted, wanted ^ 0x55]).is_some_and(|found| found <= at), "{wanted}");
                assert_eq!(find(&bytes, [wanted]), Some(at), "{wanted}");
            }
        }
    }
}

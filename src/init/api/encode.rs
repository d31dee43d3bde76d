//! A command's bytes in JSON, as text or as base64, straight into the reply.

use std::fmt;

use serde::{Serialize, Serializer};

/// Bytes that become a JSON string.
pub(super) enum Bytes<'a> {
    Text(&'a str),
    Base64(Base64<'a>),
}

/// A reply's streams: all as text if all are, otherwise all as base64; and which it is.
pub(super) fn encode<const N: usize>(streams: [Option<&[u8]>; N]) -> ([Option<Bytes<'_>>; N], bool) {
    let texts = streams.map(|bytes| bytes.map(std::str::from_utf8));
    if texts.iter().flatten().all(Result::is_ok) {
        (texts.map(|text| text.and_then(Result::ok).map(Bytes::Text)), true)
    } else {
        (streams.map(|bytes| bytes.map(|bytes| Bytes::Base64(Base64(bytes)))), false)
    }
}

impl Bytes<'_> {
    /// How many bytes the JSON string has, without its quotes.
    pub fn encoded_len(&self) -> usize {
        match self {
            Bytes::Text(text) => text.bytes().map(|byte| usize::from(ESCAPED_LEN[usize::from(byte)])).sum(),
            Bytes::Base64(Base64(bytes)) => bytes.len().div_ceil(3) * 4,
        }
    }
}

/// How long each byte is in a JSON string. A table, for it is looked up for every byte of up to 16 MiB.
const ESCAPED_LEN: [u8; 256] = {
    let mut lengths = [1; 256];
    let mut byte = 0;
    while byte < 0x20 {
        lengths[byte] = match byte as u8 {
            b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
            _ => 6,
        };
        byte += 1;
    }
    lengths[b'"' as usize] = 2;
    lengths[b'\\' as usize] = 2;
    lengths
};

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Bytes::Text(text) => serializer.serialize_str(text),
            Bytes::Base64(bytes) => serializer.collect_str(bytes),
        }
    }
}

/// Bytes as base64 (RFC 4648, section 4, padded).
pub(super) struct Base64<'a>(&'a [u8]);

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

impl fmt::Display for Base64<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In pieces, each without padding but the last, so that the text is nowhere as a whole.
        for piece in self.0.chunks(768) {
            let mut text = [b'='; 1024];
            for (three, four) in piece.chunks(3).zip(text.chunks_exact_mut(4)) {
                let bits = match *three {
                    [a, b, c] => u32::from_be_bytes([0, a, b, c]),
                    [a, b] => u32::from_be_bytes([0, a, b, 0]),
                    [a] => u32::from_be_bytes([0, a, 0, 0]),
                    _ => 0,
                };
                let digit = |shift: u32| ALPHABET[(bits >> shift) as usize & 63];
                four[0] = digit(18);
                four[1] = digit(12);
                if three.len() > 1 {
                    four[2] = digit(6);
                }
                if three.len() > 2 {
                    four[3] = digit(0);
                }
            }
            let length = piece.len().div_ceil(3) * 4;
            f.write_str(std::str::from_utf8(&text[..length]).map_err(|_| fmt::Error)?)?;
        }
        Ok(())
    }
}

/// The bytes without a character that is cut off at their end.
pub(super) fn whole_characters(bytes: &[u8]) -> &[u8] {
    // The character's first byte is among the last three; only there is looked, for there may be much.
    let tail = bytes.len().saturating_sub(3);
    let Some(at) = bytes[tail..].iter().rposition(|byte| byte & 0xc0 != 0x80) else { return bytes };
    match std::str::from_utf8(&bytes[tail + at..]) {
        Err(error) if error.error_len().is_none() => &bytes[..tail + at],
        _ => bytes,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(text: &str) -> Vec<u8> {
        let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
        for digit in text.bytes().filter(|digit| *digit != b'=') {
            bits = bits << 6 | u32::try_from(ALPHABET.iter().position(|known| *known == digit).unwrap()).unwrap();
            count += 6;
            if count >= 8 {
                count -= 8;
                bytes.push((bits >> count & 0xff) as u8);
            }
        }
        bytes
    }

    #[test]
    fn base64_is_what_the_rfc_says() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(Base64(bytes.as_bytes()).to_string(), text);
        }
        assert_eq!(Base64(b"\xfb\xff\xbf").to_string(), "+/+/");
    }

    #[test]
    fn only_a_character_that_is_cut_off_is_left_out() {
        for (bytes, length) in [
            (&b""[..], 0),
            (b"abc", 3),
            (b"ab\xc3", 2),
            (b"\xc3\xa9", 2),
            (b"a\xe2\x82", 1),
            (b"a\xe2\x82\xac", 4),
            (b"a\xf0\x9f\x98", 1),
            (b"a\xf0\x9f\x98\x80", 5),
            (b"\xf0", 0),
            (b"a\xff", 2),
            (b"a\x80", 2),
            (b"\x80\x80\x80\x80", 4),
            (b"a\xc3\xa9\xa9", 4),
            (b"\xff\xc3", 1),
        ] {
            assert_eq!(whole_characters(bytes).len(), length, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn base64_loses_nothing(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let text = Base64(&bytes).to_string();
            prop_assert_eq!(text.len(), Bytes::Base64(Base64(&bytes)).encoded_len());
            prop_assert_eq!(decode(&text), bytes);
        }

        #[test]
        fn the_length_of_text_is_foreseen(text: String) {
            let written = serde_json::to_string(&Bytes::Text(&text)).unwrap();
            prop_assert_eq!(written.len(), Bytes::Text(&text).encoded_len() + 2);
        }

        #[test]
        fn text_cut_anywhere_stays_text(text: String, at: prop::sample::Index) {
            let cut = &text.as_bytes()[..at.index(text.len() + 1)];
            prop_assert!(std::str::from_utf8(whole_characters(cut)).is_ok());
            prop_assert!(cut.len() - whole_characters(cut).len() <= 3);
        }
    }
}

//! A command's bytes in JSON, as text or as base64. A reply is made piece by piece while it is sent: as a whole it
//! would be up to six times as large as what it says, and take its time.

use std::collections::VecDeque;

use crate::base::base64;

/// How many bytes of a command's make a piece; a multiple of three, for base64.
const PIECE: usize = 24 << 10;

/// A JSON body with a command's bytes in it. It gives its pieces in their order.
pub struct Body {
    parts: VecDeque<Part>,
    length: usize,
}

enum Part {
    /// As it is.
    Json(Vec<u8>),
    /// To be written in this form, from there on.
    Bytes(Vec<u8>, usize, Form),
}

/// How bytes are written in a JSON string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Base64,
}

/// The form of a reply's streams: text if all are, otherwise base64.
pub(super) fn form_of<'a>(mut streams: impl Iterator<Item = &'a [u8]>) -> Form {
    if streams.all(|bytes| std::str::from_utf8(bytes).is_ok()) { Form::Text } else { Form::Base64 }
}

impl Body {
    pub(super) fn new() -> Body {
        Body { parts: VecDeque::new(), length: 0 }
    }

    /// Adds JSON as it is.
    pub(super) fn json(&mut self, text: &str) {
        self.length += text.len();
        self.parts.push_back(Part::Json(text.as_bytes().to_vec()));
    }

    /// Adds a string with these bytes.
    pub(super) fn string(&mut self, bytes: Vec<u8>, form: Form) {
        self.json("\"");
        self.length += match form {
            Form::Text => bytes.iter().map(|byte| usize::from(ESCAPED_LEN[usize::from(*byte)])).sum(),
            Form::Base64 => bytes.len().div_ceil(3) * 4,
        };
        self.parts.push_back(Part::Bytes(bytes, 0, form));
        self.json("\"");
    }

    /// How many bytes all pieces have that have not been given yet.
    pub fn left(&self) -> usize {
        self.length
    }
}

impl Iterator for Body {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut piece = Vec::new();
        while piece.len() < PIECE {
            match self.parts.front_mut() {
                None => break,
                Some(Part::Json(json)) => piece.append(json),
                Some(Part::Bytes(bytes, at, form)) if *at < bytes.len() => {
                    let end = bytes.len().min(*at + PIECE);
                    write(&bytes[*at..end], *form, &mut piece);
                    *at = end;
                    continue;
                }
                Some(Part::Bytes(..)) => {}
            }
            self.parts.pop_front();
        }
        self.length -= piece.len();
        (!piece.is_empty()).then_some(piece)
    }
}

fn write(bytes: &[u8], form: Form, out: &mut Vec<u8>) {
    match form {
        Form::Text => escape(bytes, out),
        Form::Base64 => base64::append(bytes, out),
    }
}

/// Writes text as it stands in a JSON string (RFC 8259, section 7).
fn escape(text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut rest = text;
    while let Some(plain) = rest.iter().position(|byte| ESCAPED_LEN[usize::from(*byte)] > 1) {
        out.extend_from_slice(&rest[..plain]);
        let mut short = |letter| out.extend_from_slice(&[b'\\', letter]);
        match rest[plain] {
            byte @ (b'"' | b'\\') => short(byte),
            b'\n' => short(b'n'),
            b'\r' => short(b'r'),
            b'\t' => short(b't'),
            0x08 => short(b'b'),
            0x0c => short(b'f'),
            byte => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
        rest = &rest[plain + 1..];
    }
    out.extend_from_slice(rest);
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
            bits = (bits << 6)
                | u32::try_from(base64::ALPHABET.iter().position(|known| *known == digit).unwrap()).unwrap();
            count += 6;
            if count >= 8 {
                count -= 8;
                bytes.push(((bits >> count) & 0xff) as u8);
            }
        }
        bytes
    }

    fn written(bytes: &[u8], form: Form) -> String {
        let mut out = Vec::new();
        write(bytes, form, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_length_is_foreseen_and_no_piece_is_large() {
        let all: Vec<u8> = (0..=255).cycle().take(200_001).collect();
        let text: Vec<u8> = all.iter().map(|byte| byte & 0x7f).collect();
        for (bytes, form) in [(vec![0; 200_000], Form::Text), (text, Form::Text), (all, Form::Base64)] {
            let mut body = Body::new();
            body.string(bytes.clone(), form);
            let length = body.left();
            let mut whole = String::from("\"");
            for piece in body.by_ref() {
                assert!(piece.len() <= 6 * PIECE + PIECE);
                whole.push_str(std::str::from_utf8(&piece[usize::from(whole.len() == 1)..]).unwrap());
            }
            assert_eq!((whole.len(), body.left()), (length, 0));
            assert_eq!(whole, format!("\"{}\"", written(&bytes, form)));
        }
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
            prop_assert_eq!(decode(&written(&bytes, Form::Base64)), bytes);
        }

        #[test]
        fn text_is_escaped_as_another_library_does(text: String) {
            let mut body = Body::new();
            body.string(text.clone().into_bytes(), Form::Text);
            let all = body.collect::<Vec<_>>().concat();
            prop_assert_eq!(String::from_utf8(all).unwrap(), serde_json::to_string(&text).unwrap());
        }

        #[test]
        fn text_cut_anywhere_stays_text(text: String, at: prop::sample::Index) {
            let cut = &text.as_bytes()[..at.index(text.len() + 1)];
            prop_assert!(std::str::from_utf8(whole_characters(cut)).is_ok());
            prop_assert!(cut.len() - whole_characters(cut).len() <= 3);
        }
    }
}

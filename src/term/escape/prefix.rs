//! The key that opens the escape, as the option names it and as terminals report it.

use std::fmt;

use super::key::{CTRL, Key, SHIFT};

/// What is accepted, for messages.
pub const FORM: &str = "none, or ^ and the character of a Ctrl key, such as ^/ or ^]";

/// Characters that most keyboards give with Shift only, and their keys on the common one: a terminal reports
/// Ctrl, Shift and the key, and names the character only if it was asked for.
const WITH_SHIFT: [(u8, u8); 3] = [(b'_', b'-'), (b'^', b'6'), (b'@', b'2')];

/// A Ctrl key. The default is Ctrl and `/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// The character of the key, without Shift where it is a letter.
    character: u8,
}

impl Default for Prefix {
    fn default() -> Self {
        Prefix { character: b'/' }
    }
}

/// Reads the option: no prefix, or one in caret notation.
pub fn parse(text: &str) -> Result<Option<Prefix>, String> {
    let refuse = |why: &str| Err(format!("{text:?} {why}; it is {FORM}"));
    match text.as_bytes() {
        b"none" => Ok(None),
        b"^[" => refuse("is Esc, with which every other key begins"),
        b"^?" => refuse("is the backspace key"),
        [b'^', character @ (b'a'..=b'z' | b'A'..=b'Z' | b'@' | b'\\' | b']' | b'^' | b'_' | b'/')] => {
            Ok(Some(Prefix { character: character.to_ascii_lowercase() }))
        }
        _ => refuse("is no Ctrl key"),
    }
}

impl Prefix {
    /// The byte that a terminal sends for it unless it was told otherwise.
    pub fn byte(self) -> u8 {
        // Ctrl takes the three highest bits away; `/` is an exception of old, and shares its byte with `_`.
        if self.character == b'/' { 0x1f } else { self.character & 0x1f }
    }

    /// Whether the key is it, pressed or repeated or released.
    pub(super) fn is(self, key: &Key) -> bool {
        let character = u32::from(self.character);
        let code = key.code == Some(character);
        if key.modifiers == CTRL {
            return code;
        }
        if key.modifiers != CTRL | SHIFT || self.character.is_ascii_lowercase() {
            return false;
        }
        // Ctrl and Shift and a key that gives the character with Shift, as 7 gives `/` on many keyboards.
        let is_known = |(with, without): &(u8, u8)| *with == self.character && key.code == Some(u32::from(*without));
        match key.shifted {
            Some(shifted) => shifted == character,
            None => (code && key.other_keys) || WITH_SHIFT.iter().any(is_known),
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "^{}", char::from(self.character))
    }
}

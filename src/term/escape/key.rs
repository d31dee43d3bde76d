//! Keys that a terminal reports as control sequences, read from their bytes.
//!
//! With the kitty keyboard protocol: `ESC [ code:shifted:base ; modifiers:event ; text u`, everything but the code
//! left out at will; a key that has a number or letter of old keeps it (`ESC [ 1 ; modifiers:event A`). With xterm's
//! modifyOtherKeys: `ESC [ 27 ; modifiers ; code ~`, without events.

/// The most bytes that a sequence may have and be looked at: kitty's longest are shorter by half.
pub(super) const MAX: usize = 48;

const CAPS_LOCK: u32 = 64;
const NUM_LOCK: u32 = 128;
pub(super) const SHIFT: u32 = 1;
pub(super) const CTRL: u32 = 4;

/// What became of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Press,
    Repeat,
    Release,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    /// The character that it gives without Shift; with modifyOtherKeys the one that it gives. `None`: a key that is
    /// known by the end of its sequence.
    pub(crate) code: Option<u32>,
    /// The character that it gives with Shift, where the terminal says so.
    pub(crate) shifted: Option<u32>,
    /// The modifiers as bits, those that are locked left out.
    pub(crate) modifiers: u32,
    pub(crate) event: Event,
    /// It was reported as modifyOtherKeys does.
    pub(crate) other_keys: bool,
}

impl Key {
    /// The key of an ASCII character, pressed alone.
    pub(crate) fn is_plain(&self, byte: u8) -> bool {
        self.code == Some(u32::from(byte)) && self.modifiers == 0 && self.event == Event::Press
    }

    /// Shift, Ctrl and their like, which are keys of their own once all keys are reported.
    pub(crate) fn is_modifier(&self) -> bool {
        matches!(self.code, Some(57_358..=57_360 | 57_441..=57_454))
    }
}

/// What bytes that begin with an escape byte are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// They may become anything of the others.
    Part,
    /// A key, and the bytes it took.
    Key(Key, usize),
    /// Something that the terminal tells of itself and no key: the mouse or the focus; and the bytes it took.
    Report(usize),
    /// So many bytes are nothing that is known here. The byte after them begins something new.
    Other(usize),
}

/// Reads what `bytes` begin with, an escape byte being the first.
pub(super) fn read(bytes: &[u8]) -> Read {
    let Some(second) = bytes.get(1) else { return Read::Part };
    if *second != b'[' {
        return Read::Other(1);
    }
    let mouse = bytes.get(2) == Some(&b'<');
    let start = if mouse { 3 } else { 2 };
    let is_parameter = |byte: &u8| matches!(byte, b'0'..=b';');
    let length = bytes.iter().skip(start).take_while(|byte| is_parameter(byte)).count();
    let end = start + length;
    if end >= MAX {
        return Read::Other(MAX);
    }
    let Some(last) = bytes.get(end) else { return Read::Part };
    match (last, mouse) {
        (b'M' | b'm', true) => Read::Report(end + 1),
        (b'I' | b'O', false) if length == 0 => Read::Report(end + 1),
        (0x40..=0x7e, false) if length > 0 => match key(&bytes[start..end], *last) {
            Some(key) => Read::Key(key, end + 1),
            None => Read::Other(end + 1),
        },
        _ => Read::Other(end),
    }
}

/// The key of a sequence, if it is one.
fn key(parameters: &[u8], last: u8) -> Option<Key> {
    let mut fields = parameters.split(|byte| *byte == b';');
    let mut codes = fields.next()?.split(|byte| *byte == b':').map(number);
    let first = codes.next()??;
    let shifted = codes.next().flatten();
    let mut state = fields.next().unwrap_or_default().split(|byte| *byte == b':').map(number);
    let modifiers = state.next().flatten().unwrap_or(1).checked_sub(1)? & !(CAPS_LOCK | NUM_LOCK);
    let event = match state.next().flatten() {
        None | Some(1) => Event::Press,
        Some(2) => Event::Repeat,
        Some(3) => Event::Release,
        Some(_) => return None,
    };
    let key = Key { code: None, shifted, modifiers, event, other_keys: false };
    match last {
        b'u' => Some(Key { code: Some(first), ..key }),
        b'~' if first == 27 => Some(Key { code: number(fields.next()?), shifted: None, other_keys: true, ..key }),
        _ => Some(key),
    }
}

/// A number of at most seven digits.
fn number(digits: &[u8]) -> Option<u32> {
    let fits = !digits.is_empty() && digits.len() <= 7;
    fits.then(|| digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit.wrapping_sub(b'0'))))
}

/// Whether the part of a sequence may yet become one whose key `fits`, if it is pressed.
pub(super) fn may_become(part: &[u8], fits: impl Fn(&Key) -> bool) -> bool {
    let parameters = part.get(2..).unwrap_or_default();
    let mut fields = parameters.split(|byte| *byte == b';');
    let (first, second, third) = (fields.next().unwrap_or_default(), fields.next(), fields.next());
    let fits = |parameters, modifiers: Option<u32>| {
        let key = key(parameters, b'u');
        key.is_some_and(|key| fits(&Key { event: Event::Press, modifiers: modifiers.unwrap_or(key.modifiers), ..key }))
    };
    match (second, third) {
        _ if first.first() == Some(&b'<') => false,
        // Any code may be followed by the character that the key gives with Shift.
        (None, _) => true,
        _ if first == b"27" => true,
        (Some(_), None) => fits(first, Some(CTRL)) || fits(first, Some(CTRL | SHIFT)),
        (Some(_), Some(_)) => fits(parameters, None),
    }
}

//! Control sequences, told apart in a stream of text, wherever it is cut and in memory of fixed size.
//!
//! This is the state machine that terminals since the VT500 share. Bytes of 0x80 and above are text: the streams
//! are UTF-8, in which they are parts of characters and never controls. Strings (titles, colours, images) are
//! skipped. An escape byte ends one whatever follows it, as in most terminals: where it is in fact a part of the
//! string, something may be undone that was never done, which does no harm, and no mode is missed.

use crate::term::scan;

const BEL: u8 = 0x07;
pub(super) const SHIFT_OUT: u8 = 0x0e;
pub(super) const SHIFT_IN: u8 = 0x0f;
const CAN: u8 = 0x18;
const SUB: u8 = 0x1a;
const ESC: u8 = 0x1b;

/// As many parameters as xterm keeps, and some.
const PARAMETERS: usize = 32;

/// One step that may change the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// SO or SI.
    Control(u8),
    /// ESC, an intermediate byte or 0, a final one.
    Escape(u8, u8),
    /// A control sequence, which is in [`Parser::csi`].
    Csi,
}

/// A control sequence.
#[derive(Debug, Clone, Default)]
pub(super) struct Csi {
    /// `?`, `<`, `=`, `>`, or 0.
    pub(crate) private: u8,
    /// The byte before the final one, or 0.
    pub(crate) intermediate: u8,
    pub(crate) last: u8,
    parameters: [u16; PARAMETERS],
    /// Which parameters are there and not empty; the others are of an earlier sequence.
    given: u32,
    /// Which parameters belong to the one before them, a colon being between.
    sub: u32,
    length: usize,
    /// There were more parameters than have room.
    pub(crate) is_cut: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    /// Behind ESC, with the intermediate byte or 0.
    Escape(u8),
    Csi,
    /// A control sequence that makes no sense, up to its end.
    Nonsense,
    /// A string, and whether BEL ends it.
    Text(bool),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Parser {
    state: State,
    pub(crate) csi: Csi,
}

impl Parser {
    /// Whether the terminal waits for the end of something.
    pub(crate) fn is_within(&self) -> bool {
        self.state != State::Ground
    }

    /// Takes bytes from the front up to and with the next step.
    pub(crate) fn next(&mut self, bytes: &mut &[u8]) -> Option<Step> {
        loop {
            let skipped = match self.state {
                State::Ground => scan::find(bytes, [ESC, SHIFT_OUT, SHIFT_IN]),
                State::Text(true) => scan::find(bytes, [ESC, CAN, SUB, BEL]),
                State::Text(false) => scan::find(bytes, [ESC, CAN, SUB]),
                _ => Some(0),
            };
            *bytes = &bytes[skipped.unwrap_or(bytes.len())..];
            let (byte, rest) = bytes.split_first()?;
            *bytes = rest;
            if let Some(step) = self.byte(*byte) {
                return Some(step);
            }
        }
    }

    fn byte(&mut self, byte: u8) -> Option<Step> {
        let is_text = matches!(self.state, State::Text(_));
        match byte {
            ESC => self.state = State::Escape(0),
            CAN | SUB | 0x80.. => self.state = State::Ground,
            BEL if is_text => self.state = State::Ground,
            SHIFT_OUT | SHIFT_IN => return Some(Step::Control(byte)),
            // Other controls do what they do in the middle of a sequence.
            0..0x20 | 0x7f => {}
            _ => match self.state {
                State::Escape(intermediate) => return self.escape(intermediate, byte),
                State::Csi => return self.sequence(byte),
                State::Nonsense if byte >= 0x40 => self.state = State::Ground,
                State::Nonsense | State::Ground | State::Text(_) => {}
            },
        }
        None
    }

    fn escape(&mut self, intermediate: u8, byte: u8) -> Option<Step> {
        self.state = match (intermediate, byte) {
            // Of several only the first tells what it is about.
            (0, ..0x30) => State::Escape(byte),
            (_, ..0x30) => return None,
            (0, b'[') => {
                self.csi.clear();
                State::Csi
            }
            (0, b']') => State::Text(true),
            (0, b'P' | b'X' | b'^' | b'_') => State::Text(false),
            _ => {
                self.state = State::Ground;
                return Some(Step::Escape(intermediate, byte));
            }
        };
        None
    }

    fn sequence(&mut self, byte: u8) -> Option<Step> {
        let csi = &mut self.csi;
        match byte {
            b'0'..=b';' if csi.intermediate == 0 => csi.parameter(byte),
            b'<'..=b'?' if csi.private == 0 && csi.length == 0 && csi.intermediate == 0 => csi.private = byte,
            0x20..0x30 if csi.intermediate == 0 => csi.intermediate = byte,
            0x40..=0x7e => {
                csi.last = byte;
                self.state = State::Ground;
                return Some(Step::Csi);
            }
            _ => self.state = State::Nonsense,
        }
        None
    }
}

impl Csi {
    /// Begins another one. The parameters stay, as clearing them would take longer than reading most sequences.
    fn clear(&mut self) {
        (self.private, self.intermediate, self.length) = (0, 0, 0);
        (self.sub, self.given, self.is_cut) = (0, 0, false);
    }

    /// One more byte of the parameters.
    fn parameter(&mut self, byte: u8) {
        self.length = self.length.max(1);
        let digit = match byte {
            b';' | b':' => {
                if byte == b':' && self.length < PARAMETERS {
                    self.sub |= 1 << self.length;
                }
                self.length += 1;
                return;
            }
            digit => u16::from(digit - b'0'),
        };
        let (index, bit) = (self.length - 1, 1_u32.checked_shl(u32::try_from(self.length - 1).unwrap_or(u32::MAX)));
        let (Some(parameter), Some(bit)) = (self.parameters.get_mut(index), bit) else {
            self.is_cut = true;
            return;
        };
        let before = if self.given & bit == 0 { 0 } else { *parameter };
        *parameter = before.saturating_mul(10).saturating_add(digit);
        self.given |= bit;
    }

    /// How many parameters are kept.
    pub(crate) fn len(&self) -> usize {
        self.length.min(PARAMETERS)
    }

    /// The parameter at this place, if it is there and not empty.
    pub(crate) fn get(&self, index: usize) -> Option<u16> {
        let is_given = index < PARAMETERS && (self.given >> index) & 1 == 1;
        is_given.then(|| self.parameters[index])
    }

    /// Whether the parameter belongs to the one before it.
    pub(crate) fn is_sub(&self, index: usize) -> bool {
        index < PARAMETERS && (self.sub >> index) & 1 == 1
    }

    /// The parameters that belong to no other, 0 where they are empty.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u16> {
        (0..self.len()).filter(|index| !self.is_sub(*index)).map(|index| self.get(index).unwrap_or(0))
    }
}

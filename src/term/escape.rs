//! From the caller's terminal to the command, byte for byte, but for the escape: the prefix, then `k`, stops the run.
//!
//! After the prefix: `k` is a request to stop, the prefix again is one prefix for the command, and any other key
//! passes both on. A terminal says "Ctrl and /" in more than one way, and it is the command that makes it choose:
//! the byte 0x1f; `ESC [ 47 ; 5 u` once the command has turned on the kitty keyboard protocol, then perhaps with
//! repeats and releases, with the characters that the key gives with Shift, and with locks among the modifiers;
//! `ESC [ 27 ; 5 ; 47 ~` after xterm's modifyOtherKeys, which vim turns on.
//!
//! What waits. A prefix waits for the next key without limit. The start of a sequence that may become a prefix waits
//! for its next byte; whoever reads the terminal calls [`Escape::flush`] when none comes for a moment, as nobody can
//! tell an Esc key from it otherwise. What can no longer become a prefix goes on at once.
//!
//! What is no answer to a prefix: releases of keys, and modifier keys alone, which the protocol reports as well. They
//! wait behind the prefix, in their order. Nor is what the terminal tells of the mouse and the focus; that goes on
//! at once, as it has no order among keys. Releases of keys that the command never saw pressed are left out.

mod key;
mod prefix;

#[cfg(test)]
mod tests;

use self::key::{Event, Key, MAX, Read};
pub use self::prefix::{FORM, Prefix, parse};
use super::scan;

const ESC: u8 = 0x1b;
/// What stops the run, as a byte and as the code of its key.
const STOP: u8 = b'k';

/// The most bytes that wait behind a prefix. Only one that is held down for minutes gets there: its repeats are then
/// forgotten, or what waits is passed on.
const BEHIND_MAX: usize = 64 * 1024;

/// What the caller of fosse asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Action {
    /// Stop the run, or the command of `exec`.
    Stop,
}

/// The escape of one session.
#[derive(Debug)]
pub struct Escape {
    prefix: Option<Prefix>,
    /// The start of a sequence that may be one that matters.
    part: Vec<u8>,
    open: Option<Open>,
    /// The code of a prefix that the command did not see pressed, and whose release has not come.
    prefix_down: Option<u32>,
    /// The same of the key that stops.
    stop_down: bool,
}

/// A prefix that waits for its answer.
#[derive(Debug)]
struct Open {
    /// It and all that came after it, as it came.
    all: Vec<u8>,
    /// What of this the command gets even when the prefix is not for it.
    others: Vec<u8>,
    /// The code of the key, if its release may come.
    down: Option<u32>,
}

/// One thing that was typed.
enum Item<'a> {
    Byte(u8),
    Key(Key, &'a [u8]),
    /// Nothing that is known here.
    Other(&'a [u8]),
}

impl Escape {
    /// Without a prefix all bytes pass.
    pub fn new(prefix: Option<Prefix>) -> Self {
        Escape { prefix, part: Vec::new(), open: None, prefix_down: None, stop_down: false }
    }

    /// Takes what was typed, and appends to `out` what is for the command.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<Action> {
        let Some(prefix) = self.prefix else {
            out.extend_from_slice(bytes);
            return None;
        };
        let (mut action, mut rest) = (None, bytes);
        loop {
            if self.part.is_empty() && self.open.is_none() {
                let plain = scan::find(rest, [prefix.byte(), ESC]).unwrap_or(rest.len());
                out.extend_from_slice(&rest[..plain]);
                rest = &rest[plain..];
            }
            let Some(first) = rest.first() else { return action };
            let (taken, asked) = if self.part.is_empty() && *first != ESC {
                (1, self.item(prefix, &Item::Byte(*first), out))
            } else {
                self.sequence(prefix, rest, out)
            };
            action = action.or(asked);
            rest = &rest[taken..];
        }
    }

    /// Whether the start of a sequence waits for its next byte.
    pub(crate) fn is_holding(&self) -> bool {
        !self.part.is_empty()
    }

    /// No byte came for a moment: the start of a sequence is none. A prefix alone goes on waiting.
    pub(crate) fn flush(&mut self, out: &mut Vec<u8>) {
        if self.is_holding() {
            let part = std::mem::take(&mut self.part);
            self.pass_on(&part, out);
        }
    }

    /// No byte will come any more.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let part = std::mem::take(&mut self.part);
        self.pass_on(&part, out);
    }

    /// Takes a sequence, or its start, from what is held and `more`: the bytes it used of these, and what was asked.
    fn sequence(&mut self, prefix: Prefix, more: &[u8], out: &mut Vec<u8>) -> (usize, Option<Action>) {
        let held = self.part.len();
        let mut joined = std::mem::take(&mut self.part);
        let bytes = if held == 0 {
            more
        } else {
            joined.extend(more.iter().take(MAX));
            &joined
        };
        let (taken, item) = match key::read(bytes) {
            Read::Part if self.may_matter(prefix, bytes) => {
                self.part = bytes.to_vec();
                return (bytes.len() - held, None);
            }
            Read::Part => (bytes.len(), Item::Other(bytes)),
            Read::Other(length) => (length, Item::Other(&bytes[..length])),
            Read::Key(key, length) => (length, Item::Key(key, &bytes[..length])),
            Read::Report(length) => {
                out.extend_from_slice(&bytes[..length]);
                return (length - held, None);
            }
        };
        (taken - held, self.item(prefix, &item, out))
    }

    /// Whether something is to be done about what this start of a sequence may become.
    fn may_matter(&self, prefix: Prefix, part: &[u8]) -> bool {
        let is_awaited = self.open.is_some() || self.prefix_down.is_some() || self.stop_down;
        is_awaited || key::may_become(part, |key| prefix.is(key))
    }

    fn item(&mut self, prefix: Prefix, item: &Item<'_>, out: &mut Vec<u8>) -> Option<Action> {
        match self.open.take() {
            Some(open) => self.answer(prefix, open, item, out),
            None => {
                self.unasked(prefix, item, out);
                None
            }
        }
    }

    /// What comes without a prefix before it.
    fn unasked(&mut self, prefix: Prefix, item: &Item<'_>, out: &mut Vec<u8>) {
        let (bytes, down): (&[u8], _) = match item {
            Item::Byte(byte) if *byte == prefix.byte() => (&[*byte], None),
            Item::Key(key, bytes) if key.event == Event::Press && prefix.is(key) => (bytes, key.code),
            _ => return self.leave_out(item, out),
        };
        self.prefix_down = None;
        self.open = Some(Open { all: bytes.to_vec(), others: Vec::new(), down });
    }

    /// Passes on what is not about a key whose press the command did not see.
    fn leave_out(&mut self, item: &Item<'_>, out: &mut Vec<u8>) {
        if let Item::Key(key, _) = item {
            let is_stop = key.code == Some(u32::from(STOP));
            match key.event {
                Event::Release if key.code.is_some() && key.code == self.prefix_down => {
                    self.prefix_down = None;
                    return;
                }
                Event::Release if is_stop && self.stop_down => {
                    self.stop_down = false;
                    return;
                }
                Event::Repeat if is_stop && self.stop_down => return,
                Event::Press if is_stop => self.stop_down = false,
                _ => {}
            }
        }
        out.extend_from_slice(item.bytes());
    }

    /// What comes after a prefix.
    fn answer(&mut self, prefix: Prefix, mut open: Open, item: &Item<'_>, out: &mut Vec<u8>) -> Option<Action> {
        let is_again = match item {
            Item::Byte(byte) => *byte == prefix.byte(),
            Item::Key(key, _) => key.event == Event::Press && prefix.is(key),
            Item::Other(_) => false,
        };
        if is_again {
            out.append(&mut open.others);
            out.extend_from_slice(item.bytes());
            return None;
        }
        match item {
            Item::Byte(STOP) => self.prefix_down = open.down,
            Item::Key(key, _) if key.is_plain(STOP) => (self.prefix_down, self.stop_down) = (open.down, true),
            Item::Key(key, bytes) if open.waits_on(prefix, key, bytes) => {
                self.open = Some(open);
                return None;
            }
            _ => {
                self.open = Some(open);
                self.pass_on(item.bytes(), out);
                return None;
            }
        }
        out.append(&mut open.others);
        Some(Action::Stop)
    }

    /// What waits is for the command, and so are these bytes.
    fn pass_on(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if let Some(open) = self.open.take() {
            out.extend_from_slice(&open.all);
        }
        out.extend_from_slice(bytes);
    }
}

impl Open {
    /// Whether the key is no answer; it waits then.
    fn waits_on(&mut self, prefix: Prefix, key: &Key, bytes: &[u8]) -> bool {
        let is_own = match key.event {
            Event::Press => false,
            Event::Repeat => prefix.is(key),
            // Ctrl may be released first, so modifiers do not matter.
            Event::Release => key.code.is_some() && key.code == self.down,
        };
        if !is_own && !key.is_modifier() && key.event != Event::Release {
            return false;
        }
        if is_own && key.event == Event::Release {
            self.down = None;
        }
        let fits = self.all.len() + bytes.len() <= BEHIND_MAX;
        if fits {
            self.all.extend_from_slice(bytes);
            if !is_own {
                self.others.extend_from_slice(bytes);
            }
        }
        fits || is_own
    }
}

impl Item<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Item::Byte(byte) => std::slice::from_ref(byte),
            Item::Key(_, bytes) | Item::Other(bytes) => bytes,
        }
    }
}

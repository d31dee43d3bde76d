//! What the command's output left on in the caller's terminal, and the bytes that undo exactly that.
//!
//! A command that is killed has no time to put the terminal in order. Its output is watched as it passes; nothing in
//! it is changed. At the end [`Modes::undo`] says what is to be written, which is nothing for a command that has left
//! nothing on. What can be on or off by a terminal's configuration is left as it is: nobody knows how it was.
//!
//! The undo is found by doing it: each sequence of it goes through a copy of this tracker, so what a sequence brings
//! back (leaving the alternate screen restores the cursor's attributes) is taken into account, and nothing is left.
//!
//! The order:
//! 1. the end of a string or a sequence that the output stopped in, or the terminal would swallow what follows;
//! 2. what makes the terminal type by itself: the mouse, the focus, reports; if the write is cut short, these would
//!    have hurt most;
//! 3. the kitty keyboard flags of the screen shown, as each screen has a stack of its own and only the one shown can
//!    be reached; then the alternate screen is left, and the main screen's flags follow. For flags left behind on the
//!    alternate screen it is entered once more;
//! 4. keys and modes of both screens;
//! 5. the scroll region, after the screen that restored a cursor was left: undoing it moves the cursor, which is
//!    therefore saved and restored; from a region that hides the rest of the screen (origin mode) it cannot be, so it
//!    goes to the last line, below all that was written;
//! 6. character sets, then attributes, as both are restored together with a cursor;
//! 7. the cursor's shape and the cursor, shown only now that it is where it stays;
//! 8. the end of a synchronized update, which shows all of this at once.

mod keyboard;
mod parser;
mod sgr;

#[cfg(test)]
mod tests;

use self::keyboard::Keyboard;
use self::parser::{Csi, Parser, SHIFT_IN, SHIFT_OUT, Step};

/// A mode that is set by `h` and reset by `l`.
struct Switch {
    /// `CSI ? number h`, and not `CSI number h`.
    private: bool,
    number: u16,
    /// How it is in a terminal that nobody touched.
    normal: bool,
    /// A soft reset makes it so again.
    soft: bool,
    when: When,
}

/// The place of a switch in the undo.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Reports,
    Keys,
    Cursor,
    Last,
}

const fn reports(number: u16) -> Switch {
    Switch { private: true, number, normal: false, soft: false, when: When::Reports }
}

const fn keys(private: bool, number: u16, normal: bool, soft: bool) -> Switch {
    Switch { private, number, normal, soft, when: When::Keys }
}

const SWITCHES: [Switch; 26] = [
    // The mouse: when it reports, then how.
    reports(9),
    reports(1000),
    reports(1001),
    reports(1002),
    reports(1003),
    reports(1005),
    reports(1006),
    reports(1015),
    reports(1016),
    // The focus; colours and the window's size, when they change; pastes in brackets; keys as Windows has them.
    reports(1004),
    reports(2031),
    reports(2048),
    reports(2004),
    reports(9001),
    // Cursor keys and the keypad for applications, the keyboard locked, its echo, line feeds for Enter.
    keys(true, 1, false, true),
    keys(true, KEYPAD, false, true),
    keys(false, 2, false, true),
    keys(false, 12, true, false),
    keys(false, 20, false, false),
    // Inserting, wrapping at the right margin and backwards, margins left and right, all colours reversed.
    keys(false, 4, false, true),
    keys(true, 7, true, false),
    keys(true, 45, false, false),
    keys(true, MARGINS, false, false),
    keys(true, 5, false, false),
    // The cursor shown, and updates of the screen held back.
    Switch { private: true, number: 25, normal: true, soft: true, when: When::Cursor },
    Switch { private: true, number: 2026, normal: false, soft: false, when: When::Last },
];

const KEYPAD: u16 = 66;
const MARGINS: u16 = 69;

/// What is saved and restored together with a cursor.
#[derive(Debug, Clone, Copy, Default)]
struct Cursor {
    /// The attributes of characters that are on.
    attributes: u32,
    /// The first character set is not ASCII.
    lines: bool,
    /// Another character set is shown than the first.
    shifted: bool,
    /// Positions count from the scroll region, and the cursor cannot leave it.
    origin: bool,
}

/// What each screen has of its own.
#[derive(Debug, Clone, Copy, Default)]
struct Screen {
    keyboard: Keyboard,
    saved: Option<Cursor>,
}

/// What the output so far left on. Of fixed size, whatever the output.
#[derive(Debug, Clone, Default)]
pub struct Modes {
    parser: Parser,
    terminal: Terminal,
}

/// A terminal, as far as something can be left on in it.
#[derive(Debug, Clone, Default)]
struct Terminal {
    /// The switches that are not as they are normally, as bits.
    changed: u32,
    /// Those that were saved, and what was changed then.
    saved: (u32, u32),
    /// The mode by which the main screen was left.
    alternate: Option<u16>,
    main: Screen,
    other: Screen,
    cursor: Cursor,
    shape: bool,
    region: bool,
    other_keys: bool,
}

impl Modes {
    /// Takes a piece of the output.
    pub fn see(&mut self, mut bytes: &[u8]) {
        while let Some(step) = self.parser.next(&mut bytes) {
            match step {
                Step::Control(byte) => self.terminal.cursor.shifted = byte == SHIFT_OUT,
                Step::Escape(intermediate, last) => self.terminal.escape(intermediate, last),
                Step::Csi => self.terminal.sequence(&self.parser.csi),
            }
        }
    }

    /// What is to be written to the terminal, if nothing more of the output is.
    pub fn undo(&self) -> Vec<u8> {
        let mut undo = Undo { left: self.clone(), bytes: Vec::new() };
        if self.parser.is_within() {
            undo.write("\x1b\\");
        }
        undo.switches(When::Reports);
        undo.screens();
        undo.switches(When::Keys);
        undo.region();
        undo.cursor(&self.terminal.cursor);
        if self.terminal.shape {
            undo.write("\x1b[0 q");
        }
        undo.switches(When::Cursor);
        undo.switches(When::Last);
        undo.bytes
    }
}

impl Terminal {
    fn screen(&mut self) -> &mut Screen {
        if self.alternate.is_some() { &mut self.other } else { &mut self.main }
    }

    fn escape(&mut self, intermediate: u8, last: u8) {
        match (intermediate, last) {
            (0, b'c') => *self = Terminal::default(),
            (0, b'7') => self.save_cursor(),
            (0, b'8') => self.restore_cursor(),
            (0, b'=') => self.switch(true, KEYPAD, true),
            (0, b'>') => self.switch(true, KEYPAD, false),
            // Locking shifts to the third and the fourth set.
            (0, b'n' | b'o') => self.cursor.shifted = true,
            // The others are seen only while shifted to, and that is undone.
            (b'(', set) => self.cursor.lines = set != b'B',
            _ => {}
        }
    }

    fn sequence(&mut self, csi: &Csi) {
        let first = csi.get(0).unwrap_or(0);
        match (csi.private, csi.intermediate, csi.last) {
            (private @ (0 | b'?'), 0, last @ (b'h' | b'l')) => {
                for number in csi.numbers() {
                    self.mode(private == b'?', number, last == b'h');
                }
            }
            (b'?', 0, b's') => {
                let named = named(csi);
                self.saved = (self.saved.0 | named, self.saved.1 & !named | self.changed & named);
            }
            (b'?', 0, b'r') => {
                let named = named(csi) & self.saved.0;
                self.changed = self.changed & !named | self.saved.1 & named;
            }
            (b'>', 0, b'u') => self.screen().keyboard.push(),
            (b'<', 0, b'u') => self.screen().keyboard.pop(csi.get(0).unwrap_or(1)),
            (b'=', 0, b'u') => self.screen().keyboard.set(first, csi.get(1).unwrap_or(1)),
            // Of xterm's key modifiers, the one that programs use; without a number all are as they were.
            (b'>', 0, b'm') if first == 4 || csi.len() == 0 => self.other_keys = csi.get(1).unwrap_or(0) > 0,
            (b'>', 0, b'n') if first == 4 => self.other_keys = false,
            (0, 0, b'm') => self.cursor.attributes = sgr::apply(self.cursor.attributes, csi),
            // From the first line to the last, if neither is named.
            (0, 0, b'r') => self.region = first > 1 || csi.get(1).unwrap_or(0) > 0,
            (0, 0, b's') if self.is_normal(true, MARGINS) => self.save_cursor(),
            (0, 0, b'u') => self.restore_cursor(),
            (0, b' ', b'q') => self.shape = first > 0,
            (0, b'!', b'p') => self.soft_reset(),
            _ => {}
        }
    }

    /// A mode is set or reset.
    fn mode(&mut self, private: bool, number: u16, on: bool) {
        match number {
            47 | 1047 | 1049 if private => self.show(number, on),
            1048 if private && on => self.save_cursor(),
            1048 if private => self.restore_cursor(),
            6 if private => self.cursor.origin = on,
            _ => self.switch(private, number, on),
        }
    }

    /// The alternate screen, or the main one. Any of its modes leaves it, but 1049 alone restores the cursor.
    fn show(&mut self, number: u16, on: bool) {
        if on && self.alternate.is_none() {
            if number == 1049 {
                self.save_cursor();
            }
            self.alternate = Some(number);
        } else if !on && self.alternate.take().is_some() && number == 1049 {
            self.restore_cursor();
        }
    }

    fn switch(&mut self, private: bool, number: u16, on: bool) {
        for (index, switch) in SWITCHES.iter().enumerate() {
            if switch.private == private && switch.number == number {
                let bit = 1 << index;
                self.changed = if switch.normal == on { self.changed & !bit } else { self.changed | bit };
            }
        }
    }

    fn is_normal(&self, private: bool, number: u16) -> bool {
        let is_it = |switch: &Switch| switch.private == private && switch.number == number;
        SWITCHES.iter().position(is_it).is_none_or(|index| (self.changed >> index) & 1 == 0)
    }

    fn save_cursor(&mut self) {
        let cursor = self.cursor;
        self.screen().saved = Some(cursor);
    }

    /// Terminals differ in what they do where none was saved: it is taken to be nothing.
    fn restore_cursor(&mut self) {
        if let Some(cursor) = self.screen().saved {
            self.cursor = cursor;
        }
    }

    /// What the manual of the VT510 lists, wrapping apart: terminals of today turn that on and not off.
    fn soft_reset(&mut self) {
        for (index, _) in SWITCHES.iter().enumerate().filter(|(_, switch)| switch.soft) {
            self.changed &= !(1 << index);
        }
        self.cursor = Cursor::default();
        self.screen().saved = None;
        self.region = false;
    }
}

/// The switches that a sequence names, as bits; all of them if it names nothing.
fn named(csi: &Csi) -> u32 {
    let is_named = |switch: &Switch| csi.len() == 0 || csi.numbers().any(|number| number == switch.number);
    let bits = SWITCHES.iter().enumerate().filter(|(_, switch)| switch.private && is_named(switch));
    bits.fold(0, |bits, (index, _)| bits | (1 << index))
}

/// The undo, and what is left to undo after it.
struct Undo {
    left: Modes,
    bytes: Vec<u8>,
}

impl Undo {
    fn write(&mut self, sequence: &str) {
        self.bytes.extend_from_slice(sequence.as_bytes());
        self.left.see(sequence.as_bytes());
    }

    fn switches(&mut self, when: When) {
        for (index, switch) in SWITCHES.iter().enumerate().filter(|(_, switch)| switch.when == when) {
            if (self.left.terminal.changed >> index) & 1 == 1 {
                let (mark, last) = (if switch.private { "?" } else { "" }, if switch.normal { 'h' } else { 'l' });
                match switch.number {
                    // As old as the terminals; the mode is younger.
                    KEYPAD => self.write("\x1b>"),
                    number => self.write(&format!("\x1b[{mark}{number}{last}")),
                }
            }
        }
    }

    fn screens(&mut self) {
        if self.left.terminal.alternate.is_none() && !self.left.terminal.other.keyboard.is_clean() {
            self.write("\x1b[?1049h");
        }
        if let Some(number) = self.left.terminal.alternate {
            self.write(&self.left.terminal.other.keyboard.undo());
            self.write(&format!("\x1b[?{number}l"));
        }
        self.write(&self.left.terminal.main.keyboard.undo());
        if self.left.terminal.other_keys {
            self.write("\x1b[>4m");
        }
    }

    fn region(&mut self) {
        if self.left.terminal.cursor.origin {
            self.write("\x1b[?6l");
            if self.left.terminal.region {
                self.write("\x1b[r");
            }
            self.write("\x1b[999H");
        } else if self.left.terminal.region {
            self.write("\x1b7\x1b[r\x1b8");
        }
    }

    /// `before` is how the cursor was before the screen was left: not every terminal restores all of it.
    fn cursor(&mut self, before: &Cursor) {
        if self.left.terminal.cursor.shifted || before.shifted {
            self.bytes.push(SHIFT_IN);
            self.left.see(&[SHIFT_IN]);
        }
        if self.left.terminal.cursor.lines || before.lines {
            self.write("\x1b(B");
        }
        if self.left.terminal.cursor.attributes != 0 || before.attributes != 0 {
            self.write("\x1b[0m");
        }
    }
}

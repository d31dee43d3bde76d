//! What one screen's stack of the kitty keyboard protocol got from the command.

/// Entries pushed, and flags turned on below all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Keyboard {
    pushed: u16,
    flags: u16,
}

impl Keyboard {
    pub(crate) fn push(&mut self) {
        self.pushed = self.pushed.saturating_add(1);
    }

    /// A pop below what the command pushed takes what was there before it, and with it the flags it turned on.
    pub(crate) fn pop(&mut self, count: u16) {
        if count > self.pushed {
            self.flags = 0;
        }
        self.pushed = self.pushed.saturating_sub(count);
    }

    /// Flags of an entry that was pushed go with it.
    pub(crate) fn set(&mut self, flags: u16, mode: u16) {
        if self.pushed == 0 {
            self.flags = match mode {
                2 => self.flags | flags,
                3 => self.flags & !flags,
                _ => flags,
            };
        }
    }

    pub(crate) fn is_clean(&self) -> bool {
        *self == Keyboard::default()
    }

    /// What undoes it while its screen is the one shown.
    pub(crate) fn undo(&self) -> String {
        let mut undo = String::new();
        if self.pushed > 0 {
            undo += &format!("\x1b[<{}u", self.pushed);
        }
        if self.flags > 0 {
            // Mode 3 turns off these and no others.
            undo += &format!("\x1b[={};3u", self.flags);
        }
        undo
    }
}

//! Terminals: their size and their mode (termios(3), ioctl_tty(2)).

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use super::cerr;

/// The size of a window: characters, and pixels where they are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
    /// Pixels across; 0 if they are not known.
    pub width: u16,
    /// Pixels down; 0 if they are not known.
    pub height: u16,
}

impl Size {
    /// Of a terminal.
    pub fn of(terminal: impl AsFd) -> io::Result<Size> {
        let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: `size` has room for the answer.
        cerr(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) })?;
        Ok(Size { rows: size.ws_row, columns: size.ws_col, width: size.ws_xpixel, height: size.ws_ypixel })
    }

    /// Makes it a terminal's; who works there is told by a signal if it is another one.
    pub fn set(self, terminal: impl AsFd) -> io::Result<()> {
        let Size { rows: ws_row, columns: ws_col, width: ws_xpixel, height: ws_ypixel } = self;
        let size = libc::winsize { ws_row, ws_col, ws_xpixel, ws_ypixel };
        // SAFETY: an initialised structure.
        cerr(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }).map(drop)
    }
}

/// The mode of a terminal, as it was.
#[derive(Clone)]
pub struct Mode(libc::termios);

impl Mode {
    /// Of a terminal.
    pub fn of(terminal: impl AsFd) -> io::Result<Mode> {
        // SAFETY: all-zero bytes are a valid termios to be written over.
        let mut mode: libc::termios = unsafe { std::mem::zeroed() };
        // SAFETY: `mode` has room for the answer.
        cerr(unsafe { libc::tcgetattr(terminal.as_fd().as_raw_fd(), &raw mut mode) })?;
        Ok(Mode(mode))
    }

    /// The same, where every byte goes through as it is, at once (cfmakeraw(3)).
    #[must_use]
    pub fn raw(&self) -> Mode {
        let mut raw = self.0;
        // SAFETY: an initialised structure.
        unsafe { libc::cfmakeraw(&raw mut raw) };
        Mode(raw)
    }

    /// Makes it a terminal's, at once: what is still to be shown may never be, where nobody reads it.
    pub fn set(&self, terminal: impl AsFd) -> io::Result<()> {
        // SAFETY: an initialised structure.
        cerr(unsafe { libc::tcsetattr(terminal.as_fd().as_raw_fd(), libc::TCSANOW, &raw const self.0) }).map(drop)
    }
}

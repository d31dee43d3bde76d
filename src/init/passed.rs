//! A signal on its way to a command, and whom of it is meant.

use crate::base::error::Ignore;
use crate::sys::process::{Pid, kill_child, kill_group};
use crate::sys::signal::Signal;

/// A signal, and whether it is for the command's whole process group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) signal: Signal,
    pub(crate) to_group: bool,
}

impl Passed {
    /// One that this process has received: the two that a terminal sends to a group are for the group, any other is for
    /// the command alone, as kill(1) sends it, unless `all` are for the group.
    pub(crate) fn received(signal: Signal, all: bool) -> Passed {
        Passed { signal, to_group: all || matches!(signal, Signal::INT | Signal::QUIT) }
    }

    /// Delivers it to a command that is not reaped yet, so that its number is its own. One that is gone takes none.
    pub(crate) fn to(self, command: Pid) {
        // A moment after its start it leads no group yet.
        let group =
            if self.to_group { kill_group(command, self.signal) } else { Err(std::io::ErrorKind::Other.into()) };
        group.or_else(|_| kill_child(command, self.signal)).ignore();
    }
}

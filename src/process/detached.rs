//! A program that outlives this one: nobody's child, with nothing of this process's but a pipe to report on.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use super::{Cmd, Error};
use crate::base::error::Ignore;
use crate::sys::process::{Pid, detach, kill_group};
use crate::sys::signal::Signal;
use crate::sys::{fd, poll};

/// A program that was started so.
pub(crate) struct Detached {
    /// The other end of its stdout.
    pub(crate) report: File,
    /// Its process group, which has nobody else in it.
    group: Option<Pid>,
}

impl Detached {
    /// Ends it, if it still has its report to make: until then its group is there, and its number nobody else's.
    pub(crate) fn end(&self) {
        let silent = poll::ready_now(&self.report).is_ok_and(|ready| !ready);
        if let (true, Some(group)) = (silent, self.group) {
            kill_group(group, Signal::KILL).ignore();
        }
    }
}

/// Starts it in a session of its own and in the root directory.
pub(crate) fn spawn_detached(cmd: &Cmd) -> Result<Detached, Error> {
    let failed = |source| Error::Start { call: cmd.title(), source };
    let (read, write) = fd::pipe().map_err(failed)?;
    let mut command = cmd.command().map_err(failed)?;
    command.stdin(Stdio::null()).stdout(OwnedFd::from(File::from(write))).stderr(Stdio::null()).current_dir("/");
    detach(&mut command);
    let mut between = command.spawn().map_err(failed)?;
    let group = i32::try_from(between.id()).ok().and_then(Pid::new);
    // It ended when the program began.
    between.wait().map_err(failed)?;
    Ok(Detached { report: File::from(read), group })
}

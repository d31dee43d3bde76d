//! A program that outlives this one: nobody's child, with nothing of this process's but a pipe to report on.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use super::{Cmd, Error};
use crate::sys::fd;
use crate::sys::process::detach;

/// Starts it in a session of its own and in the root directory. Its stdout is the pipe whose other end this gives.
#[allow(clippy::disallowed_methods)]
pub fn spawn_detached(cmd: &Cmd) -> Result<File, Error> {
    let failed = |source| Error::Start { call: cmd.title(), source };
    let (read, write) = fd::pipe().map_err(failed)?;
    let mut command = Command::new(&cmd.program);
    command.args(&cmd.args).envs(cmd.env.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(OwnedFd::from(File::from(write))).stderr(Stdio::null()).current_dir("/");
    detach(&mut command);
    let mut between = command.spawn().map_err(failed)?;
    // It ended when the program began.
    between.wait().map_err(failed)?;
    Ok(File::from(read))
}

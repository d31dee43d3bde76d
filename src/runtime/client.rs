//! An engine's client that stays attached to a command: its streams are pipes, or a terminal of its own where the
//! command has one, for which the client makes the engine's terminal out of what it is given.

use std::io;
use std::os::fd::OwnedFd;

use crate::process::{Child, Cmd, Error, Io, Stdio};
use crate::runtime::tail::Tail;
use crate::runtime::{Input, Result, Streams};
use crate::sys::pty;
use crate::sys::termios::Mode;

/// Starts a client.
pub(crate) fn spawn(cmd: &Cmd, input: Input) -> std::result::Result<(Child, Streams), Error> {
    let stdin = match input {
        Input::Terminal => return at_terminal(cmd, input),
        Input::Pipe => Stdio::Pipe,
        Input::Empty => Stdio::Null,
    };
    let mut child = Child::spawn(cmd, Io { stdin, stdout: Stdio::Pipe, stderr: Stdio::Pipe })?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    Ok((child, Streams { stdin, stdout, stderr, terminal: None }))
}

/// Starts a client whose last words on stderr are to be known afterwards.
pub(crate) fn spawn_heard(cmd: &Cmd, input: Input, tail: &mut Tail) -> Result<(Child, Streams)> {
    let (child, streams) = spawn(cmd, input)?;
    Ok((child, tail.listen(streams)?))
}

fn at_terminal(cmd: &Cmd, input: Input) -> std::result::Result<(Child, Streams), Error> {
    let failed = |source: io::Error| Error::Start { call: cmd.title(), source };
    let open = || -> io::Result<(OwnedFd, OwnedFd, Streams)> {
        let (leader, follower) = pty::open(input.size())?;
        // From the first byte on: what is typed before the client is ready is the command's.
        Mode::of(&follower)?.raw().set(&follower)?;
        let (stdin, stdout) = (Some(leader.try_clone()?), Some(leader.try_clone()?));
        Ok((leader, follower, Streams { stdin, stdout, stderr: None, terminal: None }))
    };
    let (leader, follower, streams) = open().map_err(failed)?;
    let child = Child::spawn_at(cmd, &follower)?;
    Ok((child, Streams { terminal: Some(leader), ..streams }))
}

//! What PID 1 needs of the kernel: reaping anybody, signalling everybody, the terminal's foreground.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::sys::limit::DescriptorLimit;

use crate::sys::process::Pid;
use crate::sys::signal::{Signal, hand_down};
use crate::sys::{cerr, retry};

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this code.
    Exited(u8),
    /// By this signal.
    Killed(i32),
}

/// What looking for an ended child found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// This one has ended. It is still a zombie: its number names nobody else until [`reap`].
    Dead(Pid, Ended),
    /// All children live.
    NoneDead,
    /// There is no child at all.
    NoChild,
}

/// Looks for a child that has ended, whoever started it, and leaves it a zombie (waitid(2), WNOWAIT).
pub fn look() -> io::Result<Found> {
    // SAFETY: all-zero bytes are a valid siginfo_t to be written over.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` has room for the answer; the other arguments are integers.
    match retry(|| unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, options) }) {
        Ok(_) => {}
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok(Found::NoChild),
        Err(error) => return Err(error),
    }
    // SAFETY: waitid filled in the structure for a child, or left it zeroed, whose pid is then 0.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    let Some(pid) = Pid::new(pid) else {
        return Ok(Found::NoneDead);
    };
    let ended = match info.si_code {
        // The kernel keeps eight bits of an exit code.
        libc::CLD_EXITED => Ended::Exited((status & 0xff) as u8),
        _ => Ended::Killed(status),
    };
    Ok(Found::Dead(pid, ended))
}

/// A child that has been stopped since the last time, if there is one (waitid(2), WSTOPPED).
pub(crate) fn next_stopped() -> io::Result<Option<Pid>> {
    // SAFETY: all-zero bytes are a valid siginfo_t to be written over.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` has room for the answer; the other arguments are integers.
    match retry(|| unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, libc::WSTOPPED | libc::WNOHANG) }) {
        // SAFETY: waitid filled in the structure for a child, or left it zeroed, whose pid is then 0.
        Ok(_) => Ok(Pid::new(unsafe { info.si_pid() })),
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reaps one child that [`look`] found.
pub fn reap(pid: Pid) -> io::Result<()> {
    let id = libc::id_t::try_from(pid.number()).unwrap_or_default();
    // SAFETY: all-zero bytes are a valid siginfo_t to be written over.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` has room for the answer; the other arguments are integers.
    retry(|| unsafe { libc::waitid(libc::P_PID, id, &raw mut info, libc::WEXITED | libc::WNOHANG) }).map(drop)
}

/// Whether this process, which has one thread, has no other child than this one, ended or not. Where the kernel does
/// not tell (proc_pid_task(5), Linux 3.5, a matter of its configuration), the answer is no.
pub(crate) fn has_no_child_but(child: Pid) -> bool {
    let children = std::fs::read_to_string("/proc/thread-self/children");
    children.is_ok_and(|text| text.split_whitespace().all(|number| number.parse() == Ok(child.number())))
}

/// Signals every process that this one can see and may signal, itself left out (kill(2)): for PID 1, all of its
/// pid namespace.
pub(crate) fn kill_all(signal: Signal) -> io::Result<()> {
    // SAFETY: kill has no memory arguments.
    cerr(unsafe { libc::kill(-1, signal.number()) }).map(drop)
}

/// Makes this process the parent of every orphan among its descendants (prctl(2), Linux 3.4).
pub(crate) fn become_subreaper() -> io::Result<()> {
    // SAFETY: prctl with integer arguments.
    cerr(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1 as libc::c_ulong, 0, 0, 0) }).map(drop)
}

/// Nobody but the kernel may trace this process, read its memory or take its descriptors from now on
/// (PR_SET_DUMPABLE, prctl(2)).
pub(crate) fn become_undumpable() -> io::Result<()> {
    // SAFETY: prctl with integer arguments.
    cerr(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0 as libc::c_ulong, 0, 0, 0) }).map(drop)
}

/// Arranges that the child leads a group of its own, which is the foreground of the terminal on its stdin, if
/// there is one that it may have, that no signal is blocked in it and those are ignored that this process's caller has
/// ignored, and that its limit on descriptors is the one given.
pub fn own_group_in_the_foreground(command: &mut Command, descriptors: Option<DescriptorLimit>) {
    let prepare = move || {
        // SAFETY: async-signal-safe calls with integers. TTOU is blocked while the terminal changes hands: it would
        // stop a process that is not in the foreground yet.
        unsafe {
            cerr(libc::setpgid(0, 0))?;
            // No terminal, or one of another session: then there is no foreground to be in.
            libc::tcsetpgrp(libc::STDIN_FILENO, libc::getpid());
        }
        if let Some(limit) = descriptors {
            limit.restore();
        }
        hand_down()
    };
    // SAFETY: between fork and exec the closure only makes async-signal-safe calls.
    unsafe { command.pre_exec(prepare) };
}

/// Takes the foreground of the terminal on stdin back; without one nothing happens. TTOU must be blocked.
pub(crate) fn take_foreground() {
    // SAFETY: integers only.
    cerr(unsafe { libc::tcsetpgrp(libc::STDIN_FILENO, libc::getpgrp()) }).map_or_else(drop, drop);
}

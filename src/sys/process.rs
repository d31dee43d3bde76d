//! Processes: identity, waiting without reaping, killing a group, dying with the parent.

use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::{cerr, retry};

/// A process id. Kept apart from other integers because a stale one names a stranger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pid(libc::pid_t);

impl Pid {
    /// This process.
    pub fn own() -> Pid {
        // SAFETY: getpid has no arguments and cannot fail.
        Pid(unsafe { libc::getpid() })
    }

    /// Whether this process is the first of its pid namespace: the one that orphans come to.
    pub(crate) fn is_first() -> bool {
        Pid::own().0 == 1
    }

    /// From a number that came from the kernel or a lock's content; 0, 1 and negative ones name groups or init.
    pub fn new(number: i32) -> Option<Pid> {
        (number > 1).then_some(Pid(number))
    }

    /// The number.
    pub fn number(self) -> i32 {
        self.0
    }
}

/// The effective user and group of this process.
pub fn effective_ids() -> (u32, u32) {
    // SAFETY: geteuid and getegid have no arguments and cannot fail.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

/// Whether this program was linked statically: then the kernel has loaded no interpreter with it, and its base address
/// is 0 (AT_BASE, getauxval(3)).
#[cfg(target_os = "linux")]
pub(crate) fn is_static() -> bool {
    // SAFETY: getauxval reads what the kernel gave this process.
    unsafe { libc::getauxval(libc::AT_BASE) == 0 }
}

/// Names this process for who lists processes (PR_SET_NAME, prctl(2)); 15 bytes of it are kept.
#[cfg(target_os = "linux")]
pub fn set_name(name: &std::ffi::CStr) -> io::Result<()> {
    // SAFETY: a string that ends in NUL, and is copied.
    cerr(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) }).map(drop)
}

/// Blocks until the child has ended, and leaves it a zombie: its number stays taken, so a signal sent before
/// it is reaped cannot hit a stranger (waitid(2), WNOWAIT).
pub fn wait_unreaped(pid: Pid) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid siginfo_t to be written over.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let id = libc::id_t::try_from(pid.0).unwrap_or_default();
    // SAFETY: `info` has room for the answer; the other arguments are integers.
    retry(|| unsafe { libc::waitid(libc::P_PID, id, &raw mut info, libc::WEXITED | libc::WNOWAIT) }).map(drop)
}

/// Signals every process of a group. The caller guarantees that the leader has not been reaped.
pub(crate) fn kill_group(leader: Pid, signal: super::signal::Signal) -> io::Result<()> {
    // SAFETY: kill has no memory arguments.
    cerr(unsafe { libc::kill(-leader.0, signal.number()) }).map(drop)
}

/// Signals one child of this process. The caller guarantees that it has not been reaped.
pub fn kill_child(child: Pid, signal: super::signal::Signal) -> io::Result<()> {
    // SAFETY: kill has no memory arguments.
    cerr(unsafe { libc::kill(child.0, signal.number()) }).map(drop)
}

/// Dies at once, as if killed from outside.
pub(crate) fn kill_self() -> ! {
    // SAFETY: kill and getpid have no memory arguments; SIGKILL does not return.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    std::process::abort()
}

/// Arranges that the child gets a group of its own, no blocked signals, and is killed when the *thread* that starts it ends
/// (PR_SET_PDEATHSIG, prctl(2)); where the kernel has no such signal, only the group.
pub(crate) fn own_group_and_die_with_parent(command: &mut Command) {
    command.process_group(0);
    die_with_parent(command);
}

/// The same for this very program, which is to find its signals as this process found them.
#[cfg(target_os = "linux")]
pub(crate) fn hand_down_and_die_with_parent(command: &mut Command) {
    own_group_and_die_with_parent(command);
    // SAFETY: between fork and exec the function only makes async-signal-safe calls.
    unsafe { command.pre_exec(super::signal::hand_down) };
}

/// Arranges that the child can write to a terminal in whose background it is, whatever that terminal's mode.
pub(crate) fn write_in_the_background(command: &mut Command) {
    let prepare = || {
        super::signal::ignore_ttou();
        Ok(())
    };
    // SAFETY: between fork and exec the closure only makes an async-signal-safe call.
    unsafe { command.pre_exec(prepare) };
}

/// The same, where its stdin is a terminal, which is its own.
pub(crate) fn own_terminal_and_die_with_parent(command: &mut Command) {
    // SAFETY: between fork and exec the function only makes async-signal-safe calls.
    unsafe { command.pre_exec(super::pty::take_terminal) };
    die_with_parent(command);
}

fn die_with_parent(command: &mut Command) {
    let parent = Pid::own().0;
    let prepare = move || {
        // Elsewhere there is no such request, and a program is left to whoever finds it.
        #[cfg(target_os = "linux")]
        // SAFETY: prctl with integer arguments; async-signal-safe.
        cerr(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0, 0, 0) })?;
        super::signal::unblock_all()?;
        // The parent may have died before the request: then nobody would send the signal.
        // SAFETY: getppid has no arguments; async-signal-safe.
        if unsafe { libc::getppid() } != parent {
            // SAFETY: _exit is async-signal-safe and does not return.
            unsafe { libc::_exit(125) };
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure only makes async-signal-safe calls and touches no memory
    // but its own copy of an integer.
    unsafe { command.pre_exec(prepare) };
}

/// Arranges that the program becomes a daemon: in a session of its own, with no terminal, no blocked and no ignored
/// signal, as a child of init and not of this process. The child that this process sees ends at once.
pub fn detach(command: &mut Command) {
    let prepare = || {
        super::signal::default_all()?;
        // SAFETY: setsid has no arguments; async-signal-safe.
        cerr(unsafe { libc::setsid() })?;
        // Not fork(3), whose handlers are not async-signal-safe after a fork from a program with threads.
        // SAFETY: clone(2) as fork(2): no new stack, no shared memory.
        #[cfg(target_os = "linux")]
        let child = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD as libc::c_ulong, 0, 0, 0, 0) };
        #[cfg(not(target_os = "linux"))]
        // SAFETY: no arguments.
        let child = unsafe { libc::fork() };
        match child {
            -1 => Err(io::Error::last_os_error()),
            0 => Ok(()),
            // SAFETY: _exit is async-signal-safe and does not return.
            _ => unsafe { libc::_exit(0) },
        }
    };
    // SAFETY: between fork and exec the closure only makes async-signal-safe calls and touches no memory.
    unsafe { command.pre_exec(prepare) };
}

/// Takes a variable out of this process's environment, and gives its value. Only before the first thread.
pub(crate) fn take_variable(name: &str) -> Option<std::ffi::OsString> {
    #[allow(clippy::disallowed_methods, reason = "reading and removing it are one step")]
    let value = std::env::var_os(name);
    // SAFETY: by the caller's word no other thread reads the environment.
    unsafe { std::env::remove_var(name) };
    value
}

/// Sets the mask of new files' modes, so that nobody else can open them (umask(2)).
pub(crate) fn create_private_files() {
    // SAFETY: umask has no memory arguments and cannot fail.
    unsafe { libc::umask(0o077) };
}

/// A handle on one process, which never comes to mean another one (pidfd_open(2), Linux 5.3).
#[cfg(target_os = "linux")]
pub struct PidHandle(OwnedFd);

#[cfg(target_os = "linux")]
impl PidHandle {
    /// Opens a handle. The caller then checks that the process is the one it means, and only then signals.
    pub fn open(pid: Pid) -> io::Result<Self> {
        // SAFETY: pidfd_open takes two integers and returns a new descriptor or -1.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.0, 0) };
        let fd = cerr(libc::c_int::try_from(fd).unwrap_or(-1))?;
        // SAFETY: the call returned a new descriptor that nobody else owns.
        Ok(PidHandle(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Signals exactly that process.
    pub fn signal(&self, signal: super::signal::Signal) -> io::Result<()> {
        let info = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: a descriptor, an integer, and no siginfo.
        let code = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), signal.number(), info, 0) };
        cerr(libc::c_int::try_from(code).unwrap_or(-1)).map(drop)
    }
}

/// Can be read once the process has ended.
#[cfg(target_os = "linux")]
impl AsFd for PidHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

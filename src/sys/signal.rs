//! Signals: blocked in every thread, then received as values by one.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use super::cerr;

/// A signal by its number (signal(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signal(libc::c_int);

impl Signal {
    /// Terminal hang-up.
    pub const HUP: Signal = Signal(libc::SIGHUP);
    /// Ctrl-C.
    pub const INT: Signal = Signal(libc::SIGINT);
    /// Ctrl-\.
    pub const QUIT: Signal = Signal(libc::SIGQUIT);
    /// Cannot be caught.
    pub const KILL: Signal = Signal(libc::SIGKILL);
    /// Polite end.
    pub const TERM: Signal = Signal(libc::SIGTERM);
    /// Write to a pipe that nobody reads.
    pub const PIPE: Signal = Signal(libc::SIGPIPE);
    /// For the program's own use.
    pub const USR1: Signal = Signal(libc::SIGUSR1);
    /// For the program's own use.
    pub const USR2: Signal = Signal(libc::SIGUSR2);
    /// Ctrl-Z.
    pub const TSTP: Signal = Signal(libc::SIGTSTP);
    /// None: only asks whether there is somebody (kill(2)).
    pub const NONE: Signal = Signal(0);
    /// The window has another size.
    pub const WINCH: Signal = Signal(libc::SIGWINCH);
    /// Stop that cannot be caught.
    pub const STOP: Signal = Signal(libc::SIGSTOP);
    /// Continue.
    pub const CONT: Signal = Signal(libc::SIGCONT);

    /// A child ended, stopped or went on.
    pub const CHLD: Signal = Signal(libc::SIGCHLD);
    /// A process in the background reads from the terminal.
    pub const TTIN: Signal = Signal(libc::SIGTTIN);
    /// A process in the background changes the terminal.
    pub const TTOU: Signal = Signal(libc::SIGTTOU);

    /// From a number that the kernel gave.
    #[cfg(target_os = "linux")]
    pub fn from_number(number: libc::c_int) -> Signal {
        Signal(number)
    }

    /// The number.
    pub fn number(self) -> i32 {
        self.0
    }

    /// The name without `SIG`, as engines' tools take it.
    pub fn name(self) -> String {
        const NAMES: [(Signal, &str); 11] = [
            (Signal::HUP, "HUP"),
            (Signal::INT, "INT"),
            (Signal::QUIT, "QUIT"),
            (Signal::KILL, "KILL"),
            (Signal::TERM, "TERM"),
            (Signal::PIPE, "PIPE"),
            (Signal::USR1, "USR1"),
            (Signal::USR2, "USR2"),
            (Signal::TSTP, "TSTP"),
            (Signal::STOP, "STOP"),
            (Signal::CONT, "CONT"),
        ];
        let known = NAMES.iter().find(|(signal, _)| *signal == self);
        known.map_or_else(|| self.0.to_string(), |(_, name)| (*name).to_owned())
    }
}

/// A set of signals that are blocked in the thread that made it and in every thread it starts afterwards.
pub struct Blocked(libc::sigset_t);

impl Blocked {
    /// Blocks `signals`, leaving out those that were ignored when the program started (nohup(1)): they stay
    /// ignored. Call it before the first thread.
    pub fn new(signals: &[Signal]) -> io::Result<Self> {
        // SAFETY: all-zero bytes are a valid sigset_t, and sigemptyset initialises it.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: `set` is a valid place for a set.
        cerr(unsafe { libc::sigemptyset(&raw mut set) })?;
        for signal in signals {
            if !is_ignored(*signal)? {
                // SAFETY: `set` is initialised; the number is one of the constants above.
                cerr(unsafe { libc::sigaddset(&raw mut set, signal.0) })?;
            }
        }
        // SAFETY: `set` is initialised; the old mask is not asked for.
        let code = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        if code == 0 { Ok(Blocked(set)) } else { Err(io::Error::from_raw_os_error(code)) }
    }

    /// Waits for the next of them.
    pub fn wait(&self) -> io::Result<Signal> {
        let mut number = 0;
        // SAFETY: the set is initialised and `number` has room for the answer.
        let code = unsafe { libc::sigwait(&raw const self.0, &raw mut number) };
        if code == 0 { Ok(Signal(number)) } else { Err(io::Error::from_raw_os_error(code)) }
    }
}

fn is_ignored(signal: Signal) -> io::Result<bool> {
    // SAFETY: all-zero bytes are a valid sigaction to be written over.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: only the present action is read, into a structure of the right type.
    cerr(unsafe { libc::sigaction(signal.0, std::ptr::null(), &raw mut action) })?;
    Ok(action.sa_sigaction == libc::SIG_IGN)
}

/// Whether this process gets an error instead of a signal at its limit on file sizes.
static NO_XFSZ: AtomicBool = AtomicBool::new(false);

/// A write beyond the limit on file sizes (setrlimit(2), RLIMIT_FSIZE) is an error from now on and ends nothing. What
/// this process starts finds the signal as it was.
pub fn survive_file_limit() {
    if is_ignored(Signal(libc::SIGXFSZ)).is_ok_and(|ignored| !ignored) {
        // SAFETY: a signal's number and a constant.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
        NO_XFSZ.store(true, Ordering::SeqCst);
    }
}

/// Blocks no signal any more: what receives signals by waiting blocks them, and a mask is inherited. Meant for
/// between fork and exec: async-signal-safe.
pub(super) fn unblock_all() -> io::Result<()> {
    if NO_XFSZ.load(Ordering::SeqCst) {
        // SAFETY: as in `survive_file_limit`; async-signal-safe.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_DFL) };
    }
    // SAFETY: all-zero bytes are a valid sigset_t, and sigemptyset initialises it before it is used.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        cerr(libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut())).map(drop)
    }
}

/// Blocks no signal any more, and lets each do what it does by default: for a program that is nobody's child. Meant for
/// between fork and exec: async-signal-safe.
pub(super) fn default_all() -> io::Result<()> {
    unblock_all()?;
    for number in 1..32 {
        // KILL and STOP refuse, which is all that they can do.
        // SAFETY: a signal's number and a constant; async-signal-safe.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    Ok(())
}

/// Stops this whole process until it is continued, as Ctrl-Z does.
pub fn stop_self() -> io::Result<()> {
    // SAFETY: kill and getpid have no memory arguments.
    cerr(unsafe { libc::kill(libc::getpid(), libc::SIGSTOP) }).map(drop)
}

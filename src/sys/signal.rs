//! Signals: blocked in every thread, then received as values by one.

mod names;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use super::cerr;

/// A signal by its number (signal(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signal(libc::c_int);

impl Signal {
    /// Terminal hang-up.
    pub(crate) const HUP: Signal = Signal(libc::SIGHUP);
    /// Ctrl-C.
    pub const INT: Signal = Signal(libc::SIGINT);
    /// Ctrl-\.
    pub(crate) const QUIT: Signal = Signal(libc::SIGQUIT);
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
    /// The power fails: what a container manager sends to end an init.
    #[cfg(target_os = "linux")]
    pub(crate) const PWR: Signal = Signal(libc::SIGPWR);
    /// Ctrl-Z.
    pub(crate) const TSTP: Signal = Signal(libc::SIGTSTP);
    /// None: only asks whether there is somebody (kill(2)).
    pub(crate) const NONE: Signal = Signal(0);
    /// The window has another size.
    pub const WINCH: Signal = Signal(libc::SIGWINCH);
    /// Stop that cannot be caught.
    pub const STOP: Signal = Signal(libc::SIGSTOP);
    /// Continue.
    pub(crate) const CONT: Signal = Signal(libc::SIGCONT);

    /// A child ended, stopped or went on.
    pub const CHLD: Signal = Signal(libc::SIGCHLD);
    /// A process in the background reads from the terminal.
    pub(crate) const TTIN: Signal = Signal(libc::SIGTTIN);
    /// A process in the background changes the terminal.
    pub(crate) const TTOU: Signal = Signal(libc::SIGTTOU);

    /// From a number that the kernel gave, or that was a signal's before.
    pub fn from_number(number: libc::c_int) -> Signal {
        Signal(number)
    }

    /// The number.
    pub fn number(self) -> i32 {
        self.0
    }
}

/// A set of signals that are blocked in the thread that made it and in every thread it starts afterwards.
pub struct Blocked(libc::sigset_t);

impl Blocked {
    /// Blocks `signals`, leaving out those that were ignored when the program started (nohup(1)): they stay
    /// ignored. Call it before the first thread.
    pub fn new(signals: &[Signal]) -> io::Result<Self> {
        Blocked::with(signals, &[])
    }

    /// The same, with signals that this program needs itself, whoever ignored them: what is blocked is never thrown
    /// away (signal(7)).
    pub(crate) fn with(signals: &[Signal], own: &[Signal]) -> io::Result<Self> {
        // SAFETY: all-zero bytes are a valid sigset_t, and sigemptyset initialises it.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: `set` is a valid place for a set.
        cerr(unsafe { libc::sigemptyset(&raw mut set) })?;
        for signal in signals.iter().chain(own) {
            if own.contains(signal) || !is_ignored(*signal)? {
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

/// Whether CHLD was ignored when this program started.
static NO_CHLD: AtomicBool = AtomicBool::new(false);

/// Whether PIPE was ignored when this program started.
static NO_PIPE: AtomicBool = AtomicBool::new(false);

/// Makes this process independent of how its caller has left its signals, and notes that for what it starts. Before the
/// first program is started.
///
/// - A write beyond the limit on file sizes (setrlimit(2), RLIMIT_FSIZE) is an error from now on and ends nothing.
/// - CHLD has its default: where it is ignored, the kernel throws exit statuses away (waitpid(2)).
pub(crate) fn settle() {
    for (signal, ignored, noted, own) in
        [(libc::SIGXFSZ, false, &NO_XFSZ, libc::SIG_IGN), (libc::SIGCHLD, true, &NO_CHLD, libc::SIG_DFL)]
    {
        if is_ignored(Signal(signal)).is_ok_and(|found| found == ignored) {
            // SAFETY: a signal's number and a constant.
            unsafe { libc::signal(signal, own) };
            noted.store(true, Ordering::SeqCst);
        }
    }
}

/// Rust's own start ignores PIPE, so that this is looked at before it.
extern "C" fn note_pipe() {
    NO_PIPE.store(is_ignored(Signal::PIPE).unwrap_or(false), Ordering::SeqCst);
}

// SAFETY: what is in this section is called once, before the program begins; it allocates nothing, and needs nothing
// that is not there yet.
#[used]
#[cfg_attr(target_os = "linux", unsafe(link_section = ".init_array"))]
#[cfg_attr(target_os = "macos", unsafe(link_section = "__DATA,__mod_init_func"))]
static NOTE_PIPE: extern "C" fn() = note_pipe;

/// Blocks no signal any more: what receives signals by waiting blocks them, and a mask is inherited. For a tool of this
/// program's, which relies on what it starts no less than this one does. Meant for between fork and exec:
/// async-signal-safe.
pub(super) fn unblock_all() -> io::Result<()> {
    if NO_XFSZ.load(Ordering::SeqCst) {
        // SAFETY: as in `settle`; async-signal-safe.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_DFL) };
    }
    // SAFETY: all-zero bytes are a valid sigset_t, and sigemptyset initialises it before it is used.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        cerr(libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut())).map(drop)
    }
}

/// The same for a caller's command, or for what starts one: whatever was ignored when this program started is ignored.
pub(super) fn hand_down() -> io::Result<()> {
    for (signal, ignored) in [(libc::SIGCHLD, &NO_CHLD), (libc::SIGPIPE, &NO_PIPE)] {
        if ignored.load(Ordering::SeqCst) {
            // SAFETY: a signal's number and a constant; async-signal-safe.
            unsafe { libc::signal(signal, libc::SIG_IGN) };
        }
    }
    unblock_all()
}

/// Lets a tool write to the terminal in the background, where TTOU could stop it (`stty tostop`). Meant for between fork
/// and exec: async-signal-safe.
pub(super) fn ignore_ttou() {
    // SAFETY: a signal's number and a constant; async-signal-safe.
    unsafe { libc::signal(libc::SIGTTOU, libc::SIG_IGN) };
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
pub(crate) fn stop_self() -> io::Result<()> {
    // SAFETY: kill and getpid have no memory arguments.
    cerr(unsafe { libc::kill(libc::getpid(), libc::SIGSTOP) }).map(drop)
}

/// Ends this process by a signal, as if nobody had ever caught it. It returns where that does not end it, as in PID 1.
pub(crate) fn end_self(signal: Signal) {
    // SAFETY: all-zero bytes are a valid sigset_t, and sigemptyset initialises it before it is used; the others take
    // numbers and constants.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal.0);
        libc::signal(signal.0, libc::SIG_DFL);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
        // To this thread: another one waits for signals of the process.
        libc::raise(signal.0);
    }
}

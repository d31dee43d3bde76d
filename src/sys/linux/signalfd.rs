//! Signals as bytes of a descriptor (signalfd(2)): what a loop over poll(2) needs.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::sys::signal::Signal;
use crate::sys::{cerr, retry};

/// The signals that a process can block and pass on. Left out: the two that nobody can block, those that a
/// program's own fault raises (a blocked one kills at once). The real-time ones come beside these.
const PASSABLE: [libc::c_int; 22] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGPIPE,
    libc::SIGALRM,
    libc::SIGTERM,
    libc::SIGSTKFLT,
    libc::SIGCHLD,
    libc::SIGCONT,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGURG,
    libc::SIGXCPU,
    libc::SIGXFSZ,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGWINCH,
    libc::SIGIO,
    libc::SIGPWR,
];

/// Every passable signal of this process, to be read.
pub struct SignalFd(OwnedFd);

impl SignalFd {
    /// Blocks them and opens the descriptor. CHLD is set to its default first: where it is ignored, as a parent
    /// may have left it, the kernel throws exit statuses away (waitpid(2)). Call it before the first thread.
    pub fn new() -> io::Result<SignalFd> {
        // SAFETY: all-zero bytes are a valid sigset_t, and sigemptyset initialises it.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: `set` is a valid place for a set; the numbers are constants; signal only sets a default.
        unsafe {
            cerr(libc::sigemptyset(&raw mut set))?;
            // Without the two that the C library has for itself.
            for signal in PASSABLE.into_iter().chain(libc::SIGRTMIN()..=libc::SIGRTMAX()) {
                cerr(libc::sigaddset(&raw mut set, signal))?;
            }
            libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        }
        // SAFETY: `set` is initialised; the old mask is not asked for.
        let code = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        if code != 0 {
            return Err(io::Error::from_raw_os_error(code));
        }
        // SAFETY: `set` is initialised; -1 asks for a new descriptor.
        let fd = cerr(unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) })?;
        // SAFETY: the call returned a new descriptor that nobody else owns.
        Ok(SignalFd(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next one, if one is pending.
    pub fn next(&self) -> io::Result<Option<Signal>> {
        // SAFETY: all-zero bytes are a valid signalfd_siginfo, a structure of integers.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let size = std::mem::size_of::<libc::signalfd_siginfo>();
        let mut read = || {
            // SAFETY: `info` has room for `size` bytes; a read of a signalfd gives whole structures.
            let count = unsafe { libc::read(self.0.as_raw_fd(), (&raw mut info).cast(), size) };
            libc::c_int::try_from(count).unwrap_or(-1)
        };
        match retry(&mut read) {
            Ok(_) => Ok(i32::try_from(info.ssi_signo).ok().map(Signal::from_number)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

//! Starting a command below a *keeper*: a fork of this process that lives as long as the command, adopts what the
//! command's processes orphan, and leaves the command's exit status to this process.
//!
//! The keeper ends without reaping the command, whose zombie then comes to this process: nobody else ever reads the
//! status, and nobody can lose it. What the two have to say comes through a pipe; a process writes there before it
//! can end, so whoever reads the pipe after a death knows whose it was.

use std::ffi::{CString, c_char, c_int, c_uint, c_ulong};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::sys::fd::{pipe, set_nonblocking};
use crate::sys::limit::DescriptorLimit;
use crate::sys::process::Pid;
use crate::sys::signal::unblock_all;
use crate::sys::{cerr, retry};

/// What is executed.
pub(crate) struct Program {
    /// Where it may be, in order; never empty.
    pub(crate) paths: Vec<CString>,
    /// Its arguments, its own name first; never empty.
    pub(crate) argv: Vec<CString>,
    /// Its whole environment.
    pub(crate) env: Vec<CString>,
    /// Its directory, if it is not this process's.
    pub(crate) cwd: Option<CString>,
    /// Its limit on descriptors, if it is not this process's.
    pub(crate) descriptors: Option<DescriptorLimit>,
    /// Whether its keeper stands still when the command has ended, and still keeps what the command has left.
    pub(crate) holds: bool,
    /// Whether its streams are a terminal, which its session is to be controlled by.
    pub(crate) terminal: bool,
}

/// What could not be done for a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// To make its process.
    Fork,
    /// To prepare its process.
    Prepare,
    /// To enter its directory.
    Chdir,
    /// To execute its program.
    Exec,
}

/// What the keeper or the command's process says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Report {
    /// The command has this number. It may come twice.
    Leader(Pid),
    /// The command does not run, for this errno.
    Failed(Stage, i32),
}

/// A report has a letter and a number.
const REPORT: usize = 5;

/// The end of the pipe that reports come from. It ends when the command runs or has failed to.
pub(crate) struct Reports(OwnedFd);

impl Reports {
    /// The reports that have come; whether those are all.
    pub(crate) fn read(&self) -> io::Result<(Vec<Report>, bool)> {
        let mut reports = Vec::new();
        loop {
            let mut bytes = [0; REPORT * 16];
            let mut read = || {
                // SAFETY: there is room for so many bytes.
                let count = unsafe { libc::read(self.0.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) };
                c_int::try_from(count).unwrap_or(-1)
            };
            match retry(&mut read) {
                Ok(0) => return Ok((reports, true)),
                // Each was written at once, so whole ones are read (pipe(7), PIPE_BUF).
                Ok(count) => {
                    let count = usize::try_from(count).unwrap_or_default();
                    reports.extend(bytes[..count].chunks_exact(REPORT).filter_map(decode));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok((reports, false)),
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Reports {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

const LETTERS: [(u8, Stage); 4] =
    [(b'f', Stage::Fork), (b'p', Stage::Prepare), (b'c', Stage::Chdir), (b'e', Stage::Exec)];

fn encode(report: Report) -> [u8; REPORT] {
    let (letter, number) = match report {
        Report::Leader(pid) => (b'l', pid.number()),
        Report::Failed(Stage::Fork, errno) => (b'f', errno),
        Report::Failed(Stage::Prepare, errno) => (b'p', errno),
        Report::Failed(Stage::Chdir, errno) => (b'c', errno),
        Report::Failed(Stage::Exec, errno) => (b'e', errno),
    };
    let [a, b, c, d] = number.to_ne_bytes();
    [letter, a, b, c, d]
}

fn decode(bytes: &[u8]) -> Option<Report> {
    let (letter, number) = bytes.split_first()?;
    let number = i32::from_ne_bytes(number.try_into().ok()?);
    if *letter == b'l' {
        return Pid::new(number).map(Report::Leader);
    }
    let (_, stage) = LETTERS.iter().find(|(known, _)| known == letter)?;
    Some(Report::Failed(*stage, number))
}

/// Everything that is needed between fork and exec, where nothing can be allocated: pointers into a [`Program`].
struct Raw<'a> {
    program: &'a Program,
    paths: Vec<*const c_char>,
    argv: Vec<*const c_char>,
    /// For a script that does not say what executes it: a shell's name, room for the script's, its arguments.
    script: Vec<*const c_char>,
    env: Vec<*const c_char>,
    stdio: [c_int; 3],
    reports: c_int,
    /// The four above, sorted.
    kept: [c_int; 4],
}

const SHELL: *const c_char = c"/bin/sh".as_ptr();

impl<'a> Raw<'a> {
    fn new(program: &'a Program, stdio: [BorrowedFd<'_>; 3], reports: BorrowedFd<'_>) -> Raw<'a> {
        let pointers = |strings: &[CString]| strings.iter().map(|string| string.as_ptr()).collect::<Vec<_>>();
        let ended = |mut pointers: Vec<*const c_char>| {
            pointers.push(std::ptr::null());
            pointers
        };
        let arguments = pointers(program.argv.get(1..).unwrap_or_default());
        let stdio = stdio.map(|fd| fd.as_raw_fd());
        let mut kept = [stdio[0], stdio[1], stdio[2], reports.as_raw_fd()];
        kept.sort_unstable();
        Raw {
            program,
            paths: pointers(&program.paths),
            argv: ended(pointers(&program.argv)),
            script: ended([vec![SHELL, std::ptr::null()], arguments].concat()),
            env: ended(pointers(&program.env)),
            stdio,
            reports: reports.as_raw_fd(),
            kept,
        }
    }
}

/// Forks the keeper of a command, which forks the command. Its streams are closed on exec and above 2, as everything
/// is that this program opens. The caller has no other thread.
pub(crate) fn start(program: &Program, stdio: [BorrowedFd<'_>; 3]) -> io::Result<(Pid, Reports)> {
    let (read, write) = pipe()?;
    set_nonblocking(&read)?;
    let mut raw = Raw::new(program, stdio, write.as_fd());
    // SAFETY: the child only makes async-signal-safe calls, allocates nothing, and does not return from `keep`.
    let keeper = cerr(unsafe {
        let pid = libc::fork();
        if pid == 0 {
            keep(&mut raw)
        }
        pid
    })?;
    let keeper = Pid::new(keeper).ok_or_else(|| io::Error::other("it got no process id"))?;
    Ok((keeper, Reports(read)))
}

// ---- in the keeper ----------------------------------------------------------------------------

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or_default()
}

fn report(fd: c_int, report: Report) {
    let bytes = encode(report);
    // SAFETY: the bytes are there. Nobody can be told if it fails, which it does when this process's parent is gone.
    unsafe { libc::write(fd, bytes.as_ptr().cast(), REPORT) };
}

/// The life of a keeper.
///
/// # Safety
/// Only for a process that was just forked from one with a single thread.
unsafe fn keep(raw: &mut Raw<'_>) -> ! {
    // SAFETY: async-signal-safe calls, with integers, constants, and sets and structures that are initialised by
    // them or valid as zeros.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
        libc::prctl(libc::PR_SET_DUMPABLE, 0 as c_ulong, 0, 0, 0);
        libc::prctl(libc::PR_SET_NAME, c"fosse-keeper".as_ptr(), 0, 0, 0);
        close_all_but(&raw.kept);
        if libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1 as c_ulong, 0, 0, 0) == -1 {
            report(raw.reports, Report::Failed(Stage::Fork, errno()));
            libc::_exit(1);
        }
        let leader = match libc::fork() {
            -1 => {
                report(raw.reports, Report::Failed(Stage::Fork, errno()));
                libc::_exit(1)
            }
            0 => lead(raw),
            leader => leader,
        };
        // The command says so itself, and may be killed before it does.
        if let Some(pid) = Pid::new(leader) {
            report(raw.reports, Report::Leader(pid));
        }
        close_all_but(&[]);
        loop {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            if libc::waitid(libc::P_ALL, 0, &raw mut info, libc::WEXITED | libc::WNOWAIT) == -1 {
                if errno() == libc::EINTR {
                    continue;
                }
                libc::_exit(1);
            }
            if info.si_pid() == leader && raw.program.holds {
                // Init sees it stand still, ends all who are left below it, and then this process.
                libc::kill(libc::getpid(), libc::SIGSTOP);
                continue;
            }
            if info.si_pid() == leader {
                // Unreaped: with this process's end it is init's child.
                libc::_exit(0);
            }
            libc::waitid(libc::P_PID, info.si_pid().unsigned_abs(), &raw mut info, libc::WEXITED);
        }
    }
}

/// Closes all descriptors but these, which are in ascending order.
///
/// # Safety
/// Only where nothing owns the others.
unsafe fn close_all_but(kept: &[c_int]) {
    let mut from: c_uint = 0;
    for fd in kept.iter().map(|fd| fd.unsigned_abs()) {
        if fd > from {
            // SAFETY: as the caller says.
            unsafe { close_span(from, fd - 1) };
        }
        from = fd + 1;
    }
    // SAFETY: as the caller says.
    unsafe { close_span(from, c_uint::MAX) };
}

/// Closes all descriptors above stderr, for a program that begins: nothing owns one yet.
pub(crate) fn close_above_stderr() {
    // SAFETY: as the caller says.
    unsafe { close_span(3, c_uint::MAX) };
}

/// The highest descriptor that is closed where there is no close_range(2) (Linux 5.9, and allowed).
const HIGHEST: c_int = 65_535;

/// # Safety
/// Only where nothing owns them.
unsafe fn close_span(first: c_uint, last: c_uint) {
    // SAFETY: integers only, and nothing owns the descriptors.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, last, 0 as c_uint) == 0 {
            return;
        }
        let number = |fd| c_int::try_from(fd).map_or(HIGHEST, |fd| fd.min(HIGHEST));
        for fd in number(first)..=number(last) {
            libc::close(fd);
        }
    }
}

// ---- in the command's process -----------------------------------------------------------------

/// The command's process until it executes its program.
///
/// # Safety
/// Only for a process that was just forked from one with a single thread.
unsafe fn lead(raw: &mut Raw<'_>) -> ! {
    // SAFETY: async-signal-safe calls, with integers and with strings and arrays of the program's, which end in NUL
    // or in a null pointer.
    unsafe {
        if let Some(pid) = Pid::new(libc::getpid()) {
            report(raw.reports, Report::Leader(pid));
        }
        let fail = |stage, errno| -> ! {
            report(raw.reports, Report::Failed(stage, errno));
            libc::_exit(127)
        };
        if libc::setsid() == -1 {
            fail(Stage::Prepare, errno());
        }
        // Also for those that the C library keeps for itself, which it refuses.
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        for (number, fd) in (0..).zip(raw.stdio) {
            if libc::dup2(fd, number) == -1 {
                fail(Stage::Prepare, errno());
            }
        }
        if raw.program.terminal && libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0) == -1 {
            fail(Stage::Prepare, errno());
        }
        if let Some(limit) = raw.program.descriptors {
            limit.restore();
        }
        if unblock_all().is_err() {
            fail(Stage::Prepare, errno());
        }
        if raw.program.cwd.as_ref().is_some_and(|cwd| libc::chdir(cwd.as_ptr()) == -1) {
            fail(Stage::Chdir, errno());
        }
        let errno = execute(raw);
        report(raw.reports, Report::Failed(Stage::Exec, errno));
        libc::_exit(127)
    }
}

/// Executes the program at the first path where it is, as execvp(3) does; why it cannot.
///
/// # Safety
/// Only where another program may take this one's place.
unsafe fn execute(raw: &mut Raw<'_>) -> i32 {
    let mut refused = None;
    for path in &raw.paths {
        // SAFETY: the strings end in NUL, the arrays in a null pointer.
        unsafe { libc::execve(*path, raw.argv.as_ptr(), raw.env.as_ptr()) };
        match errno() {
            libc::ENOENT | libc::ENOTDIR => {}
            // Another directory may have one that can be executed.
            libc::EACCES => refused = Some(libc::EACCES),
            libc::ENOEXEC => {
                raw.script[1] = *path;
                // SAFETY: as above.
                unsafe { libc::execve(SHELL, raw.script.as_ptr(), raw.env.as_ptr()) };
                return libc::ENOEXEC;
            }
            other => return other,
        }
    }
    refused.unwrap_or(libc::ENOENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_comes_back_as_it_was_sent() {
        let stages = LETTERS.map(|(_, stage)| Report::Failed(stage, 7));
        for report in stages.into_iter().chain([Report::Leader(Pid::own())]) {
            assert_eq!(decode(&encode(report)), Some(report));
        }
        assert_eq!(decode(b"x1234"), None);
        assert_eq!(decode(b"l"), None);
    }

    #[test]
    fn reports_are_read_until_the_last_who_can_send_some_is_gone() {
        let (read, write) = pipe().unwrap();
        set_nonblocking(&read).unwrap();
        let reports = Reports(read);
        assert_eq!(reports.read().unwrap(), (vec![], false));
        let two = [Report::Leader(Pid::own()), Report::Failed(Stage::Exec, 2)];
        two.iter().for_each(|one| report(write.as_raw_fd(), *one));
        assert_eq!(reports.read().unwrap(), (two.to_vec(), false));
        drop(write);
        assert_eq!(reports.read().unwrap(), (vec![], true));
    }
}

//! Ending a holder of the lock that does not answer. Nothing is signalled by a bare pid: the process must hold the
//! lock by the kernel's own word, run for this user, and be the one that wrote the lock's file, or this very program.

/// How the one that is silent was met.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Met {
    /// It was seen to hold the lock, and the lock's file names it.
    Holding,
    /// The lock's file does not name it; the kernel did, when its silence began.
    Nameless(Option<Process>),
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "elsewhere nobody is ended"))]
pub(crate) enum Reclaimed {
    /// It was killed.
    Killed,
    /// Nobody is seen to hold the lock.
    Nobody,
    /// Another process holds the lock by now, which has only begun.
    Another,
}

#[cfg(target_os = "linux")]
mod proved {
    use std::fs::{self, File};
    use std::io;
    use std::os::unix::fs::MetadataExt;
    use std::time::Duration;

    use crate::base::error::{Failure, Result};
    use crate::run::owner::boot_id;
    use crate::sys::file::FileId;
    use crate::sys::linux::flock;
    use crate::sys::poll;
    use crate::sys::process::{Pid, PidHandle};
    use crate::sys::signal::Signal;
    use crate::sys::stat::{Halt, Stat};
    use crate::wire::daemon::Holder;

    use super::{Met, Reclaimed};

    /// A process, and no later one of the same number.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Process {
        pid: Pid,
        start: u64,
    }

    /// How long a stopped daemon has, once it goes on, to end in order.
    const POLITE: Duration = Duration::from_secs(1);

    /// Whether the process that wrote the lock's file holds it.
    pub(crate) fn holds(lock: &File, known: &Holder) -> bool {
        known.boot_id == boot_id() && flock::holds(known.pid, lock)
    }

    /// Who holds the lock by the kernel's word, where the lock's file does not say it.
    pub(crate) fn nameless(lock: &File, uid: u32) -> Option<Process> {
        let pid = flock::holders(lock, uid).first().copied().and_then(Pid::new)?;
        Some(Process { pid, start: Stat::of(pid)?.start })
    }

    /// Ends it. `lock` is the lock's file as this process opened it, `known` what the holder wrote. Nothing is done if
    /// nobody is seen to hold it. The lock itself says when it is over.
    pub(crate) fn reclaim(lock: &File, known: Option<&Holder>, met: Met, uid: u32, force: bool) -> Result<Reclaimed> {
        let what = "replacing the daemon that does not answer";
        let known = known.filter(|holder| holder.boot_id == boot_id());
        let (pid, suspect) = match (known, met) {
            (Some(holder), _) if flock::holds(holder.pid, lock) => (Pid::new(holder.pid), None),
            // It has let go. Whoever has the lock by now has only begun, and may not have written the file yet.
            (_, Met::Holding) => return Ok(Reclaimed::Nobody),
            // It says nothing, or nothing true: the kernel knows, and it must be the one that was silent.
            (_, Met::Nameless(suspect)) => match nameless(lock, uid) {
                Some(now) if Some(now) != suspect => return Ok(Reclaimed::Another),
                now => (now.map(|now| now.pid), now),
            },
        };
        // Whether it is free by now, the next try tells.
        let Some(pid) = pid else { return Ok(Reclaimed::Nobody) };
        let handle = match PidHandle::open(pid) {
            Ok(handle) => handle,
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(Reclaimed::Nobody),
            Err(error) => return Err(Failure::new(what, error)),
        };
        // From here on the handle means one process: what is found out about the number is about that one, as long as it
        // still holds the lock afterwards.
        let Some(stat) = Stat::of(pid) else { return Ok(Reclaimed::Nobody) };
        if suspect.is_some_and(|suspect| suspect.start != stat.start) {
            return Ok(Reclaimed::Another);
        }
        let wrote_it = known.is_some_and(|holder| (holder.pid, holder.start_time) == (pid.number(), stat.start));
        let is_daemon = if wrote_it { Some(true) } else { is_this_program(pid) };
        let is_mine = fs::metadata(format!("/proc/{}", pid.number())).is_ok_and(|metadata| metadata.uid() == uid);
        // One that has ended, or has already lost its program on the way there, lets go by itself.
        if !flock::holds(pid.number(), lock) || is_daemon.is_none() {
            return Ok(Reclaimed::Nobody);
        }
        let refuse = |why: &str| {
            Failure::new(what, format!("process {} {why}", pid.number()))
                .hint(format!("end process {} yourself", pid.number()))
        };
        if is_daemon == Some(false) {
            return Err(refuse("holds its lock, and is no daemon of fosse's"));
        }
        if !is_mine {
            return Err(refuse("runs for another user"));
        }
        if stat.halt == Halt::Traced && !force {
            return Err(refuse("is held by a debugger").hint("let it go on, or use --force"));
        }
        if stat.halt == Halt::Stopped {
            let told = signal(&handle, Signal::TERM).and_then(|()| signal(&handle, Signal::CONT));
            told.map_err(|error| Failure::new(what, error))?;
            poll::wait_readable(&handle, Some(POLITE)).unwrap_or_default();
        }
        signal(&handle, Signal::KILL).map(|()| Reclaimed::Killed).map_err(|error| Failure::new(what, error))
    }

    /// A process that is gone needs no signal.
    fn signal(handle: &PidHandle, signal: Signal) -> io::Result<()> {
        match handle.signal(signal) {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Whether a process executes the same file as this one; `None` if it executes nothing any more.
    fn is_this_program(pid: Pid) -> Option<bool> {
        let program = |process: &str| fs::metadata(format!("/proc/{process}/exe")).map(|file| FileId::from(&file));
        match program(&pid.number().to_string()) {
            Ok(theirs) => Some(program("self").is_ok_and(|own| theirs == own)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(_) => Some(false),
        }
    }
}

#[cfg(target_os = "linux")]
pub(crate) use proved::{Process, holds, nameless, reclaim};

/// Elsewhere nobody can be seen to hold a lock.
#[cfg(not(target_os = "linux"))]
pub(crate) fn holds(_lock: &std::fs::File, _known: &crate::wire::daemon::Holder) -> bool {
    false
}

/// Elsewhere there is none to name.
#[cfg(not(target_os = "linux"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Process {}

/// Elsewhere nobody is named.
#[cfg(not(target_os = "linux"))]
pub(crate) fn nameless(_lock: &std::fs::File, _uid: u32) -> Option<Process> {
    None
}

/// Elsewhere a process cannot be named for certain (there is no pidfd), so it is not ended.
#[cfg(not(target_os = "linux"))]
pub(crate) fn reclaim(
    _lock: &std::fs::File,
    known: Option<&crate::wire::daemon::Holder>,
    _met: Met,
    _uid: u32,
    _force: bool,
) -> crate::base::error::Result<Reclaimed> {
    let who = known.map_or_else(|| "it".into(), |holder| format!("process {}", holder.pid));
    let failure = crate::base::error::Failure::new("replacing the daemon that does not answer", "not on this system");
    Err(failure.hint(format!("end {who} yourself")))
}

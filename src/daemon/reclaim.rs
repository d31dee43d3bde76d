//! Ending a holder of the lock that does not answer. Nothing is signalled by a bare pid: the process must hold the
//! lock by the kernel's own word, run for this user, and be the one that wrote the lock's file, or this very program.

#[cfg(target_os = "linux")]
mod proved {
    use std::fs::{self, File};
    use std::io;
    use std::os::unix::fs::MetadataExt;
    use std::time::Duration;

    use crate::base::error::{Failure, Result};
    use crate::run::owner::boot_id;
    use crate::sys::linux::flock;
    use crate::sys::poll;
    use crate::sys::process::{Pid, PidHandle};
    use crate::sys::signal::Signal;
    use crate::sys::stat::{Halt, Stat};
    use crate::wire::daemon::Holder;

    /// How long a stopped daemon has, once it goes on, to end in order.
    const POLITE: Duration = Duration::from_secs(1);

    /// Whether the process that wrote the lock's file holds it.
    pub fn holds(lock: &File, known: &Holder) -> bool {
        known.boot_id == boot_id() && flock::holds(known.pid, lock)
    }

    /// Ends it. `lock` is the lock's file as this process opened it, `known` what the holder wrote, and `held` whether it
    /// was seen to hold the lock. Nothing is done if nobody is seen to hold it. The lock itself says when it is over;
    /// here, whether somebody was ended.
    pub fn reclaim(lock: &File, known: Option<&Holder>, held: bool, uid: u32, force: bool) -> Result<bool> {
        let what = "replacing the daemon that does not answer";
        let known = known.filter(|holder| holder.boot_id == boot_id());
        let holders = match known {
            Some(holder) if flock::holds(holder.pid, lock) => vec![holder.pid],
            // It has let go. Whoever has the lock by now has only begun, and may not have written the file yet.
            _ if held => return Ok(false),
            // It says nothing, or nothing true: the kernel knows.
            Some(_) | None => flock::holders(lock, uid),
        };
        let Some(pid) = holders.first().copied().and_then(Pid::new) else {
            // Whether it is free by now, the next try tells.
            return Ok(false);
        };
        let handle = match PidHandle::open(pid) {
            Ok(handle) => handle,
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(false),
            Err(error) => return Err(Failure::new(what, error)),
        };
        // From here on the handle means one process: what is found out about the number is about that one, as long as it
        // still holds the lock afterwards.
        let Some(stat) = Stat::of(pid) else { return Ok(false) };
        let wrote_it = known.is_some_and(|holder| (holder.pid, holder.start_time) == (pid.number(), stat.start));
        let refuse = |why: String| Failure::new(what, why).hint(format!("end process {} yourself", pid.number()));
        if !wrote_it && !is_this_program(pid) {
            return Err(refuse(format!("process {} holds its lock, and is no daemon of fosse's", pid.number())));
        }
        if fs::metadata(format!("/proc/{}", pid.number())).map(|metadata| metadata.uid()).ok() != Some(uid) {
            return Err(refuse(format!("process {} runs for another user", pid.number())));
        }
        if stat.halt == Halt::Traced && !force {
            let why = format!("process {} is held by a debugger", pid.number());
            return Err(Failure::new(what, why).hint("let it go on, or use --force"));
        }
        if !flock::holds(pid.number(), lock) {
            return Ok(false);
        }
        if stat.halt == Halt::Stopped {
            let told = signal(&handle, Signal::TERM).and_then(|()| signal(&handle, Signal::CONT));
            told.map_err(|error| Failure::new(what, error))?;
            poll::wait_readable(&handle, Some(POLITE)).unwrap_or_default();
        }
        signal(&handle, Signal::KILL).map(|()| true).map_err(|error| Failure::new(what, error))
    }

    /// A process that is gone needs no signal.
    fn signal(handle: &PidHandle, signal: Signal) -> io::Result<()> {
        match handle.signal(signal) {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Whether a process executes the same file as this one.
    fn is_this_program(pid: Pid) -> bool {
        let program = |process: &str| fs::metadata(format!("/proc/{process}/exe")).map(|file| (file.dev(), file.ino()));
        program("self").is_ok_and(|own| program(&pid.number().to_string()).is_ok_and(|theirs| theirs == own))
    }
}

#[cfg(target_os = "linux")]
pub use proved::{holds, reclaim};

/// Elsewhere nobody can be seen to hold a lock.
#[cfg(not(target_os = "linux"))]
pub fn holds(_lock: &std::fs::File, _known: &crate::wire::daemon::Holder) -> bool {
    false
}

/// Elsewhere a process cannot be named for certain (there is no pidfd), so it is not ended.
#[cfg(not(target_os = "linux"))]
pub fn reclaim(
    _lock: &std::fs::File,
    known: Option<&crate::wire::daemon::Holder>,
    _held: bool,
    _uid: u32,
    _force: bool,
) -> crate::base::error::Result<bool> {
    let who = known.map_or_else(|| "it".into(), |holder| format!("process {}", holder.pid));
    let failure = crate::base::error::Failure::new("replacing the daemon that does not answer", "not on this system");
    Err(failure.hint(format!("end {who} yourself")))
}

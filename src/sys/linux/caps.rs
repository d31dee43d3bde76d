//! Giving up privilege for good (capabilities(7)). All of it belongs to the calling thread alone, so whoever has more
//! than one would keep it in the others.

use std::io;

use libc::{c_int, c_ulong};

use crate::sys::cerr;

/// Bits of PR_SET_SECUREBITS (linux/securebits.h); each is followed by the one that locks it.
const NOROOT: c_ulong = 1 << 0;
const NO_SETUID_FIXUP: c_ulong = 1 << 2;
const NO_CAP_AMBIENT_RAISE: c_ulong = 1 << 6;

const fn locked(bit: c_ulong) -> c_ulong {
    bit << 1
}

/// User 0 and set-user-ID programs mean nothing any more, and that cannot be undone; inherited by every child, through
/// every exec. The ambient one is of Linux 4.3. KEEP_CAPS is not among them: there is nothing that a change of user could
/// keep, and programs that give up what rights they may have (ping, whatever uses libcap so) end if they cannot set it.
const SECUREBITS: c_ulong = NOROOT
    | locked(NOROOT)
    | NO_SETUID_FIXUP
    | locked(NO_SETUID_FIXUP)
    | NO_CAP_AMBIENT_RAISE
    | locked(NO_CAP_AMBIENT_RAISE);

/// _LINUX_CAPABILITY_VERSION_3: sets of 64 bits, in two halves (capget(2), Linux 2.6.26).
const VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: c_int,
}

impl Header {
    /// About the calling thread.
    const OWN: Header = Header { version: VERSION, pid: 0 };
}

/// Half of each set.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Drops every capability from every set, and whatever could bring one back in this user namespace. For a process
/// that has one thread, and all capabilities of its user namespace (CAP_SETPCAP is what it takes).
pub(crate) fn drop_all() -> io::Result<()> {
    drop_bounding()?;
    let clear = libc::PR_CAP_AMBIENT_CLEAR_ALL as c_ulong;
    // SAFETY: prctl with integer arguments.
    cerr(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, clear, 0 as c_ulong, 0 as c_ulong, 0 as c_ulong) })?;
    // SAFETY: prctl with integer arguments.
    cerr(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, SECUREBITS, 0, 0, 0) })?;
    // Last, since what comes before needs CAP_SETPCAP.
    set([Half::default(); 2])
}

/// Sets the calling thread's sets, the lower half first (capset(2)).
fn set(sets: [Half; 2]) -> io::Result<()> {
    let header = Header::OWN;
    // SAFETY: a valid header, and both halves that its version asks for.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Which capabilities there are is the kernel's matter: it refuses the first number that it does not know.
fn drop_bounding() -> io::Result<()> {
    let mut capability: c_ulong = 0;
    loop {
        // SAFETY: prctl with integer arguments.
        match cerr(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) }) {
            Ok(_) => capability += 1,
            // Not even the first one: then this says nothing about the end.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && capability > 0 => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// From now on no exec gives this thread or its children anything that they did not have: neither set-user-ID nor
/// capabilities of a file (PR_SET_NO_NEW_PRIVS, Linux 3.5).
pub(crate) fn no_new_privileges() -> io::Result<()> {
    let zero: c_ulong = 0;
    // SAFETY: prctl with integer arguments; the kernel insists on the zeros.
    cerr(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1 as c_ulong, zero, zero, zero) }).map(drop)
}

/// Whether the calling thread has any capability, or could switch one on (capget(2)).
pub(crate) fn any_left() -> io::Result<bool> {
    let (mut header, mut sets) = (Header::OWN, [Half::default(); 2]);
    // SAFETY: a valid header that may be written to, and room for both halves that its version has.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(sets.iter().any(|half| half.effective | half.permitted != 0))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// The number after this name in the calling thread's status (proc_pid_status(5)), in this base.
    fn status(name: &str, base: u32) -> u64 {
        let text = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
        u64::from_str_radix(value.trim(), base).unwrap()
    }

    fn securebits() -> c_int {
        // SAFETY: prctl with integer arguments.
        unsafe { libc::prctl(libc::PR_GET_SECUREBITS, 0, 0, 0, 0) }
    }

    #[test]
    fn the_bits_are_those_of_the_header() {
        assert_eq!(SECUREBITS, 0b1100_1111);
    }

    /// In a thread, whose loss no other test feels.
    #[test]
    fn nothing_is_left_once_all_was_dropped_and_only_who_may_can_drop() {
        const CAP_SETPCAP: u32 = 8;
        let work = || {
            assert_eq!(any_left().unwrap(), status("CapPrm", 16) | status("CapEff", 16) != 0);
            if status("CapEff", 16) & (1 << CAP_SETPCAP) == 0 {
                assert_eq!(drop_all().unwrap_err().raw_os_error(), Some(libc::EPERM));
                return;
            }
            drop_all().unwrap();
            for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                assert_eq!(status(set, 16), 0, "{set}");
            }
            assert_eq!(c_ulong::try_from(securebits()), Ok(SECUREBITS));
            assert!(!any_left().unwrap());
        };
        thread::spawn(work).join().unwrap();
    }

    #[test]
    fn one_that_is_not_in_effect_is_left_too() {
        let before = status("CapPrm", 16);
        for number in 0..64 {
            let mut sets = [Half::default(); 2];
            sets[number / 32].permitted = 1 << (number % 32);
            let allowed = before & (1 << number) != 0;
            // Each in a thread of its own: what was given up does not come back.
            let one = move || set(sets).map(|()| (any_left().unwrap(), status("CapPrm", 16), status("CapEff", 16)));
            match thread::spawn(one).join().unwrap() {
                Ok(found) => assert_eq!(found, (allowed, u64::from(allowed) << number, 0), "{number}"),
                Err(error) => assert_eq!((error.raw_os_error(), allowed), (Some(libc::EPERM), false), "{number}"),
            }
        }
    }

    #[test]
    fn new_privileges_are_refused_from_then_on() {
        let work = || {
            no_new_privileges().unwrap();
            assert_eq!(status("NoNewPrivs", 10), 1);
        };
        thread::spawn(work).join().unwrap();
    }
}

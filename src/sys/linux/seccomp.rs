//! Which system calls a sandboxed command may not make (seccomp(2)): those of a list. Everything else passes.
//!
//! The sandbox itself is made of namespaces, and of having no capability. The filter takes away what namespaces do
//! not divide, and calls that have been the way out before while nothing that runs in a sandbox needs them.

use std::io;

use libc::{c_uint, c_ulong};

use crate::sys::cerr;

#[cfg(all(
    any(target_arch = "x86_64", target_arch = "aarch64"),
    target_pointer_width = "64",
    target_endian = "little"
))]
mod filter;

/// Elsewhere the numbers of system calls are others, or the lower half of an argument is at another place. There is
/// no filter then, whatever the policy.
#[cfg(not(all(
    any(target_arch = "x86_64", target_arch = "aarch64"),
    target_pointer_width = "64",
    target_endian = "little"
)))]
mod filter {
    pub(super) fn program(_: super::Policy) -> Option<Vec<libc::sock_filter>> {
        None
    }
}

/// What the filter is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Whether namespaces can be made and entered, and file systems mounted in them, so that a sandbox in the sandbox
    /// is possible. The rest is denied all the same.
    pub(crate) allow_namespaces: bool,
}

/// Filters the calls of this thread and of all that it will ever start, for good. It must have set
/// [`no_new_privileges`](super::caps::no_new_privileges). It allocates, so it is not for the child of a process with
/// threads before exec. Where there is no filter for the architecture, the error is of the kind `Unsupported`.
pub(crate) fn install(policy: Policy) -> io::Result<()> {
    let mut filter = filter::program(policy).ok_or(io::ErrorKind::Unsupported)?;
    let len = u16::try_from(filter.len()).map_err(|_| io::ErrorKind::Unsupported)?;
    let program = libc::sock_fprog { len, filter: filter.as_mut_ptr() };
    let flags: c_uint = 0;
    // SAFETY: `program` points to as many instructions as it says; the kernel copies them.
    if unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) } == 0 {
        return Ok(());
    }
    // The call is of Linux 3.17, and a filter that is there already may not know it. The older way takes the same
    // filter (PR_SET_SECCOMP, Linux 3.5); where the fault is in the filter or the caller, it says so too.
    let mode = c_ulong::from(libc::SECCOMP_MODE_FILTER);
    // SAFETY: as above.
    cerr(unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program, 0, 0) }).map(drop)
}

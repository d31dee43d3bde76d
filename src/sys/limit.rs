//! The limit on open descriptors (getrlimit(2), RLIMIT_NOFILE).

use std::io;

use super::cerr;

/// How many descriptors a process may have, as it was before [`raise`](Self::raise).
#[derive(Clone, Copy)]
pub struct DescriptorLimit(libc::rlimit);

impl std::fmt::Debug for DescriptorLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("DescriptorLimit").field(&self.0.rlim_cur).field(&self.0.rlim_max).finish()
    }
}

impl DescriptorLimit {
    /// Raises this process's own limit towards what it may have, up to `wanted`; gives what it was.
    pub(crate) fn raise(wanted: u64) -> io::Result<DescriptorLimit> {
        let before = Self::read()?;
        let soft = before.0.rlim_cur.max(before.0.rlim_max.min(wanted));
        if soft > before.0.rlim_cur {
            let raised = libc::rlimit { rlim_cur: soft, rlim_max: before.0.rlim_max };
            // SAFETY: `raised` is a valid limit.
            cerr(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) })?;
        }
        Ok(before)
    }

    /// The number now.
    pub(crate) fn now() -> io::Result<u64> {
        Ok(Self::read()?.0.rlim_cur)
    }

    fn read() -> io::Result<DescriptorLimit> {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` has room for the answer.
        cerr(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
        Ok(DescriptorLimit(limit))
    }

    /// Sets it again, in a child: programs that still use select(2) rely on a low one. Async-signal-safe.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only init needs it"))]
    pub(super) fn restore(&self) {
        // Somebody may have lowered what can be had; then that is what is left of it.
        let most = Self::read().map_or(self.0.rlim_max, |now| now.0.rlim_max);
        let limit = libc::rlimit { rlim_cur: self.0.rlim_cur.min(most), rlim_max: most };
        // SAFETY: a valid limit. To lower one's own limit cannot fail.
        cerr(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }).map_or_else(drop, drop);
    }
}

//! Service managers: telling them that the daemon serves (sd_notify(3)), and taking a socket that they listen on
//! already (sd_listen_fds(3)). Both are a few variables, so no library is needed for them.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixDatagram, UnixListener};

use crate::base::error::{Failure, Ignore, Result};
use crate::sys::fd;
use crate::sys::process::{Pid, take_variable};

/// The first descriptor that is given.
const FIRST: i32 = 3;

/// What a service manager has given.
#[derive(Default)]
pub(crate) struct Given {
    notify: Option<OsString>,
    /// A socket that it listens on.
    pub(crate) listener: Option<UnixListener>,
}

/// Takes it. The variables are gone then: no program that the daemon starts shall believe that they are meant for it
/// (podman does). Only before the first thread.
pub(crate) fn take() -> Result<Given> {
    let notify = take_variable("NOTIFY_SOCKET");
    let names = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"].map(take_variable);
    let number = |value: &Option<OsString>| value.as_ref()?.to_str()?.parse::<i32>().ok();
    if number(&names[0]) != Some(Pid::own().number()) {
        return Ok(Given { notify, listener: None });
    }
    let failed = |why: String| Failure::new("taking the socket of the service manager", why);
    match number(&names[1]) {
        Some(1) => {
            let listener = UnixListener::from(fd::inherited(FIRST).map_err(|error| failed(error.to_string()))?);
            Ok(Given { notify, listener: Some(listener) })
        }
        Some(0) => Ok(Given { notify, listener: None }),
        _ => Err(failed("one socket is needed, not several".into()).hint("one ListenStream= in the .socket unit")),
    }
}

impl Given {
    /// Tells it something, such as `READY=1`. One that does not listen misses it.
    pub(crate) fn tell(&self, state: &str) {
        let Some(name) = &self.notify else { return };
        let sent = UnixDatagram::unbound().and_then(|socket| match name.as_bytes().split_first() {
            #[cfg(target_os = "linux")]
            Some((b'@', name)) => {
                use std::os::linux::net::SocketAddrExt;
                let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
                socket.send_to_addr(state.as_bytes(), &address)
            }
            _ => socket.send_to(state.as_bytes(), name),
        });
        sent.ignore();
    }
}

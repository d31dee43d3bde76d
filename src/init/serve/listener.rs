//! The places where init can be asked: TCP addresses and one socket file.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::base::error::{Failure, Ignore, Result};
use crate::http::guard::{Guard, Hosts};
use crate::sys::file::{FileId, named};
use crate::sys::socket::bind_private;

/// The variable with the token.
pub(crate) const TOKEN: &str = "FOSSE_INIT_TOKEN";

/// A place to connect to, and what is asked of who does. Its socket file goes with it.
pub(crate) struct Listener {
    socket: Socket,
    pub(crate) guard: Guard,
}

enum Socket {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _file: File },
}

/// A socket's file, told from another one that may have taken its place.
struct File {
    path: PathBuf,
    identity: FileId,
}

impl Listener {
    /// Listens on an address. One that others than this machine's users can reach needs a token.
    pub(crate) fn tcp(address: SocketAddr, token: Option<&str>) -> Result<Listener> {
        let what = || format!("listening on {address}");
        let is_loopback = address.ip().is_loopback();
        if !is_loopback && token.is_none() {
            return Err(Failure::new(what(), "everybody who can reach that address could run commands here")
                .hint(format!("set {TOKEN} to a secret that clients have to show, or listen on 127.0.0.1")));
        }
        let failed = |error: io::Error| Failure::new(what(), error);
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        // A browser on this machine can be sent to any loopback address; beyond it the token alone decides.
        let hosts = if is_loopback { Hosts::Loopback } else { Hosts::Any };
        Ok(Listener { socket: Socket::Tcp(listener), guard: Guard { token: token.map(str::to_owned), hosts } })
    }

    /// Listens on a socket file that nobody but this user can open.
    pub(crate) fn unix(path: &Path) -> Result<Listener> {
        let what = || format!("listening on {}", path.display());
        let failed = |error: io::Error| Failure::new(what(), error);
        let refused = |why: &str, hint: &str| Err(Failure::new(what(), why).hint(hint));
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
            Ok(found) if !found.file_type().is_socket() => {
                return refused("something that is not a socket is there", "name another path, or remove it");
            }
            Ok(_) => match UnixStream::connect(path) {
                // Its owner is gone.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed)?,
                Err(error) => return Err(failed(error)),
                Ok(_) => return refused("somebody else listens there", "name another path, or end the other one"),
            },
        }
        let listener = bind_private(path).map_err(failed)?;
        let identity = named(path).map_err(failed)?;
        let file = File { path: path.to_owned(), identity };
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Listener { socket: Socket::Unix { listener, _file: file }, guard: Guard { token: None, hosts: Hosts::Any } })
    }

    /// The next client. What it sends is read, and what it is sent written, as far as that goes without waiting.
    pub(crate) fn accept(&self) -> io::Result<TcpStream> {
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                // Answers are written whole; a hindrance to that is no reason to refuse.
                stream.set_nodelay(true).ignore();
                Ok(stream)
            }
            Socket::Unix { listener, .. } => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(true)?;
                // One type for both. This one also promises to write without SIGPIPE, which init would pass on.
                Ok(TcpStream::from(OwnedFd::from(stream)))
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(listener) => listener.as_fd(),
            Socket::Unix { listener, .. } => listener.as_fd(),
        }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if named(&self.path).is_ok_and(|found| found == self.identity) {
            fs::remove_file(&self.path).ignore();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_is_replaced_and_one_that_is_another_s_by_now_is_left() {
        let dir = std::env::temp_dir().join(format!("fosse-listener-{}", crate::base::id::random_hex(6).unwrap()));
        fs::create_dir(&dir).unwrap();
        let path = dir.join("api.sock");
        drop(UnixListener::bind(&path).unwrap());
        let first = Listener::unix(&path).unwrap();
        assert!(Listener::unix(&path).is_err(), "it is in use");
        fs::remove_file(&path).unwrap();
        let second = Listener::unix(&path).unwrap();
        drop(first);
        assert!(path.exists(), "the first took the second's");
        drop(second);
        assert!(!path.exists());
        fs::write(&path, "kept").unwrap();
        assert!(Listener::unix(&path).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn beyond_loopback_a_token_is_needed() {
        for (address, token, allowed) in [
            ("127.0.0.1:0", None, true),
            ("127.0.0.2:0", Some("x"), true),
            ("0.0.0.0:0", None, false),
            ("0.0.0.0:0", Some("x"), true),
            ("[::]:0", None, false),
        ] {
            let listener = Listener::tcp(address.parse().unwrap(), token);
            assert_eq!(listener.is_ok(), allowed, "{address}");
            if let Ok(listener) = listener {
                assert_eq!(listener.guard.hosts == Hosts::Loopback, address.starts_with("127."));
                assert_eq!(listener.guard.token.as_deref(), token);
            }
        }
    }
}

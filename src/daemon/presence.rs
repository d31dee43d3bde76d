//! What others find the daemon by: the lock and the socket. It heals what somebody takes away or changes, and in the
//! end removes what is still its own.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::api::Api;
use super::lock::Held;
use super::serve::{Served, serve};
use super::watch::Watch;
use crate::base::error::{Failure, Result};
use crate::base::log;
use crate::run::door::Door;

/// Lock and socket.
pub(crate) struct Presence {
    uid: u32,
    lock: PathBuf,
    held: Held,
    door: Door,
    served: Option<Served>,
    watch: Watch,
}

impl Presence {
    /// Opens the socket, or takes the one that was given; the lock's file tells of it. Nobody is let in yet.
    pub(crate) fn open(
        mut held: Held,
        lock: PathBuf,
        socket: PathBuf,
        uid: u32,
        given: Option<UnixListener>,
    ) -> Result<(Presence, UnixListener)> {
        let (door, listener) = match given {
            Some(listener) => (given_door(&listener)?, listener),
            None => Door::open_anywhere(&socket, uid)?,
        };
        held.tell_socket(door.path()).map_err(|error| Failure::new("starting the daemon", error))?;
        Ok((Presence { uid, lock, held, door, served: None, watch: Watch::new() }, listener))
    }

    /// What the lock's file says.
    pub(crate) fn holder(&self) -> &crate::wire::daemon::Holder {
        &self.held.holder
    }

    /// Lets clients in.
    pub(crate) fn serve(&mut self, listener: UnixListener, api: &Arc<Api>) -> Result<()> {
        let served = serve(listener, self.uid, Arc::clone(api));
        self.served = Some(served.map_err(|error| Failure::new("serving the socket", error))?);
        Ok(())
    }

    /// Something about its files may have changed.
    pub(crate) fn changed(&self) -> &Receiver<()> {
        &self.watch.changed
    }

    /// Nothing tells of changes any more.
    pub(crate) fn unwatched(&mut self) {
        self.watch = Watch::none();
    }

    /// Whether the kernel tells of changes from now on.
    pub(crate) fn is_watched(&self) -> bool {
        self.watch.add(&self.lock, self.door.path())
    }

    /// Heals what somebody took away or changed; `false` if the lock is no longer the one that others find, so that
    /// another process may be the daemon.
    pub(crate) fn mind(&mut self, api: &Arc<Api>) -> bool {
        if !self.held.is_in_place() {
            log::warn("the lock's file was removed or replaced: the daemon ends");
            return false;
        }
        if !self.door.is_in_place() {
            log::warn("the socket was removed or replaced: opening it again");
            // Nobody finds it; the next look tries again.
            self.reopen(api).unwrap_or_else(|failure| log::warn(&failure.to_string()));
        }
        match self.held.repair() {
            Ok(true) => log::warn("the lock's file was changed: wrote it again"),
            Ok(false) => {}
            Err(error) => log::warn(&format!("writing the lock's file again failed: {error}")),
        }
        true
    }

    fn reopen(&mut self, api: &Arc<Api>) -> Result<()> {
        let (door, listener) = Door::open_anywhere(self.door.path(), self.uid)?;
        if let Some(mut served) = self.served.take() {
            served.stop();
        }
        self.door = door;
        self.serve(listener, api)?;
        let told = self.held.tell_socket(self.door.path());
        told.map_err(|error| Failure::new("opening the socket again", error))?;
        api.moved(self.held.holder.socket.clone());
        Ok(())
    }

    /// Nobody finds it any more. The lock falls with the process, and not before.
    pub(crate) fn end(mut self) {
        // What a service manager listens on has to let clients in for the next one: it is one socket, whoever holds it.
        if let Some(served) = self.served.as_mut().filter(|_| self.door.is_own()) {
            served.stop();
        }
        self.door.remove();
        if self.held.is_in_place() {
            self.held.clear();
        }
        std::mem::forget(self.held);
    }
}

fn given_door(listener: &UnixListener) -> Result<Door> {
    let address = listener.local_addr().ok();
    let path = address.as_ref().and_then(std::os::unix::net::SocketAddr::as_pathname);
    let why = "it has no path in the file system";
    path.map(Door::given).ok_or_else(|| Failure::new("taking the socket of the service manager", why))
}

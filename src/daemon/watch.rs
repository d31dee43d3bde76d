//! Telling the main loop at once when the daemon's own files may have changed. Where the kernel cannot tell, it looks
//! itself, more often.

use std::path::Path;

use crossbeam_channel::{Receiver, never};

/// Watches.
pub(crate) struct Watch {
    #[cfg(target_os = "linux")]
    watcher: Option<crate::sys::linux::inotify::Watcher>,
    /// Something may have changed.
    pub(crate) changed: Receiver<()>,
}

#[cfg(target_os = "linux")]
impl Watch {
    /// Starts to watch; nothing yet.
    pub(crate) fn new() -> Watch {
        use crate::base::error::Ignore;
        use crate::sys::linux::inotify::Watcher;

        let (tell, changed) = crossbeam_channel::bounded(1);
        let begin = || {
            let watcher = Watcher::new()?;
            let mut own = watcher.try_clone()?;
            let wait = move || {
                while own.wait().is_ok() {
                    // One that is on its way says it all; nobody there any more ends it with the process.
                    tell.try_send(()).ignore();
                }
            };
            crate::base::threads::start("watch", 64, wait)?;
            std::io::Result::Ok(watcher)
        };
        match begin() {
            Ok(watcher) => Watch { watcher: Some(watcher), changed },
            Err(_) => Watch::none(),
        }
    }

    /// Watches nothing.
    pub(crate) fn none() -> Watch {
        Watch { watcher: None, changed: never() }
    }

    /// Watches the lock's file and the directories of lock and socket; whether all of that can be watched.
    pub(crate) fn add(&self, lock: &Path, socket: &Path) -> bool {
        self.watcher.as_ref().is_some_and(|watcher| {
            let dir = |path: &Path| path.parent().is_some_and(|dir| watcher.add_names(dir).is_ok());
            watcher.add_file(lock).is_ok() && dir(lock) && dir(socket)
        })
    }
}

#[cfg(not(target_os = "linux"))]
impl Watch {
    /// Nothing can be watched.
    pub(crate) fn new() -> Watch {
        Watch::none()
    }

    /// Watches nothing.
    pub(crate) fn none() -> Watch {
        Watch { changed: never() }
    }

    /// Nothing can be watched.
    pub(crate) fn add(&self, _lock: &Path, _socket: &Path) -> bool {
        false
    }
}

//! Where fosse keeps things: the only reader of `HOME`, the XDG variables and `FOSSE_*_DIR`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::base::env;
use crate::base::error::{Failure, Result};
use crate::base::id::{RunId, RunName};

/// The places of one user's fosse (fosse(1), FILES). Nothing is created by knowing them.
#[derive(Debug, Clone)]
pub struct Paths {
    /// Records, logs and all locks.
    pub state: PathBuf,
    /// Sockets only.
    pub runtime: PathBuf,
    /// Where sockets are: the runtime directory, or one like it below /tmp if its path is too long for them.
    pub sockets: PathBuf,
    /// The user's configuration file, if there is a place for one.
    pub user_config: Option<PathBuf>,
    /// The home directory, if it is known.
    pub home: Option<PathBuf>,
    /// All that may be meant by it: HOME's, and the user database's.
    pub homes: Vec<PathBuf>,
}

/// The system's configuration file.
pub(crate) const SYSTEM_CONFIG: &str = "/etc/fosse/config.json";

/// The workspace's configuration file.
pub(crate) const WORKSPACE_CONFIG: &str = "fosse.json";

/// The longest path that a unix socket's address holds, without its final NUL (unix(7); 104 on macOS).
pub(crate) const SOCKET_PATH_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

impl Paths {
    /// Reads the environment. `uid` is the effective user, who owns all of it.
    pub(crate) fn resolve(uid: u32) -> Result<Self> {
        let homes: Vec<PathBuf> = [absolute("HOME"), home_of(uid)].into_iter().flatten().collect();
        let home = homes.first().cloned();
        let state = match own("FOSSE_STATE_DIR")? {
            Some(dir) => dir,
            None => absolute("XDG_STATE_HOME")
                .or_else(|| home.as_ref().map(|home| home.join(".local/state")))
                .map(|dir| dir.join("fosse"))
                .ok_or_else(|| {
                    Failure::new("finding the state directory", "HOME is not set")
                        .hint("set HOME, XDG_STATE_HOME or FOSSE_STATE_DIR")
                })?,
        };
        let runtime = match own("FOSSE_RUNTIME_DIR")? {
            Some(dir) => dir,
            None => match absolute("XDG_RUNTIME_DIR").filter(|dir| is_own(dir, uid)) {
                Some(dir) => dir.join("fosse"),
                None => Paths::spare_sockets(uid),
            },
        };
        let config = absolute("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
        let sockets = sockets(&runtime, uid);
        Ok(Paths { state, runtime, sockets, user_config: config.map(|dir| dir.join("fosse/config.json")), home, homes })
    }

    /// The directory of all runs.
    pub(crate) fn runs(&self) -> PathBuf {
        self.state.join("runs")
    }

    /// The files of one run.
    pub fn run(&self, id: &RunId) -> RunPaths {
        RunPaths { dir: self.runs().join(id.as_str()) }
    }

    /// The lock that makes a name a live one.
    pub(crate) fn name_lock(&self, name: &RunName) -> PathBuf {
        self.names().join(name.as_str())
    }

    /// The random name of this state directory, by which its engine objects are known.
    pub(crate) fn instance(&self) -> PathBuf {
        self.state.join("instance")
    }

    /// The directory of all live names.
    pub(crate) fn names(&self) -> PathBuf {
        self.state.join("names")
    }

    /// What was learnt about the engines.
    pub(crate) fn engines(&self) -> PathBuf {
        self.state.join("engines")
    }

    /// The control socket of a run.
    pub(crate) fn socket(&self, id: &RunId) -> PathBuf {
        self.sockets.join(format!("{id}.sock"))
    }

    /// Where the owner of a run listens for the init in its place.
    pub(crate) fn init_socket(&self, id: &RunId) -> PathBuf {
        self.sockets.join(format!("{id}.init"))
    }

    /// The daemon's lock, one a machine: a state directory may be shared by several (NFS). Never removed.
    pub(crate) fn daemon_lock(&self, machine_id: &str) -> PathBuf {
        let machine: String = machine_id.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
        let name = if machine.is_empty() { "daemon.lock".into() } else { format!("daemon-{machine}.lock") };
        self.state.join(name)
    }

    /// The daemon's log.
    pub(crate) fn daemon_log(&self) -> PathBuf {
        self.state.join("daemon.log")
    }

    /// Where the daemon of a state directory listens, by the directory's random name: several of them may share a
    /// runtime directory. No longer than a run's socket.
    pub(crate) fn daemon_socket(&self, instance: &str) -> PathBuf {
        let key: String = instance.chars().take(8).collect();
        self.sockets.join(format!("d-{key}.sock"))
    }

    /// Where sockets are if the usual directory goes away under a daemon, as a login's does at its end.
    pub(crate) fn spare_sockets(uid: u32) -> PathBuf {
        PathBuf::from(format!("/tmp/fosse-{uid}"))
    }

    /// fosse's own directories: never visible inside a run.
    pub(crate) fn own_directories(&self) -> Vec<PathBuf> {
        let config = self.user_config.as_deref().and_then(Path::parent).map(Path::to_path_buf);
        let mut own = vec![self.state.clone(), self.runtime.clone()];
        own.extend(Some(self.sockets.clone()).filter(|sockets| *sockets != self.runtime));
        own.extend(config);
        own
    }
}

/// The files of one run.
#[derive(Debug, Clone)]
pub struct RunPaths {
    /// The run's directory.
    pub dir: PathBuf,
}

impl RunPaths {
    /// The record.
    pub fn record(&self) -> PathBuf {
        self.dir.join("record.json")
    }

    /// The lock of the owner; its content says who that is.
    pub(crate) fn owner_lock(&self) -> PathBuf {
        self.dir.join("owner.lock")
    }

    /// What the run wrote. Whoever finishes the run of a dead owner holds a lock on it: it is there already, so a full
    /// disk keeps nobody from it.
    pub(crate) fn output(&self) -> PathBuf {
        self.dir.join("output.log")
    }

    /// Values of environment variables on their way to the engine's tool; gone once it has read them.
    pub(crate) fn env_file(&self) -> PathBuf {
        self.dir.join("env")
    }

    /// Where the init in the run's place leaves the exit.
    pub(crate) fn exit_page(&self) -> PathBuf {
        self.dir.join("exit")
    }

    /// Present from when an owner that does not answer is ended so that its run stops: whoever finishes the run ends it
    /// as that. Its content is the grace, in milliseconds.
    pub(crate) fn stop_marker(&self) -> PathBuf {
        self.dir.join("stop")
    }

    /// The directory into which an init in a virtual machine leaves the exit.
    pub(crate) fn left(&self) -> PathBuf {
        self.dir.join("left")
    }

    /// The word that proves who left it.
    pub(crate) fn left_key(&self) -> PathBuf {
        self.dir.join("left.key")
    }

    /// The same for one more command in the run, by its mark.
    pub(crate) fn exec_env_file(&self, mark: &str) -> PathBuf {
        self.dir.join(format!("env-{mark}"))
    }

    /// The control groups of a run that has some of its own.
    pub(crate) fn groups(&self) -> PathBuf {
        self.dir.join("groups")
    }

    /// Present while the engine may have objects of this run.
    pub(crate) fn engine_marker(&self) -> PathBuf {
        self.dir.join("engine")
    }
}

/// The directory of sockets, by the longest name that one has.
fn sockets(runtime: &Path, uid: u32) -> PathBuf {
    let longest = runtime.as_os_str().len() + 1 + RunId::LEN + ".sock".len();
    if longest <= SOCKET_PATH_MAX { runtime.to_owned() } else { Paths::spare_sockets(uid) }
}

/// A variable that holds an absolute path; others are ignored, as the XDG Base Directory rules ask.
fn absolute(name: &str) -> Option<PathBuf> {
    env::get(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// Whether a runtime directory is the user's own. After su, sudo -E, or without a login that lasts, it is another's or
/// nobody's: what would be made there others could not use, or it would disturb them.
fn is_own(dir: &Path, uid: u32) -> bool {
    let own = |found: std::fs::Metadata| found.is_dir() && found.uid() == uid;
    // What another user has put there in this one's name cannot be used either.
    let is_free = |path: &Path| std::fs::symlink_metadata(path).is_err() || std::fs::metadata(path).is_ok_and(own);
    std::fs::metadata(dir).is_ok_and(own) && is_free(&dir.join("fosse"))
}

/// One of our own variables: a relative path is an error, because two processes would disagree on it.
fn own(name: &str) -> Result<Option<PathBuf>> {
    match env::get(name).map(PathBuf::from) {
        None => Ok(None),
        Some(path) if path.is_absolute() => Ok(Some(path)),
        Some(path) => {
            Err(Failure::new(format!("reading {name}"), format!("{} is not an absolute path", path.display())))
        }
    }
}

/// The home directory that the user database's file names (passwd(5)): for cron jobs and services without HOME.
fn home_of(uid: u32) -> Option<PathBuf> {
    let passwd = std::fs::read("/etc/passwd").ok()?;
    home_in(&passwd, uid)
}

fn home_in(passwd: &[u8], uid: u32) -> Option<PathBuf> {
    let uid = uid.to_string();
    passwd.split(|byte| *byte == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        let home = Path::new(OsStr::from_bytes(fields.get(5)?));
        (fields.get(2) == Some(&uid.as_bytes()) && home.is_absolute()).then(|| home.to_path_buf())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(runtime: &str) -> Paths {
        Paths {
            state: "/s".into(),
            runtime: runtime.into(),
            sockets: runtime.into(),
            user_config: Some("/c/fosse/config.json".into()),
            home: None,
            homes: vec![],
        }
    }

    #[test]
    fn a_too_long_runtime_directory_moves_the_sockets() {
        assert_eq!(sockets(Path::new("/r"), 7), Path::new("/r"));
        let long = format!("/{}", "x".repeat(100));
        assert_eq!(sockets(Path::new(&long), 7), Path::new("/tmp/fosse-7"));
    }

    #[test]
    fn the_user_database_names_a_home() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\nbad line\nu:x:1000:1000::/home/u:/bin/sh\n";
        assert_eq!(home_in(passwd, 1000), Some("/home/u".into()));
        assert_eq!(home_in(passwd, 7), None);
    }

    #[test]
    fn own_directories_include_the_configuration() {
        assert_eq!(paths("/r").own_directories(), ["/s", "/r", "/c/fosse"].map(PathBuf::from));
    }
}

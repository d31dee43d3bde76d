//! The service's memory: files below FAKE_CONTAINER_ROOT, changed under one lock.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fosse::base::time::Timestamp;
use fosse::sys::lock;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::{Config, Image, Network, Server, State, Volume};
use crate::version::Version;

/// How often a lock is tried for: flock(2) has no such call without waiting here that could be given up.
const TRY_AGAIN: Duration = Duration::from_millis(1);

/// The directory, and whose release is played.
#[derive(Debug, Clone)]
pub struct Store {
    pub root: PathBuf,
    pub version: Version,
}

/// Held while something is changed.
pub struct Guard(#[allow(dead_code, reason = "the kernel drops the lock with it")] File);

/// A container as the service sees it now.
#[derive(Debug, Clone)]
pub struct Container {
    pub config: Config,
    pub state: State,
}

/// Opens a lock's file and waits for the lock.
pub fn take(path: &Path) -> File {
    let file = open(path);
    while !lock::try_exclusive(&file).unwrap_or_else(|error| crate::give_up(&format!("locking: {error}"))) {
        std::thread::sleep(TRY_AGAIN);
    }
    file
}

/// Opens a lock's file.
pub fn open(path: &Path) -> File {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path).unwrap_or_else(|error| crate::give_up(&format!("{}: {error}", path.display())))
}

pub fn now() -> u64 {
    Timestamp::now().micros()
}

impl Store {
    /// Opens the directory, and makes what is missing in it.
    pub fn open(root: PathBuf) -> Store {
        for dir in ["containers", "networks", "images", "volumes", "inflight"] {
            fs::create_dir_all(root.join(dir)).unwrap_or_else(|error| crate::give_up(&format!("{dir}: {error}")));
        }
        let profile: Option<serde_json::Value> = read(&root.join("profile.json"));
        let version = profile.and_then(|profile| Version::parse(profile["version"].as_str()?));
        let store = Store { root, version: version.unwrap_or(Version(1, 2, 2)) };
        if !store.network_file("default").exists() {
            let _guard = store.lock();
            if !store.network_file("default").exists() {
                store.write_network(&crate::networks::builtin());
            }
        }
        store
    }

    pub fn lock(&self) -> Guard {
        Guard(take(&self.root.join("lock")))
    }

    pub fn server(&self) -> Server {
        let found: Option<Server> = read(&self.root.join("server.json"));
        match found {
            None => Server { state: "running".into(), boot: 1, restart_at: None },
            // launchd has started it again.
            Some(server) if server.restart_at.is_some_and(|when| when <= now()) => {
                Server { state: "running".into(), boot: server.boot + 1, restart_at: None }
            }
            Some(server) => server,
        }
    }

    pub fn write_server(&self, server: &Server) {
        write(&self.root.join("server.json"), server);
    }

    pub fn dir(&self, id: &str) -> PathBuf {
        self.root.join("containers").join(id)
    }

    /// The numbers or words of a settings file, if it is there.
    pub fn settings(&self, name: &str) -> serde_json::Value {
        read(&self.root.join(name)).unwrap_or_default()
    }

    /// Whether the supervisor of a container lives: it holds a lock as long.
    pub fn is_supervised(&self, id: &str, state: &State) -> bool {
        let Ok(file) = File::open(self.dir(id).join("sup.lock")) else { return false };
        state.supervisor.is_some_and(|pid| fosse::sys::linux::flock::holds(pid, &file))
    }

    /// A container, if there is one: as the service knows it after its last start, with the supervisor looked at.
    pub fn container(&self, id: &str) -> Option<Container> {
        // A record may be known although its file is lost (#1058).
        let read_config = |name: &str| read(&self.dir(id).join(name));
        let config = read_config("config.json").or_else(|| read_config("config.lost"))?;
        let mut state = self.state(id);
        if state.boot != self.server().boot {
            // A service that was started again knows nothing of what came before it.
            state = State { exit: state.exit, supervisor: state.supervisor, ..State::default() };
        } else if (state.running || !state.addresses.is_empty()) && !state.ghost && !self.is_supervised(id, &state) {
            state.running = false;
            state.addresses.clear();
        }
        Some(Container { config, state })
    }

    pub fn state(&self, id: &str) -> State {
        read(&self.dir(id).join("state.json")).unwrap_or_default()
    }

    pub fn write_state(&self, id: &str, state: &State) {
        write(&self.dir(id).join("state.json"), state);
    }

    pub fn write_config(&self, config: &Config) {
        write(&self.dir(&config.id).join("config.json"), config);
    }

    /// Removes a container's directory.
    pub fn remove_container(&self, id: &str) {
        use std::os::unix::fs::PermissionsExt;
        let dir = self.dir(id);
        // The kernel's own part of an overlay, which nobody may enter.
        fs::set_permissions(dir.join("work/work"), fs::Permissions::from_mode(0o700)).unwrap_or_default();
        fs::remove_dir_all(dir).unwrap_or_default();
    }

    /// All containers, in no order.
    pub fn containers(&self) -> Vec<Container> {
        let ids = names(&self.root.join("containers"), "");
        let mut found: Vec<Container> = ids.iter().filter_map(|id| self.container(id)).collect();
        crate::random::shuffle(&mut found);
        found
    }

    fn network_file(&self, name: &str) -> PathBuf {
        self.root.join("networks").join(format!("{name}.json"))
    }

    pub fn network(&self, name: &str) -> Option<Network> {
        read(&self.network_file(name))
    }

    pub fn write_network(&self, network: &Network) {
        write(&self.network_file(&network.name), network);
    }

    pub fn remove_network(&self, name: &str) {
        fs::remove_file(self.network_file(name)).unwrap_or_default();
    }

    pub fn networks(&self) -> Vec<Network> {
        let mut found: Vec<Network> =
            names(&self.root.join("networks"), ".json").iter().filter_map(|name| self.network(name)).collect();
        crate::random::shuffle(&mut found);
        found
    }

    fn volume_file(&self, name: &str) -> PathBuf {
        self.root.join("volumes").join(format!("{name}.json"))
    }

    /// Where the files of a volume are.
    pub fn volume_dir(&self, name: &str) -> PathBuf {
        self.root.join("volumes").join(name)
    }

    pub fn volume(&self, name: &str) -> Option<Volume> {
        read(&self.volume_file(name))
    }

    pub fn write_volume(&self, volume: &Volume) {
        fs::create_dir_all(self.volume_dir(&volume.name)).unwrap_or_default();
        write(&self.volume_file(&volume.name), volume);
    }

    pub fn remove_volume(&self, name: &str) {
        fs::remove_dir_all(self.volume_dir(name)).unwrap_or_default();
        fs::remove_file(self.volume_file(name)).unwrap_or_default();
    }

    pub fn volumes(&self) -> Vec<Volume> {
        names(&self.root.join("volumes"), ".json").iter().filter_map(|name| self.volume(name)).collect()
    }

    /// The images, with the files they are in.
    pub fn images(&self) -> Vec<(PathBuf, Image)> {
        let dir = self.root.join("images");
        let files = names(&dir, ".json").into_iter().map(|name| dir.join(name + ".json"));
        files.filter_map(|file| Some((file.clone(), read(&file)?))).collect()
    }

    /// An image that is here, or only to be had, by a name as users write it.
    pub fn image(&self, reference: &str) -> Option<(PathBuf, Image)> {
        let wanted = crate::images::full_name(reference);
        self.images().into_iter().find(|(_, image)| crate::images::full_name(&image.reference) == wanted)
    }

    pub fn write_image(&self, file: &Path, image: &Image) {
        write(file, image);
    }
}

/// Names of a directory's entries that end so, without the end.
fn names(dir: &Path, end: &str) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(end)?.to_owned()))
        .filter(|name| !name.starts_with('.'))
        .collect()
}

/// Reads a file of JSON, if it is there and whole.
pub fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Replaces a file at once: a reader without the lock sees the old or the new.
pub fn write(path: &Path, value: &impl Serialize) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}", crate::random::hex(4)));
    let written = serde_json::to_vec(value).map_err(std::io::Error::other).and_then(|bytes| {
        let mut file = File::create(&temporary)?;
        file.write_all(&bytes)?;
        fs::rename(&temporary, path)
    });
    if let Err(error) = written {
        fs::remove_file(&temporary).unwrap_or_default();
        // The container may just have been removed.
        crate::warn(&format!("{}: {error}", path.display()));
    }
}

//! What must be known about an engine before a run: how it maps users. Asking costs as much as a call, so the
//! answer is remembered beside the state, for as long as the engine is provably the same.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::error::Ignore;
use crate::base::fs;
use crate::base::hash::fnv1a;
use crate::base::time::Timestamp;

/// How an engine maps users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct About {
    /// Its root is an ordinary user of the host: the caller.
    pub rootless: bool,
    /// It runs as root and maps the ids inside to others (userns-remap).
    pub remapped: bool,
}

/// Answers, one small file an engine; `None` remembers nothing.
#[derive(Debug, Clone)]
pub(crate) struct Cache(pub Option<PathBuf>);

/// How long an answer is believed although nothing seems to have changed.
const MAX_AGE: Duration = Duration::from_secs(600);

#[derive(Serialize, Deserialize)]
struct Entry {
    identity: String,
    at: Timestamp,
    about: About,
}

/// An engine and image with which no init greets. Of a remote engine nothing is known that would change, so time alone
/// ends this.
#[derive(Serialize, Deserialize)]
struct WithoutInit {
    identity: String,
    at: Timestamp,
    endpoint: String,
    image: String,
}

impl WithoutInit {
    /// An entry that holds for this engine as it is now.
    fn read(file: &Path, tool: &str, endpoint: &str) -> Option<WithoutInit> {
        let entry: WithoutInit = serde_json::from_slice(&fs::read_bounded(file, 4096).ok()?).ok()?;
        let now = Timestamp::now();
        let same = entry.endpoint == endpoint && entry.identity == identity(tool, endpoint).unwrap_or_default();
        (same && entry.at <= now && entry.at.age(now) < MAX_AGE).then_some(entry)
    }
}

fn without_init(endpoint: &str, image: &str) -> String {
    format!("{endpoint}\0{image}\0init")
}

impl Cache {
    fn file(&self, tool: &str, endpoint: &str) -> Option<PathBuf> {
        // A name from a short hash; a collision costs a question, because the identity then differs.
        let hash = fnv1a(format!("{tool}\0{endpoint}").bytes());
        Some(self.0.as_ref()?.join(format!("{hash:016x}.json")))
    }

    /// A remembered answer, if the engine is the same.
    pub(crate) fn get(&self, tool: &str, endpoint: &str) -> Option<About> {
        let identity = identity(tool, endpoint)?;
        let bytes = fs::read_bounded(&self.file(tool, endpoint)?, 4096).ok()?;
        let entry: Entry = serde_json::from_slice(&bytes).ok()?;
        let now = Timestamp::now();
        (entry.identity == identity && entry.at <= now && entry.at.age(now) < MAX_AGE).then_some(entry.about)
    }

    /// Whether fosse's own PID 1 is known not to serve for an image on this engine.
    pub(crate) fn is_without_init(&self, tool: &str, endpoint: &str, image: &str) -> bool {
        let file = self.file(tool, &without_init(endpoint, image));
        file.is_some_and(|file| WithoutInit::read(&file, tool, endpoint).is_some())
    }

    /// The images with which it is known not to serve on this engine.
    pub(crate) fn without_init(&self, tool: &str, endpoint: &str) -> Vec<String> {
        let entries = self.0.as_ref().and_then(|directory| std::fs::read_dir(directory).ok());
        let files = entries.into_iter().flatten().flatten().map(|entry| entry.path());
        files.filter_map(|file| Some(WithoutInit::read(&file, tool, endpoint)?.image)).collect()
    }

    /// Remembers that it does not; failing to is no failure.
    pub(crate) fn put_without_init(&self, tool: &str, endpoint: &str, image: &str) {
        let identity = identity(tool, endpoint).unwrap_or_default();
        let (endpoint, image) = (endpoint.to_owned(), image.to_owned());
        let entry = WithoutInit { identity, at: Timestamp::now(), endpoint, image };
        let (endpoint, image) = (&entry.endpoint, &entry.image);
        self.write(tool, &without_init(endpoint, image), &serde_json::to_vec(&entry).unwrap_or_default());
    }

    /// Remembers an answer; failing to is no failure.
    pub(crate) fn put(&self, tool: &str, endpoint: &str, about: About) {
        let Some(identity) = identity(tool, endpoint) else { return };
        let entry = Entry { identity, at: Timestamp::now(), about };
        self.write(tool, endpoint, &serde_json::to_vec(&entry).unwrap_or_default());
    }

    fn write(&self, tool: &str, endpoint: &str, bytes: &[u8]) {
        let Some(file) = self.file(tool, endpoint) else { return };
        if let Some(directory) = file.parent() {
            std::fs::create_dir_all(directory).ignore();
        }
        fs::write_atomic(&file, bytes).ignore();
    }
}

/// What changes when the engine behind a local socket is another one, or was configured anew: the socket's inode
/// and change time, and those of its configuration file. Remote engines have none and are asked each time.
fn identity(tool: &str, endpoint: &str) -> Option<String> {
    let socket = Path::new(endpoint.strip_prefix("unix://")?);
    let print = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some(format!("{}:{}:{}.{}", metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
    };
    let daemon = print(Path::new("/etc/docker/daemon.json")).unwrap_or_default();
    Some(format!("{tool}|{endpoint}|{}|{daemon}", print(socket)?))
}

//! What the service keeps of a container, a network, a volume and an image, and in which files.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `config.json`: what a container was created with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    pub id: String,
    /// Microseconds since 1970.
    pub created: u64,
    pub image: String,
    pub digest: String,
    pub size: u64,
    /// The tree that the root directory is made from.
    pub rootfs: String,
    pub executable: String,
    pub arguments: Vec<String>,
    pub environment: Vec<String>,
    pub terminal: bool,
    pub user: User,
    pub cwd: String,
    pub rlimits: Vec<(String, u64, u64)>,
    pub labels: BTreeMap<String, String>,
    pub mounts: Vec<Mount>,
    pub networks: Vec<Attachment>,
    pub dns: Dns,
    pub ports: Vec<Port>,
    pub sockets: Vec<(String, String)>,
    pub arch: String,
    pub cpus: u64,
    pub memory: u64,
    pub read_only: bool,
    pub init: bool,
    pub rosetta: bool,
    pub ssh: bool,
    pub virtualization: bool,
    pub remove: bool,
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    pub shm_size: Option<u64>,
    pub stop_signal: Option<String>,
    pub masked_paths: Vec<String>,
    pub readonly_paths: Vec<String>,
    pub runtime: String,
}

/// Who the command is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum User {
    Id(u32, u32),
    Raw(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    Virtiofs,
    Tmpfs,
    Volume(String),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mount {
    pub kind: MountKind,
    pub source: String,
    pub destination: String,
    pub options: Vec<String>,
}

impl Mount {
    pub fn is_read_only(&self) -> bool {
        self.options.iter().any(|option| option == "ro")
    }
}

/// A network that a container is attached to when it runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attachment {
    pub network: String,
    pub mac: Option<String>,
    pub mtu: Option<u32>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Dns {
    pub nameservers: Vec<String>,
    pub domain: Option<String>,
    pub search: Vec<String>,
    pub options: Vec<String>,
    /// No such file at all.
    pub none: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Port {
    pub address: String,
    pub host: u16,
    pub container: u16,
    pub count: u16,
    pub proto: String,
}

/// `state.json`: what became of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct State {
    pub running: bool,
    pub started: Option<u64>,
    pub addresses: Vec<Address>,
    /// Which life of the service this was seen in.
    pub boot: u64,
    /// The number of the supervisor, and of the command as the host sees it.
    pub supervisor: Option<i32>,
    pub init: Option<i32>,
    /// The tool never prints it; tests may look.
    pub exit: Option<i32>,
    /// Shown as running although the runtime is gone.
    pub ghost: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Address {
    pub network: String,
    pub ip: String,
    pub prefix: String,
    pub gateway: String,
    pub ipv6: String,
    pub mac: String,
    pub mtu: u32,
}

/// `networks/NAME.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Network {
    pub name: String,
    pub created: u64,
    /// The first three parts of its /24, and its prefix of IPv6.
    pub subnet: String,
    pub subnet_v6: String,
    pub internal: bool,
    pub builtin: bool,
    pub labels: BTreeMap<String, String>,
    pub options: BTreeMap<String, String>,
    pub plugin: String,
    pub asked: (Option<String>, Option<String>),
    /// The address that is given away next.
    pub next: u64,
}

/// `volumes/NAME.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Volume {
    pub name: String,
    pub created: u64,
    pub size: u64,
    pub labels: BTreeMap<String, String>,
    pub options: BTreeMap<String, String>,
}

/// `images/NAME.json`, which tests write.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Image {
    pub reference: String,
    pub rootfs: String,
    pub config: ImageConfig,
    /// Whether it is here, or only to be had.
    pub remote: bool,
    /// Hidden from lists: builder and vminit.
    pub infrastructure: bool,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageConfig {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
}

/// `server.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Server {
    pub state: String,
    pub boot: u64,
    /// When it starts again by itself after a crash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_at: Option<u64>,
}

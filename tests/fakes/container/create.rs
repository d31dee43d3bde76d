//! `create`, and the first half of `run`: what the options mean, and what is refused.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::call::Call;
use crate::images;
use crate::model::{Attachment, Config, Dns, Image, Mount, MountKind, Port, State, User, Volume};
use crate::networks;
use crate::random;
use crate::store::now;
use crate::texts::{Error, fail, internal, invalid_argument, not_found};
use crate::version::Version;

/// The PATH of a container whose image says nothing.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The least memory a machine can have.
const MEMORY_MIN: u64 = 200 << 20;

/// The most ports of a container.
const PORTS_MAX: u16 = 64;

type Made<T> = Result<T, Error>;

fn wrong<T>(text: impl Into<String>) -> Made<T> {
    Err(invalid_argument(text).into())
}

/// `^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`, 2 to 63 characters.
fn check_name(name: &str) -> Made<()> {
    let bytes = name.as_bytes();
    let is_good = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-".contains(byte);
    let first = bytes.first().is_some_and(u8::is_ascii_alphanumeric);
    if first && (2..=63).contains(&bytes.len()) && bytes.iter().all(is_good) {
        return Ok(());
    }
    wrong(format!("container ID {name} is not a valid container ID"))
}

/// A size with an optional letter: `200m`, `1G`, `1gib`.
pub fn bytes(text: &str) -> Option<u64> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Makes the container that the options ask for, but does not keep it.
pub fn config(call: &mut Call) -> Made<Config> {
    let reference = call.parsed.arguments[0].clone();
    let id = call.parsed.value("name").map_or_else(random::uuid, str::to_owned);
    check_name(&id)?;
    let version = call.store.version;
    let labels = networks::labels(&call.parsed.values("label"))?;
    let memory = match call.parsed.value("memory") {
        None => 1 << 30,
        Some(text) => bytes(text).map_or_else(|| wrong(format!("invalid memory value {text}")), Ok)?,
    };
    if version >= Version(0, 10, 0) && memory < MEMORY_MIN {
        return wrong(format!("minimum memory amount allowed is 200 MiB (got {memory} bytes)"));
    }
    let image = images::fetch(call, &reference)?;
    let command = command(call, &image)?;
    let mounts = mounts(call)?;
    let parsed = &call.parsed;
    let texts = |name: &str| parsed.values(name).into_iter().map(str::to_owned).collect::<Vec<String>>();
    let shm_size = match parsed.value("shm-size") {
        None => None,
        Some(text) => Some(bytes(text).map_or_else(|| wrong(format!("invalid shm size {text}")), Ok)?),
    };
    let dns = Dns {
        nameservers: texts("dns"),
        domain: parsed.value("dns-domain").map(str::to_owned),
        search: texts("dns-search"),
        options: texts("dns-option"),
        none: parsed.has("no-dns"),
    };
    let cwd = parsed.value("cwd").or(parsed.value("workdir")).unwrap_or(&image.config.working_dir);
    Ok(Config {
        digest: format!("sha256:{}", images::digest(&image.reference)),
        image: images::full_name(&image.reference),
        size: images::SIZE,
        rootfs: image.rootfs.clone(),
        created: now(),
        executable: command[0].clone(),
        arguments: command[1..].to_vec(),
        environment: environment(parsed, &image.config.env, &[PATH])?,
        terminal: parsed.has("tty"),
        user: user(parsed, Some(&image.config.user).filter(|user| !user.is_empty()))?,
        cwd: if cwd.is_empty() { "/".into() } else { cwd.to_owned() },
        rlimits: rlimits(&parsed.values("ulimit"))?,
        labels,
        mounts,
        networks: attachments(call, version)?,
        dns,
        ports: ports(&parsed.values("publish"))?,
        sockets: sockets(&parsed.values("publish-socket"))?,
        arch: parsed
            .value("arch")
            .or(parsed.value("platform"))
            .map_or("arm64", |arch| arch.rsplit('/').next().unwrap_or(arch))
            .to_owned(),
        cpus: parsed.value("cpus").and_then(|cpus| cpus.parse().ok()).unwrap_or(4),
        memory,
        read_only: parsed.has("read-only"),
        init: parsed.has("init"),
        rosetta: parsed.has("rosetta"),
        ssh: parsed.has("ssh"),
        virtualization: parsed.has("virtualization"),
        remove: parsed.has("rm") || parsed.has("remove"),
        cap_add: texts("cap-add"),
        cap_drop: texts("cap-drop"),
        shm_size,
        stop_signal: Some(image.config.stop_signal.clone()).filter(|signal| version.is_modern() && !signal.is_empty()),
        masked_paths: texts("masked-path"),
        readonly_paths: texts("read-only-path"),
        runtime: parsed.value("runtime").unwrap_or("container-runtime-linux").to_owned(),
        id,
    })
}

fn command(call: &Call, image: &Image) -> Made<Vec<String>> {
    let own = &call.parsed.arguments[1..];
    let entrypoint = call.parsed.value("entrypoint").map(str::to_owned);
    let (first, default) = match entrypoint.filter(|entry| !entry.is_empty()) {
        Some(entry) => (vec![entry], Vec::new()),
        None => (image.config.entrypoint.clone(), image.config.cmd.clone()),
    };
    let command = [first, if own.is_empty() { default } else { own.to_vec() }].concat();
    if command.is_empty() {
        return wrong("command/entrypoint not specified for container process");
    }
    Ok(command)
}

/// Variables by name: a later one takes the place of an earlier one, and the order is lost.
pub fn environment(parsed: &crate::args::Parsed, first: &[String], default: &[&str]) -> Made<Vec<String>> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    let mut add = |entry: &str| {
        match entry.split_once('=') {
            Some((name, value)) => {
                all.insert(name.to_owned(), value.to_owned());
            }
            // A bare name is inherited from the caller, if the caller has it.
            None => {
                if let Ok(value) = std::env::var(entry) {
                    all.insert(entry.to_owned(), value);
                }
            }
        }
    };
    default.iter().for_each(|entry| add(entry));
    first.iter().for_each(|entry| add(entry));
    for file in parsed.values("env-file") {
        let text = fs::read_to_string(file)
            .map_err(|_| Error::from(not_found(format!("envfile at {file} does not exist"))))?;
        let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
        lines.for_each(&mut add);
    }
    parsed.values("env").into_iter().for_each(&mut add);
    let mut entries: Vec<String> = all.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    random::shuffle(&mut entries);
    Ok(entries)
}

/// Who the process is: options, or the default, or root.
pub fn user(parsed: &crate::args::Parsed, default: Option<&String>) -> Made<User> {
    if let Some(text) = parsed.value("user") {
        return Ok(raw_user(text));
    }
    let number = |name: &str| parsed.value(name).and_then(|text| text.parse::<u32>().ok());
    if let (None, None) = (number("uid"), number("gid")) {
        return Ok(default.map_or(User::Id(0, 0), |text| raw_user(text)));
    }
    Ok(User::Id(number("uid").unwrap_or(0), number("gid").unwrap_or(0)))
}

fn raw_user(text: &str) -> User {
    let numbers: Option<Vec<u32>> = text.split(':').map(|part| part.parse().ok()).collect();
    match numbers.as_deref() {
        Some([uid, gid]) => User::Id(*uid, *gid),
        _ => User::Raw(text.to_owned()),
    }
}

fn rlimits(texts: &[&str]) -> Made<Vec<(String, u64, u64)>> {
    let kinds = ["as", "core", "cpu", "data", "fsize", "memlock", "nofile", "nproc", "rss", "stack"];
    let read = |text: &str| {
        let (kind, limits) = text.split_once('=')?;
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        let known = kinds.contains(&kind).then(|| kind.to_owned())?;
        Some((known, soft.parse().ok()?, hard.parse().ok()?))
    };
    texts.iter().map(|text| read(text).map_or_else(|| wrong(format!("invalid ulimit format: {text}")), Ok)).collect()
}

fn attachments(call: &Call, version: Version) -> Made<Vec<Attachment>> {
    let texts = call.parsed.values("network");
    if texts.is_empty() {
        return Ok(vec![Attachment { network: "default".into(), mac: None, mtu: None }]);
    }
    if texts.contains(&"none") {
        return if texts.len() == 1 { Ok(Vec::new()) } else { wrong("no other networks may be specified with none") };
    }
    let mut found = Vec::new();
    for text in texts {
        let mut parts = text.split(',');
        let network = parts.next().unwrap_or_default().to_owned();
        let mut attachment = Attachment { network, mac: None, mtu: None };
        for part in parts {
            match part.split_once('=') {
                Some(("mac", mac)) => attachment.mac = Some(mac.to_owned()),
                Some(("mtu", mtu)) if version >= Version(0, 11, 0) && mtu.parse::<u32>().is_ok() => {
                    attachment.mtu = mtu.parse().ok();
                }
                _ => return wrong(format!("unknown network property '{part}'")),
            }
        }
        if call.store.network(&attachment.network).is_none() {
            return Err(not_found(format!("network {} not found", attachment.network)).into());
        }
        found.push(attachment);
    }
    Ok(found)
}

fn ports(texts: &[&str]) -> Made<Vec<Port>> {
    let mut ports = Vec::new();
    for text in texts {
        let (addresses, proto) = text.split_once('/').unwrap_or((text, "tcp"));
        let parts: Vec<&str> = addresses.rsplitn(3, ':').collect();
        let (container, host, address) = match parts[..] {
            [container, host] => (container, host, "0.0.0.0"),
            [container, host, address] => (container, host, address),
            _ => return wrong(format!("invalid publish value: {text}")),
        };
        let range = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let (first, last) = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
            (first > 0 && last >= first).then_some((first, last - first + 1))
        };
        let Some((host, count)) = range(host) else { return wrong("invalid publish host port range") };
        let Some((container, inside)) = range(container) else {
            return wrong("invalid publish container port range");
        };
        if inside != count || !["tcp", "udp"].contains(&proto) {
            return wrong(format!("invalid publish value: {text}"));
        }
        ports.push(Port { address: address.into(), host, container, count, proto: proto.into() });
    }
    if ports.iter().map(|port| port.count).sum::<u16>() > PORTS_MAX {
        return wrong("cannot exceed more than 64 port publish descriptors");
    }
    Ok(ports)
}

fn sockets(texts: &[&str]) -> Made<Vec<(String, String)>> {
    let mut sockets = Vec::new();
    for text in texts {
        let Some((host, inside)) = text.split_once(':') else {
            return wrong(format!("invalid publish-socket value: {text}"));
        };
        if Path::new(host).exists() {
            return wrong(format!("host socket {host} already exists and may be in use"));
        }
        sockets.push((host.to_owned(), inside.to_owned()));
    }
    Ok(sockets)
}

/// An absolute path that exists.
fn source(path: &str) -> Made<PathBuf> {
    let absolute = std::env::current_dir().map_err(|error| internal(error.to_string()))?.join(path);
    if absolute.exists() { Ok(absolute) } else { wrong(format!("path '{path}' does not exist")) }
}

fn mounts(call: &mut Call) -> Made<Vec<Mount>> {
    let mut mounts = Vec::new();
    for text in call.parsed.values("tmpfs") {
        mounts.push(Mount {
            kind: MountKind::Tmpfs,
            source: "tmpfs".into(),
            destination: text.to_owned(),
            options: Vec::new(),
        });
    }
    let owned = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect::<Vec<String>>();
    for text in owned(call.parsed.values("volume")) {
        let parts: Vec<&str> = text.split(':').collect();
        let (from, to, options) = match parts[..] {
            [from, to] => (from, to, ""),
            [from, to, options] => (from, to, options),
            _ => return wrong(format!("invalid volume format: {text}")),
        };
        let options = options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect();
        mounts.push(shown(call, from, to, options, from.contains('/'))?);
    }
    for text in owned(call.parsed.values("mount")) {
        let (mut kind, mut from, mut to, mut options) = ("bind", "", "", Vec::new());
        for part in text.split(',') {
            match part.split_once('=').unwrap_or((part, "")) {
                ("type", value) => kind = value,
                ("source" | "src", value) => from = value,
                ("target" | "destination" | "dst", value) => to = value,
                ("readonly" | "ro", _) => options.push("ro".to_owned()),
                ("size" | "mode", _) => options.push(part.to_owned()),
                _ => return wrong(format!("unknown directive {part}")),
            }
        }
        match kind {
            "tmpfs" => mounts.push(Mount {
                kind: MountKind::Tmpfs,
                source: "tmpfs".into(),
                destination: to.to_owned(),
                options,
            }),
            "bind" | "virtiofs" => {
                if !source(from)?.is_dir() {
                    return wrong(format!("path '{from}' is not a directory"));
                }
                mounts.push(shown(call, from, to, options, true)?);
            }
            "volume" => mounts.push(shown(call, from, to, options, false)?),
            _ => return wrong(format!("invalid mount type {kind}")),
        }
    }
    if call.parsed.has("ssh") {
        if let Some(agent) = std::env::var("SSH_AUTH_SOCK").ok().filter(|path| Path::new(path).exists()) {
            mounts.push(shown(call, &agent, "/var/host-services/ssh-auth.sock", Vec::new(), true)?);
        }
    }
    if let Some(bad) = mounts.iter().find(|mount| !mount.destination.starts_with('/')) {
        return wrong(format!("mount destination '{}' must be an absolute path", bad.destination));
    }
    Ok(mounts)
}

/// A path of the host's, or a volume, which is made if there is none.
fn shown(call: &mut Call, from: &str, to: &str, options: Vec<String>, is_path: bool) -> Made<Mount> {
    if is_path {
        let path = source(from)?;
        if call.store.version < Version(0, 9, 0) && !path.is_dir() {
            return wrong(format!("path '{from}' is not a directory"));
        }
        let source = path.to_string_lossy().into_owned();
        return Ok(Mount { kind: MountKind::Virtiofs, source, destination: to.to_owned(), options });
    }
    if call.store.volume(from).is_none() {
        call.err.push_str(&format!("volume '{from}' does not exist, creating it\n"));
        let volume = Volume {
            name: from.to_owned(),
            created: now(),
            size: 512 << 30,
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
        };
        call.store.write_volume(&volume);
    }
    let source = call.store.volume_dir(from).to_string_lossy().into_owned();
    Ok(Mount { kind: MountKind::Volume(from.to_owned()), source, destination: to.to_owned(), options })
}

/// The containers that use a volume, stopped ones included.
pub fn users_of_volume(call: &Call, name: &str) -> Vec<String> {
    let uses = |config: &Config| config.mounts.iter().any(|mount| mount.kind == MountKind::Volume(name.to_owned()));
    call.store.containers().into_iter().filter(|found| uses(&found.config)).map(|found| found.config.id).collect()
}

pub fn volume_in_use(name: &str) -> Error {
    let text = format!("volume '{name}' is currently in use and cannot be accessed by another container, or deleted");
    fail("invalidState", text).into()
}

/// Keeps a container.
pub fn keep(call: &Call, config: &Config) -> Made<()> {
    let store = &call.store;
    let _guard = store.lock();
    if store.dir(&config.id).exists() {
        return Err(match call.verb {
            "run" => fail("exists", format!("container with id {} already exists", config.id)),
            _ => fail("exists", format!("container already exists: {}", config.id)),
        }
        .into());
    }
    for mount in &config.mounts {
        if let MountKind::Volume(name) = &mount.kind {
            if !users_of_volume(call, name).is_empty() {
                return Err(volume_in_use(name));
            }
        }
    }
    fs::create_dir_all(store.dir(&config.id)).map_err(|error| internal(error.to_string()))?;
    store.write_state(&config.id, &State { boot: store.server().boot, ..State::default() });
    store.write_config(config);
    Ok(())
}

/// The file with the id, which has no newline.
pub fn write_cidfile(call: &Call, id: &str) -> Made<()> {
    if let Some(path) = call.parsed.value("cidfile") {
        fs::write(path, id).map_err(|_| invalid_argument(format!("failed to create cidfile at {path}")))?;
    }
    Ok(())
}

pub fn create(call: &mut Call) -> Made<()> {
    let config = config(call)?;
    keep(call, &config)?;
    write_cidfile(call, &config.id)?;
    call.line(&config.id);
    Ok(())
}

//! The layers of configuration: `/etc` < user < workspace < environment < options.
//!
//! Every layer is the same shape with everything optional; a higher one wins key by key, and `env` and `label`
//! are merged. The workspace's file is untrusted: it may set only what cannot widen what a command can reach.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

use crate::base::error::{Failure, Result};
use crate::base::paths::{Paths, SYSTEM_CONFIG, WORKSPACE_CONFIG};
use crate::base::{duration, env, fs, size};
use crate::runtime::Network;
use crate::term::escape;

/// The most bytes a configuration file may have.
const FILE_MAX: u64 = 256 << 10;

/// Everything that can be configured; nothing is set that was not said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Layer {
    /// Which runtime.
    pub runtime: Option<String>,
    /// Which image.
    pub image: Option<String>,
    /// Which directory is the workspace.
    pub workspace: Option<PathBuf>,
    /// The working directory inside.
    pub workdir: Option<String>,
    /// The user inside.
    pub user: Option<String>,
    /// What can be reached.
    pub network: Option<Network>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Thousandths of a processor.
    pub cpus_milli: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// The limit on running time.
    pub timeout: Option<Duration>,
    /// Between the polite signal and the kill.
    pub grace: Option<Duration>,
    /// Bytes of recorded output.
    pub log_max: Option<u64>,
    /// Variables inside.
    pub env: BTreeMap<String, String>,
    /// Labels of the record.
    pub label: BTreeMap<String, String>,
    /// Limit of an engine's queries.
    pub query_timeout: Option<Duration>,
    /// Limit of an engine's changes.
    pub change_timeout: Option<Duration>,
    /// The name of docker's tool.
    pub docker: Option<String>,
    /// The name of podman's tool.
    pub podman: Option<String>,
    /// What opens the escape of a terminal session.
    pub escape: Option<String>,
    /// Whether runs start a daemon (`auto`), or never (`off`).
    pub daemon: Option<String>,
    /// How long the daemon stays without live runs.
    pub daemon_idle: Option<Duration>,
    /// How often the daemon sweeps.
    pub daemon_reap_every: Option<Duration>,
    /// How many ended runs are kept.
    pub keep_runs: Option<u64>,
    /// For how many days ended runs are kept.
    pub keep_days: Option<u64>,
    /// Whether fosse's own PID 1 carries a run (`auto`), or never (`off`).
    pub init: Option<String>,
}

/// One key: how its value is read, and whether a workspace may set it.
struct Key {
    name: &'static str,
    form: &'static str,
    in_workspace: bool,
    set: fn(&mut Layer, &Value) -> Option<()>,
}

/// What an image is called.
pub const IMAGE: &str = "the name of an image, such as busybox or registry/name:tag";

const TEXT: &str = "a text that is not empty";
const COUNT: &str = "a whole number of at least 1";
const WHOLE: &str = "a whole number";
const SWITCH: &str = "auto or off";
const TEXTS: &str = "an object whose keys are not empty and whose values are texts";

/// Every key of a file.
const KEYS: [Key; 25] = [
    Key {
        name: "runtime",
        form: "auto, native, docker, podman or apple",
        in_workspace: false,
        set: |l, v| put(&mut l.runtime, runtime(text(v)?)),
    },
    Key {
        name: "image",
        form: IMAGE,
        in_workspace: true,
        set: |l, v| put(&mut l.image, text(v).filter(|name| is_image(name))),
    },
    Key {
        name: "workspace",
        form: "an absolute path",
        in_workspace: false,
        set: |l, v| put(&mut l.workspace, absolute(&text(v)?)),
    },
    Key {
        name: "workdir",
        form: "an absolute path inside",
        in_workspace: false,
        set: |l, v| put(&mut l.workdir, text(v).filter(|t| t.starts_with('/'))),
    },
    Key {
        name: "user",
        form: "caller, image, root or UID[:GID]",
        in_workspace: false,
        set: |l, v| put(&mut l.user, text(v)),
    },
    Key {
        name: "network",
        form: "open, none or private",
        in_workspace: false,
        set: |l, v| put(&mut l.network, network(&text(v)?)),
    },
    Key {
        name: "memory",
        form: size::FORM,
        in_workspace: true,
        set: |l, v| put(&mut l.memory, bytes(v).filter(|n| *n > 0)),
    },
    Key { name: "cpus", form: CPUS, in_workspace: true, set: |l, v| put(&mut l.cpus_milli, cpus(&number(v)?)) },
    Key { name: "pids", form: COUNT, in_workspace: true, set: |l, v| put(&mut l.pids, v.as_u64().filter(|n| *n > 0)) },
    Key {
        name: "timeout",
        form: duration::FORM,
        in_workspace: true,
        set: |l, v| put(&mut l.timeout, time(v).filter(|t| !t.is_zero())),
    },
    Key { name: "grace", form: duration::FORM, in_workspace: true, set: |l, v| put(&mut l.grace, time(v)) },
    Key { name: "log_max", form: size::FORM, in_workspace: false, set: |l, v| put(&mut l.log_max, bytes(v)) },
    Key {
        name: "env",
        form: "an object whose keys are names of variables and whose values are texts",
        in_workspace: true,
        set: |l, v| variables(v).map(|map| l.env = map),
    },
    Key {
        name: "label",
        form: TEXTS,
        in_workspace: true,
        set: |l, v| texts(v).filter(|map| !map.contains_key("")).map(|map| l.label = map),
    },
    Key {
        name: "query_timeout",
        form: duration::FORM,
        in_workspace: false,
        set: |l, v| put(&mut l.query_timeout, time(v).filter(|t| !t.is_zero())),
    },
    Key {
        name: "change_timeout",
        form: duration::FORM,
        in_workspace: false,
        set: |l, v| put(&mut l.change_timeout, time(v).filter(|t| !t.is_zero())),
    },
    Key { name: "docker", form: TEXT, in_workspace: false, set: |l, v| put(&mut l.docker, text(v)) },
    Key { name: "podman", form: TEXT, in_workspace: false, set: |l, v| put(&mut l.podman, text(v)) },
    Key { name: "init", form: SWITCH, in_workspace: false, set: |l, v| put(&mut l.init, switch(v)) },
    Key {
        name: "escape",
        form: "none, or a key such as ^/",
        in_workspace: false,
        set: |l, v| put(&mut l.escape, text(v).filter(|t| escape::parse(t).is_ok())),
    },
    Key { name: "daemon", form: SWITCH, in_workspace: false, set: |l, v| put(&mut l.daemon, switch(v)) },
    Key {
        name: "daemon_idle",
        form: duration::FORM,
        in_workspace: false,
        set: |l, v| put(&mut l.daemon_idle, time(v).filter(|t| !t.is_zero())),
    },
    Key {
        name: "daemon_reap_every",
        form: duration::FORM,
        in_workspace: false,
        set: |l, v| put(&mut l.daemon_reap_every, time(v).filter(|t| !t.is_zero())),
    },
    Key { name: "keep_runs", form: WHOLE, in_workspace: false, set: |l, v| put(&mut l.keep_runs, v.as_u64()) },
    Key { name: "keep_days", form: WHOLE, in_workspace: false, set: |l, v| put(&mut l.keep_days, v.as_u64()) },
];

/// How processors are written.
pub const CPUS: &str = "a number of processors such as 2 or 0.5, with at most three decimals";

/// The names of all keys, for documentation and its test.
pub fn keys() -> Vec<&'static str> {
    KEYS.iter().map(|key| key.name).collect()
}

/// The names of the keys that a workspace may set.
pub fn workspace_keys() -> Vec<&'static str> {
    KEYS.iter().filter(|key| key.in_workspace).map(|key| key.name).collect()
}

/// The environment twin of each key that has one.
pub fn variables_of_keys() -> Vec<String> {
    twins().map(|key| twin(key.name)).collect()
}

fn twins() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(|key| !matches!(key.name, "env" | "label"))
}

fn twin(key: &str) -> String {
    format!("FOSSE_{}", key.to_ascii_uppercase())
}

fn put<T>(slot: &mut Option<T>, value: Option<T>) -> Option<()> {
    *slot = Some(value?);
    Some(())
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty() && !text.contains('\0')).map(str::to_owned)
}

/// A text, or a number as it was written.
fn number(value: &Value) -> Option<String> {
    match value {
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn absolute(text: &str) -> Option<PathBuf> {
    Some(PathBuf::from(text)).filter(|path| path.is_absolute())
}

fn bytes(value: &Value) -> Option<u64> {
    size::parse(&number(value)?).ok()
}

fn time(value: &Value) -> Option<Duration> {
    duration::parse(&number(value)?).ok()
}

fn switch(value: &Value) -> Option<String> {
    text(value).filter(|text| text == "auto" || text == "off")
}

fn runtime(text: String) -> Option<String> {
    ["auto", "native", "docker", "podman", "apple"].contains(&text.as_str()).then_some(text)
}

/// Reads a network's name.
pub fn network(text: &str) -> Option<Network> {
    [Network::Open, Network::None, Network::Private].into_iter().find(|network| network.as_str() == text)
}

/// Reads a number of processors, in thousandths; at least a hundredth, which is what engines accept.
pub fn cpus(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 3 {
        return None;
    }
    let milli = format!("{fraction:0<3}").parse::<u64>().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000)?.checked_add(milli).filter(|milli| *milli >= 10)
}

fn texts(value: &Value) -> Option<BTreeMap<String, String>> {
    let pairs = value.as_object()?.iter();
    pairs.map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

fn variables(value: &Value) -> Option<BTreeMap<String, String>> {
    texts(value).filter(|map| map.iter().all(|(name, value)| is_variable(name) && !value.contains('\0')))
}

/// Whether a text can be the name of an environment variable. Stricter than environ(7): what engines' tools read
/// as something else (podman takes `*` for all that begin so) is no name.
pub fn is_variable(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-:/+%()~@,[]{}!?<>|^&;".contains(&b);
    !name.is_empty() && name.bytes().all(plain)
}

/// Whether a text can be the name of an image: a reference (name, tag, digest) and nothing that looks like an option.
pub fn is_image(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-/:@+".contains(&b);
    name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric()) && name.bytes().all(plain)
}

/// Reads one layer from the text of a file.
pub fn parse(bytes: &[u8], workspace: bool) -> std::result::Result<Layer, String> {
    let object: Map<String, Value> =
        serde_json::from_slice(bytes).map_err(|error| format!("not a JSON object: {error}"))?;
    let allowed = || KEYS.iter().filter(|key| key.in_workspace || !workspace);
    let mut layer = Layer::default();
    for (name, value) in &object {
        let Some(key) = allowed().find(|key| key.name == name) else {
            let names = allowed().map(|key| key.name).collect::<Vec<_>>().join(", ");
            let known = KEYS.iter().any(|key| key.name == name);
            let what = if known { "may not be set by a workspace" } else { "is unknown" };
            return Err(format!("key \"{name}\" {what}; allowed are {names}"));
        };
        // The value may be a secret: it is not repeated.
        (key.set)(&mut layer, value).ok_or_else(|| format!("key \"{name}\" must be {}", key.form))?;
    }
    // Other values reach an engine's tool through its own environment, where an untrusted name could steer it.
    let odd = |(name, value): &(&String, &String)| !crate::runtime::fits_a_line(name.as_ref(), value.as_ref());
    match layer.env.iter().find(odd).filter(|_| workspace) {
        Some((name, _)) => {
            Err(format!("key \"env\": the value of {name} must be one plain line in a workspace's file"))
        }
        None => Ok(layer),
    }
}

/// Reads a file's layer; a file that is not there is an empty one.
fn read(path: &Path, workspace: bool) -> Result<Layer> {
    let failed = |why: String| {
        Failure::new("reading the configuration", format!("{}: {why}", path.display()))
            .hint("fosse.json(5) describes every key")
    };
    let bytes = match (workspace, fs::read_bounded(path, FILE_MAX)) {
        (_, Ok(bytes)) => bytes,
        (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(Layer::default()),
        (_, Err(error)) if error.kind() == io::ErrorKind::NotADirectory => {
            return Ok(Layer::default());
        }
        // Trusted files may be links into somebody's dotfiles.
        (false, Err(error)) if error.raw_os_error() == Some(libc::ELOOP) => {
            let target = std::fs::canonicalize(path).map_err(|error| failed(error.to_string()))?;
            fs::read_bounded(&target, FILE_MAX).map_err(|error| failed(error.to_string()))?
        }
        (true, Err(error)) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(failed("it is a link, which a workspace's file may not be".into()));
        }
        (_, Err(error)) => return Err(failed(error.to_string())),
    };
    parse(&bytes, workspace).map_err(failed)
}

/// The layer that the environment gives.
fn environment() -> Result<Layer> {
    let mut layer = Layer::default();
    for key in twins() {
        let variable = twin(key.name);
        let failed = |why: String| Failure::new("reading the configuration", why);
        if let Some(text) = env::text(&variable).map_err(failed)? {
            // Whatever is a number in a file is a number here.
            let number =
                if matches!(key.form, COUNT | WHOLE) { text.parse::<u64>().ok().map(Value::from) } else { None };
            let value = number.unwrap_or(Value::String(text));
            (key.set)(&mut layer, &value).ok_or_else(|| failed(format!("{variable} must be {}", key.form)))?;
        }
    }
    Ok(layer)
}

impl Layer {
    /// This layer on top of a lower one.
    #[must_use]
    pub fn over(self, mut lower: Layer) -> Layer {
        lower.env.extend(self.env);
        lower.label.extend(self.label);
        Layer {
            runtime: self.runtime.or(lower.runtime),
            image: self.image.or(lower.image),
            workspace: self.workspace.or(lower.workspace),
            workdir: self.workdir.or(lower.workdir),
            user: self.user.or(lower.user),
            network: self.network.or(lower.network),
            memory: self.memory.or(lower.memory),
            cpus_milli: self.cpus_milli.or(lower.cpus_milli),
            pids: self.pids.or(lower.pids),
            timeout: self.timeout.or(lower.timeout),
            grace: self.grace.or(lower.grace),
            log_max: self.log_max.or(lower.log_max),
            env: lower.env,
            label: lower.label,
            query_timeout: self.query_timeout.or(lower.query_timeout),
            change_timeout: self.change_timeout.or(lower.change_timeout),
            docker: self.docker.or(lower.docker),
            podman: self.podman.or(lower.podman),
            init: self.init.or(lower.init),
            escape: self.escape.or(lower.escape),
            daemon: self.daemon.or(lower.daemon),
            daemon_idle: self.daemon_idle.or(lower.daemon_idle),
            daemon_reap_every: self.daemon_reap_every.or(lower.daemon_reap_every),
            keep_runs: self.keep_runs.or(lower.keep_runs),
            keep_days: self.keep_days.or(lower.keep_days),
        }
    }
}

/// The layers without a workspace's: what verbs other than `run` need.
pub fn trusted(paths: &Paths) -> Result<Layer> {
    Ok(environment()?.over(files(paths)?))
}

/// The trusted files, as of this environment.
fn files(paths: &Paths) -> Result<Layer> {
    trusted_files(paths.user_config.as_deref())
}

/// The trusted files: the system's, and a user's.
pub fn trusted_files(user_config: Option<&Path>) -> Result<Layer> {
    let user = match user_config {
        Some(path) => read(path, false)?,
        None => Layer::default(),
    };
    Ok(user.over(read(Path::new(SYSTEM_CONFIG), false)?))
}

/// All layers for a run in `workspace`.
pub fn all(paths: &Paths, workspace: Option<&Path>, options: Layer) -> Result<Layer> {
    let local = match workspace {
        Some(dir) => read(&dir.join(WORKSPACE_CONFIG), true)?,
        None => Layer::default(),
    };
    Ok(options.over(environment()?).over(local).over(files(paths)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_higher_layer_wins_key_by_key_and_maps_are_merged() {
        let low = parse(br#"{"image":"a","memory":"1g","env":{"A":"1","B":"1"}}"#, false).unwrap();
        let high = parse(br#"{"image":"b","env":{"B":"2"}}"#, false).unwrap();
        let both = high.over(low);
        assert_eq!((both.image.as_deref(), both.memory), (Some("b"), Some(1 << 30)));
        assert_eq!(both.env.into_iter().collect::<Vec<_>>(), [("A".into(), "1".into()), ("B".into(), "2".into())]);
    }

    #[test]
    fn mistakes_name_the_key_and_what_is_allowed() {
        let unknown = parse(br#"{"imagge":"a"}"#, false).unwrap_err();
        assert!(unknown.contains("\"imagge\" is unknown") && unknown.contains("image"), "{unknown}");
        let wrong = parse(br#"{"pids":"many"}"#, false).unwrap_err();
        assert_eq!(wrong, "key \"pids\" must be a whole number of at least 1");
        for text in [
            "",
            "[]",
            "{",
            "null",
            "{\"env\":{\"\":\"x\"}}",
            "{\"env\":{\"A\":1}}",
            "{\"cpus\":true}",
            "{\"network\":\"host\"}",
        ] {
            assert!(parse(text.as_bytes(), false).is_err(), "{text}");
        }
    }

    #[test]
    fn a_workspace_sets_only_what_the_contract_lists() {
        assert_eq!(workspace_keys(), ["image", "memory", "cpus", "pids", "timeout", "grace", "env", "label"]);
        for key in keys() {
            let text = format!("{{\"{key}\":\"1\"}}");
            let refused = parse(text.as_bytes(), true).is_err_and(|why| why.contains("may not be set by a workspace"));
            assert_eq!(refused, !workspace_keys().contains(&key), "{key}");
        }
    }

    #[test]
    fn processors_are_read_in_thousandths() {
        for (text, milli) in [("2", 2_000), ("0.5", 500), ("1.25", 1_250), ("0.01", 10)] {
            assert_eq!(cpus(text), Some(milli), "{text}");
        }
        for bad in ["", "0", "-1", "1.", ".5", "1.2345", "x", "0.001", "1e3"] {
            assert_eq!(cpus(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_fail_otherwise(text in ".{0,60}") {
            let _parsed = parse(text.as_bytes(), true).is_ok();
        }
    }
}

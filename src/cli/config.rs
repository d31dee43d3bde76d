//! The layers of configuration: `/etc` < user < workspace < environment < options.
//!
//! Every layer is the same shape with everything optional; a higher one wins key by key, and `env` and `label`
//! are merged. The workspace's file is untrusted: it may set only what cannot widen what a command can reach.

mod keys;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

use crate::base::error::{Failure, Result};
use crate::base::paths::{Paths, SYSTEM_CONFIG, WORKSPACE_CONFIG};
use crate::base::{env, fs};
use crate::runtime::Network;
use crate::sys::signal::Signal;
pub use keys::{
    COUNT, CPUS, IMAGE, WHOLE, cpus, is_image, is_variable, keys, network, variables_of_keys, workspace_keys,
};
use keys::{KEYS, twin, twins};

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
    /// The signal that asks the command to end.
    pub stop_signal: Option<Signal>,
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
    /// The name of Apple's tool.
    pub container: Option<String>,
    /// The file that is fosse's own PID 1 in a virtual machine.
    pub init_binary: Option<PathBuf>,
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
            stop_signal: self.stop_signal.or(lower.stop_signal),
            log_max: self.log_max.or(lower.log_max),
            env: lower.env,
            label: lower.label,
            query_timeout: self.query_timeout.or(lower.query_timeout),
            change_timeout: self.change_timeout.or(lower.change_timeout),
            docker: self.docker.or(lower.docker),
            podman: self.podman.or(lower.podman),
            container: self.container.or(lower.container),
            init_binary: self.init_binary.or(lower.init_binary),
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
pub(crate) fn trusted(paths: &Paths) -> Result<Layer> {
    Ok(environment()?.over(files(paths)?))
}

/// The trusted files, as of this environment.
fn files(paths: &Paths) -> Result<Layer> {
    trusted_files(paths.user_config.as_deref())
}

/// The trusted files: the system's, and a user's.
pub(crate) fn trusted_files(user_config: Option<&Path>) -> Result<Layer> {
    let user = match user_config {
        Some(path) => read(path, false)?,
        None => Layer::default(),
    };
    Ok(user.over(read(Path::new(SYSTEM_CONFIG), false)?))
}

/// All layers for a run in `workspace`.
pub(crate) fn all(paths: &Paths, workspace: Option<&Path>, options: Layer) -> Result<Layer> {
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
        for (text, milli) in [("2", 2_000), ("0.5", 500), ("1.25", 1_250), ("0.01", 10), (".5", 500)] {
            assert_eq!(cpus(text), Some(milli), "{text}");
        }
        for bad in ["", "0", "-1", "1.", ".", "1.2345", "x", "0.001", "1e3"] {
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

//! The keys of a configuration: what each is called, how its value is read, and whether a workspace may set it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::Layer;
use crate::base::{duration, size};
use crate::process::names_a_program;
use crate::runtime::Network;
use crate::sys::signal::Signal;
use crate::term::escape;

/// One key: how its value is read, and whether a workspace may set it.
pub(crate) struct Key {
    /// In a file.
    pub(crate) name: &'static str,
    /// What its value must be, in words.
    pub(crate) form: &'static str,
    /// Whether a workspace may set it.
    pub(crate) in_workspace: bool,
    /// Reads its value into a layer.
    pub(crate) set: fn(&mut Layer, &Value) -> Option<()>,
}

/// What an image is called.
pub const IMAGE: &str = "the name of an image, such as busybox or registry/name:tag";

const TOOL: &str = "the name of a program, or its absolute path";
/// How counts are written.
pub const COUNT: &str = "a whole number of at least 1";
/// How whole numbers are written.
pub const WHOLE: &str = "a whole number";
const SWITCH: &str = "auto or off";
const TEXTS: &str = "an object whose keys are not empty and whose values are texts";

/// Every key of a file.
pub(crate) const KEYS: [Key; 28] = [
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
    Key { name: "timeout", form: duration::FORM, in_workspace: true, set: |l, v| put(&mut l.timeout, time(v)) },
    Key { name: "grace", form: duration::FORM, in_workspace: true, set: |l, v| put(&mut l.grace, time(v)) },
    Key {
        name: "stop_signal",
        form: Signal::FORM,
        in_workspace: false,
        set: |l, v| put(&mut l.stop_signal, Signal::parse(&number(v)?)),
    },
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
    Key { name: "docker", form: TOOL, in_workspace: false, set: |l, v| put(&mut l.docker, tool(v)) },
    Key { name: "podman", form: TOOL, in_workspace: false, set: |l, v| put(&mut l.podman, tool(v)) },
    Key { name: "container", form: TOOL, in_workspace: false, set: |l, v| put(&mut l.container, tool(v)) },
    Key {
        name: "init_binary",
        form: "an absolute path",
        in_workspace: false,
        set: |l, v| put(&mut l.init_binary, text(v).map(PathBuf::from).filter(|path| path.is_absolute())),
    },
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

/// Those that the environment can set.
pub(crate) fn twins() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(|key| !matches!(key.name, "env" | "label"))
}

/// The environment twin of a key.
pub(crate) fn twin(key: &str) -> String {
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
    let whole = if whole.is_empty() { "0" } else { whole };
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

/// A program, whatever the current directory is.
fn tool(value: &Value) -> Option<String> {
    text(value).filter(|text| names_a_program(text))
}

//! Reading what the tool prints: pure functions over bytes. Its JSON has had six shapes; what they share is read from
//! where each has it, and what makes no sense is an error.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::base::id::RunId;
use crate::base::time::Timestamp;
use crate::runtime::{Facts, LABEL_RUN, Object, ObjectKind, Status};
use crate::sys::signal::Signal;

/// Seconds from 1970 to 2001, from which dates up to 0.12 are counted.
const REFERENCE_DATE: f64 = 978_307_200.0;

/// The tool's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    major: u32,
    minor: u32,
    patch: u32,
}

impl Version {
    /// Whether it is that version or a later one.
    pub(crate) fn at_least(self, major: u32, minor: u32) -> bool {
        (self.major, self.minor) >= (major, minor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// The first number of three parts in a sentence: `container CLI version 1.2.2 (build: release, commit: abcdefg)`.
pub(crate) fn version(bytes: &[u8]) -> Option<Version> {
    let text = String::from_utf8_lossy(bytes);
    let words = text.split(|c: char| !c.is_ascii_digit() && c != '.');
    words.filter_map(three_parts).next()
}

fn three_parts(word: &str) -> Option<Version> {
    let mut parts = word.split('.').map(str::parse);
    let mut next = || parts.next()?.ok();
    Some(Version { major: next()?, minor: next()?, patch: next()? })
}

/// Whether `system status` says that the service is up. It answers with the exit code, and in JSON on stdout since
/// 0.10; 1.4 has its facts one level deeper.
pub(crate) fn is_up(stdout: &[u8], success: bool) -> bool {
    let value: Option<Value> = serde_json::from_slice(stdout).ok();
    let status = value.as_ref().and_then(|value| value.get("status").or_else(|| value.get("server")?.get("status")));
    success && status.is_none_or(|status| status.as_str() == Some("running"))
}

/// Whether an answer is a list of something.
pub(crate) fn has_elements(bytes: &[u8]) -> bool {
    serde_json::from_slice::<Value>(bytes).is_ok_and(|value| value.as_array().is_some_and(|all| !all.is_empty()))
}

/// What the service knows about one container.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Container {
    /// Its id, which is also its name.
    pub(crate) id: String,
    /// `running`, `stopped`, `stopping` or `unknown`.
    state: String,
    labels: BTreeMap<String, String>,
    created: Option<Timestamp>,
    started: bool,
    /// Who its first process is: `uid:gid`, or as the image says it.
    pub(crate) user: String,
    /// The signal that its image names for its end (1.0 on).
    pub(crate) stop_signal: Option<Signal>,
}

impl Container {
    /// The value of a label.
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    /// Where it is in its life. Whether one that does not run ever did is forgotten when the service starts again.
    pub(crate) fn status(&self) -> Status {
        match self.state.as_str() {
            "running" => Status::Live,
            "stopped" => Status::Stopped,
            _ => Status::Other,
        }
    }

    /// Whether it is known to have been started.
    pub(crate) fn has_started(&self) -> bool {
        self.started
    }

    fn run(&self) -> Option<RunId> {
        self.label(LABEL_RUN).and_then(RunId::parse)
    }

    /// As every engine says it.
    pub(crate) fn facts(self) -> Facts {
        let (run, status) = (self.run(), self.status());
        let name = self.id.clone();
        Facts { id: self.id, name, status, error: String::new(), run, created: self.created }
    }

    /// As a thing that carries a label.
    pub(crate) fn object(self) -> Object {
        Object { kind: ObjectKind::Container, run: self.run(), id: self.id, created: self.created }
    }
}

/// Reads `list --format json` or `inspect`.
pub(crate) fn containers(bytes: &[u8]) -> Result<Vec<Container>, String> {
    elements(bytes)?.iter().map(container).collect()
}

fn container(value: &Value) -> Result<Container, String> {
    let configuration = value.get("configuration").ok_or("a container has no configuration")?;
    let id = text(configuration.get("id")).or_else(|| text(value.get("id"))).ok_or("a container has no id")?;
    let status = value.get("status").ok_or("a container has no status")?;
    // A text up to 0.12, then an object: the change broke many a driver.
    let state = text(Some(status)).or_else(|| text(status.get("state"))).ok_or("a container has no state")?;
    let started = value.get("startedDate").or_else(|| status.get("startedDate"));
    Ok(Container {
        id,
        state,
        labels: labels(configuration),
        created: configuration.get("creationDate").and_then(date),
        started: started.is_some_and(|date| !date.is_null()),
        stop_signal: text(configuration.get("stopSignal")).and_then(|name| Signal::parse(&name)),
        user: configuration.get("initProcess").and_then(|process| user(process.get("user")?)).unwrap_or_default(),
    })
}

/// `{"id":{"uid":0,"gid":0}}`, or `{"raw":{"userString":"node"}}`.
fn user(value: &Value) -> Option<String> {
    if let Some(raw) = value.get("raw") {
        return text(raw.get("userString"));
    }
    let ids = value.get("id")?;
    Some(format!("{}:{}", ids.get("uid")?.as_u64()?, ids.get("gid")?.as_u64()?))
}

/// What the service knows about one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NetworkFacts {
    /// Its id, which is also its name.
    pub(crate) id: String,
    /// Its labels.
    pub(crate) labels: BTreeMap<String, String>,
    created: Option<Timestamp>,
}

impl NetworkFacts {
    /// As a thing that carries a label.
    pub(crate) fn object(self) -> Object {
        let run = self.labels.get(LABEL_RUN).and_then(|id| RunId::parse(id));
        Object { kind: ObjectKind::Network, run, id: self.id, created: self.created }
    }
}

/// Reads `network list --format json`.
pub(crate) fn networks(bytes: &[u8]) -> Result<Vec<NetworkFacts>, String> {
    elements(bytes)?.iter().map(network).collect()
}

fn network(value: &Value) -> Result<NetworkFacts, String> {
    // `configuration` since 1.0, `config` before.
    let configuration = value.get("configuration").or_else(|| value.get("config")).unwrap_or(value);
    let id = text(value.get("id")).or_else(|| text(configuration.get("name"))).ok_or("a network has no id")?;
    let created = configuration.get("creationDate").and_then(date);
    Ok(NetworkFacts { id, labels: labels(configuration), created })
}

/// The names of all images.
pub(crate) fn images(bytes: &[u8]) -> Result<Vec<String>, String> {
    let name = |value: &Value| text(value.get("reference")).or_else(|| text(value.get("configuration")?.get("name")));
    Ok(elements(bytes)?.iter().filter_map(name).collect())
}

fn elements(bytes: &[u8]) -> Result<Vec<Value>, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("its JSON is broken: {error}"))
}

fn text(value: Option<&Value>) -> Option<String> {
    value?.as_str().map(str::to_owned)
}

fn labels(configuration: &Value) -> BTreeMap<String, String> {
    let pairs = configuration.get("labels").and_then(Value::as_object).into_iter().flatten();
    pairs.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

/// A date: RFC 3339 since 1.0, before that seconds since 2001.
fn date(value: &Value) -> Option<Timestamp> {
    if let Some(text) = value.as_str() {
        return text.parse().ok();
    }
    let seconds = value.as_f64()? + REFERENCE_DATE;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within what a time may be")]
    (0.0..1e11).contains(&seconds).then(|| Timestamp::from_micros((seconds * 1e6) as u64))
}

#[cfg(test)]
mod tests;

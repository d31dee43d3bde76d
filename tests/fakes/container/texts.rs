//! What is said on stderr: errors with their codes and causes, in the form of each release, and lines of the log.

use std::sync::atomic::{AtomicBool, Ordering};

use fosse::base::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::version::Version;

/// Whether lines of the log begin with the time: `--debug`, or CONTAINER_DEBUG in the environment.
pub static DEBUG: AtomicBool = AtomicBool::new(false);

/// The second line of every error that has to do with the connection to the service.
pub const ENSURE: &str = "Ensure container system service has been started with `container system start`.";

/// An error as the tool knows it: a code, a text, and what caused it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fail {
    pub code: String,
    pub text: String,
    pub cause: Option<Box<Fail>>,
}

/// Why a call did not succeed.
#[derive(Debug, Clone)]
pub enum Error {
    /// An error of the tool or of its service: exit code 1.
    One(Fail),
    /// One line for each container that failed, always with the code.
    Many(Vec<Fail>),
    /// The arguments are wrong: exit code 64. The text, and which verb's usage is shown.
    Usage(String, String),
    /// Lines that are said as they are, and an exit code.
    Raw(Vec<String>, i32),
}

impl From<Fail> for Error {
    fn from(fail: Fail) -> Error {
        Error::One(fail)
    }
}

pub fn fail(code: &str, text: impl Into<String>) -> Fail {
    Fail { code: code.to_owned(), text: text.into(), cause: None }
}

pub fn not_found(text: impl Into<String>) -> Fail {
    fail("notFound", text)
}

pub fn invalid_argument(text: impl Into<String>) -> Fail {
    fail("invalidArgument", text)
}

pub fn invalid_state(text: impl Into<String>) -> Fail {
    fail("invalidState", text)
}

pub fn internal(text: impl Into<String>) -> Fail {
    fail("internalError", text)
}

/// The name of a container that is not there, as the service says it.
pub fn no_container(id: &str) -> Fail {
    not_found(format!("container with ID {id} not found"))
}

impl Fail {
    pub fn caused_by(mut self, cause: Fail) -> Fail {
        self.cause = Some(Box::new(cause));
        self
    }

    /// `text (cause: "code: "inner text"")`.
    pub fn plain(&self) -> String {
        self.with_cause(self.text.clone())
    }

    /// `code: "text" (cause: "…")`. Quotes inside are not escaped.
    pub fn coded(&self) -> String {
        self.with_cause(format!("{}: \"{}\"", self.code, self.text))
    }

    fn with_cause(&self, text: String) -> String {
        match &self.cause {
            Some(cause) => format!("{text} (cause: \"{}\")", cause.coded()),
            None => text,
        }
    }

    /// Any error that names the connection is wrapped once more, with advice on a second line.
    fn with_advice(self) -> Fail {
        if self.coded().contains("XPC connection error") && !self.text.contains(ENSURE) {
            fail("interrupted", format!("{}\n{ENSURE}", self.coded()))
        } else {
            self
        }
    }

    /// The line behind `Error: `.
    pub fn shown(self, version: Version) -> String {
        let shown = self.with_advice();
        if version.has_plain_errors() { shown.plain() } else { shown.coded() }
    }
}

/// What a failed call writes to stderr, and its exit code.
pub fn say(error: Error, version: Version) -> (String, i32) {
    match error {
        Error::One(fail) => (format!("Error: {}\n", fail.shown(version)), 1),
        Error::Many(fails) => {
            let lines = fails.into_iter().map(|fail| {
                let text = fail.coded();
                let advice = if text.contains("XPC connection error") { format!("\n{ENSURE}") } else { String::new() };
                format!("Error: {text}{advice}\n")
            });
            (lines.collect(), 1)
        }
        Error::Usage(text, verb) => {
            let usage = crate::verbs::usage(&verb);
            let verb = if verb.is_empty() { String::new() } else { format!(" {verb}") };
            let see = format!("  See 'container{verb} --help' for more information.");
            (format!("Error: {text}\nUsage: container{verb} {usage}\n{see}\n"), 64)
        }
        Error::Raw(lines, code) => (lines.into_iter().map(|line| line + "\n").collect(), code),
    }
}

/// A list of names as Swift prints an array of strings.
pub fn swift_list(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    format!("[{}]", names.join(", "))
}

/// A line of the log: the order of its keys is another one in each process.
pub fn log_line(message: &str, pairs: &[(&str, &str)]) -> String {
    let mut pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("\"{key}\": {value}")).collect();
    crate::random::shuffle(&mut pairs);
    let time = if DEBUG.load(Ordering::Relaxed) { format!("{} ", Timestamp::now()) } else { String::new() };
    format!("{time}{message}: [{}]\n", pairs.join(", "))
}

/// The error of a call that the service did not hear or answer.
pub fn connection(verb: &str, ids: &[String], what: &str) -> Error {
    broken(verb, ids, fail("interrupted", format!("XPC connection error: {what}")))
}

/// How a verb says that its request to the service failed.
pub fn broken(verb: &str, ids: &[String], cause: Fail) -> Error {
    let first = ids.first().map_or("", String::as_str);
    let each = |text: &str| {
        Error::Many(ids.iter().take(1.max(ids.len())).map(|_| internal(text).caused_by(cause.clone())).collect())
    };
    match verb {
        "stop" => each("failed to stop container"),
        "kill" => each("failed to kill container"),
        "delete" => each("failed to delete container"),
        "list" | "inspect" | "stats" | "prune" => internal("failed to list containers").caused_by(cause).into(),
        "network list" | "network inspect" => internal("failed to list networks").caused_by(cause).into(),
        "logs" => internal(format!("failed to get logs for container {first}")).caused_by(cause).into(),
        "start" | "exec" | "export" | "copy" => internal("get failed").caused_by(cause).into(),
        // Those that ask whether the service is there before anything else.
        _ => cause.into(),
    }
}

/// The error of a call whose answer came too late.
pub fn timeout(verb: &str, ids: &[String], route: &str) -> Error {
    broken(verb, ids, internal(format!("XPC timeout for request to com.apple.container.apiserver/{route}")))
}

//! Each piece of a sandbox, tried by making it: nothing is executed in it, and nothing stays.

use std::path::PathBuf;
use std::time::Duration;

use super::advice::{Machine, explain};
use super::cgroup::{self, Limits};
use super::place::{self, Builder};
use super::plan::{Special, Step};
use crate::base::error::Ignore;
use crate::base::time::Deadline;
use crate::process::no_cancel;
use crate::runtime::{Error, Result};

/// How long a place that nobody uses may take to end.
const END_LIMIT: Duration = Duration::from_secs(2);

/// What was tried, and what came of it.
pub(crate) struct Piece {
    /// What it is called.
    pub(crate) name: &'static str,
    /// Whether a sandbox can be had without it.
    pub(crate) needed: bool,
    /// What came of it: words, or why not and what to do about it.
    pub(crate) result: std::result::Result<String, (String, String)>,
}

/// Makes a place, and lets go of it at once; what can only be read in it.
pub(crate) fn try_out(steps: &[Step], deadline: Deadline) -> Result<Vec<PathBuf>> {
    let made = Builder::start().map_err(place::Error::Lost).and_then(|b| b.make(steps, deadline, &no_cancel()));
    let mut place = made.map_err(|error| explain(error, Machine::look()))?;
    // Init finds that nobody has anything for it to do.
    drop(place.visitor.take());
    if !place.is_gone_within(Deadline::after(END_LIMIT).min(deadline)) {
        place.signal(crate::sys::signal::Signal::KILL).ignore();
    }
    Ok(place.about.read_only)
}

/// What every sandbox has.
pub(crate) fn basic(caller: (u32, u32)) -> Vec<Step> {
    let directory = |path: &str| Step::Directory { path: path.into(), mode: Some(0o755) };
    let proc = Step::Mount { kind: Special::Proc, path: "/proc".into() };
    let mut steps = namespaces(caller, false);
    steps.extend([Step::Root, directory("/proc"), proc, Step::Enter, Step::NoPrivileges]);
    steps.push(Step::Filter { allow_namespaces: false });
    steps
}

fn namespaces((uid, gid): (u32, u32), network: bool) -> Vec<Step> {
    vec![Step::UserNamespace { uid, gid }, Step::Namespaces { network }, Step::CgroupNamespace]
}

/// Tries all pieces.
pub(crate) fn pieces(caller: (u32, u32), deadline: Deadline) -> Vec<Piece> {
    let with = |steps: &[Step]| [&namespaces(caller, false), steps].concat();
    let tried = |name, steps: &[Step], words: &str| {
        let result = try_out(steps, deadline).map(|_| words.to_owned()).map_err(told);
        Piece { name, needed: true, result }
    };
    let mut pieces = vec![tried("user namespaces", &with(&[]), "this user can make namespaces")];
    if pieces[0].result.is_ok() {
        pieces.push(tried("sandbox", &basic(caller), "root directory, /proc, no privileges, system call filter"));
        pieces.push(overlay(
            &with(&[
                Step::Root,
                Step::Overlay { path: "/usr".into(), holds: Vec::new(), owned: Vec::new() },
                Step::Enter,
            ]),
            deadline,
        ));
        let network = [namespaces(caller, true), vec![Step::Loopback]].concat();
        pieces.push(tried("network namespace", &network, "--network none works"));
    }
    pieces.push(limits(caller, deadline));
    pieces
}

fn told(error: Error) -> (String, String) {
    match error {
        Error::Forbidden { why, hint } => (why, hint),
        other => (other.to_string(), String::new()),
    }
}

fn overlay(steps: &[Step], deadline: Deadline) -> Piece {
    let result = match try_out(steps, deadline) {
        Ok(read_only) if read_only.is_empty() => Ok("what is written outside of the workspace is forgotten".to_owned()),
        Ok(_) => {
            let why = "the kernel refuses overlays in user namespaces: the host's directories can only be read inside";
            Err((why.to_owned(), "Linux 5.11 or later allows them, on most file systems".to_owned()))
        }
        Err(error) => Err(told(error)),
    };
    Piece { name: "overlay", needed: false, result }
}

fn limits(caller: (u32, u32), deadline: Deadline) -> Piece {
    let all = Limits { memory: Some(64 << 20), cpus_milli: Some(1000), pids: Some(64) };
    let name = crate::base::id::random_hex(6).map(|hex| format!("fosse-{hex}"));
    let result = match name.map(|name| cgroup::plan(&all, &name)) {
        Err(error) => Err((error.to_string(), String::new())),
        Ok(Err(missing)) => {
            Err((format!("{} cannot be limited: {}", missing.what.join(", "), missing.why), missing.hint))
        }
        Ok(Ok(groups)) => {
            let steps = groups.into_iter().map(Step::Group).chain(namespaces(caller, false)).collect::<Vec<_>>();
            try_out(&steps, deadline).map(|_| "memory, cpus, pids".to_owned()).map_err(told)
        }
    };
    Piece { name: "limits", needed: false, result }
}

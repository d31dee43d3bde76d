//! `fosse doctor`: checks everything that a run needs, by doing it where that changes nothing.

mod apple;
#[cfg(target_os = "linux")]
mod native;

use std::thread;

use serde_json::json;

use super::args::Doctor;
use super::config::{self, Layer};
use super::daemon::{self, Sight};
use super::engines::engines;
use super::output::Out;
use super::report::Result;
use crate::base::paths::SOCKET_PATH_MAX;
use crate::base::time::Deadline;
use crate::daemon::client::ANSWER_LIMIT;
use crate::run::engines::Engines;
use crate::run::store::{Entry, Store};
use crate::run::{owner, reap};
use crate::runtime::{Cache, Error, Kind, Runtime};
use crate::sys::fd;
use crate::wire::record::SCHEMA;

/// How a check ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Well,
    /// Worth knowing, and nothing is wrong.
    Note,
    Problem,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Verdict::Well => "ok",
            Verdict::Note => "note",
            Verdict::Problem => "problem",
        }
    }
}

struct Check {
    name: String,
    verdict: Verdict,
    detail: String,
    hint: Option<String>,
}

impl Check {
    fn new(name: impl Into<String>, verdict: Verdict, detail: impl Into<String>) -> Self {
        Check { name: name.into(), verdict, detail: detail.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Free space below which a problem is told.
const SPACE_MIN: u64 = 64 << 20;

pub(crate) fn doctor(args: &Doctor) -> Result {
    let store = super::store()?;
    let mut checks = vec![program(super::resolve::is_static())];
    checks.extend(places(&store));
    match config::trusted(&store.paths) {
        Err(failure) => checks.push(
            Check::new("configuration", Verdict::Problem, failure.why()).hint("fosse.json(5) describes every key"),
        ),
        Ok(layer) => {
            checks.push(Check::new("configuration", Verdict::Well, "readable"));
            let engines = engines(&store, &layer, false);
            let asked: Vec<Vec<Check>> = thread::scope(|scope| {
                let one = |kind| {
                    scope.spawn({
                        let (engines, store, layer) = (&engines, &store, &layer);
                        move || engine(engines, store, kind, layer)
                    })
                };
                let threads: Vec<_> = engines.kinds().into_iter().map(one).collect();
                threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
            });
            let can_run =
                |checks: &Vec<Check>| checks.len() > 1 && checks.iter().all(|check| check.verdict != Verdict::Problem);
            let usable = asked.iter().any(can_run);
            #[cfg(target_os = "linux")]
            checks.extend(native::checks(engines.limits().change()));
            checks.extend(asked.into_iter().flatten());
            // What was not asked may well work.
            if !usable && !engines.kinds().into_iter().any(|kind| engines.spared(kind).is_some()) {
                // The host's own programs run without one.
                let verdict = if cfg!(target_os = "linux") { Verdict::Note } else { Verdict::Problem };
                let check = Check::new("engines", verdict, "no engine can run a container");
                checks.push(
                    check.hint("--image needs one: install docker or podman, or start its service; on a Mac container"),
                );
            }
        }
    }
    checks.push(background(&store));
    if let Err(failure) = owner::known_instance(&store) {
        let check = Check::new("name of the state directory", Verdict::Problem, failure.why());
        checks.push(check.hint(failure.advice().unwrap_or_default()));
    }
    checks.push(runs(&store)?);
    let mut out = Out::stdout();
    for check in &checks {
        let Check { name, verdict, detail, hint } = check;
        if args.json {
            out.json(
                &json!({"schema": SCHEMA, "check": name, "result": verdict.as_str(), "detail": detail, "hint": hint}),
            )?;
        } else if !args.quiet || *verdict == Verdict::Problem {
            out.line(&format!("{:<8} {name}: {detail}", verdict.as_str()))?;
            if let (Some(hint), true) = (hint, *verdict != Verdict::Well) {
                out.line(&format!("         hint: {hint}"))?;
            }
        }
    }
    out.finish()?;
    Ok(u8::from(checks.iter().any(|check| check.verdict == Verdict::Problem)))
}

/// Whether the program can be its own first process in any container.
fn program(is_static: bool) -> Check {
    let version = env!("CARGO_PKG_VERSION");
    if is_static {
        return Check::new("program", Verdict::Well, format!("{version}, linked statically"));
    }
    let detail = "linked dynamically: in containers the engine's client carries a run instead of fosse's own PID 1, so \
                  that one whose owner is killed goes on until it is finished, a lost engine loses the exit code, and \
                  the signal that ended a command is not known";
    Check::new("program", Verdict::Note, format!("{version}, {detail}"))
        .hint("build it where the C library can be linked statically (Debian: libc6-dev; Fedora: glibc-static)")
}

/// The directories, without making or changing any.
fn places(store: &Store) -> Vec<Check> {
    let mut checks = Vec::new();
    for (name, dir) in [("state directory", &store.paths.state), ("runtime directory", &store.paths.runtime)] {
        // The nearest directory that exists is where the rest would be made.
        let there = dir.ancestors().find(|dir| dir.exists()).unwrap_or(dir);
        let writable = fd::writable(there);
        checks.push(if writable {
            Check::new(name, Verdict::Well, dir.display().to_string())
        } else {
            let detail = format!("{} cannot be written", there.display());
            let variable = if name == "state directory" { "FOSSE_STATE_DIR" } else { "FOSSE_RUNTIME_DIR" };
            Check::new(name, Verdict::Problem, detail).hint(format!("set {variable} to a directory of your own"))
        });
        if let Ok((free, _)) = fd::space(there) {
            if free < SPACE_MIN {
                let detail = format!("only {} free in {}", crate::base::size::human(free), there.display());
                checks.push(Check::new("disk space", Verdict::Problem, detail).hint("fosse clean removes ended runs"));
            }
        }
    }
    if store.paths.runtime.as_os_str().len() + 18 > SOCKET_PATH_MAX {
        let detail = format!("{} is too long for sockets; they are in /tmp instead", store.paths.runtime.display());
        checks.push(Check::new("socket paths", Verdict::Note, detail).hint("set FOSSE_RUNTIME_DIR to a shorter path"));
    }
    checks
}

/// Whether an engine answers, can run a container, and holds nothing that belongs to nobody.
fn engine(engines: &Engines, store: &Store, kind: Kind, layer: &Layer) -> Vec<Check> {
    let name = kind.as_str();
    let off = layer.init.as_deref() == Some("off");
    let limits = engines.limits();
    if let Some(tool) = engines.spared(kind) {
        let detail = format!("{} is not asked, because no run has used it yet", tool.display());
        let hint = format!("from the first one on it is checked: fosse run --runtime {name} --image IMAGE true");
        return vec![Check::new(name, Verdict::Note, detail).hint(hint)];
    }
    let runtime = engines.today(kind, limits.query());
    let version = runtime
        .as_ref()
        .map_err(describe)
        .and_then(|runtime| runtime.version(limits.query()).map_err(|e| describe(&e)));
    let (runtime, version) = match (runtime, version) {
        (Ok(runtime), Ok(version)) => (runtime, version),
        (Err(Error::Call(error)), _) if error.is_missing() => return vec![not_installed(kind)],
        (_, Err(Described::Missing)) => return vec![not_installed(kind)],
        (_, Err(Described::Words(why))) => {
            let hint = hint_for(kind, &why, "start its service, or try it yourself: ");
            return vec![Check::new(name, Verdict::Problem, why).hint(hint)];
        }
        (Err(error), Ok(_)) => return vec![Check::new(name, Verdict::Problem, error.to_string())],
    };
    let mut checks = vec![Check::new(name, Verdict::Well, format!("version {version} at {}", runtime.endpoint()))];
    let instance = store.instance();
    checks.push(match runtime.trial(instance.as_deref().unwrap_or("doctor"), limits.change()) {
        Ok(Some(())) => Check::new(format!("{name} trial"), Verdict::Well, "a container runs"),
        Ok(None) => Check::new(format!("{name} trial"), Verdict::Well, "not tried: it has no image yet"),
        Err(error) => {
            let hint = hint_for(kind, &error.to_string(), "try it yourself: ");
            Check::new(format!("{name} trial"), Verdict::Problem, format!("no container can run: {error}")).hint(hint)
        }
    });
    checks.push(if kind == Kind::Apple { apple::carrier(layer) } else { carrier(store, &*runtime, off) });
    if let Some(instance) = instance {
        match reap::orphaned(store, &instance, &*runtime, limits.query()).map(|objects| reap::settled(store, objects)) {
            Ok(orphans) if orphans.is_empty() => {}
            Ok(orphans) => checks.push(
                Check::new(format!("{name} orphans"), Verdict::Problem, format!("{} orphaned objects", orphans.len()))
                    .hint("fosse clean networks removes them"),
            ),
            Err(failure) => {
                let hint = hint_for(kind, failure.why(), "try it yourself: ");
                checks.push(Check::new(format!("{name} orphans"), Verdict::Problem, failure.why()).hint(hint));
            }
        }
    }
    checks
}

/// What carries runs in an engine, as far as runs have shown it: trying would leave traces.
fn carrier(store: &Store, runtime: &dyn Runtime, off: bool) -> Check {
    let check = |verdict, detail| Check::new(format!("{} carrier", runtime.kind().as_str()), verdict, detail);
    let without = Cache(Some(store.paths.engines())).without_init(runtime.tool(), runtime.endpoint());
    if off {
        return check(Verdict::Note, "the engine's client, because init is off".into());
    }
    if !super::resolve::is_static() {
        let detail = "the engine's client: this program is not linked statically".into();
        return check(Verdict::Note, detail);
    }
    if without.is_empty() {
        return check(Verdict::Well, "fosse's own PID 1".into());
    }
    let detail = format!("the engine's client, for {}: no init greeted there", without.join(", "));
    check(Verdict::Note, detail).hint("fosse-run(1), What carries a run, has the reasons that are known")
}

/// Whether the daemon, if there is one, answers.
fn background(store: &Store) -> Check {
    let sight = Sight::of(&daemon::context(store), Deadline::after(ANSWER_LIMIT));
    let check = |verdict| Check::new("daemon", verdict, sight.words());
    match &sight {
        Sight::Serving(_) | Sight::Stopped => check(Verdict::Well),
        Sight::Silent(..) => check(Verdict::Problem).hint("fosse daemon restart replaces it"),
    }
}

/// Why an engine cannot be asked.
enum Described {
    Missing,
    Words(String),
}

fn describe(error: &Error) -> Described {
    match error {
        Error::Call(error) if error.is_missing() => Described::Missing,
        other => Described::Words(other.to_string()),
    }
}

fn not_installed(kind: Kind) -> Check {
    Check::new(kind.as_str(), Verdict::Note, "not installed")
}

fn hint_for(kind: Kind, why: &str, otherwise: &str) -> String {
    if kind == Kind::Apple { apple::hint(why) } else { trial_hint(why, kind.as_str(), otherwise) }
}

/// What helps, by the words that engines use when nothing can run.
fn trial_hint(why: &str, name: &str, otherwise: &str) -> String {
    let lower = why.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if says(&["rlimit", "operation not permitted: oci"]) {
        "it asks for higher limits than this machine allows: lower default_ulimits in containers.conf(5)".into()
    } else if says(&["cgroup", "systemd", "dbus"]) {
        "it cannot use this machine's cgroups: cgroup_manager = \"cgroupfs\" in containers.conf(5) may help".into()
    } else if says(&["crun", "runc", "oci runtime"]) {
        "its OCI runtime does not work here: install crun or runc, and set runtime in containers.conf(5)".into()
    } else if says(&["newuidmap", "subuid", "user namespace"]) {
        "rootless containers need uidmap and a range in /etc/subuid and /etc/subgid".into()
    } else {
        format!("{otherwise}{name} run --rm IMAGE true")
    }
}

fn runs(store: &Store) -> Result<Check> {
    let all = store.all()?;
    let (mut orphans, mut unreadable) = (0, 0);
    for entry in &all {
        match entry {
            Entry::Known(view) if view.is_orphan() => orphans += 1,
            Entry::Known(_) => {}
            Entry::Unreadable { .. } => unreadable += 1,
        }
    }
    Ok(match (orphans, unreadable) {
        (0, 0) => Check::new("runs", Verdict::Well, format!("{} recorded", all.len())),
        (0, _) => Check::new("runs", Verdict::Problem, format!("{unreadable} records cannot be read"))
            .hint("fosse list shows them; fosse destroy ID removes one"),
        (_, _) => Check::new("runs", Verdict::Problem, format!("{orphans} runs lost their owner"))
            .hint("fosse clean finishes and removes them"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_says_what_it_loses() {
        assert!(program(true).verdict == Verdict::Well && program(true).detail.ends_with("linked statically"));
        let Check { verdict, detail, hint, .. } = program(false);
        assert!(verdict == Verdict::Note && hint.is_some_and(|hint| hint.contains("libc6-dev")));
        for lost in ["PID 1", "goes on until it is finished", "loses the exit code", "signal"] {
            assert!(detail.contains(lost), "{lost}: {detail}");
        }
    }
}

//! `fosse status`: one screen. Engines are asked in parallel, each once or a few times however many runs there
//! are, and all within one query's limit; what does not answer is unknown.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread;

use serde_json::{Value, json};

use super::args::Status;
use super::config;
use super::daemon::{self, Sight};
use super::engines::engines;
use super::output::{Out, table};
use super::report::Result;
use crate::base::time::{Deadline, Timestamp};
use crate::base::{duration, size};
use crate::daemon::client::ANSWER_LIMIT;
use crate::run::engines::Engines;
use crate::run::reap;
use crate::run::store::{Entry, Store, View};
use crate::runtime::{self, Error, Kind, Runtime, Status as Place};
use crate::sys::fd;
use crate::wire::record::{Record, SCHEMA};

/// What an engine says of itself.
struct Answer {
    kind: Kind,
    state: &'static str,
    detail: String,
    /// Objects of this state directory that belong to nobody; `None` if it did not say.
    orphaned: Option<usize>,
}

/// All that is shown.
struct Screen {
    engines: Vec<Answer>,
    daemon: Sight,
    live: Vec<View>,
    /// What the engines say about the places of runs.
    places: BTreeMap<String, &'static str>,
    orphans: usize,
    /// Engine objects that belong to nobody; `None` if an engine did not say.
    objects: Option<usize>,
    ended: usize,
    unreadable: usize,
    state_dir: PathBuf,
    used: u64,
    free: Option<u64>,
}

pub(crate) fn status(args: &Status) -> Result {
    let store = super::store()?;
    let screen = look(&store)?;
    let mut out = Out::stdout();
    if args.json {
        out.json_pretty(&screen.json())?;
    } else {
        screen.print(&mut out)?;
    }
    out.finish()?;
    Ok(0)
}

fn look(store: &Store) -> Result<Screen> {
    let engines = engines(store, &config::trusted(&store.paths)?, false);
    let (mut views, mut unreadable) = (Vec::<View>::new(), 0);
    for entry in store.all_for_show()? {
        match entry {
            Entry::Known(view) => views.push(*view),
            Entry::Unreadable { .. } => unreadable += 1,
        }
    }
    let (ended, unfinished): (Vec<View>, Vec<View>) = views.into_iter().partition(|view| view.record.state.is_final());
    // All questions are asked at the same time, under the same deadline.
    let deadline = engines.limits().query();
    let (answers, places, daemon) = thread::scope(|scope| {
        let sight = scope.spawn(|| Sight::of(&daemon::context(store), Deadline::after(ANSWER_LIMIT).min(deadline)));
        let places = scope.spawn(|| ask_places(&engines, store.instance().as_deref(), &unfinished, deadline));
        let answers: Vec<_> = std::iter::once(Kind::Native)
            .chain(engines.kinds())
            .map(|kind| {
                scope.spawn({
                    let engines = &engines;
                    move || ask_engine(engines, store, kind, deadline)
                })
            })
            .collect();
        let answers: Vec<Answer> = answers.into_iter().filter_map(|thread| thread.join().ok()).collect();
        let sight = sight.join().unwrap_or_else(|_| Sight::Silent(None, "an internal error".into()));
        (answers, places.join().unwrap_or_default(), sight)
    });
    let (live, orphans): (Vec<View>, Vec<View>) = unfinished.into_iter().partition(View::is_live);
    let state_dir = store.paths.state.clone();
    Ok(Screen {
        // What one engine does not say is not known of all of them.
        objects: answers.iter().map(|answer| answer.orphaned).sum(),
        engines: answers,
        daemon,
        live,
        places,
        orphans: orphans.len(),
        ended: ended.len(),
        unreadable,
        used: bytes_below(&state_dir),
        free: fd::space(&state_dir).or_else(|_| fd::space(Path::new("/"))).map(|(free, _)| free).ok(),
        state_dir,
    })
}

impl Screen {
    fn place(&self, record: &Record) -> &'static str {
        self.places.get(record.id.as_str()).copied().unwrap_or("unknown")
    }

    fn json(&self) -> Value {
        let runtimes: Vec<_> = (self.engines.iter())
            .map(|a| json!({"runtime": a.kind.as_str(), "state": a.state, "detail": a.detail}))
            .collect();
        let run = |view: &View| {
            let record = &view.record;
            json!({"id": record.id, "name": record.name, "runtime": record.runtime, "state": record.state,
                "place": self.place(record)})
        };
        let runs: Vec<_> = self.live.iter().map(run).collect();
        json!({"schema": SCHEMA, "runtimes": runtimes, "daemon": self.daemon.json(), "runs": runs,
            "orphans": self.orphans, "orphaned_objects": self.objects, "ended": self.ended,
            "unknown": self.unreadable, "state_dir": self.state_dir, "disk_used_bytes": self.used,
            "disk_free_bytes": self.free})
    }

    fn print(&self, out: &mut Out) -> Result<()> {
        for answer in &self.engines {
            out.line(&format!("{:<9}{}{}", answer.kind.as_str(), answer.state, detail(&answer.detail)))?;
        }
        out.line(&format!("daemon   {}", self.daemon.words()))?;
        let unknown = if self.unreadable > 0 { format!(", {} unknown", self.unreadable) } else { String::new() };
        let (live, orphans, ended) = (self.live.len(), self.orphans, self.ended);
        out.line(&format!("runs     {live} live, {orphans} orphaned, {ended} ended{unknown}"))?;
        let free = self.free.map(|free| format!(", {} free", size::human(free))).unwrap_or_default();
        out.line(&format!("disk     {} in {}{free}", size::human(self.used), self.state_dir.display()))?;
        let now = Timestamp::now();
        let row = |view: &View| {
            let record = &view.record;
            let age = duration::short(record.created_at.age(now));
            let (runtime, state) = (record.runtime.clone(), record.state.as_str().into());
            vec![record.name.to_string(), record.id.to_string(), runtime, state, self.place(record).into(), age]
        };
        let rows: Vec<Vec<String>> = self.live.iter().map(row).collect();
        if !rows.is_empty() {
            out.line("")?;
            for line in table(&["NAME", "ID", "RUNTIME", "STATE", "PLACE", "AGE"], &rows) {
                out.line(&line)?;
            }
        }
        if let Some(count @ 1..) = self.objects {
            out.line(&format!("\n{count} orphaned engine objects: fosse clean networks removes them"))?;
        }
        if orphans > 0 {
            out.line(&format!("\n{orphans} runs lost their owner: fosse clean finishes and removes them"))?;
        }
        Ok(())
    }
}

fn detail(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" ({text})") }
}

fn ask_engine(engines: &Engines, store: &Store, kind: Kind, deadline: Deadline) -> Answer {
    if let Some(tool) = engines.spared(kind) {
        return Answer { kind, state: "not used", detail: tool.display().to_string(), orphaned: Some(0) };
    }
    let asked = engines.today(kind, deadline).and_then(|runtime| Ok((runtime.version(deadline)?, runtime)));
    let (state, detail, orphaned) = match asked {
        Ok((version, runtime)) => ("available", version, count_orphaned(store, &*runtime, deadline)),
        Err(Error::Call(error)) if error.is_missing() => ("not installed", String::new(), Some(0)),
        Err(Error::Unreachable { complaint }) => ("not running", complaint, Some(0)),
        Err(error) => ("unknown", error.to_string(), None),
    };
    Answer { kind, state, detail, orphaned }
}

/// How many objects belong to nobody; those that the engine is just removing are not counted.
fn count_orphaned(store: &Store, runtime: &dyn Runtime, deadline: Deadline) -> Option<usize> {
    let instance = match store.instance() {
        Some(instance) if runtime.kind() != Kind::Native => instance,
        Some(_) | None => return Some(0),
    };
    let orphaned = reap::orphaned(store, &instance, runtime, deadline).ok()?;
    Some(reap::settled(store, orphaned).len())
}

/// What the engines know about the places of runs that are not over: asked for what there is, not for each run.
fn ask_places(
    engines: &Engines,
    instance: Option<&str>,
    views: &[View],
    deadline: Deadline,
) -> BTreeMap<String, &'static str> {
    let mut groups: Vec<(Box<dyn Runtime>, Vec<&Record>)> = Vec::new();
    // A sandbox lives exactly as long as its owner.
    let (native, others): (Vec<&View>, Vec<&View>) =
        views.iter().partition(|view| view.record.runtime == Kind::Native.as_str());
    let native =
        native.into_iter().map(|view| (view.record.id.to_string(), if view.owned { "running" } else { "gone" }));
    for record in others.into_iter().map(|view| &view.record) {
        let Ok(runtime) = engines.of(record) else {
            continue;
        };
        let same = |other: &dyn Runtime| {
            (other.kind(), other.tool(), other.endpoint()) == (runtime.kind(), runtime.tool(), runtime.endpoint())
        };
        match groups.iter_mut().find(|(other, _)| same(&**other)) {
            Some((_, group)) => group.push(record),
            None => groups.push((runtime, vec![record])),
        }
    }
    let Some(instance) = instance else { return native.collect() };
    let ask = |runtime: &dyn Runtime, group: &[&Record]| {
        let facts = runtime.containers(instance, deadline)?;
        let place = |record: &&Record| {
            let found = facts.iter().find(|facts| facts.name == record.id.object_name());
            (record.id.to_string(), found.map_or("gone", |facts| place(facts.status)))
        };
        runtime::Result::Ok(group.iter().map(place).collect::<Vec<_>>())
    };
    thread::scope(|scope| {
        let threads: Vec<_> =
            groups.iter().map(|(runtime, group)| scope.spawn(move || ask(&**runtime, group))).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()?.ok()).flatten().chain(native).collect()
    })
}

fn place(status: Place) -> &'static str {
    match status {
        Place::Created => "created",
        Place::Live => "running",
        Place::Ended { .. } | Place::Stopped => "ended",
        Place::Other => "unknown",
    }
}

/// The bytes of all files below a directory; what cannot be read counts as nothing.
fn bytes_below(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

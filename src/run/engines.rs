//! Which runtimes there are for this user now, and which one a stored record means.

use std::path::PathBuf;
use std::thread;

use crate::base::env;
use crate::base::error::{Failure, Ignore, Result};
use crate::base::fs::create_private;
use crate::base::paths::Paths;
use crate::base::time::Deadline;
use crate::process;
use crate::run::store::{Entry, Store};
use crate::runtime::apple::{self, Apple};
use crate::runtime::docker::{Engine, Tool, discover};
use crate::runtime::{Cache, Error, Kind, Limits, Runtime};
use crate::sys::process::effective_ids;
use crate::wire::record::Record;

/// The engines that may have something of some runs.
#[derive(Default)]
pub(crate) struct Found {
    /// Those that can be asked.
    pub(crate) runtimes: Vec<Box<dyn Runtime>>,
    /// Why others cannot.
    pub(crate) failures: Vec<Failure>,
}

/// What the engines' tools are called; none is the usual name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tools {
    /// Docker's.
    pub(crate) docker: Option<String>,
    /// Podman's.
    pub(crate) podman: Option<String>,
    /// Apple's. Away from macOS there is none unless it is named.
    pub(crate) container: Option<String>,
}

impl Tools {
    fn of(&mut self, kind: Kind) -> &mut Option<String> {
        match kind {
            Kind::Podman => &mut self.podman,
            Kind::Apple => &mut self.container,
            Kind::Docker | Kind::Native => &mut self.docker,
        }
    }
}

/// How engines are reached.
#[derive(Debug, Clone)]
pub(crate) struct Engines {
    limits: Limits,
    tools: Tools,
    cache: Cache,
    paths: Paths,
    caller: (u32, u32),
    /// The runtime that the caller's configuration names.
    wanted: Option<Kind>,
}

/// Takes note that a runtime is used from here on.
pub(crate) fn note_use(paths: &Paths, kind: Kind) {
    if kind == Kind::Podman {
        let dir = paths.engines();
        std::fs::create_dir_all(&dir).ignore();
        // Where nothing can be written there will be no run, and if there is one its record says the same.
        create_private(&used(paths), b"").ignore();
    }
}

fn used(paths: &Paths) -> PathBuf {
    paths.engines().join("podman-used")
}

impl Engines {
    /// With these limits and tools. `remember` is false where nothing may be written.
    pub(crate) fn new(paths: &Paths, limits: Limits, tools: Tools, remember: bool) -> Self {
        Engines {
            limits,
            tools,
            cache: Cache(remember.then(|| paths.engines())),
            paths: paths.clone(),
            caller: effective_ids(),
            wanted: None,
        }
    }

    /// With a runtime that is asked for.
    #[must_use]
    pub(crate) fn wanting(self, wanted: Option<Kind>) -> Self {
        Engines { wanted, ..self }
    }

    /// The tool of an engine that is not asked for anything, not even its version, because whoever has never used it would
    /// be left with something by the mere question: rootless podman starts a process that stays, and makes directories.
    /// It has nothing of ours.
    pub(crate) fn spared(&self, kind: Kind) -> Option<PathBuf> {
        if kind != Kind::Podman || self.caller.0 == 0 || self.wanted == Some(kind) || self.tools.podman.is_some() {
            return None;
        }
        // A remote one makes nothing here.
        let is_local = env::get("CONTAINER_HOST").is_none();
        let tool = process::find(self.name(kind)).filter(|_| is_local)?;
        (!used(&self.paths).exists() && !self.is_recorded(kind)).then_some(tool)
    }

    fn is_recorded(&self, kind: Kind) -> bool {
        let store = Store { paths: self.paths.clone(), uid: self.caller.0 };
        let is_its = |entry: Entry| matches!(entry, Entry::Known(view) if view.record.runtime == kind.as_str());
        // What cannot be read may be anything.
        store.all_for_show().is_ok_and(|all| all.into_iter().any(is_its))
    }

    /// Learns where a tool is that cannot be found from here; whether that was news.
    pub(crate) fn learn(&mut self, name: &str, path: &str) -> bool {
        let Some(kind) = self.kinds().into_iter().find(|kind| self.name(*kind) == name) else { return false };
        let is_news = process::find(name).is_none() && process::find(path).is_some();
        if is_news {
            *self.tools.of(kind) = Some(path.to_owned());
        }
        is_news
    }

    /// The engines that this user may have, in the order in which `auto` tries them.
    pub(crate) fn kinds(&self) -> Vec<Kind> {
        let mut kinds = vec![Kind::Docker, Kind::Podman];
        if cfg!(target_os = "macos") {
            kinds.insert(0, Kind::Apple);
        } else if self.tools.container.is_some() {
            kinds.push(Kind::Apple);
        }
        kinds
    }

    /// The limits of calls.
    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    fn name(&self, kind: Kind) -> &str {
        let name = match kind {
            Kind::Docker => &self.tools.docker,
            Kind::Podman => &self.tools.podman,
            Kind::Apple => &self.tools.container,
            Kind::Native => &None,
        };
        name.as_deref().unwrap_or(kind.tool())
    }

    /// The runtime as this environment means it.
    pub(crate) fn today(&self, kind: Kind, deadline: Deadline) -> crate::runtime::Result<Box<dyn Runtime>> {
        let name = self.name(kind).to_owned();
        match (kind, Tool::of(kind)) {
            (Kind::Native, _) => self.native(),
            (Kind::Apple, _) if !self.kinds().contains(&Kind::Apple) => Err(Error::Forbidden {
                why: "Apple's containers need macOS".into(),
                hint: "--image IMAGE --runtime docker or podman; FOSSE_CONTAINER names a tool that takes its place"
                    .into(),
            }),
            (_, None) => Ok(self.apple(name)),
            (_, Some(tool)) => {
                let endpoint = discover(tool, &name, self.paths.home.as_ref(), deadline)?;
                Ok(self.at(tool, name, endpoint))
            }
        }
    }

    fn apple(&self, name: String) -> Box<dyn Runtime> {
        Box::new(Apple::new(name, self.limits, apple::Locks::below(&self.paths.engines(), self.cache.0.is_some())))
    }

    #[cfg(target_os = "linux")]
    #[allow(clippy::unnecessary_wraps, reason = "elsewhere there is none")]
    fn native(&self) -> crate::runtime::Result<Box<dyn Runtime>> {
        Ok(Box::new(crate::runtime::native::Native::new(self.limits, self.paths.clone(), self.caller)))
    }

    #[cfg(not(target_os = "linux"))]
    fn native(&self) -> crate::runtime::Result<Box<dyn Runtime>> {
        let (why, hint) = ("the native runtime needs Linux".into(), "--image IMAGE runs it in an engine".into());
        Err(crate::runtime::Error::Forbidden { why, hint })
    }

    fn at(&self, tool: Tool, name: String, endpoint: String) -> Box<dyn Runtime> {
        Box::new(Engine::new(tool, name, endpoint, self.limits, self.cache.clone(), self.caller.0))
    }

    /// The runtime of a run, at the engine it was started in. A tool that was recorded by its usual name is
    /// the one that has that role today.
    pub(crate) fn of(&self, record: &Record) -> Result<Box<dyn Runtime>> {
        let unknown = |why: String| Failure::new(format!("asking the engine of run {}", record.id), why);
        let kind = Kind::parse(&record.runtime)
            .ok_or_else(|| unknown(format!("this version does not know the runtime {:?}", record.runtime)))?;
        if kind == Kind::Native {
            return self.native().map_err(|error| unknown(error.to_string()));
        }
        let engine = record.engine.clone().ok_or_else(|| unknown("its record names no engine".into()))?;
        let name = if engine.tool == kind.tool() { self.name(kind).to_owned() } else { engine.tool };
        Ok(match Tool::of(kind) {
            Some(tool) => self.at(tool, name, engine.endpoint),
            None => self.apple(name),
        })
    }

    /// The engines that may have something of these runs: those that are reachable from here, and those that records
    /// name, each with why it could not be asked. One that is not there at all has nothing, and neither has one that is
    /// spared; one that does not answer may.
    pub(crate) fn of_runs(&self, store: &Store) -> Result<Found> {
        let limits = self.limits;
        let ask = |kind| {
            let runtime = self.today(kind, limits.query())?;
            runtime.version(limits.query())?;
            Ok(runtime)
        };
        let answers: Vec<_> = thread::scope(|scope| {
            let kinds = self.kinds().into_iter().filter(|kind| self.spared(*kind).is_none());
            let threads: Vec<_> = kinds.map(|kind| (kind, scope.spawn(move || ask(kind)))).collect();
            threads.into_iter().map(|(kind, thread)| (kind, thread.join())).collect()
        });
        let mut found = Found::default();
        for (kind, answer) in answers {
            match answer {
                Ok(Ok(runtime)) => found.runtimes.push(runtime),
                Ok(Err(Error::Call(error))) if error.is_missing() => {}
                Ok(Err(Error::Unreachable { .. })) => {}
                Ok(Err(error)) => found.failures.push(
                    Failure::new(format!("asking {}", kind.as_str()), error)
                        .hint("when it answers again, clean once more"),
                ),
                Err(_) => found.failures.push(Failure::new(format!("asking {}", kind.as_str()), "an internal error")),
            }
        }
        for entry in store.all()? {
            let Entry::Known(view) = entry else { continue };
            let Ok(runtime) = self.of(&view.record) else {
                continue;
            };
            let same = |other: &dyn Runtime| other.kind() == runtime.kind() && other.endpoint() == runtime.endpoint();
            if store.run(&view.record.id).engine_marker().exists() && !found.runtimes.iter().any(|other| same(&**other))
            {
                found.runtimes.push(runtime);
            }
        }
        Ok(found)
    }
}

//! Which runtimes there are for this user now, and which one a stored record means.

use std::thread;

use crate::base::error::{Failure, Result};
use crate::base::paths::Paths;
use crate::base::time::Deadline;
use crate::process;
use crate::run::store::{Entry, Store};
use crate::runtime::docker::{Engine, Tool, discover};
use crate::runtime::{Cache, Error, Kind, Limits, Runtime};
use crate::sys::process::effective_ids;
use crate::wire::record::Record;

/// The engines that may have something of some runs.
#[derive(Default)]
pub struct Found {
    /// Those that can be asked.
    pub runtimes: Vec<Box<dyn Runtime>>,
    /// Why others cannot.
    pub failures: Vec<Failure>,
}

/// How engines are reached.
#[derive(Debug, Clone)]
pub struct Engines {
    limits: Limits,
    tools: [String; 2],
    cache: Cache,
    paths: Paths,
    caller: (u32, u32),
}

impl Engines {
    /// With these limits, and tools by these names: docker's, podman's; none is the usual one. `remember` is false
    /// where nothing may be written.
    pub fn new(paths: &Paths, limits: Limits, tools: [Option<String>; 2], remember: bool) -> Self {
        let [docker, podman] = tools;
        let name = |tool: Tool, name: Option<String>| name.unwrap_or_else(|| tool.as_str().to_owned());
        Engines {
            limits,
            tools: [name(Tool::Docker, docker), name(Tool::Podman, podman)],
            cache: Cache(remember.then(|| paths.engines())),
            paths: paths.clone(),
            caller: effective_ids(),
        }
    }

    /// Learns where a tool is that cannot be found from here; whether that was news.
    pub fn learn(&mut self, name: &str, path: &str) -> bool {
        let Some(tool) = self.tools.iter_mut().find(|tool| *tool == name) else { return false };
        let is_news = process::find(name).is_none() && process::find(path).is_some();
        if is_news {
            path.clone_into(tool);
        }
        is_news
    }

    /// The limits of calls.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    fn name(&self, tool: Tool) -> &str {
        match tool {
            Tool::Docker => &self.tools[0],
            Tool::Podman => &self.tools[1],
        }
    }

    /// The runtime as this environment means it.
    pub fn today(&self, kind: Kind, deadline: Deadline) -> crate::runtime::Result<Box<dyn Runtime>> {
        let Some(tool) = Tool::of(kind) else { return self.native() };
        let name = self.name(tool).to_owned();
        let endpoint = discover(tool, &name, self.paths.home.as_ref(), deadline)?;
        Ok(self.at(tool, name, endpoint))
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
    pub fn of(&self, record: &Record) -> Result<Box<dyn Runtime>> {
        let unknown = |why: String| Failure::new(format!("asking the engine of run {}", record.id), why);
        let kind = Kind::parse(&record.runtime)
            .ok_or_else(|| unknown(format!("this version does not know the runtime {:?}", record.runtime)))?;
        let Some(tool) = Tool::of(kind) else {
            return self.native().map_err(|error| unknown(error.to_string()));
        };
        let engine = record.engine.clone().ok_or_else(|| unknown("its record names no engine".into()))?;
        let name = if engine.tool == tool.as_str() { self.name(tool).to_owned() } else { engine.tool };
        Ok(self.at(tool, name, engine.endpoint))
    }

    /// The engines that may have something of these runs: those that are reachable from here, and those that records
    /// name, each with why it could not be asked. One that is not there at all has nothing; one that does not answer
    /// may.
    pub fn of_runs(&self, store: &Store) -> Result<Found> {
        let limits = self.limits;
        let ask = |kind| {
            let runtime = self.today(kind, limits.query())?;
            runtime.version(limits.query())?;
            Ok(runtime)
        };
        let answers = thread::scope(|scope| {
            let threads = Kind::ENGINES.map(|kind| (kind, scope.spawn(move || ask(kind))));
            threads.map(|(kind, thread)| (kind, thread.join()))
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

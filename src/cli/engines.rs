//! Which runtimes there are for this user now, and which one a stored record means.

use super::config::Layer;
use crate::base::error::{Failure, Result};
use crate::base::paths::Paths;
use crate::base::time::Deadline;
use crate::run::store::Store;
use crate::runtime::docker::{Engine, Tool, discover};
use crate::runtime::{Cache, Kind, Limits, Runtime};
use crate::sys::process::effective_ids;
use crate::wire::record::Record;

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
    /// As the configuration says. `remember` is false where nothing may be written.
    pub fn new(store: &Store, config: &Layer, remember: bool) -> Self {
        let usual = Limits::default();
        let tool =
            |tool: Tool, configured: &Option<String>| configured.clone().unwrap_or_else(|| tool.as_str().to_owned());
        Engines {
            limits: Limits {
                query: config.query_timeout.unwrap_or(usual.query),
                change: config.change_timeout.unwrap_or(usual.change),
            },
            tools: [tool(Tool::Docker, &config.docker), tool(Tool::Podman, &config.podman)],
            cache: Cache(remember.then(|| store.paths.engines())),
            paths: store.paths.clone(),
            caller: effective_ids(),
        }
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
}

//! Which runtimes there are for this user now, and which one a stored record means.

use std::path::PathBuf;

use super::config::Layer;
use crate::base::error::{Failure, Result};
use crate::base::time::Deadline;
use crate::run::store::Store;
use crate::runtime::docker::{Engine, discover};
use crate::runtime::{Cache, Kind, Limits, Runtime};
use crate::wire::record::Record;

/// How engines are reached.
#[derive(Debug, Clone)]
pub struct Engines {
    limits: Limits,
    tools: [String; 2],
    cache: Cache,
    home: Option<PathBuf>,
    uid: u32,
}

impl Engines {
    /// As the configuration says. `remember` is false where nothing may be written.
    pub fn new(store: &Store, config: &Layer, remember: bool) -> Self {
        let usual = Limits::default();
        let tool =
            |kind: Kind, configured: &Option<String>| configured.clone().unwrap_or_else(|| kind.as_str().to_owned());
        Engines {
            limits: Limits {
                query: config.query_timeout.unwrap_or(usual.query),
                change: config.change_timeout.unwrap_or(usual.change),
            },
            tools: [tool(Kind::Docker, &config.docker), tool(Kind::Podman, &config.podman)],
            cache: Cache(remember.then(|| store.paths.engines())),
            home: store.paths.home.clone(),
            uid: store.uid,
        }
    }

    /// The limits of calls.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The name of a runtime's tool.
    pub fn tool(&self, kind: Kind) -> &str {
        match kind {
            Kind::Docker => &self.tools[0],
            Kind::Podman => &self.tools[1],
        }
    }

    /// The runtime as this environment means it.
    pub fn today(&self, kind: Kind, deadline: Deadline) -> crate::runtime::Result<Box<dyn Runtime>> {
        let tool = self.tool(kind).to_owned();
        let endpoint = discover(kind, &tool, self.home.as_ref(), deadline)?;
        Ok(self.at(kind, tool, endpoint))
    }

    fn at(&self, kind: Kind, tool: String, endpoint: String) -> Box<dyn Runtime> {
        Box::new(Engine::new(kind, tool, endpoint, self.limits, self.cache.clone(), self.uid))
    }

    /// The runtime of a run, at the engine it was started in. A tool that was recorded by its usual name is
    /// the one that has that role today.
    pub fn of(&self, record: &Record) -> Result<Box<dyn Runtime>> {
        let unknown = |why: String| Failure::new(format!("asking the engine of run {}", record.id), why);
        let kind = Kind::parse(&record.runtime)
            .ok_or_else(|| unknown(format!("this version does not know the runtime {:?}", record.runtime)))?;
        let engine = record.engine.clone().ok_or_else(|| unknown("its record names no engine".into()))?;
        let tool = if engine.tool == kind.as_str() { self.tool(kind).to_owned() } else { engine.tool };
        Ok(self.at(kind, tool, engine.endpoint))
    }
}

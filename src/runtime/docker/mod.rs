//! Docker and Podman, through their own command-line tools, so that contexts, rootless and remote engines work.
//!
//! | module | what it knows |
//! |---|---|
//! | `argv` | the tools' argument vectors, pure |
//! | `parse` | what the tools print, pure |
//! | `endpoint` | which engine a tool speaks to |
//! | `handshake` | a container with fosse's own PID 1, and the greeting that decides whether it serves |
//! | `attached` | a run carried by the engine's client |
//! | `executor` | the engine's own `exec` |

pub(super) mod argv;
mod attached;
mod endpoint;
mod executor;
mod handshake;
pub mod parse;

use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use crate::base::error::Ignore;
use crate::base::fs;
use crate::base::time::Deadline;
use crate::process::{self, Cancel, Child, Cmd, Io, Output, Stdio, no_cancel};
use crate::sys::signal::Signal;
use crate::wire::channel::Start;

use super::{
    About, Cache, Channel, Error, Exec, Facts, Kind, Limits, Made, Object, ObjectKind, Plan, Result, Runtime, Spec,
    Unfit, carry, pid1, workdir,
};
use crate::runtime::exec::Executed;
pub(crate) use endpoint::discover;
use handshake::Answer;

/// Between two tries of what another network's removal has disturbed.
const DISTURBED: Duration = Duration::from_millis(50);

/// Whose tool it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// The Docker engine's.
    Docker,
    /// Podman.
    Podman,
}

impl Tool {
    /// The runtime's tool, if it has one.
    pub(crate) fn of(kind: Kind) -> Option<Tool> {
        match kind {
            Kind::Docker => Some(Tool::Docker),
            Kind::Podman => Some(Tool::Podman),
            Kind::Native | Kind::Apple => None,
        }
    }

    /// The runtime that it provides.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Tool::Docker => Kind::Docker,
            Tool::Podman => Kind::Podman,
        }
    }

    /// Its usual name.
    pub(crate) fn as_str(self) -> &'static str {
        self.kind().as_str()
    }
}

/// One engine behind one tool.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    kind: Tool,
    tool: String,
    endpoint: String,
    limits: Limits,
    cache: Cache,
    euid: u32,
}

impl Engine {
    /// An engine at a known endpoint; `euid` is the caller.
    pub(crate) fn new(kind: Tool, tool: String, endpoint: String, limits: Limits, cache: Cache, euid: u32) -> Self {
        Engine { kind, tool, endpoint, limits, cache, euid }
    }

    /// The tool with arguments, bound to the endpoint by its environment: an option would be the first word of
    /// every call, and a context is no address.
    fn cmd<A: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Cmd {
        let mut cmd = Cmd::new(&self.tool).args(args);
        cmd.env.extend(endpoint::environment(self.kind, &self.endpoint));
        cmd
    }

    /// Runs a call and takes an exit code other than 0 as a refusal.
    fn ask(&self, cmd: &Cmd, deadline: Deadline, cancel: &Cancel) -> Result<Output> {
        let output = process::call(cmd, deadline, cancel)?;
        if output.exit.success() { Ok(output) } else { Err(self.refusal(cmd, &output)) }
    }

    fn refusal(&self, cmd: &Cmd, output: &Output) -> Error {
        let complaint = match output.complaint() {
            empty if empty.is_empty() => format!("it ended with {} and said nothing", output.exit),
            text => text,
        };
        parse::classify(cmd.title(), complaint)
    }

    fn text(output: &Output) -> String {
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// The id that a creating call prints: its last line (progress may precede it).
    fn created_id(&self, cmd: &Cmd, output: &Output) -> Result<String> {
        parse::id(&output.stdout).ok_or_else(|| self.no_id(cmd))
    }

    fn no_id(&self, cmd: &Cmd) -> Error {
        Error::Garbled { call: cmd.title(), why: "it printed no id".into() }
    }

    /// Ids that a listing call prints, one a line.
    fn ids(&self, args: &[&str], deadline: Deadline) -> Result<Vec<String>> {
        let output = self.ask(&self.cmd(args), deadline, &no_cancel())?;
        Ok(Self::text(&output).lines().map(str::trim).filter(|id| !id.is_empty()).map(str::to_owned).collect())
    }

    /// A call on several objects of which some may be gone: an error counts only if it is about something else.
    fn remove(&self, cmd: &Cmd, deadline: Deadline) -> Result<()> {
        let output = process::call(cmd, deadline, &no_cancel())?;
        if output.exit.success() || parse::only_missing(&output.stderr) {
            return Ok(());
        }
        Err(self.refusal(cmd, &output))
    }

    /// Makes the container for the engine's own client, which is to start its command and be attached to it.
    fn create_for_the_client(&self, spec: &Spec, deadline: Deadline, cancel: &Cancel) -> Result<Made> {
        let mut cmd = self.cmd(argv::create(self.kind, spec));
        let carried = carry::environment(&spec.env);
        cmd.env.extend(carried.by_process);
        fs::create_private(&spec.env_file, &carried.file).map_err(|error| Error::Garbled {
            call: cmd.title(),
            why: format!("its environment cannot be written to {}: {error}", spec.env_file.display()),
        })?;
        let output = self.ask(&cmd, deadline, cancel);
        // The tool has read it, or never will; a left-over one goes with the run's directory.
        fs::remove_file(&spec.env_file).ignore();
        let output = output?;
        if let Some(warning) = parse::discarded_limit(&output.stderr) {
            return Err(Error::Refused { call: cmd.title(), complaint: warning });
        }
        let id = self.created_id(&cmd, &output)?;
        if parse::is_id(&id) {
            Ok(Made { id: Some(id), init: None, read_only: Vec::new() })
        } else {
            Err(self.no_id(&cmd))
        }
    }
}

impl Runtime for Engine {
    fn kind(&self) -> Kind {
        self.kind.kind()
    }

    fn tool(&self) -> &str {
        &self.tool
    }

    fn endpoint(&self) -> &str {
        &self.endpoint
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn version(&self, deadline: Deadline) -> Result<String> {
        let cmd = self.cmd(argv::version(self.kind));
        let output = self.ask(&cmd, deadline, &no_cancel())?;
        match Self::text(&output) {
            version if version.is_empty() || version.contains(char::is_whitespace) => {
                Err(Error::Garbled { call: cmd.title(), why: "it printed no version".into() })
            }
            version => Ok(version),
        }
    }

    fn about(&self, deadline: Deadline) -> Result<About> {
        if self.kind == Tool::Podman && self.endpoint == endpoint::LOCAL {
            return Ok(About { rootless: self.euid != 0, remapped: false });
        }
        if let Some(about) = self.cache.get(&self.tool, &self.endpoint) {
            return Ok(about);
        }
        let cmd = self.cmd(argv::info(self.kind));
        let output = self.ask(&cmd, deadline, &no_cancel())?;
        let about = parse::about(self.kind, &output.stdout).map_err(|why| Error::Garbled { call: cmd.title(), why })?;
        self.cache.put(&self.tool, &self.endpoint, about);
        Ok(about)
    }

    fn check(&self, spec: &Spec) -> std::result::Result<(), Unfit> {
        argv::check(self.kind, spec)?;
        workdir::check(spec)
    }

    fn pull(&self, image: &str, show_progress: bool, cancel: &Cancel) -> Result<()> {
        let cmd = self.cmd(["pull", "--", image]);
        let stderr = if show_progress { Stdio::Inherit } else { Stdio::Pipe };
        let output = process::call_with(&cmd, stderr, Deadline::never(), cancel)?;
        if output.exit.success() { Ok(()) } else { Err(self.refusal(&cmd, &output)) }
    }

    fn create_network(&self, spec: &Spec, deadline: Deadline, cancel: &Cancel) -> Result<String> {
        let cmd = self.cmd(argv::create_network(spec));
        let output = loop {
            match self.ask(&cmd, deadline, cancel) {
                Err(Error::Refused { complaint, .. }) if parse::was_disturbed(&complaint) && !deadline.expired() => {
                    Deadline::after(DISTURBED).min(deadline).wait();
                }
                other => break other?,
            }
        };
        let id = self.created_id(&cmd, &output)?;
        // docker prints an id, podman the name that was asked for; anything else is noise.
        if parse::is_id(&id) || id == spec.object_name() { Ok(id) } else { Err(self.no_id(&cmd)) }
    }

    fn create(&self, spec: &Spec, deadline: Deadline, cancel: &Cancel) -> Result<Made> {
        let wanted = spec.own_init.as_ref();
        if let Some(own) = wanted.filter(|_| !self.cache.is_without_init(&self.tool, &self.endpoint, &spec.image)) {
            match self.create_with_init(spec, own, deadline, cancel)? {
                Answer::Greeted(made) => return Ok(made),
                Answer::Never => self.cache.put_without_init(&self.tool, &self.endpoint, &spec.image),
                Answer::NotNow => {}
            }
        }
        self.create_for_the_client(spec, deadline, cancel)
    }

    fn start(&self, spec: &Spec, made: Made) -> Result<Box<dyn Channel>> {
        let (Some(visitor), Some(own)) = (made.init, &spec.own_init) else {
            // By its id: a name may come to mean somebody else's.
            let container = made.id.unwrap_or_else(|| spec.object_name());
            return attached::Attached::start(Arc::new(self.clone()), spec, container);
        };
        let dir = argv::directory_by_init(spec);
        let targets = spec.mounts.iter().map(|mount| mount.target.as_os_str().as_bytes().to_vec());
        let shared = if dir.is_some() { targets.collect() } else { Vec::new() };
        let start = Start { shared, ..pid1::start_of(&spec.command, &spec.env, dir, spec.input) };
        let started = visitor.start(&start, &own.page, self.limits.change);
        let mut channel =
            started.map_err(|error| Error::Refused { call: "fosse's PID 1".into(), complaint: error.to_string() })?;
        channel.removes_itself = argv::removes_itself(spec);
        Ok(Box::new(channel))
    }

    fn check_exec(&self, exec: &Exec) -> std::result::Result<(), String> {
        argv::check_exec(self.kind, exec)
    }

    fn exec(&self, exec: &Exec) -> Result<Box<dyn Channel>> {
        Executed::start(Arc::new(self.clone()), exec)
    }

    fn image_user(&self, container: &str, deadline: Deadline) -> Result<String> {
        let image = Self::text(&self.ask(&self.cmd(argv::image_of(container)), deadline, &no_cancel())?);
        Ok(Self::text(&self.ask(&self.cmd(argv::user_of(&image)), deadline, &no_cancel())?))
    }

    fn stop_signal(&self, container: &str, deadline: Deadline) -> Result<Option<Signal>> {
        let said = Self::text(&self.ask(&self.cmd(argv::stop_signal_of(container)), deadline, &no_cancel())?);
        Ok(Signal::parse(&said))
    }

    fn signal(&self, container: &str, signal: Signal, deadline: Deadline) -> Result<()> {
        self.ask(&self.cmd(["kill", "--signal", &signal.name(), container]), deadline, &no_cancel()).map(drop)
    }

    fn inspect(&self, containers: &[String], deadline: Deadline, cancel: &Cancel) -> Result<Vec<Facts>> {
        if containers.is_empty() {
            return Ok(Vec::new());
        }
        let cmd = self.cmd(["container", "inspect"]).args(containers);
        let output = process::call(&cmd, deadline, cancel)?;
        if !output.exit.success() && !parse::only_missing(&output.stderr) {
            return Err(self.refusal(&cmd, &output));
        }
        let facts = parse::facts(&output.stdout).map_err(|why| Error::Garbled { call: cmd.title(), why })?;
        // Only a complaint says that one is missing: silence does not.
        if output.exit.success() && facts.len() < containers.len() {
            return Err(Error::Garbled { call: cmd.title(), why: "it says nothing of what it was asked for".into() });
        }
        Ok(facts)
    }

    fn containers(&self, instance: &str, deadline: Deadline) -> Result<Vec<Facts>> {
        let label = format!("label={}={instance}", super::LABEL_INSTANCE);
        let ids = self.ids(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &label], deadline)?;
        self.inspect(&ids, deadline, &no_cancel())
    }

    fn list(&self, instance: &str, deadline: Deadline) -> Result<Vec<Object>> {
        let label = format!("label={}={instance}", super::LABEL_INSTANCE);
        let facts = self.containers(instance, deadline)?;
        let mut objects: Vec<Object> = facts
            .into_iter()
            .map(|facts| Object { kind: ObjectKind::Container, id: facts.id, run: facts.run, created: facts.created })
            .collect();
        let networks = self.ids(&["network", "ls", "--quiet", "--no-trunc", "--filter", &label], deadline)?;
        if networks.is_empty() {
            return Ok(objects);
        }
        let cmd = self.cmd(["network", "inspect"]).args(networks);
        let output = process::call(&cmd, deadline, &no_cancel())?;
        if !output.exit.success() && !parse::only_missing(&output.stderr) {
            return Err(self.refusal(&cmd, &output));
        }
        let networks = parse::networks(&output.stdout).map_err(|why| Error::Garbled { call: cmd.title(), why })?;
        objects.extend(networks);
        Ok(objects)
    }

    fn output(&self, container: &str) -> Result<Option<Child>> {
        let io = Io { stdin: Stdio::Null, stdout: Stdio::Pipe, stderr: Stdio::Pipe };
        Ok(Some(Child::spawn(&self.cmd(["logs", container]), io)?))
    }

    fn remove_containers(&self, containers: &[String], deadline: Deadline) -> Result<()> {
        if containers.is_empty() {
            return Ok(());
        }
        self.remove(&self.cmd(argv::remove_containers(self.kind)).args(containers), deadline)
    }

    fn remove_networks(&self, networks: &[String], deadline: Deadline) -> Result<()> {
        if networks.is_empty() {
            return Ok(());
        }
        self.remove(&self.cmd(["network", "rm"]).args(networks), deadline)
    }

    fn trial(&self, instance: &str, deadline: Deadline) -> Result<Option<()>> {
        let images = self.ids(&["images", "--quiet"], deadline)?;
        let Some(image) = images.first() else {
            return Ok(None);
        };
        let cmd = self.cmd(argv::trial(instance, image));
        let output = process::call(&cmd, deadline, &no_cancel())?;
        // The program asked for does not exist in any image: that answer comes from inside a working container.
        if parse::is_not_found_inside(&output) { Ok(Some(())) } else { Err(self.refusal(&cmd, &output)) }
    }

    fn plan(&self, spec: &Spec) -> Result<Plan> {
        let network = (spec.network == super::Network::Private).then(|| self.cmd(argv::create_network(spec)));
        let calls = match &spec.own_init {
            Some(own) => vec![self.cmd(argv::run(self.kind, spec, own))],
            None => {
                let start = argv::start(self.kind, spec, &spec.object_name());
                vec![self.cmd(argv::create(self.kind, spec)), self.cmd(start)]
            }
        };
        Ok(Plan::Calls(network.into_iter().chain(calls).collect()))
    }
}

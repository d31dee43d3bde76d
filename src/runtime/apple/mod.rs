//! Apple's containers, through `container`: each is a virtual machine of its own, kept by a service of the user's.
//!
//! The tool has no `wait`, keeps no exit code, and may hang until it is killed, so nothing here relies on a single
//! answer of it. How a command ended is known to the client that is attached to it, and to fosse's own PID 1, which
//! leaves it in a directory that both sides see; where neither says it, it is unknown, and never 0. What a call did
//! that failed in the middle is found out by looking, before anything is tried again.
//!
//! | module | what it knows |
//! |---|---|
//! | `argv` | the tool's options, by version |
//! | `parse` | what it prints: six shapes of JSON |
//! | `words` | what its complaints mean, by the texts of all versions |
//! | `calls` | how many calls at once, one at a time for each container, each with an end |
//! | `attached`, `ending` | the channel of a run; what an end means, pure |
//! | `executor` | one more command |
//! | `remove` | removing, and being sure of it |

mod argv;
mod attached;
mod calls;
mod ending;
mod executor;
mod parse;
mod remove;
mod words;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::base::error::Ignore;
use crate::base::fs;
use crate::base::time::Deadline;
use crate::process::{Cancel, Child, Cmd, Output, no_cancel};
use crate::sys::signal::Signal;
use crate::wire::exit;

use super::exec::Executed;
use super::{
    About, Channel, Error, Exec, Facts, Kind, LABEL_INSTANCE, Limits, Made, MountedInit, Network, Object, Plan, Result,
    Runtime, Spec, Unfit, carry, workdir,
};
pub(crate) use argv::can_mount;
pub(crate) use calls::Locks;
use calls::{Calls, What};
use parse::Version;
use words::{Meaning, meaning};

/// Between two looks at something that is not there, or not as it was expected: one list without a container that
/// exists has been seen.
const SECOND_LOOK: Duration = Duration::from_millis(300);

/// The pause before something is asked for again, which doubles, and the longest.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The service behind one tool.
#[derive(Debug, Clone)]
pub(crate) struct Apple {
    tool: String,
    limits: Limits,
    calls: Calls,
    version: Arc<OnceLock<Version>>,
}

impl Apple {
    /// The service that the tool of this name speaks to.
    pub(crate) fn new(tool: String, limits: Limits, locks: Locks) -> Self {
        Apple { tool, limits, calls: Calls::new(locks), version: Arc::default() }
    }

    fn cmd<A: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Cmd {
        Cmd::new(&self.tool).args(args)
    }

    /// A change of a container or network.
    fn change(&self, object: &str, cmd: &Cmd, deadline: Deadline, cancel: &Cancel) -> Result<Output> {
        self.calls.call(What::Change(object), cmd, deadline, cancel)
    }

    fn refusal(cmd: &Cmd, output: &Output) -> Error {
        words::error(cmd.title(), output)
    }

    fn answer(cmd: &Cmd, output: Output) -> Result<Output> {
        if output.exit.success() { Ok(output) } else { Err(Self::refusal(cmd, &output)) }
    }

    fn garbled(cmd: &Cmd, why: impl Into<String>) -> Error {
        Error::Garbled { call: cmd.title(), why: why.into() }
    }

    /// The tool's version: what it takes and says depends on it. Asking does not involve the service.
    fn tool_version(&self, deadline: Deadline) -> Result<Version> {
        if let Some(version) = self.version.get() {
            return Ok(*version);
        }
        let cmd = self.cmd(["--version"]);
        let output = Self::answer(&cmd, crate::process::call(&cmd, deadline, &no_cancel())?)?;
        let version =
            parse::version(&output.stdout).ok_or_else(|| Self::garbled(&cmd, "it printed no version number"))?;
        Ok(*self.version.get_or_init(|| version))
    }

    /// All containers.
    fn all(&self, what: What<'_>, deadline: Deadline, cancel: &Cancel) -> Result<Vec<parse::Container>> {
        self.read(what, &self.cmd(argv::LIST), deadline, cancel, parse::containers)
    }

    /// Asks for something until the answer makes sense: one that does not is asked for once more, since the service
    /// writes it anew each time, and a service that fails in the middle is asked again until the deadline.
    fn read<T>(
        &self,
        what: What<'_>,
        cmd: &Cmd,
        deadline: Deadline,
        cancel: &Cancel,
        parse: impl Fn(&[u8]) -> std::result::Result<T, String>,
    ) -> Result<T> {
        let (mut pause, mut garbled) = (PAUSE, false);
        loop {
            let output = self.calls.call(what, cmd, deadline, cancel)?;
            let error = match Self::answer(cmd, output) {
                Ok(output) => match parse(&output.stdout) {
                    Ok(read) => return Ok(read),
                    Err(why) => Self::garbled(cmd, why),
                },
                Err(error) => error,
            };
            let again = match error {
                Error::Garbled { .. } => !std::mem::replace(&mut garbled, true),
                _ => words::is_passing(&error),
            };
            if !again || deadline.expired() {
                return Err(error);
            }
            Deadline::after(pause).min(deadline).wait();
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn networks(&self, what: What<'_>, deadline: Deadline) -> Result<Vec<parse::NetworkFacts>> {
        match self.read(what, &self.cmd(argv::LIST_NETWORKS), deadline, &no_cancel(), parse::networks) {
            // Before macOS 26 the tool has no networks.
            Err(Error::Refused { complaint, .. }) if meaning(&complaint) == Meaning::NoSuchVerb => Ok(Vec::new()),
            other => other,
        }
    }

    /// One container, if it is there. Whether it is gone is only said after two looks.
    fn one(&self, container: &str, deadline: Deadline) -> Result<Option<parse::Container>> {
        let look = |deadline| {
            Ok(self.all(What::Step, deadline, &no_cancel())?.into_iter().find(|known| known.id == container))
                as Result<_>
        };
        match look(deadline)? {
            None => {
                Deadline::after(SECOND_LOOK).wait();
                look(self.again(deadline))
            }
            found => Ok(found),
        }
    }

    /// The time for a second look, however long the turn for the first was waited for.
    fn again(&self, deadline: Deadline) -> Deadline {
        Deadline::after(deadline.limit().unwrap_or(self.limits.query))
    }

    fn has_image(&self, image: &str, deadline: Deadline, cancel: &Cancel) -> Result<bool> {
        let cmd = self.cmd(["image", "inspect", image]);
        let output = self.calls.call(What::Step, &cmd, deadline, cancel)?;
        if output.exit.success() {
            return Ok(parse::has_elements(&output.stdout));
        }
        match Self::refusal(&cmd, &output) {
            Error::NoImage => Ok(false),
            other => Err(other),
        }
    }

    /// Writes what a container's variables travel in, and makes the container.
    fn make(&self, spec: &Spec, deadline: Deadline, cancel: &Cancel) -> Result<Output> {
        let version = self.tool_version(self.limits.query())?;
        let empty = self.calls.empty();
        let mut cmd = self.cmd(argv::create(version, spec, &empty));
        let carried = carry::environment_beside(&spec.env);
        cmd.env.extend(carried.by_process);
        let unwritten = |path: &Path, error: std::io::Error| {
            Self::garbled(&cmd, format!("{} cannot be written: {error}", path.display()))
        };
        std::fs::create_dir_all(&empty).map_err(|error| unwritten(&empty, error))?;
        fs::create_private(&spec.env_file, &carried.file).map_err(|error| unwritten(&spec.env_file, error))?;
        if let Some(own) = &spec.mounted_init {
            prepare_exit(own).map_err(|error| unwritten(&own.directory, error))?;
        }
        let output = self.change(&spec.object_name(), &cmd, deadline, cancel);
        fs::remove_file(&spec.env_file).ignore();
        output.and_then(|output| Self::answer(&cmd, output))
    }

    /// Whether the container is this run's, and nobody has started it.
    fn is_made(&self, spec: &Spec, deadline: Deadline) -> Result<bool> {
        let found = self.one(&spec.object_name(), deadline)?;
        Ok(found.is_some_and(|found| {
            found.label(super::LABEL_RUN) == Some(spec.id.as_str())
                && found.label(LABEL_INSTANCE) == Some(&spec.instance)
        }))
    }
}

/// The directory into which init leaves the exit, with the key that proves it. Whoever the command is must not be
/// in the way of init, which runs as the same user; who can reach the directory is decided by those above it.
fn prepare_exit(own: &MountedInit) -> std::io::Result<()> {
    fs::remove_dir(&own.directory)?;
    std::fs::create_dir(&own.directory)?;
    std::fs::set_permissions(&own.directory, std::fs::Permissions::from_mode(0o777))?;
    let key = own.directory.join(format!("{}{}", exit::NAME, exit::KEY_SUFFIX));
    std::fs::write(&key, &own.key)?;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644))?;
    fs::create_private(&own.key_file, own.key.as_bytes())
}

impl Runtime for Apple {
    fn kind(&self) -> Kind {
        Kind::Apple
    }

    fn tool(&self) -> &str {
        &self.tool
    }

    fn endpoint(&self) -> &str {
        // A service of the user's session, which has no address.
        "local"
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn version(&self, deadline: Deadline) -> Result<String> {
        let version = self.tool_version(deadline)?;
        let cmd = self.cmd(argv::status(version));
        let output = self.calls.call(What::Question, &cmd, deadline, &no_cancel())?;
        if !parse::is_up(&output.stdout, output.exit.success()) {
            return Err(words::down(&cmd, &output));
        }
        Ok(version.to_string())
    }

    fn about(&self, _deadline: Deadline) -> Result<About> {
        // Whoever the command is in its virtual machine, its files are the caller's outside.
        Ok(About::default())
    }

    fn check(&self, spec: &Spec) -> std::result::Result<(), Unfit> {
        argv::check(spec)?;
        workdir::check(spec)
    }

    fn pull(&self, image: &str, show_progress: bool, cancel: &Cancel) -> Result<()> {
        let version = self.tool_version(self.limits.query())?;
        let cmd = self.cmd(argv::pull(version, image, show_progress));
        let output = self.calls.fetch(&cmd, show_progress, cancel)?;
        Self::answer(&cmd, output).map(drop)
    }

    fn create_network(&self, spec: &Spec, deadline: Deadline, cancel: &Cancel) -> Result<String> {
        let name = spec.object_name();
        let cmd = self.cmd(argv::create_network(spec));
        let made = self.change(&name, &cmd, deadline, cancel).and_then(|output| Self::answer(&cmd, output));
        match made {
            Ok(_) => Ok(name),
            Err(Error::Refused { complaint, .. }) if meaning(&complaint) == Meaning::NoSuchVerb => {
                Err(Error::Forbidden {
                    why: "Apple's containers have networks of their own from macOS 26 on".into(),
                    hint: "--network open or none".into(),
                })
            }
            Err(error) if words::is_unanswered(&error) => {
                // It may be there all the same.
                let ours = |found: &parse::NetworkFacts| {
                    found.id == name && found.labels.get(LABEL_INSTANCE) == Some(&spec.instance)
                };
                let found = self.networks(What::Step, self.limits.query());
                if found.is_ok_and(|networks| networks.iter().any(ours)) { Ok(name) } else { Err(error) }
            }
            Err(error) => Err(error),
        }
    }

    fn create(&self, spec: &Spec, deadline: Deadline, cancel: &Cancel) -> Result<Made> {
        // The tool would fetch a missing image within this call, which has a deadline and shows no progress.
        if !self.has_image(&spec.image, self.limits.query(), cancel)? {
            return Err(Error::NoImage);
        }
        let made = || Made { id: Some(spec.object_name()), init: None, read_only: Vec::new() };
        let mut pause = PAUSE;
        loop {
            let error = match self.make(spec, deadline, cancel) {
                Ok(_) => return Ok(made()),
                Err(error) => error,
            };
            if !words::is_unanswered(&error) && !words::is_passing(&error) {
                return Err(error);
            }
            if self.is_made(spec, self.limits.query())? {
                return Ok(made());
            }
            // Not there: nothing came of it, and it may be asked for again, if the service has said that it failed.
            if !words::is_passing(&error) || deadline.expired() {
                return Err(error);
            }
            Deadline::after(pause).min(deadline).wait();
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn start(&self, spec: &Spec, made: Made) -> Result<Box<dyn Channel>> {
        let container = made.id.unwrap_or_else(|| spec.object_name());
        attached::Attached::start(Arc::new(self.clone()), spec, container)
    }

    fn check_exec(&self, exec: &Exec) -> std::result::Result<(), String> {
        argv::check_exec(exec)
    }

    fn exec(&self, exec: &Exec) -> Result<Box<dyn Channel>> {
        Executed::start(Arc::new(self.clone()), exec)
    }

    fn image_user(&self, container: &str, deadline: Deadline) -> Result<String> {
        Ok(self.one(container, deadline)?.map(|found| found.user).unwrap_or_default())
    }

    fn stop_signal(&self, container: &str, deadline: Deadline) -> Result<Option<Signal>> {
        Ok(self.one(container, deadline)?.and_then(|found| found.stop_signal))
    }

    fn signal(&self, container: &str, signal: Signal, deadline: Deadline) -> Result<()> {
        let cmd = self.cmd(argv::kill(container, signal));
        let output = self.change(container, &cmd, deadline, &no_cancel())?;
        Self::answer(&cmd, output).map(drop)
    }

    fn inspect(&self, containers: &[String], deadline: Deadline, cancel: &Cancel) -> Result<Vec<Facts>> {
        if containers.is_empty() {
            return Ok(Vec::new());
        }
        // `inspect` lists everything as well, and fails if one is missing.
        let look = |deadline| -> Result<Vec<Facts>> {
            let all = self.all(What::Step, deadline, cancel)?.into_iter();
            Ok(all.filter(|found| containers.contains(&found.id)).map(parse::Container::facts).collect())
        };
        let found = look(deadline)?;
        if found.len() == containers.len() {
            return Ok(found);
        }
        Deadline::after(SECOND_LOOK).wait();
        look(self.again(deadline))
    }

    fn containers(&self, instance: &str, deadline: Deadline) -> Result<Vec<Facts>> {
        let ours = |found: &parse::Container| found.label(LABEL_INSTANCE) == Some(instance);
        Ok(self
            .all(What::Question, deadline, &no_cancel())?
            .into_iter()
            .filter(ours)
            .map(parse::Container::facts)
            .collect())
    }

    fn list(&self, instance: &str, deadline: Deadline) -> Result<Vec<Object>> {
        let ours = |found: &parse::Container| found.label(LABEL_INSTANCE) == Some(instance);
        let containers =
            self.all(What::Question, deadline, &no_cancel())?.into_iter().filter(ours).map(parse::Container::object);
        let networks = self.networks(What::Question, deadline)?.into_iter();
        let networks = networks.filter(|found| found.labels.get(LABEL_INSTANCE).map(String::as_str) == Some(instance));
        Ok(containers.chain(networks.map(parse::NetworkFacts::object)).collect())
    }

    fn output(&self, _container: &str) -> Result<Option<Child>> {
        // One log for both streams, without line ends at its edges, which stops growing when the client is killed.
        Ok(None)
    }

    fn remove_containers(&self, containers: &[String], deadline: Deadline) -> Result<()> {
        containers.iter().try_for_each(|container| remove::container(self, container, deadline))
    }

    fn remove_networks(&self, networks: &[String], deadline: Deadline) -> Result<()> {
        networks.iter().try_for_each(|network| remove::network(self, network, deadline))
    }

    fn trial(&self, instance: &str, deadline: Deadline) -> Result<Option<()>> {
        let images = self.read(What::Question, &self.cmd(argv::LIST_IMAGES), deadline, &no_cancel(), parse::images)?;
        let Some(image) = images.first() else { return Ok(None) };
        let version = self.tool_version(deadline)?;
        let name = format!("fosse-trial-{}", crate::base::id::random_hex(4).unwrap_or_default());
        let cmd = self.cmd(argv::trial(version, &name, instance, image));
        let tried = self.change(&name, &cmd, deadline, &no_cancel());
        // A call that failed in the middle may have left it.
        let removed = remove::container(self, &name, self.limits.change());
        let output = tried?;
        if words::is_not_found_inside(&output) { removed.map(|()| Some(())) } else { Err(Self::refusal(&cmd, &output)) }
    }

    fn plan(&self, spec: &Spec) -> Result<Plan> {
        let version = self.tool_version(self.limits.query())?;
        let network = (spec.network == Network::Private).then(|| self.cmd(argv::create_network(spec)));
        let calls = [
            self.cmd(["image", "inspect", &spec.image]),
            self.cmd(argv::create(version, spec, &self.calls.empty())),
            self.cmd(argv::start(spec, &spec.object_name())),
        ];
        Ok(Plan::Calls(network.into_iter().chain(calls).collect()))
    }
}

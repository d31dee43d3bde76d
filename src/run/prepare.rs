//! Acquiring what a run needs, step by step, with an undo stack that is armed before each thing can exist.

use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::error::{Failure, Ignore, Result};
use crate::base::fs::remove_file;
use crate::base::paths::RunPaths;
use crate::base::time::Deadline;
use crate::process::Cancel;
use crate::run::failpoint;
use crate::run::objects::Objects;
use crate::runtime::{Channel, Error, Kind, Made, Network, ObjectKind, Runtime, Spec, refusal};
use crate::sys::fd;

/// The most descriptors that following a command takes.
const DESCRIPTORS: usize = 18;

/// Something that must be taken away again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resource {
    /// The run's own network.
    Network,
    /// The container.
    Container,
}

/// What a run has acquired, or may have. Undone from the top: the container before the network it is in.
#[derive(Debug, Default)]
pub(crate) struct Undo {
    stack: Vec<Resource>,
    /// Whether the engine may have something afterwards: a call ended without an answer, or things are kept.
    uncertain: bool,
}

impl Undo {
    /// Everything that a run in that record may have.
    pub(crate) fn everything() -> Undo {
        Undo { stack: vec![Resource::Network, Resource::Container], uncertain: false }
    }

    /// Before the resource can exist.
    fn arm(&mut self, resource: Resource, paths: &RunPaths) -> Result<()> {
        if self.stack.is_empty() {
            // Whoever finds this run later knows that an engine must be asked.
            crate::base::fs::create_private(&paths.engine_marker(), b"")
                .map_err(|error| Failure::new("preparing the run", error))?;
        }
        self.stack.push(resource);
        Ok(())
    }

    /// Takes everything away, once. All is tried; the failures come back.
    pub(crate) fn run(&mut self, runtime: &dyn Runtime, objects: &Objects, paths: &RunPaths) -> Vec<Failure> {
        let mut failures = Vec::new();
        let name = objects.name();
        while let Some(resource) = self.stack.pop() {
            let deadline = runtime.limits().change();
            let (what, removed) = match resource {
                Resource::Container => {
                    let found = objects.find(runtime, ObjectKind::Container);
                    ("container", found.and_then(|ids| runtime.remove_containers(&ids, deadline)))
                }
                Resource::Network => {
                    let found = objects.find(runtime, ObjectKind::Network);
                    ("network", found.and_then(|ids| runtime.remove_networks(&ids, deadline)))
                }
            };
            if let Err(error) = removed {
                let hint = "fosse clean removes it when the engine answers again";
                failures.push(Failure::new(format!("removing the {what} {name}"), error).hint(hint));
            }
        }
        if failures.is_empty() && !self.uncertain {
            remove_file(&paths.engine_marker()).ignore();
        }
        failures
    }

    /// The engine takes the container away by itself.
    pub(crate) fn leave_container(&mut self) {
        self.stack.retain(|resource| *resource != Resource::Container);
    }

    /// What was acquired is to stay, and whoever destroys the run finds that there is something.
    pub(crate) fn keep(&mut self) {
        self.stack.clear();
        self.uncertain = true;
    }
}

/// What goes on beside the monitor while the place is made.
pub(crate) struct Preparation {
    /// The runtime that makes it.
    pub(crate) runtime: Arc<dyn Runtime>,
    /// What to make.
    pub(crate) spec: Arc<Spec>,
    /// The run's files.
    pub(crate) paths: RunPaths,
    /// Where the id is told before the command starts.
    pub(crate) id_file: Option<PathBuf>,
    /// Whether a pull may draw on the terminal.
    pub(crate) show_progress: bool,
    /// Set when the run is to end before it starts: no further step is taken.
    pub(crate) abort: Arc<AtomicBool>,
    /// Disconnected when not even the present step is to be waited for.
    pub(crate) cancel: Cancel,
    /// Disconnected when the run is to end before it starts: a pull leaves nothing behind, and is not waited for.
    pub(crate) cancel_pull: Cancel,
}

/// How far the preparation came.
pub(crate) struct Prepared {
    /// What is to be undone.
    pub(crate) undo: Undo,
    /// The engine's ids of network and container.
    pub(crate) ids: Ids,
    /// A started command, or why there is none.
    pub(crate) outcome: std::result::Result<Box<dyn Channel>, Stopped>,
}

/// The engine's ids.
#[derive(Debug, Default, Clone)]
pub(crate) struct Ids {
    /// Of the run's own network.
    pub(crate) network: Option<String>,
    /// Of the container.
    pub(crate) container: Option<String>,
    /// Whether fosse's own init runs in it, and the engine will see no output.
    pub(crate) has_init: bool,
    /// What of the host can only be read in it.
    pub(crate) read_only: Vec<PathBuf>,
}

/// Why a preparation did not end in a started command.
pub(crate) enum Stopped {
    /// It was asked to stop.
    Aborted,
    /// The image is neither there nor to be had: nothing was made.
    NoImage(Failure),
    /// A step failed.
    Failed(Failure),
}

impl Preparation {
    /// Runs all steps. `made` hears the engine's ids before the command starts.
    pub(crate) fn run(self, mut made: impl FnMut(&Ids)) -> Prepared {
        let mut prepared = Prepared { undo: Undo::default(), ids: Ids::default(), outcome: Err(Stopped::Aborted) };
        prepared.outcome = self.steps(&mut prepared.undo, &mut prepared.ids, &mut made);
        prepared
    }

    fn steps(
        &self,
        undo: &mut Undo,
        ids: &mut Ids,
        made: &mut impl FnMut(&Ids),
    ) -> std::result::Result<Box<dyn Channel>, Stopped> {
        let step = |result: Result<()>| result.map_err(Stopped::Failed).and_then(|()| self.go_on());
        if self.spec.network == Network::Private {
            step(undo.arm(Resource::Network, &self.paths))?;
            failpoint::pass("network-armed");
            ids.network = Some(self.network(undo)?);
            failpoint::pass("network-made");
            self.go_on()?;
        }
        step(undo.arm(Resource::Container, &self.paths))?;
        failpoint::pass("container-armed");
        let container = self.container(undo)?;
        ids.container.clone_from(&container.id);
        ids.has_init = container.init.is_some();
        ids.read_only.clone_from(&container.read_only);
        made(ids);
        failpoint::pass("container-made");
        step(self.tell_id())?;
        failpoint::pass("id-told");
        // What a started command needs must not be missing when it runs.
        step(fd::has_room_for(DESCRIPTORS).map_err(|error| Failure::new("preparing to start the command", error)))?;
        let channel = self.runtime.start(&self.spec, container);
        let channel = channel.map_err(|error| Stopped::Failed(Failure::new("starting the command", error)))?;
        failpoint::pass("start-asked");
        Ok(channel)
    }

    fn go_on(&self) -> std::result::Result<(), Stopped> {
        if self.abort.load(Ordering::SeqCst) { Err(Stopped::Aborted) } else { Ok(()) }
    }

    fn deadline(&self) -> Deadline {
        self.runtime.limits().change()
    }

    fn network(&self, undo: &mut Undo) -> std::result::Result<String, Stopped> {
        self.runtime.create_network(&self.spec, self.deadline(), &self.cancel).map_err(|error| {
            let hint = match &error {
                Error::NoAddresses { .. } => {
                    "every address range of the engine is taken: fosse clean networks, or docker network prune; or run without --network private"
                }
                _ => "the engine's own log may say more",
            };
            undo.uncertain |= unanswered(&error);
            self.stopped("creating the network", &error, hint)
        })
    }

    /// Makes the container; an image that is missing is fetched by a call of its own, and then it is tried again.
    fn container(&self, undo: &mut Undo) -> std::result::Result<Made, Stopped> {
        let mut create = || {
            self.runtime.create(&self.spec, self.deadline(), &self.cancel).inspect_err(|error| {
                undo.uncertain |= unanswered(error);
            })
        };
        let error = match create() {
            Ok(made) => return Ok(made),
            Err(Error::NoImage) => {
                crate::base::log::progress(&format!("pulling {}", self.spec.image));
                match self.runtime.pull(&self.spec.image, self.show_progress, &self.cancel_pull) {
                    Ok(()) => {
                        self.go_on()?;
                        match create() {
                            Ok(made) => return Ok(made),
                            Err(error) => error,
                        }
                    }
                    Err(_) if self.abort.load(Ordering::SeqCst) => return Err(Stopped::Aborted),
                    Err(error) => {
                        let why = match error {
                            Error::NoImage => format!("there is no image {}", self.spec.image),
                            other => other.to_string(),
                        };
                        let verb = if self.runtime.kind() == Kind::Apple { "image pull" } else { "pull" };
                        let (tool, image) = (self.runtime.tool(), &self.spec.image);
                        let hint = format!("check the name, or fetch it yourself: {tool} {verb} {image}");
                        let what = format!("fetching the image {}", self.spec.image);
                        return Err(Stopped::NoImage(Failure::new(what, why).hint(hint)));
                    }
                }
            }
            Err(error) => error,
        };
        if let Error::Forbidden { hint, .. } = &error {
            return Err(self.stopped("making the sandbox", &error, hint));
        }
        let hint = match &error {
            Error::Unreachable { .. } if self.runtime.kind() == Kind::Apple => {
                "its service must be running: container system start"
            }
            Error::Refused { complaint, .. } => refusal::advice(complaint),
            _ => "fosse doctor tells whether the engine works",
        };
        Err(self.stopped("creating the container", &error, hint))
    }

    fn stopped(&self, what: &str, error: &Error, hint: &str) -> Stopped {
        if self.abort.load(Ordering::SeqCst) {
            return Stopped::Aborted;
        }
        Stopped::Failed(Failure::new(what, error).hint(hint))
    }

    fn tell_id(&self) -> Result<()> {
        use std::io::Write;
        let Some(path) = &self.id_file else {
            return Ok(());
        };
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o644);
        let written = options.open(path).and_then(|mut file| writeln!(file, "{}", self.spec.id));
        written.map_err(|error| Failure::new(format!("writing the id to {}", path.display()), error))
    }
}

/// Whether the engine may still do what it was asked for.
fn unanswered(error: &Error) -> bool {
    match error {
        Error::Call(error) => !error.is_missing(),
        Error::Unreachable { .. } | Error::Garbled { .. } => true,
        Error::Refused { .. } | Error::NoImage | Error::NoAddresses { .. } | Error::Forbidden { .. } => false,
    }
}

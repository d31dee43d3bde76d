//! The built-in sandbox: Linux namespaces, the host's own programs, no engine, no image, no root.
//!
//! | module | what it knows |
//! |---|---|
//! | `fits` | what of a run this runtime can do at all |
//! | `host` | what there is on the host: looked up, nothing changed |
//! | `plan` | the steps to a place, as a value: a pure function of the run and the host |
//! | `apply`, `open`, `root` | doing the steps, in a process of their own |
//! | `report` | what that process is told and says |
//! | `place` | a place as its owner sees it |
//! | `cgroup` | limits |
//! | `probe` | each piece of a sandbox, tried by making it |
//! | `veil` | the host's directories shown as nobody's, for root |
//! | `squash` | file systems on which root is nobody |
//! | `advice` | what to do when the kernel refuses a step |
//!
//! What happens inside comes and goes through fosse's own PID 1, as everywhere (`pid1`); the connection to it is a
//! socket pair, so no file of it is anywhere. If a step fails, nothing has run.

pub(crate) mod advice;
pub(crate) mod apply;
pub(crate) mod cgroup;
mod fits;
pub(crate) mod host;
mod open;
mod place;
pub(crate) mod plan;
pub(crate) mod probe;
mod report;
mod root;
pub(crate) mod squash;
mod veil;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, select};

use crate::base::env;
use crate::base::error::Ignore;
use crate::base::error::one_line;
use crate::base::id::RunId;
use crate::base::paths::Paths;
use crate::base::time::Deadline;
use crate::process::{Cancel, Child, no_cancel};
use crate::runtime::spec::Spec;
use crate::runtime::{
    About, Channel, Error, Exec, Facts, Kind, Limits, Made, Object, Plan, Result, Runtime, Unfit, pid1,
};
use crate::sys::signal::Signal;
use advice::{Machine, explain};
use cgroup::Group;
use host::Host;
pub(crate) use place::BUILDER;
use place::{Builder, Lacks, Place};
use plan::{Step, Wanted};

/// Why the host is not known.
fn silent() -> io::Error {
    let names: Vec<String> =
        host::silent::silent_mounts().iter().map(|path| path.to_string_lossy().into_owned()).collect();
    let why = match &names[..] {
        [] => "a directory does not answer".into(),
        names => format!("no answer comes from {}", one_line(&names.join(" "))),
    };
    io::Error::new(io::ErrorKind::TimedOut, why)
}

/// How long after a KILL from outside.
const KILL_LIMIT: Duration = Duration::from_secs(2);

/// The built-in sandbox, for one caller.
pub(crate) struct Native {
    limits: Limits,
    paths: Paths,
    caller: (u32, u32),
    /// The host is looked at while the run is being recorded.
    looking: Mutex<Option<Receiver<io::Result<Host>>>>,
    builder: Mutex<Option<Builder>>,
    place: Mutex<Option<Place>>,
}

impl Native {
    /// For a caller (user and group) with these places.
    pub(crate) fn new(limits: Limits, paths: Paths, caller: (u32, u32)) -> Native {
        Native { limits, paths, caller, looking: Mutex::new(None), builder: Mutex::new(None), place: Mutex::new(None) }
    }

    fn question(&self, search: bool) -> host::Question {
        host::Question {
            search,
            homes: self.paths.homes.clone(),
            own: self.paths.own_directories(),
            sockets: named_sockets(),
        }
    }

    /// Begins to look at the host. If no thread can be had, it is looked at when it must be known.
    fn begin_to_look(&self) {
        // If no thread can be had, that is said when it must be known.
        if let (Ok(begun), Ok(mut looking)) = (self.look(false), self.looking.lock()) {
            *looking = Some(begun);
        }
    }

    /// Looks at the host in a thread: a directory whose server is gone answers to nobody, and never.
    fn look(&self, search: bool) -> io::Result<Receiver<io::Result<Host>>> {
        let question = self.question(search);
        let (tell, told) = bounded(1);
        let looker = thread::Builder::new().name("host".into()).stack_size(256 << 10);
        looker.spawn(move || tell.send(host::look(&question)).ignore())?;
        Ok(told)
    }

    fn host(&self, search: bool, deadline: Deadline, cancel: &Cancel) -> io::Result<Host> {
        let begun = self.looking.lock().map_err(|_| io::ErrorKind::Other)?.take();
        let looking = match begun.filter(|_| !search) {
            Some(looking) => looking,
            None => self.look(search)?,
        };
        select! {
            recv(looking) -> host => host.unwrap_or(Err(io::ErrorKind::Other.into())),
            recv(deadline.channel()) -> _ => Err(silent()),
            recv(cancel) -> _ => Err(io::ErrorKind::Interrupted.into()),
        }
    }

    /// Whether the command is the host's root or in its group, who may read what others may not.
    fn is_root(&self, spec: &Spec) -> bool {
        let (uid, gid) = spec.user.ids_or(self.caller);
        self.caller.0 == 0 && (uid == 0 || gid == 0)
    }

    /// All steps for a run. For root with a `veil` over the host, or with a search for what is to be hidden.
    fn steps(&self, spec: &Spec, veil: bool, deadline: Deadline, cancel: &Cancel) -> Result<Vec<Step>> {
        let host = self.host(self.is_root(spec) && !veil, deadline, cancel).map_err(|error| Error::Forbidden {
            why: format!("the host's directories cannot be looked at: {error}"),
            hint: "is its server gone? umount -l takes such a mount away; findmnt shows what is mounted".into(),
        })?;
        let (groups, processes) =
            self.limiting(spec).map_err(|unfit| Error::Forbidden { why: unfit.why, hint: unfit.hint })?;
        let wanted = Wanted {
            groups,
            processes,
            caller: self.caller,
            allow_namespaces: spec.allow_userns,
            veil: veil && self.is_root(spec),
        };
        Ok(plan::plan(&with_real_targets(spec), &host, &wanted))
    }

    /// Control groups, or the limit on processes that is to be had without one.
    fn limiting(&self, spec: &Spec) -> std::result::Result<(Vec<Group>, Option<u64>), Unfit> {
        let limits = cgroup::Limits { memory: spec.memory, cpus_milli: spec.cpus_milli, pids: spec.pids };
        if limits == cgroup::Limits::default() {
            return Ok((Vec::new(), None));
        }
        let refused = |missing: cgroup::Missing| {
            let what = missing.what.join(" and ");
            Unfit { why: format!("{what} cannot be limited: {}", missing.why), hint: missing.hint }
        };
        match cgroup::plan(&limits, &spec.object_name()) {
            Ok(groups) => Ok((groups, None)),
            // The kernel counts processes by user namespace, too; those of the host's root it does not limit.
            Err(missing) if missing.what == ["pids"] && self.caller.0 != 0 => {
                let others = cgroup::Limits { pids: None, ..limits };
                let groups = if others == cgroup::Limits::default() {
                    Ok(Vec::new())
                } else {
                    cgroup::plan(&others, &spec.object_name())
                };
                Ok((groups.map_err(refused)?, spec.pids))
            }
            Err(missing) => Err(refused(missing)),
        }
    }

    fn refused(what: &str) -> Error {
        Error::Refused { call: "the native runtime".into(), complaint: what.into() }
    }
}

impl Runtime for Native {
    fn kind(&self) -> Kind {
        Kind::Native
    }

    fn tool(&self) -> &str {
        ""
    }

    fn endpoint(&self) -> &str {
        ""
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    /// The kernel's, if it lets the caller make namespaces.
    fn version(&self, deadline: Deadline) -> Result<String> {
        probe::try_out(&probe::basic(self.caller), deadline)?;
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Ok(format!("Linux {}", release.trim()))
    }

    fn about(&self, _deadline: Deadline) -> Result<About> {
        Ok(About::default())
    }

    fn check(&self, spec: &Spec) -> std::result::Result<(), Unfit> {
        fits::check(spec, self.caller)?;
        self.limiting(spec).map(drop)
    }

    fn begin(&self) {
        self.begin_to_look();
        // If it cannot be started now, that is said when it must be.
        if let (Ok(builder), Ok(mut held)) = (Builder::start(), self.builder.lock()) {
            *held = Some(builder);
        }
    }

    fn pull(&self, _image: &str, _show_progress: bool, _cancel: &Cancel) -> Result<()> {
        Err(Native::refused("it has no images"))
    }

    fn create_network(&self, _spec: &Spec, _deadline: Deadline, _cancel: &Cancel) -> Result<String> {
        Err(Native::refused("it has no private network"))
    }

    fn create(&self, spec: &Spec, deadline: Deadline, cancel: &Cancel) -> Result<Made> {
        let made = match self.make(spec, true, deadline, cancel)? {
            // A file system that cannot show its files as nobody's, a container, an old kernel.
            Err(place::Error::Step(Some(Step::MountNamespace | Step::Veil { .. }), ..)) => {
                self.make(spec, false, deadline, cancel)?
            }
            made => made,
        };
        let mut place = made.map_err(|error| match error {
            place::Error::Lost(_) if spec.memory.is_some() => Error::Forbidden {
                why: "the process that makes the sandbox was killed or could not go on".into(),
                hint: "is --memory enough? fosse's own init alone needs some 4 MB".into(),
            },
            error => explain(error, Machine::look()),
        })?;
        self.say_once(&place.about);
        let (init, read_only) = (place.visitor.take(), std::mem::take(&mut place.about.read_only));
        let mut held = self.place.lock().map_err(|_| Native::refused("an internal error"))?;
        *held = Some(place);
        Ok(Made { id: None, init, read_only })
    }

    fn start(&self, spec: &Spec, made: Made) -> Result<Box<dyn Channel>> {
        let (Some(visitor), Some(own)) = (made.init, &spec.own_init) else {
            return Err(Native::refused("an internal error"));
        };
        let start = pid1::start_of(&spec.command, &spec.env, None, spec.input);
        let started = visitor.start(&start, &own.page, self.limits.change);
        Ok(Box::new(started.map_err(|error| Native::refused(&error.to_string()))?))
    }

    fn check_exec(&self, exec: &Exec) -> std::result::Result<(), String> {
        match &exec.user {
            Some(user) => Err(format!("the native runtime has no other user than the run's: --user {user}")),
            None => Ok(()),
        }
    }

    fn exec(&self, _exec: &Exec) -> Result<Box<dyn Channel>> {
        Err(Error::Forbidden {
            why: "the owner of the run does not answer, and there is no other way in".into(),
            hint: "fosse stop ends a run whose owner is frozen".into(),
        })
    }

    fn image_user(&self, _container: &str, _deadline: Deadline) -> Result<String> {
        Err(Native::refused("it has no images"))
    }

    fn signal(&self, _container: &str, signal: Signal, _deadline: Deadline) -> Result<()> {
        let held = self.place.lock().map_err(|_| Native::refused("an internal error"))?;
        let sent = held.as_ref().map_or(Ok(()), |place| place.signal(signal));
        sent.map_err(|error| Native::refused(&error.to_string()))
    }

    /// A sandbox does not outlive its owner: who asks from outside finds none.
    fn inspect(&self, _containers: &[String], _deadline: Deadline, _cancel: &Cancel) -> Result<Vec<Facts>> {
        Ok(Vec::new())
    }

    fn containers(&self, _instance: &str, _deadline: Deadline) -> Result<Vec<Facts>> {
        Ok(Vec::new())
    }

    fn may_come_late(&self) -> bool {
        false
    }

    fn list(&self, _instance: &str, _deadline: Deadline) -> Result<Vec<Object>> {
        Ok(Vec::new())
    }

    fn output(&self, _container: &str) -> Result<Option<Child>> {
        Err(Native::refused("it keeps no output"))
    }

    fn remove_containers(&self, containers: &[String], deadline: Deadline) -> Result<()> {
        let place = self.place.lock().map_err(|_| Native::refused("an internal error"))?.take();
        if let Some(place) = place {
            if !place.is_gone_within(Deadline::after(pid1::PLACE_LIMIT).min(deadline)) {
                // One that has ended meanwhile takes none.
                place.signal(Signal::KILL).ignore();
                if !place.is_gone_within(Deadline::after(KILL_LIMIT)) {
                    return Err(Native::refused("the sandbox does not end: something in it hangs in the kernel"));
                }
            }
        }
        containers.iter().try_for_each(|name| self.remove_groups(name, deadline))
    }

    fn remove_networks(&self, _networks: &[String], _deadline: Deadline) -> Result<()> {
        Ok(())
    }

    fn trial(&self, _instance: &str, deadline: Deadline) -> Result<Option<()>> {
        probe::try_out(&probe::basic(self.caller), deadline).map(|_| Some(()))
    }

    fn plan(&self, spec: &Spec) -> Result<Plan> {
        self.steps(spec, true, self.limits.change(), &no_cancel()).map(Plan::Steps)
    }
}

impl Native {
    fn make(
        &self,
        spec: &Spec,
        veil: bool,
        deadline: Deadline,
        cancel: &Cancel,
    ) -> Result<std::result::Result<Place, place::Error>> {
        let steps = self.steps(spec, veil, deadline, cancel)?;
        self.note_groups(spec, &steps)?;
        let builder = self.builder.lock().map_err(|_| Native::refused("an internal error"))?.take();
        let builder = builder.map_or_else(Builder::start, Ok).map_err(place::Error::Lost);
        Ok(builder.and_then(|builder| builder.make(&steps, deadline, cancel)))
    }

    /// Tells people what can only be read and what is not shown, once on each machine as long as nothing changes. What
    /// can only be read is in the record always.
    fn say_once(&self, about: &Lacks) {
        let file = self.paths.engines().join("native-read-only");
        let said = [
            (&about.read_only, "can only be read inside: the kernel refuses an overlay there"),
            (
                &about.left_out,
                "is left out: its file system cannot show root's files as nobody's; -m shows it all the same",
            ),
        ];
        let said = said.iter().filter(|(paths, _)| !paths.is_empty()).map(|(paths, why)| {
            let names: Vec<_> = paths.iter().map(|path| path.to_string_lossy()).collect();
            format!("{} {why}", one_line(&names.join(" ")))
        });
        let text = said.collect::<Vec<_>>().join("\n");
        if text.is_empty() || !crate::base::log::shows_progress() {
            return;
        }
        if crate::base::fs::read_bounded(&file, 1 << 20).is_ok_and(|said| said == text.as_bytes()) {
            return;
        }
        text.lines().for_each(crate::base::log::progress);
        std::fs::create_dir_all(self.paths.engines()).ignore();
        crate::base::fs::write_atomic(&file, text.as_bytes()).ignore();
    }

    /// Before there is a control group, whoever finishes the run later can know of it.
    fn note_groups(&self, spec: &Spec, steps: &[Step]) -> Result<()> {
        let groups: Vec<&Group> =
            steps.iter().filter_map(|step| if let Step::Group(group) = step { Some(group) } else { None }).collect();
        if groups.is_empty() {
            return Ok(());
        }
        let file = self.paths.run(&spec.id).groups();
        let written = serde_json::to_vec(&groups)
            .map_err(std::io::Error::other)
            .and_then(|bytes| crate::base::fs::write_atomic(&file, &bytes));
        written.map_err(|error| Native::refused(&format!("writing {}: {error}", file.display())))
    }

    fn remove_groups(&self, name: &str, deadline: Deadline) -> Result<()> {
        let Some(id) = name.strip_prefix("fosse-").and_then(RunId::parse) else { return Ok(()) };
        let file = self.paths.run(&id).groups();
        let Ok(bytes) = crate::base::fs::read_bounded(&file, 1 << 20) else { return Ok(()) };
        let groups: Vec<Group> = serde_json::from_slice(&bytes).unwrap_or_default();
        for group in groups {
            cgroup::remove(group.top(), deadline)
                .map_err(|error| Native::refused(&format!("removing {}: {error}", group.top().display())))?;
        }
        crate::base::fs::remove_file(&file).ignore();
        Ok(())
    }
}

/// With the places inside that links of the host lead to: what is mounted in `/bin` may be in `/usr/bin`. In what is
/// mounted no link is followed.
fn with_real_targets(spec: &Spec) -> Spec {
    let mut mounts: Vec<(PathBuf, PathBuf)> =
        spec.mounts.iter().map(|mount| (mount.target.clone(), host::leads_to(&mount.target))).collect();
    mounts.sort_by_key(|(target, _)| target.components().count());
    let mut known: Vec<(PathBuf, PathBuf)> = Vec::new();
    let within = |known: &[(PathBuf, PathBuf)], path: &Path| {
        let (target, real) = known.iter().rev().find(|(target, _)| path.starts_with(target))?;
        Some(real.iter().chain(path.strip_prefix(target).ok()?.iter()).collect::<PathBuf>())
    };
    for (target, real) in mounts {
        let real = within(&known, &target).unwrap_or(real);
        known.push((target, real));
    }
    let real = |path: &Path| within(&known, path).unwrap_or_else(|| path.to_owned());
    let mut spec = spec.clone();
    for mount in &mut spec.mounts {
        mount.target = real(&mount.target);
    }
    for cover in &mut spec.covers {
        cover.target = real(&cover.target);
    }
    let workdir = spec.workdir.as_deref().map(Path::new);
    let workdir = workdir.map(|dir| within(&known, dir).unwrap_or_else(|| host::leads_to(dir)));
    // What is no text stays as it was asked for.
    spec.workdir = workdir.and_then(|dir| dir.into_os_string().into_string().ok()).or(spec.workdir);
    spec
}

/// Where the caller's variables say that engines and agents listen.
fn named_sockets() -> Vec<PathBuf> {
    const NAMING: [&str; 6] = [
        "SSH_AUTH_SOCK",
        "DOCKER_HOST",
        "CONTAINER_HOST",
        "DBUS_SESSION_BUS_ADDRESS",
        "XDG_RUNTIME_DIR",
        "GNOME_KEYRING_CONTROL",
    ];
    let values = NAMING.iter().filter_map(|name| env::get(name)?.into_string().ok());
    values.filter_map(|value| socket_in(&value)).collect()
}

/// The path in an address: `unix:///path`, `unix:path=/path,guid=…`, or the path itself.
fn socket_in(value: &str) -> Option<PathBuf> {
    let value = value.strip_prefix("unix://").or_else(|| value.strip_prefix("unix:path=")).unwrap_or(value);
    let path = value.split(',').next().unwrap_or(value);
    path.starts_with('/').then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_paths() {
        for value in ["/a/b", "unix:///a/b", "unix:path=/a/b,guid=7"] {
            assert_eq!(socket_in(value), Some("/a/b".into()), "{value}");
        }
        assert_eq!(socket_in("tcp://host:1"), None);
    }
}

//! From what was typed and configured to a run that can be started: everything is looked up and checked here, and
//! nothing is made.

pub(crate) mod environment;
mod mounts;
pub(crate) mod user;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::args::Run;
use super::config::{self, Layer};
use super::engines::engines;
use super::session::input;
use crate::base::error::{Failure, Result};
use crate::base::id::RunId;
use crate::base::log;
use crate::base::paths::Paths;
use crate::run::engines::Engines;
use crate::run::store::Store;
use crate::runtime::{Error, Kind, MountedInit, Network, OWN_DIRECTORY, OwnInit, Runtime, Spec};
use crate::sys::file::FileId;
use crate::sys::signal::Signal;
use crate::wire::exit;

/// A run that can be started.
pub(crate) struct Resolved {
    /// Where.
    pub(crate) runtime: Box<dyn Runtime>,
    /// What.
    pub(crate) spec: Spec,
    /// The workspace, if there is one.
    pub(crate) workspace: Option<PathBuf>,
    /// Names of the variables that the user set.
    pub(crate) env_names: Vec<String>,
    /// Labels.
    pub(crate) labels: std::collections::BTreeMap<String, String>,
    /// The limit on running time.
    pub(crate) timeout: Option<Duration>,
    /// Between the polite signal and the kill.
    pub(crate) grace: Duration,
    /// The signal that asks the command to end, if one was chosen.
    pub(crate) stop_signal: Option<Signal>,
    /// Whether a daemon is to know of it.
    pub(crate) daemon: bool,
    /// What opens the escape of a terminal session, if that was said.
    pub(crate) escape: Option<String>,
}

/// What is used when nothing else is said.
const GRACE: Duration = Duration::from_secs(10);
const LOG_MAX: u64 = 64 << 20;

/// A mistake in what was typed or configured.
pub(crate) fn mistake(why: impl std::fmt::Display) -> Failure {
    Failure::invalid("option", why)
}

/// Resolves a run. `name` is what FOSSE_RUN_NAME says inside.
pub(crate) fn resolve(args: &Run, store: &Store, id: &RunId, name: &str, instance: &str) -> Result<Resolved> {
    let [homes, own] = protected(&store.paths);
    let config = layers(args, store, &homes)?;
    let workspace = config.workspace.clone();
    let engines = engines(store, &config, !args.dry_run);
    let image = config.image.clone();
    if let Some(lower) = image.as_deref().and_then(in_lower_case) {
        let why = format!("--image {:?}: the names of images are in lower case", image.unwrap_or_default());
        return Err(mistake(why).hint(format!("did you mean {lower}?")));
    }
    let runtime = choose(config.runtime.as_deref().unwrap_or("auto"), image.as_deref(), &engines)?;
    let kind = runtime.kind();
    let image = match image {
        Some(image) => image,
        None if kind == Kind::Native => String::new(),
        None => return Err(mistake("no image is given").hint("--image IMAGE says what to run in")),
    };
    if args.allow_userns && kind != Kind::Native {
        let why = format!("--allow-userns is not for {}: its engine decides about user namespaces", kind.as_str());
        return Err(mistake(why).hint("leave it out, or --runtime native without an image"));
    }
    let mut mounts = mounts::resolve(&args.mount, workspace.as_deref())?;
    let (pins, covers) = mounts::covers(&mounts, &own, !args.dry_run)?;
    mounts.extend(pins);
    let user = match config.user.as_deref() {
        Some(text) => user::parse(text)?,
        None if workspace.is_some() || kind == Kind::Native => user::Choice::Caller,
        None => user::Choice::Image,
    };
    let user = user::resolve(user, &*runtime)?;
    let (env, env_names) = environment::resolve(args, &config, id, name, kind)?;
    let spec = Spec {
        id: id.clone(),
        instance: instance.to_owned(),
        image,
        command: command(&args.command)?,
        input: input(args.interactive),
        workdir: workdir(&config, workspace.is_some())?,
        user,
        env,
        env_file: store.run(id).env_file(),
        mounts,
        covers,
        memory: config.memory,
        cpus_milli: config.cpus_milli,
        pids: config.pids,
        network: config.network.unwrap_or(Network::Open),
        log_max: config.log_max.unwrap_or(LOG_MAX),
        allow_userns: args.allow_userns,
        keep: args.keep,
        own_init: None,
        mounted_init: None,
    };
    let own_init = match kind {
        Kind::Native => Some(own_files(PathBuf::from("/proc/self/exe"), store, id)),
        Kind::Docker | Kind::Podman => own_init(&config, &spec, store, id),
        Kind::Apple => None,
    };
    let mounted_init = if kind == Kind::Apple { mounted_init(&config, &spec, store)? } else { None };
    let spec = Spec { own_init, mounted_init, ..spec };
    runtime.check(&spec).map_err(|unfit| {
        if unfit.hint.is_empty() { mistake(unfit.why) } else { mistake(unfit.why).hint(unfit.hint) }
    })?;
    Ok(Resolved {
        runtime,
        spec,
        workspace,
        daemon: config.daemon.as_deref() != Some("off"),
        escape: args.escape.clone().or(config.escape.clone()),
        env_names,
        labels: config.label,
        // 0 switches off what a lower layer has set.
        timeout: config.timeout.filter(|timeout| !timeout.is_zero()),
        grace: config.grace.unwrap_or(GRACE),
        stop_signal: config.stop_signal,
    })
}

/// What an image should be called whose name is not in lower case; its registry, tag and digest may be in any.
fn in_lower_case(image: &str) -> Option<String> {
    let (rest, digest) = image.split_at(image.find('@').unwrap_or(image.len()));
    let (host, rest) = match rest.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => rest.split_at(first.len()),
        _ => ("", rest),
    };
    let (path, tag) = rest.split_at(rest.rfind(':').filter(|at| !rest[*at..].contains('/')).unwrap_or(rest.len()));
    let lower = path.to_ascii_lowercase();
    (lower != path).then(|| format!("{host}{lower}{tag}{digest}"))
}

/// Home directories and fosse's own ones, and the paths under which bind mounts show them too.
fn protected(paths: &Paths) -> [Vec<PathBuf>; 2] {
    let (homes, own) = (paths.homes.clone(), paths.own_directories());
    #[cfg(target_os = "linux")]
    let [homes, own] = {
        let [more_homes, more_own] = crate::runtime::native::host::aliases([&homes, &own]);
        [[homes, more_homes].concat(), [own, more_own].concat()]
    };
    [homes, own]
}

/// Whether this program runs in any image.
pub(crate) fn is_static() -> bool {
    #[cfg(target_os = "linux")]
    let found = crate::sys::process::is_static();
    #[cfg(not(target_os = "linux"))]
    let found = false;
    found
}

/// What fosse's own PID 1 needs, if it may serve: a program that runs in any image is linked statically, and is still
/// where it was started from.
fn own_init(config: &Layer, spec: &Spec, store: &Store, id: &RunId) -> Option<OwnInit> {
    if !takes_init(config, spec) {
        return None;
    }
    if !is_static() {
        log::progress(
            "not linked statically, so the engine's client carries this run: fosse doctor says what that costs",
        );
        return None;
    }
    let binary = std::env::current_exe().ok()?;
    let file = |path: &Path| std::fs::metadata(path).map(|metadata| FileId::from(&metadata)).ok();
    (file(&binary)? == file(Path::new("/proc/self/exe"))?).then(|| own_files(binary, store, id))
}

/// Whether an init of ours is wanted and finds room: where a mount shows something of its own, nothing of ours would be
/// put without traces in it.
fn takes_init(config: &Layer, spec: &Spec) -> bool {
    let in_the_way = spec.mounts.iter().any(|mount| mount.target.starts_with(OWN_DIRECTORY));
    !in_the_way && config.init.as_deref() != Some("off")
}

/// The same in a virtual machine, whose kernel is Linux whatever the host's is.
fn mounted_init(config: &Layer, spec: &Spec, store: &Store) -> Result<Option<MountedInit>> {
    if !takes_init(config, spec) {
        return Ok(None);
    }
    let Some(binary) = linux_binary(config)? else { return Ok(None) };
    let paths = store.run(&spec.id);
    if [&binary, &paths.dir].into_iter().any(|path| !crate::runtime::apple::can_mount(path)) {
        return Ok(None);
    }
    let key = exit::new_key().map_err(|error| Failure::new("preparing the run", error))?;
    Ok(Some(MountedInit { binary, directory: paths.left(), key, key_file: paths.left_key() }))
}

/// fosse for a Linux kernel: the file that is configured, this very program, or what lies beside it.
pub(crate) fn linux_binary(config: &Layer) -> Result<Option<PathBuf>> {
    if let Some(path) = &config.init_binary {
        let there = path.is_file();
        let missing = || mistake(format!("init_binary: there is no file {}", path.display()));
        return if there { Ok(Some(path.clone())) } else { Err(missing().hint("fosse.json(5) says what it is for")) };
    }
    let Ok(own) = std::env::current_exe() else { return Ok(None) };
    if cfg!(target_os = "linux") {
        return Ok(Some(own).filter(|own| is_static() && own.is_file()));
    }
    let name = format!("fosse-linux-{}", std::env::consts::ARCH);
    let beside = [own.with_file_name(&name), own.with_file_name("../libexec/fosse").join(&name)];
    Ok(beside.into_iter().find(|path| path.is_file()))
}

fn own_files(binary: PathBuf, store: &Store, id: &RunId) -> OwnInit {
    OwnInit { binary, socket: store.paths.init_socket(id), page: store.run(id).exit_page() }
}

/// All layers, with the workspace already looked up: it decides which file is the workspace's layer.
fn layers(args: &Run, store: &Store, homes: &[PathBuf]) -> Result<Layer> {
    let options = options(args)?;
    let upper = options.clone().over(config::trusted(&store.paths)?);
    let workspace = if args.no_workspace { None } else { Some(mounts::workspace(upper.workspace.as_deref(), homes)?) };
    let mut config = config::all(&store.paths, workspace.as_deref(), options)?;
    config.workspace = workspace;
    Ok(config)
}

/// The layer that the options give.
fn options(args: &Run) -> Result<Layer> {
    let network = args.network.as_deref().map(|text| {
        config::network(text).ok_or_else(|| mistake(format!("--network {text:?} is not open, none or private")))
    });
    let cpus = args
        .cpus
        .as_deref()
        .map(|text| config::cpus(text).ok_or_else(|| mistake(format!("--cpus {text:?} is not {}", config::CPUS))));
    if args.memory == Some(0) {
        return Err(mistake("--memory must be more than 0"));
    }
    if let Some(image) = args.image.as_deref().filter(|image| !config::is_image(image)) {
        return Err(mistake(format!("--image {image:?} is not {}", config::IMAGE)));
    }
    let mut label = std::collections::BTreeMap::new();
    for text in &args.label {
        let (key, value) = text.split_once('=').ok_or_else(|| mistake(format!("--label {text:?} is not KEY=VALUE")))?;
        if key.is_empty() {
            return Err(mistake(format!("--label {text:?} has no key")));
        }
        label.insert(key.to_owned(), value.to_owned());
    }
    Ok(Layer {
        runtime: args.runtime.clone(),
        image: args.image.clone(),
        workspace: args.workspace.clone(),
        workdir: args.workdir.clone(),
        user: args.user.clone(),
        network: network.transpose()?,
        memory: args.memory,
        cpus_milli: cpus.transpose()?,
        pids: args.pids,
        timeout: args.timeout,
        grace: args.grace,
        stop_signal: args.stop_signal,
        log_max: args.log_max,
        label,
        ..Layer::default()
    })
}

/// The runtime that was named, or the first that answers.
fn choose(wanted: &str, image: Option<&str>, engines: &Engines) -> Result<Box<dyn Runtime>> {
    let today = |kind| engines.today(kind, engines.limits().query());
    match wanted {
        // The host's own programs need no engine.
        "auto" if image.is_none() => return today(Kind::Native).map_err(|error| unusable(Kind::Native, &error)),
        "auto" => {}
        other => {
            let kind = Kind::parse(other)
                .ok_or_else(|| mistake(format!("--runtime {other:?} is not auto, native, docker, podman or apple")))?;
            return today(kind).map_err(|error| unusable(kind, &error));
        }
    }
    let mut reasons = Vec::new();
    for kind in engines.kinds() {
        // How it maps users must be known anyway, so that is the question which shows that it answers.
        let found = today(kind).and_then(|runtime| {
            if runtime.kind() != Kind::Docker {
                runtime.version(runtime.limits().query()).map(drop)?
            } else {
                runtime.about(runtime.limits().query()).map(drop)?
            }
            Ok(runtime)
        });
        match found {
            Ok(runtime) => return Ok(runtime),
            Err(error) => reasons.push(format!("{}: {}", kind.as_str(), reason(&error))),
        }
    }
    Err(Failure::new("choosing the runtime", format!("no engine answers ({})", reasons.join("; ")))
        .hint("install or start docker or podman, or on a Mac container; fosse doctor checks them"))
}

fn reason(error: &Error) -> String {
    match error {
        Error::Call(error) if error.is_missing() => "not installed".into(),
        other => other.to_string(),
    }
}

/// An engine that was asked for and cannot be used.
pub(crate) fn unusable(kind: Kind, error: &Error) -> Failure {
    let failure = Failure::new(format!("using {}", kind.as_str()), reason(error));
    match error {
        Error::Forbidden { hint, .. } => failure.hint(hint),
        _ if kind == Kind::Apple => failure.hint("is its service up? container system start; fosse doctor checks it"),
        _ => failure.hint("is it installed and running? fosse doctor checks it"),
    }
}

fn command(words: &[OsString]) -> Result<Vec<OsString>> {
    match words.first() {
        Some(first) if !first.is_empty() => Ok(words.to_vec()),
        Some(_) | None => Err(mistake("the command is empty")),
    }
}

fn workdir(config: &Layer, has_workspace: bool) -> Result<Option<String>> {
    match &config.workdir {
        Some(dir) if dir.starts_with('/') => Ok(Some(dir.clone())),
        Some(dir) => Err(mistake(format!("--workdir {dir:?} is not an absolute path"))),
        None => Ok(has_workspace.then(|| crate::runtime::WORKSPACE.to_owned())),
    }
}

/// Makes a path absolute without asking what is there.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| mistake(format!("{}: {error}", path.display())))
}

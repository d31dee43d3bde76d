//! The argument vectors of the tool: pure functions, and the only place that knows its options.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::parse::Version;
use crate::runtime::carry::{environment_beside, words};
use crate::runtime::docker::argv::ABSENT;
use crate::runtime::spec::{HOME, OWN_DIRECTORY};
use crate::runtime::{Exec, Input, LABEL_INSTANCE, MountedInit, Network, Spec, User, options};
use crate::sys::signal::Signal;
use crate::wire::exit;

/// All containers, whatever their state.
pub(crate) const LIST: [&str; 4] = ["list", "--all", "--format", "json"];

/// All networks.
pub(crate) const LIST_NETWORKS: [&str; 4] = ["network", "list", "--format", "json"];

/// All images.
pub(crate) const LIST_IMAGES: [&str; 4] = ["image", "list", "--format", "json"];

/// What a virtual machine has of memory if nothing else is said; the tool's own 1 GiB ends agents and builds.
const MEMORY: u64 = 4 << 30;

/// The least that the tool takes (0.10 on).
const MEMORY_MIN: u64 = 200 << 20;

/// Asks whether the service is up.
pub(crate) fn status(version: Version) -> &'static [&'static str] {
    if version.at_least(0, 10) { &["system", "status", "--format", "json"] } else { &["system", "status"] }
}

/// Fetches an image. The tool's progress is silent away from a terminal before 0.12, and lines of text from then on.
pub(crate) fn pull(version: Version, image: &str, show_progress: bool) -> Vec<OsString> {
    let mut args = words(["image", "pull"]);
    if version.at_least(0, 12) && !show_progress {
        args.extend(words(["--progress", "none"]));
    }
    args.push(image.into());
    args
}

/// Makes the run's own network.
pub(crate) fn create_network(spec: &Spec) -> Vec<OsString> {
    let mut args = words(["network", "create"]);
    options::labels(&mut args, spec);
    args.push(spec.object_name().into());
    args
}

/// Makes the container: the command instead of the image's own, behind fosse's own PID 1 where there is one for it,
/// else behind the tool's, if it has one.
pub(crate) fn create(version: Version, spec: &Spec, empty: &Path) -> Vec<OsString> {
    let mut args = words(["create", "--name", &spec.object_name()]);
    options::labels(&mut args, spec);
    if spec.input.is_open() {
        args.push("--interactive".into());
    }
    if spec.input == Input::Terminal {
        args.push("--tty".into());
    }
    place(&mut args, spec, empty);
    let carried = environment_beside(&spec.env);
    args.extend([OsString::from("--env-file"), spec.env_file.clone().into_os_string()]);
    for (name, _) in carried.by_process {
        args.extend([OsString::from("--env"), name]);
    }
    let mut command = spec.command.clone();
    let entrypoint = match &spec.mounted_init {
        Some(own) => {
            own_files(&mut args, own);
            let file = format!("{}/{}", exit_directory(), exit::NAME);
            command.splice(0..0, words(["init", "--exit-file", &file, "--"]));
            OsString::from(init_file())
        }
        None => {
            if version.at_least(0, 10) {
                args.push("--init".into());
            }
            command.remove(0)
        }
    };
    // One word, since a command may begin like an option.
    let mut option = OsString::from("--entrypoint=");
    option.push(entrypoint);
    args.extend([option, spec.image.clone().into()]);
    args.extend(command);
    args
}

fn init_file() -> String {
    format!("{OWN_DIRECTORY}/init")
}

fn exit_directory() -> String {
    format!("{OWN_DIRECTORY}/exit")
}

fn own_files(args: &mut Vec<OsString>, own: &MountedInit) {
    bind(args, &own.binary, init_file().as_ref(), true);
    bind(args, &own.directory, exit_directory().as_ref(), false);
}

/// What the command finds around it: directory, user, files, limits, network. `empty` is a directory of the host with
/// nothing in it.
fn place(args: &mut Vec<OsString>, spec: &Spec, empty: &Path) {
    if let Some(workdir) = &spec.workdir {
        args.extend(words(["--workdir", workdir]));
    }
    if let User::Ids { uid, gid, .. } = spec.user {
        args.extend(words(["--user", &format!("{uid}:{gid}")]));
    }
    args.extend(words(["--tmpfs", HOME]));
    for mount in &spec.mounts {
        bind(args, &mount.source, &mount.target, mount.read_only);
    }
    for cover in &spec.covers {
        // After what it covers: whatever is a tmpfs is mounted before all of these.
        bind(args, empty, &cover.target, true);
    }
    // Whole MiB: a limit is never wider than what was asked for.
    args.extend(words(["--memory", &format!("{}M", spec.memory.unwrap_or(MEMORY) >> 20)]));
    if let Some(milli) = spec.cpus_milli {
        args.extend(words(["--cpus", &(milli / 1_000).to_string()]));
    }
    match spec.network {
        Network::Open => {}
        Network::None => args.extend(words(["--network", "none"])),
        Network::Private => args.extend(words(["--network", &spec.object_name()])),
    }
}

/// A file or directory of the host. The tool has no way to write a path with a colon in it.
fn bind(args: &mut Vec<OsString>, source: &Path, target: &Path, read_only: bool) {
    let mut volume = source.as_os_str().to_owned();
    volume.push(":");
    volume.push(target);
    if read_only {
        volume.push(":ro");
    }
    args.extend([OsString::from("--volume"), volume]);
}

/// Starts a container and stays attached to its streams.
pub(crate) fn start(spec: &Spec, container: &str) -> Vec<OsString> {
    let mut args = words(["start", "--attach"]);
    if spec.input.is_open() {
        args.push("--interactive".into());
    }
    args.push(container.into());
    args
}

/// Sends a signal to PID 1. The attached client would pass none on (1.0 on).
pub(crate) fn kill(container: &str, signal: Signal) -> Vec<OsString> {
    words(["kill", "--signal", &signal.name(), container])
}

/// Starts a container that fails in the one way that proves everything before it works.
pub(crate) fn trial(version: Version, name: &str, instance: &str, image: &str) -> Vec<OsString> {
    let mut args = words(["run", "--name", name, "--label", &format!("{LABEL_INSTANCE}={instance}")]);
    if version.at_least(0, 12) {
        args.extend(words(["--progress", "none"]));
    }
    args.extend(words(["--network", "none", "--entrypoint", ABSENT, image]));
    args
}

/// Starts one more command in a container.
pub(crate) fn exec(exec: &Exec) -> Vec<OsString> {
    let mut args = words(["exec"]);
    if exec.input.is_open() {
        args.push("--interactive".into());
    }
    if exec.input == Input::Terminal {
        args.push("--tty".into());
    }
    options::place_of_exec(&mut args, exec);
    if exec.has_init {
        // It takes what the command leaves behind along: the tool's client gives the code up after 3 s in which somebody
        // holds a stream.
        args.extend(words([&init_file(), "init", "--subreaper", "--"]));
    }
    args.extend(exec.command.iter().cloned());
    args
}

const TOOL: &str = "container";

/// What of a run cannot be had from this tool.
pub(crate) fn check(spec: &Spec) -> Result<(), String> {
    options::check(TOOL, spec)?;
    if spec.pids.is_some() {
        return Err("--pids: Apple's containers have no limit on processes".into());
    }
    if let Some(memory) = spec.memory.filter(|memory| *memory < MEMORY_MIN) {
        let (memory, min) = (crate::base::size::human(memory), crate::base::size::human(MEMORY_MIN));
        return Err(format!("--memory: {memory} is less than the {min} that Apple's containers need"));
    }
    if let Some(milli) = spec.cpus_milli.filter(|milli| milli % 1_000 != 0) {
        let cpus = format!("{}.{:03}", milli / 1_000, milli % 1_000);
        return Err(format!("--cpus: Apple's containers have whole processors, and not {cpus}"));
    }
    let mounts = spec.mounts.iter().flat_map(|mount| [&mount.source, &mount.target]);
    let mut paths = mounts.chain(spec.covers.iter().map(|cover| &cover.target));
    match paths.find(|path| !can_mount(path)) {
        Some(path) => Err(format!("container cannot mount a path with a colon or a comma: {}", path.display())),
        None => Ok(()),
    }
}

/// Whether the tool can be told a path: it knows no escape for what separates its parts.
pub(crate) fn can_mount(path: &Path) -> bool {
    let plain = |text: &OsStr| text.to_str().is_some_and(|text| !text.contains([':', ',', '\n']));
    plain(path.as_os_str())
}

/// What of one more command cannot be had from this tool.
pub(crate) fn check_exec(exec: &Exec) -> Result<(), String> {
    options::check_exec(TOOL, exec)
}

#[cfg(test)]
mod tests {
    use super::super::parse::version;
    use super::*;
    use crate::base::id::RunId;
    use crate::runtime::{Cover, Mount};

    const EMPTY: &str = "/e";

    fn spec() -> Spec {
        Spec {
            id: RunId::parse("0123456789ab").unwrap(),
            instance: "i".into(),
            image: "busybox".into(),
            command: vec!["-x".into(), "exit 3".into()],
            input: Input::Pipe,
            workdir: Some("/workspace".into()),
            user: User::Ids { uid: 7, gid: 8, host_ids: false },
            env: vec![("A".into(), "secret".into()), ("HOME".into(), "/home/fosse".into())],
            env_file: "/s/env".into(),
            mounts: vec![Mount { source: "/a".into(), target: "/workspace".into(), read_only: true }],
            covers: vec![Cover { target: "/workspace/s".into() }],
            memory: Some((300 << 20) + 5),
            cpus_milli: Some(2_000),
            pids: None,
            network: Network::Private,
            log_max: 5,
            allow_userns: false,
            keep: false,
            own_init: None,
            mounted_init: None,
        }
    }

    fn with_init() -> Spec {
        let own = MountedInit {
            binary: "/b/fosse".into(),
            directory: "/s/left".into(),
            key: "the key".into(),
            key_file: "/s/left.key".into(),
        };
        Spec { mounted_init: Some(own), ..spec() }
    }

    fn text(args: &[OsString]) -> String {
        args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    fn at(text: &str) -> Version {
        version(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_container_is_made_with_every_option_and_no_value_of_a_variable() {
        let args = text(&create(at("1.2.2"), &spec(), EMPTY.as_ref()));
        for part in [
            "create --name fosse-0123456789ab --label fosse.run=0123456789ab --label fosse.instance=i --interactive",
            "--workdir /workspace --user 7:8 --tmpfs /home/fosse --volume /a:/workspace:ro --volume /e:/workspace/s:ro",
            "--memory 300M --cpus 2 --network fosse-0123456789ab --env-file /s/env --env A ",
            "--init --entrypoint=-x busybox exit 3",
        ] {
            assert!(args.contains(part), "{part:?} in {args}");
        }
        assert!(!args.contains("secret") && !args.contains("--tty") && !args.contains("--rm"), "{args}");
    }

    #[test]
    fn fosses_init_comes_before_the_command_and_its_key_in_no_argument() {
        let args = text(&create(at("0.9.0"), &with_init(), EMPTY.as_ref()));
        let end = "--volume /b/fosse:/.fosse/init:ro --volume /s/left:/.fosse/exit --entrypoint=/.fosse/init busybox \
                   init --exit-file /.fosse/exit/exit -- -x exit 3";
        assert!(args.ends_with(end) && !args.contains("--init "), "{args}");
        assert!(!args.contains("the key"), "{args}");
    }

    #[test]
    fn a_version_gets_only_what_it_knows() {
        assert!(!text(&create(at("0.9.0"), &spec(), EMPTY.as_ref())).contains("--init"));
        assert_eq!(status(at("0.9.0")), ["system", "status"]);
        assert_eq!(text(&pull(at("0.9.0"), "i", false)), "image pull i");
        assert_eq!(text(&pull(at("0.12.0"), "i", false)), "image pull --progress none i");
        assert_eq!(text(&pull(at("1.4.1"), "i", true)), "image pull i");
        assert!(!text(&trial(at("0.9.0"), "t", "i", "busybox")).contains("--progress"));
    }

    #[test]
    fn what_the_tool_cannot_do_is_refused() {
        assert_eq!(check(&spec()), Ok(()));
        for wrong in [
            Spec { pids: Some(9), ..spec() },
            Spec { memory: Some(100 << 20), ..spec() },
            Spec { cpus_milli: Some(1_500), ..spec() },
            Spec { mounts: vec![Mount { source: "/a:b".into(), target: "/x".into(), read_only: false }], ..spec() },
        ] {
            assert!(check(&wrong).is_err(), "{wrong:?}");
        }
    }
}

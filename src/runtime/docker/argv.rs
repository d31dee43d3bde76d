//! The argument vectors of the tools: pure functions, and the only place that knows the tools' options.

mod exec;

pub(crate) use exec::{check_exec, exec, image_of, stop_signal_of, user_of};

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use crate::runtime::carry::{environment, words};
use crate::runtime::docker::Tool;
use crate::runtime::spec::{HOME, OWN_DIRECTORY, OwnInit};
use crate::runtime::{Input, LABEL_INSTANCE, Network, Spec, User, options, workdir};

/// A program that is in no image, for [`trial`].
pub(crate) const ABSENT: &str = "/fosse-trial-absent";

/// The smallest log that engines are asked to keep: docker refuses tiny ones.
const ENGINE_LOG_MIN: u64 = 1 << 20;

/// Asks for the engine's version.
pub(crate) fn version(kind: Tool) -> [&'static str; 3] {
    match kind {
        Tool::Docker => ["version", "--format", "{{.Server.Version}}"],
        Tool::Podman => ["version", "--format", "{{.Client.Version}}"],
    }
}

/// Asks how the engine maps users.
pub(crate) fn info(kind: Tool) -> [&'static str; 3] {
    match kind {
        Tool::Docker => ["info", "--format", "{{json .SecurityOptions}}"],
        Tool::Podman => ["info", "--format", "{{json .Host.Security}}"],
    }
}

/// Makes the run's own network.
pub(crate) fn create_network(spec: &Spec) -> Vec<OsString> {
    let mut args = words(["network", "create"]);
    options::labels(&mut args, spec);
    args.push(spec.object_name().into());
    args
}

/// Makes the container for the second path: never pulls, no health check, the command instead of the image's own,
/// the engine's init as PID 1 so that signals have their default effect.
pub(crate) fn create(kind: Tool, spec: &Spec) -> Vec<OsString> {
    let mut args = words(["create", "--name", &spec.object_name()]);
    options::labels(&mut args, spec);
    args.extend(words(["--init", "--pull=never", "--no-healthcheck", "--entrypoint", ""]));
    args.extend(log_options(kind, spec.log_max));
    if spec.input.is_open() {
        args.push("--interactive".into());
    }
    if spec.input == Input::Terminal {
        args.push("--tty".into());
    }
    args.extend([OsString::from("--env-file"), spec.env_file.clone().into_os_string()]);
    for (name, _) in environment(&spec.env).by_process {
        args.extend([OsString::from("--env"), name]);
    }
    place(&mut args, kind, spec, spec.workdir.as_deref());
    // Nothing after this is an option, whatever an image or a command is called.
    args.extend([OsString::from("--"), spec.image.clone().into()]);
    args.extend(spec.command.iter().cloned());
    args
}

/// Makes the container and starts fosse's own init in it, which waits to be told the command: the one call of the
/// first path. The engine keeps no output, for it sees none.
pub(crate) fn run(kind: Tool, spec: &Spec, own: &OwnInit) -> Vec<OsString> {
    let mut args = words(["run", "--detach", "--name", &spec.object_name()]);
    options::labels(&mut args, spec);
    if removes_itself(spec) {
        args.push("--rm".into());
    }
    let init = format!("{OWN_DIRECTORY}/init");
    let socket = format!("{OWN_DIRECTORY}/socket");
    args.extend(words(["--pull=never", "--no-healthcheck", "--log-driver", "none", "--entrypoint", &init]));
    for (source, target) in [(&own.binary, &init), (&own.socket, &socket)] {
        bind(&mut args, source, target.as_ref(), true);
    }
    let by_engine = if directory_by_init(spec).is_some() { None } else { spec.workdir.as_deref() };
    place(&mut args, kind, spec, by_engine);
    args.extend([OsString::from("--"), spec.image.clone().into()]);
    args.extend(words(["init", "--channel", &socket]));
    args
}

/// Whether the engine is asked to remove the container by itself. A network of the run's own can only be removed
/// after it, so that is then done step by step.
pub(crate) fn removes_itself(spec: &Spec) -> bool {
    !spec.keep && spec.network != Network::Private
}

/// The directory that fosse's own init enters, and makes as the command's user if it is missing: an engine would make it
/// as root. One in what is mounted is there, and an engine can enter it whoever the user is.
pub(crate) fn directory_by_init(spec: &Spec) -> Option<&str> {
    spec.workdir.as_deref().filter(|dir| !workdir::is_mounted(spec, dir))
}

/// What the command finds around it: directory, user, files, limits, network.
fn place(args: &mut Vec<OsString>, kind: Tool, spec: &Spec, dir: Option<&str>) {
    if let Some(dir) = dir {
        args.extend(words(["--workdir", dir]));
    }
    args.extend(user_options(spec.user));
    args.extend(home_options(kind, spec.user));
    for mount in &spec.mounts {
        bind(args, &mount.source, &mount.target, mount.read_only);
    }
    for cover in &spec.covers {
        // podman 4 knows a tmpfs that cannot be written only by the shorter name.
        // And it would copy what it covers, unless told not to.
        let read_only = if kind == Tool::Podman { "ro,notmpcopyup" } else { "readonly" };
        let fields = [
            field("type", "tmpfs".as_ref()),
            field("target", cover.target.as_os_str()),
            field("tmpfs-mode", "0500".as_ref()),
        ];
        let fields: Vec<OsString> = fields.into_iter().chain(read_only.split(',').map(OsString::from)).collect();
        args.extend([OsString::from("--mount"), csv(&fields)]);
    }
    args.extend(limit_options(spec));
    match spec.network {
        Network::Open => {}
        Network::None => args.extend(words(["--network", "none"])),
        Network::Private => args.extend(words(["--network", &spec.object_name()])),
    }
}

/// A file or directory of the host. Never by `--volume`, which would make a missing one.
fn bind(args: &mut Vec<OsString>, source: &Path, target: &Path, read_only: bool) {
    let mut fields = vec![field("type", "bind".as_ref()), field("source", source.as_os_str())];
    fields.push(field("target", target.as_os_str()));
    if read_only {
        fields.push("readonly".into());
    }
    args.extend([OsString::from("--mount"), csv(&fields)]);
}

/// The keys by which a client would detach from a terminal: there is no detaching. Docker cannot be told none, so it
/// gets a row of the key that opens fosse's own escape, of which a caller sends one at most by chance.
pub(crate) fn no_detaching(kind: Tool) -> &'static str {
    match kind {
        Tool::Docker => "ctrl-_,ctrl-_,ctrl-_,ctrl-_,ctrl-_,ctrl-_,ctrl-_,ctrl-_",
        Tool::Podman => "",
    }
}

/// Starts a container and stays attached to its streams.
pub(crate) fn start(kind: Tool, spec: &Spec, container: &str) -> Vec<OsString> {
    let mut args = words(["start", "--attach"]);
    if spec.input.is_open() {
        args.push("--interactive".into());
    }
    if spec.input == Input::Terminal {
        args.extend(words(["--detach-keys", no_detaching(kind)]));
    }
    args.push(container.into());
    args
}

/// Ends and removes containers, with the anonymous volumes that an image may have asked for.
pub(crate) fn remove_containers(kind: Tool) -> &'static [&'static str] {
    match kind {
        Tool::Docker => &["rm", "--force", "--volumes"],
        // Without --time it would wait ten seconds for a command that ignores TERM.
        Tool::Podman => &["rm", "--force", "--volumes", "--time", "0"],
    }
}

/// Starts a container that fails in the one way that proves everything before it works.
pub(crate) fn trial(instance: &str, image: &str) -> Vec<OsString> {
    let label = format!("{LABEL_INSTANCE}={instance}");
    let options =
        ["run", "--rm", "--network", "none", "--pull=never", "--label", &label, "--entrypoint", ABSENT, image];
    words(options)
}

/// What of a run cannot be written for this tool.
pub(crate) fn check(kind: Tool, spec: &Spec) -> Result<(), String> {
    options::check(kind.as_str(), spec)?;
    if spec.pids.is_some_and(|pids| pids < 2) {
        return Err("a limit of one process is less than the engine's init and the command need".into());
    }
    let mounts = spec.mounts.iter().flat_map(|mount| [&mount.source, &mount.target]);
    if let Some(path) = mounts.chain(spec.covers.iter().map(|cover| &cover.target)).find(|path| !can_mount(kind, path))
    {
        return Err(format!("podman cannot mount a path with a comma or a quote: {}", path.display()));
    }
    Ok(())
}

/// The engine keeps the output as well, bounded, so that whoever finishes an orphan can save what its owner
/// did not see. `local` and `k8s-file` keep bytes; docker's default `json-file` replaces what is not UTF-8.
fn log_options(kind: Tool, log_max: u64) -> Vec<OsString> {
    match kind {
        Tool::Docker => {
            let size = format!("max-size={}", log_max.max(ENGINE_LOG_MIN));
            let options =
                ["--log-driver", "local", "--log-opt", &size, "--log-opt", "max-file=2", "--log-opt", "compress=false"];
            words(options)
        }
        Tool::Podman => {
            // Its lines carry a time each, and the file starts anew when it is full: room for both.
            let size = format!("max-size={}", log_max.max(ENGINE_LOG_MIN).saturating_mul(4));
            words(["--log-driver", "k8s-file", "--log-opt", &size])
        }
    }
}

fn user_options(user: User) -> Vec<OsString> {
    match user {
        User::Image => Vec::new(),
        User::Ids { uid, gid, host_ids } => {
            let mut args = words(["--user", &format!("{uid}:{gid}")]);
            if host_ids {
                args.push("--userns=host".into());
            }
            args
        }
    }
}

/// The private home. podman's tmpfs knows no owner (4.3), and a user named by the image has no known id: then
/// anyone inside may write there, which is the command alone.
fn home_options(kind: Tool, user: User) -> Vec<OsString> {
    let owner = match (kind, user) {
        (_, User::Ids { uid: 0, .. }) => "mode=0700".to_owned(),
        (Tool::Docker, User::Ids { uid, gid, .. }) => format!("mode=0700,uid={uid},gid={gid}"),
        (Tool::Podman, User::Ids { .. }) | (_, User::Image) => "mode=1777".to_owned(),
    };
    let empty = if kind == Tool::Podman { ",notmpcopyup" } else { "" };
    words(["--tmpfs", &format!("{HOME}:rw,exec,nosuid,nodev,{owner}{empty}")])
}

fn limit_options(spec: &Spec) -> Vec<OsString> {
    let mut args = Vec::new();
    if let Some(bytes) = spec.memory {
        // Equal to the limit of both together: no swap beyond it.
        args.extend(words(["--memory", &bytes.to_string(), "--memory-swap", &bytes.to_string()]));
    }
    if let Some(milli) = spec.cpus_milli {
        args.extend(words(["--cpus", &format!("{}.{:03}", milli / 1_000, milli % 1_000)]));
    }
    if let Some(pids) = spec.pids {
        args.extend(words(["--pids-limit", &pids.to_string()]));
    }
    args
}

fn field(name: &str, value: &OsStr) -> OsString {
    let mut field = OsString::from(name);
    field.push("=");
    field.push(value);
    field
}

/// One CSV record (RFC 4180), as `--mount` takes it: fields with a comma, quote or line end are quoted.
fn csv(fields: &[OsString]) -> OsString {
    let mut line = Vec::new();
    for (at, field) in fields.iter().map(|field| field.as_bytes()).enumerate() {
        if at > 0 {
            line.push(b',');
        }
        if field.iter().any(|byte| matches!(byte, b',' | b'"' | b'\n' | b'\r')) {
            line.push(b'"');
            for byte in field {
                line.extend(if *byte == b'"' { &b"\"\""[..] } else { std::slice::from_ref(byte) });
            }
            line.push(b'"');
        } else {
            line.extend_from_slice(field);
        }
    }
    OsString::from_vec(line)
}

/// podman 4 splits `--mount` at commas, quoted or not.
fn can_mount(kind: Tool, path: &Path) -> bool {
    kind == Tool::Docker || !path.as_os_str().as_bytes().iter().any(|byte| matches!(byte, b',' | b'"'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::RunId;
    use crate::runtime::{Cover, Mount};

    fn spec() -> Spec {
        Spec {
            id: RunId::parse("0123456789ab").unwrap(),
            instance: "i".into(),
            image: "busybox".into(),
            command: vec!["sh".into(), "-c".into(), "exit 3".into()],
            input: Input::Empty,
            workdir: Some("/workspace".into()),
            user: User::Ids { uid: 7, gid: 8, host_ids: false },
            env: vec![("A".into(), "secret".into()), ("B".into(), "two\nlines".into())],
            env_file: "/s/env".into(),
            mounts: vec![Mount { source: "/a,b".into(), target: "/workspace".into(), read_only: true }],
            covers: vec![Cover { target: "/workspace/s".into() }],
            memory: Some(1 << 20),
            cpus_milli: Some(1_500),
            pids: Some(9),
            network: Network::Private,
            log_max: 5,
            allow_userns: false,
            keep: false,
            own_init: None,
            mounted_init: None,
        }
    }

    fn text(args: &[OsString]) -> String {
        args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_container_is_made_with_every_option_and_no_value_of_a_variable() {
        let args = text(&create(Tool::Docker, &spec()));
        for part in [
            "--name fosse-0123456789ab",
            "--label fosse.run=0123456789ab --label fosse.instance=i",
            "--init --pull=never --no-healthcheck --entrypoint  ",
            "--user 7:8",
            "--env-file /s/env --env B ",
            "mode=0700,uid=7,gid=8",
            "type=bind,\"source=/a,b\",target=/workspace,readonly",
            "type=tmpfs,target=/workspace/s,tmpfs-mode=0500,readonly",
            "--memory 1048576 --memory-swap 1048576 --cpus 1.500 --pids-limit 9",
            "--network fosse-0123456789ab -- busybox sh -c exit 3",
        ] {
            assert!(args.contains(part), "{part:?} in {args}");
        }
        assert!(!args.contains("secret") && !args.contains("lines"), "{args}");
    }

    #[test]
    fn podman_gets_what_it_understands() {
        let args = text(&create(Tool::Podman, &spec()));
        assert!(args.contains("--log-driver k8s-file") && args.contains("mode=1777"), "{args}");
        assert!(!can_mount(Tool::Podman, Path::new("/a,b")) && can_mount(Tool::Docker, Path::new("/a,b")));
    }
}

//! One more command in a running container, and what is asked about it.

use std::ffi::OsString;

use crate::runtime::Input;
use crate::runtime::carry::{Environment, words};
use crate::runtime::docker::Tool;
use crate::runtime::{Exec, options};

/// Starts one more command in a container, and what its variables travel in.
pub(crate) fn exec(kind: Tool, exec: &Exec) -> (Vec<OsString>, Environment) {
    let mut args = words(["exec"]);
    if exec.input.is_open() {
        args.push("--interactive".into());
        // No bytes of a pipe may ever be taken for the keys by which it detaches; docker takes some only at a terminal.
        if kind == Tool::Podman || exec.input == Input::Terminal {
            args.extend(words(["--detach-keys", super::no_detaching(kind)]));
        }
    }
    if exec.input == Input::Terminal {
        args.push("--tty".into());
    }
    let carried = options::place_of_exec(&mut args, exec);
    args.extend(exec.command.iter().cloned());
    (args, carried)
}

/// Asks for the image of a container.
pub(crate) fn image_of(container: &str) -> [&str; 5] {
    ["container", "inspect", "--format", "{{.Image}}", container]
}

/// Asks whom an image names as its user.
pub(crate) fn user_of(image: &str) -> [&str; 5] {
    ["image", "inspect", "--format", "{{.Config.User}}", image]
}

/// Asks for the signal that ends a container, which its image may name. A container has none if its image has none.
pub(crate) fn stop_signal_of(container: &str) -> [&str; 5] {
    ["container", "inspect", "--format", "{{.Config.StopSignal}}", container]
}

/// What of one more command cannot be written for this tool.
pub(crate) fn check_exec(kind: Tool, exec: &Exec) -> Result<(), String> {
    options::check_exec(kind.as_str(), exec)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(args: &[OsString]) -> String {
        args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn one_more_command_carries_no_value_of_a_variable() {
        let command = Exec {
            container: "fosse-0123456789ab".into(),
            container_id: None,
            command: vec!["env".into(), "-i".into()],
            input: Input::Pipe,
            workdir: Some("/w".into()),
            user: Some("7:8".into()),
            env: vec![("A".into(), "secret".into()), ("HTTPS_PROXY".into(), "steers".into())],
            env_file: "/s/env".into(),
            mark: "m".into(),
            has_init: false,
        };
        let (args, carried) = exec(Tool::Podman, &command);
        let wanted = "exec --interactive --detach-keys  --workdir /w --user 7:8 --env-file /s/env --env A \
                      fosse-0123456789ab env -i";
        assert_eq!(text(&args), wanted);
        assert_eq!(carried.file, b"HTTPS_PROXY=steers\n");
        assert_eq!(carried.by_process, [(OsString::from("A"), OsString::from("secret"))]);
        assert!(!text(&exec(Tool::Docker, &command).0).contains("--detach-keys"));
    }
}

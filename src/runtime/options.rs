//! Options that the engines' tools have in common, and what none of them can be told.

use std::ffi::OsString;

use super::carry::{Environment, check_environment, environment_beside, is_text, words};
use super::inside::{self, Reach};
use super::{Exec, LABEL_INSTANCE, LABEL_RUN, Spec, Whom};
use crate::sys::signal::Signal;

/// Whose an object is.
pub(crate) fn labels(args: &mut Vec<OsString>, spec: &Spec) {
    for label in [format!("{LABEL_RUN}={}", spec.id), format!("{LABEL_INSTANCE}={}", spec.instance)] {
        args.extend([OsString::from("--label"), label.into()]);
    }
}

/// Where one more command runs, as whom, with which variables, and in which container; nothing after that is an option.
/// What the variables travel in is given back.
pub(crate) fn place_of_exec(args: &mut Vec<OsString>, exec: &Exec) -> Environment {
    if let Some(workdir) = &exec.workdir {
        args.extend(words(["--workdir", workdir]));
    }
    user(args, exec);
    let carried = environment_beside(&exec.env);
    if !carried.file.is_empty() {
        args.extend([OsString::from("--env-file"), exec.env_file.clone().into_os_string()]);
    }
    for (name, _) in &carried.by_process {
        args.extend([OsString::from("--env"), name.clone()]);
    }
    args.push(exec.container.clone().into());
    carried
}

fn user(args: &mut Vec<OsString>, exec: &Exec) {
    if let Some(user) = &exec.user {
        args.extend(words(["--user", user]));
    }
}

/// Sends a signal from inside, as the user of the command. Code 3 means that there is nobody.
pub(crate) fn signal_inside(exec: &Exec, signal: &str, reach: Reach) -> Vec<OsString> {
    let mut args = words(["exec"]);
    user(&mut args, exec);
    args.push(exec.container.clone().into());
    args.extend(inside::script(&exec.mark, signal, reach));
    args
}

/// The same to a run's own command, as the container's user.
pub(crate) fn signal_command_inside(container: &str, signal: Signal, whom: Whom) -> Vec<OsString> {
    let mut args = words(["exec", container]);
    args.extend(inside::script_for_the_command(&signal.name(), whom));
    args
}

/// Refuses what of a run cannot be told to a tool. The engines' interfaces are JSON: other bytes would be replaced, and
/// another file be meant.
pub(crate) fn check(tool: &str, spec: &Spec) -> Result<(), String> {
    let paths = spec.mounts.iter().map(|mount| ("the path of a mount".to_owned(), mount.source.as_os_str()));
    is_text(tool, paths)?;
    check_command(tool, &spec.command, &spec.env)
}

/// Refuses what of one more command cannot be told to a tool.
pub(crate) fn check_exec(tool: &str, exec: &Exec) -> Result<(), String> {
    check_command(tool, &exec.command, &exec.env)
}

fn check_command(tool: &str, command: &[OsString], env: &[(OsString, OsString)]) -> Result<(), String> {
    let words = command.iter().map(|word| ("an argument of the command".to_owned(), word.as_os_str()));
    let values =
        env.iter().map(|(name, value)| (format!("the value of {}", name.to_string_lossy()), value.as_os_str()));
    is_text(tool, words.chain(values))?;
    check_environment(tool, env)
}

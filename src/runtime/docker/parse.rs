//! Reading what the tools print: pure functions over bytes. What makes no sense is an error, never a guess.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::base::id::RunId;
use crate::base::time::Timestamp;
use crate::process::{Exit, Output};
use crate::runtime::docker::Tool;
use crate::runtime::{About, Error, Facts, LABEL_RUN, Object, ObjectKind, Refusal, Status};

#[derive(Deserialize)]
struct Container {
    #[serde(rename = "Id")]
    id: String,
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "Created")]
    created: Option<String>,
    #[serde(rename = "State")]
    state: ContainerState,
    #[serde(rename = "Config")]
    config: Option<ContainerConfig>,
}

#[derive(Deserialize)]
struct ContainerState {
    #[serde(rename = "Status")]
    status: String,
    #[serde(rename = "ExitCode")]
    exit_code: i64,
    #[serde(rename = "OOMKilled", default)]
    oom_killed: bool,
    #[serde(rename = "Error", default)]
    error: String,
    #[serde(rename = "StartedAt", default)]
    started_at: String,
}

#[derive(Deserialize)]
struct ContainerConfig {
    #[serde(rename = "Labels")]
    labels: Option<BTreeMap<String, String>>,
}

/// Reads `container inspect`: a JSON array. Nothing at all means none.
pub fn facts(bytes: &[u8]) -> Result<Vec<Facts>, String> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Vec::new());
    }
    let containers: Vec<Container> = serde_json::from_slice(bytes).map_err(|e| format!("its JSON is broken: {e}"))?;
    containers.into_iter().map(container_facts).collect()
}

fn container_facts(container: Container) -> Result<Facts, String> {
    let ContainerState { status, exit_code, oom_killed, error, started_at } = container.state;
    // A container that never started has the zero time, and an exit code that is not one.
    let started = !started_at.is_empty() && !started_at.starts_with("0001-01-01");
    let status = match status.as_str() {
        "running" | "paused" | "stopping" => Status::Live,
        "created" | "initialized" | "configured" => Status::Created,
        "exited" | "stopped" | "dead" if started => Status::Ended {
            code: u8::try_from(exit_code).map_err(|_| format!("{exit_code} is no exit code"))?,
            oom: oom_killed,
        },
        "exited" | "stopped" | "dead" => Status::Created,
        _ => Status::Other,
    };
    let labels = container.config.and_then(|config| config.labels).unwrap_or_default();
    Ok(Facts {
        id: container.id,
        name: container.name.trim_start_matches('/').to_owned(),
        status,
        error,
        run: labels.get(LABEL_RUN).and_then(|id| RunId::parse(id)),
        created: container.created.as_deref().and_then(engine_time),
    })
}

#[derive(Deserialize)]
struct NetworkFacts {
    #[serde(alias = "Id")]
    id: String,
    #[serde(alias = "Created")]
    created: Option<String>,
    #[serde(alias = "Labels")]
    labels: Option<BTreeMap<String, String>>,
}

/// Reads `network inspect`, whose keys docker capitalises and podman does not.
pub fn networks(bytes: &[u8]) -> Result<Vec<Object>, String> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Vec::new());
    }
    let networks: Vec<NetworkFacts> = serde_json::from_slice(bytes).map_err(|e| format!("its JSON is broken: {e}"))?;
    let object = |network: NetworkFacts| Object {
        kind: ObjectKind::Network,
        id: network.id,
        run: network.labels.unwrap_or_default().get(LABEL_RUN).and_then(|id| RunId::parse(id)),
        created: network.created.as_deref().and_then(engine_time),
    };
    Ok(networks.into_iter().map(object).collect())
}

/// An engine's time: RFC 3339 with nanoseconds, in UTC or with the offset of the engine's zone.
fn engine_time(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    let split = text.len().checked_sub(6)?;
    let (local, offset) = (text.get(..split)?, text.get(split..)?);
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let micros = (hours.parse::<u64>().ok()? * 60 + minutes.parse::<u64>().ok()?) * 60_000_000;
    let local = format!("{local}Z").parse::<Timestamp>().ok()?.micros();
    match offset.as_bytes().first()? {
        b'+' => Some(Timestamp::from_micros(local.checked_sub(micros)?)),
        b'-' => Some(Timestamp::from_micros(local.checked_add(micros)?)),
        _ => None,
    }
}

/// Reads how the engine maps users.
pub fn about(kind: Tool, bytes: &[u8]) -> Result<About, String> {
    let broken = |e: serde_json::Error| format!("its JSON is broken: {e}");
    match kind {
        Tool::Docker => {
            let options: Option<Vec<String>> = serde_json::from_slice(bytes).map_err(broken)?;
            let options = options.unwrap_or_default();
            let has = |name: &str| options.iter().any(|option| option.split(',').any(|part| part == name));
            Ok(About { rootless: has("name=rootless"), remapped: has("name=userns") })
        }
        Tool::Podman => {
            #[derive(Deserialize)]
            struct Security {
                rootless: bool,
            }
            let security: Security = serde_json::from_slice(bytes).map_err(broken)?;
            Ok(About { rootless: security.rootless, remapped: false })
        }
    }
}

/// The id that a creating call prints: the last line with text, of characters that ids and names have.
pub fn id(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (line.len() <= 128 && line.chars().all(known)).then(|| line.to_owned())
}

/// Whether a text is an id as both engines make them: 64 hex digits.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// What a refusal means to the caller, by the words that docker (20.10 to 28) and podman (4, 5) use.
pub fn classify(call: String, complaint: String) -> Error {
    let lower = complaint.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    if says(&["no such image", "image not known"]) {
        Error::NoImage
    } else if says(&[
        "cannot connect to the docker daemon",
        "is the docker daemon running",
        "unable to connect to podman",
    ]) || (says(&["connection refused", "permission denied", "no such file or directory"])
        && says(&["dial unix", "docker daemon socket"]))
    {
        Error::Unreachable { complaint }
    } else if says(&["non-overlapping ipv4 address pool", "could not find free subnet", "all predefined address pools"])
    {
        Error::NoAddresses { complaint }
    } else {
        Error::Refused { call, complaint }
    }
}

/// Whether a network could not be made because another went away while the engine looked for free addresses: Go asks for
/// the interfaces one after the other (nerdctl issue 3500; seen with podman 4.3). Nothing was made.
pub(crate) fn was_disturbed(complaint: &str) -> bool {
    complaint.contains("route ip+net: no such network interface")
}

/// Whether all that went wrong is that some object does not exist, or is being removed already.
pub fn only_missing(stderr: &[u8]) -> bool {
    let text = String::from_utf8_lossy(stderr).to_lowercase();
    // docker's network verb closes with a line of its own.
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && *line != "exit status 1").peekable();
    let missing = [
        "no such container",
        "no such object",
        "no such network",
        "not found",
        "no container with",
        "already in progress",
        "is not known",
    ];
    lines.peek().is_some() && lines.all(|line| missing.iter().any(|words| line.contains(words)))
}

/// Whether a signal was refused because there is no process to take it.
pub(crate) fn not_running(complaint: &str) -> bool {
    let lower = complaint.to_lowercase();
    let words = ["is not running", "no such container", "can only kill running", "no container with"];
    words.iter().any(|words| lower.contains(words))
}

/// A warning that a limit is not kept: the engine makes the container all the same.
pub fn discarded_limit(stderr: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(stderr);
    let given_up = |line: &&str| {
        let lower = line.to_lowercase();
        lower.contains("discarded") || lower.contains("not supported and ignored")
    };
    text.lines().find(given_up).map(|line| line.trim().to_owned())
}

/// Whether a trial ended where it should: inside, for want of the program.
pub(crate) fn is_not_found_inside(output: &Output) -> bool {
    output.exit == Exit::Code(127) && String::from_utf8_lossy(&output.stderr).contains(super::argv::ABSENT)
}

/// What the engine's init said when it could not execute the command: the code a shell would give, and why.
///
/// tini: `[FATAL tini (7)] exec NAME failed: No such file or directory`, then 127 or 126, and 1 for any other reason.
/// catatonit: `ERROR (catatonit:2): failed to exec pid1: No such file or directory`, then 1.
pub fn exec_failure(exit: u8, stderr: &[u8]) -> Option<(u8, String)> {
    let text = std::str::from_utf8(stderr).ok()?.trim_end();
    let by_tini = text.starts_with("[FATAL tini (") && text.contains(")] exec ") && matches!(exit, 1 | 126 | 127);
    let by_catatonit = text.starts_with("ERROR (catatonit:") && text.contains("failed to exec pid1: ") && exit == 1;
    if text.contains('\n') || !(by_tini || by_catatonit) {
        return None;
    }
    // In the C library's words.
    let why = text.rsplit(": ").next()?.to_owned();
    let code = match why.as_str() {
        "No such file or directory" | "Not a directory" => 127,
        "Argument list too long"
        | "Resource temporarily unavailable"
        | "Cannot allocate memory"
        | "Out of memory"
        | "Too many open files"
        | "Too many open files in system" => 125,
        _ => 126,
    };
    Some((code, why))
}

/// How the tools begin when they did not start a command. Docker passes its runtime's words on stdout.
const REFUSALS: [&str; 7] = [
    "OCI runtime exec failed: ",
    "Error response from daemon: ",
    "Cannot connect to the Docker daemon",
    "cannot exec in a ",
    "unable to upgrade to tcp, received ",
    "error during connect: ",
    "Error: ",
];

/// Whether a stream's first bytes may be a tool's own words.
pub fn begins_like_a_refusal(start: &[u8]) -> bool {
    REFUSALS.iter().any(|words| start.starts_with(words.as_bytes()))
}

/// What a tool said in the place of a command that it did not start, on one stream alone. A command could say the
/// same: so it is believed where the code stays a failure of the same kind, or where the words name the container
/// or the engine that was asked for, one of `names`.
pub fn refusal(kind: Tool, names: &[&str], code: u8, said: [&[u8]; 2]) -> Option<Refusal> {
    let text = match said {
        [text, b""] if kind == Tool::Docker => text,
        [b"", text] => text,
        _ => return None,
    };
    let text = std::str::from_utf8(text).ok()?.trim_end();
    if !begins_like_a_refusal(text.as_bytes()) || text.contains('\n') {
        return None;
    }
    let says = |words: &[&str]| words.iter().any(|words| text.contains(words));
    let by_runtime = match kind {
        // As it is when the container ends at this moment: runc's own words.
        Tool::Docker => says(&["OCI runtime exec failed: "]) || is_about_a_dead_container(text),
        Tool::Podman => says(&[": OCI ", "Error: OCI "]),
    };
    let about_us = says(names) || says(&["container state improper"]);
    match code {
        126 | 127 if by_runtime => Some(runtime_refusal(text)),
        // podman 5 with runc, for what is found and is no program.
        125 | 255
            if kind == Tool::Podman && by_runtime && text.contains("unable to start container process: exec: ") =>
        {
            Some(runtime_refusal(text))
        }
        125 | 255 if kind == Tool::Podman && (by_runtime || about_us) => {
            Some(Refusal { code: 125, why: text.to_owned() })
        }
        1 if kind == Tool::Docker && (about_us || text.starts_with("unable to upgrade to tcp, received ")) => {
            Some(Refusal { code: 125, why: text.to_owned() })
        }
        _ => None,
    }
}

fn is_about_a_dead_container(text: &str) -> bool {
    text.starts_with("cannot exec in a stopped state") || text.starts_with("cannot exec in a deleted state")
}

/// What runc or crun said. Docker gives 126 for everything, so the words decide.
fn runtime_refusal(text: &str) -> Refusal {
    let lower = text.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|words| lower.contains(words));
    let code = if says(&[
        "chdir",
        "unable to find user",
        "setns",
        "stopped container",
        "stopped state",
        "deleted state",
        "parent process",
    ]) {
        125
    } else if says(&["executable file", "no such file or directory", "not a directory"]) {
        127
    } else if says(&[
        "permission denied",
        "is a directory",
        "exec format error",
        "too many levels of symbolic links",
        "file name too long",
    ]) {
        126
    } else {
        125
    };
    let after = text.split_once("unable to start container process: ").map_or(text, |(_, rest)| rest);
    let why = after.rsplit_once(": OCI ").map_or(after, |(why, _)| why).trim_end_matches(": unknown");
    Refusal { code, why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DOCKER: &str = r#"[{"Id":"abc","Created":"2026-11-21T09:37:13.379483642Z","Name":"/fosse-0123456789ab",
        "State":{"Status":"exited","ExitCode":137,"OOMKilled":true,"Error":"","StartedAt":"2026-11-21T09:37:13.5Z"},
        "Config":{"Labels":{"fosse.run":"0123456789ab"}},"More":1}]"#;

    #[test]
    fn facts_are_read_from_both_engines() {
        let facts = facts(DOCKER.as_bytes()).unwrap();
        assert_eq!(facts[0].status, Status::Ended { code: 137, oom: true });
        assert_eq!(facts[0].name, "fosse-0123456789ab");
        assert_eq!(facts[0].run.as_ref().unwrap().as_str(), "0123456789ab");
        assert!(facts[0].created.is_some());
    }

    #[test]
    fn a_container_that_never_started_has_no_exit_code() {
        let never = DOCKER.replace("2026-11-21T09:37:13.5Z", "0001-01-01T00:00:00Z");
        assert_eq!(facts(never.as_bytes()).unwrap()[0].status, Status::Created);
    }

    #[test]
    fn broken_answers_are_errors_and_none_is_none() {
        for broken in ["[{", "{}", "[{\"Id\":\"x\"}]", "null", "garbage"] {
            assert!(facts(broken.as_bytes()).is_err(), "{broken}");
        }
        assert_eq!(facts(b" \n"), Ok(vec![]));
        assert_eq!(facts(b"[]"), Ok(vec![]));
    }

    #[test]
    fn networks_are_read_in_either_spelling() {
        let docker = r#"[{"Id":"n","Created":"2026-11-21T10:00:00.1+01:00","Labels":{"fosse.run":"0123456789ab"}}]"#;
        let podman = r#"[{"id":"n","created":"2026-11-21T09:00:00.1Z","labels":{"fosse.run":"0123456789ab"}}]"#;
        assert_eq!(networks(docker.as_bytes()).unwrap(), networks(podman.as_bytes()).unwrap());
    }

    #[test]
    fn refusals_are_told_apart_by_the_engines_words() {
        let kind = |text: &str| classify("docker create".into(), text.into());
        assert!(matches!(kind("Error response from daemon: No such image: nope:latest"), Error::NoImage));
        assert!(matches!(kind("Error: nope:latest: image not known"), Error::NoImage));
        assert!(matches!(
            kind("Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?"),
            Error::Unreachable { .. }
        ));
        assert!(matches!(
            kind("could not find an available, non-overlapping IPv4 address pool among the defaults"),
            Error::NoAddresses { .. }
        ));
        assert!(matches!(kind("disk full"), Error::Refused { .. }));
        assert!(was_disturbed("Error: route ip+net: no such network interface") && !was_disturbed("disk full"));
    }

    #[test]
    fn missing_is_an_answer_and_an_error_is_not() {
        assert!(only_missing(b"Error: No such container: x\nError: No such container: y\n"));
        assert!(!only_missing(b"Error: No such container: x\npermission denied\n"));
        assert!(only_missing(b"Error response from daemon: network x not found\nexit status 1\n"));
        assert!(!only_missing(b"exit status 1\n"));
        assert!(!only_missing(b""));
    }

    #[test]
    fn an_init_that_could_not_execute_the_command_is_understood() {
        let tini = b"[FATAL tini (7)] exec nope failed: No such file or directory\n";
        assert_eq!(exec_failure(127, tini), Some((127, "No such file or directory".into())));
        for (why, wanted) in [("Not a directory", 127), ("File name too long", 126), ("Cannot allocate memory", 125)] {
            let said = format!("[FATAL tini (7)] exec x failed: {why}\n");
            assert_eq!(exec_failure(1, said.as_bytes()), Some((wanted, why.into())));
        }
        let catatonit = b"ERROR (catatonit:6): failed to exec pid1: Permission denied\n";
        assert_eq!(exec_failure(1, catatonit), Some((126, "Permission denied".into())));
        assert_eq!(exec_failure(3, tini), None);
        assert_eq!(exec_failure(127, b"sh: nope: not found\n"), None);
    }

    #[test]
    fn a_command_that_was_not_started_is_told_from_one_that_failed() {
        let docker = |code, out: &str, err: &str| {
            refusal(Tool::Docker, &["fosse-0123456789ab", "unix:///x.sock"], code, [out.as_bytes(), err.as_bytes()])
        };
        let oci = "OCI runtime exec failed: exec failed: unable to start container process: ";
        let absent = docker(126, &format!("{oci}exec: \"no\": executable file not found in $PATH: unknown\r\n"), "");
        let why = "exec: \"no\": executable file not found in $PATH".to_owned();
        assert_eq!(absent, Some(Refusal { code: 127, why }));
        let code = |refusal: Option<Refusal>| refusal.map(|refusal| refusal.code);
        assert_eq!(code(docker(126, &format!("{oci}exec: \"/tmp\": permission denied: unknown\n"), "")), Some(126));
        assert_eq!(
            code(docker(
                126,
                &format!("{oci}chdir to cwd (\"/no\") set in config.json failed: no such file or directory: unknown"),
                ""
            )),
            Some(125)
        );
        let none = "Error response from daemon: No such container: ";
        assert_eq!(code(docker(1, "", &format!("{none}fosse-0123456789ab\n"))), Some(125));
        // A docker inside the container says the same of others.
        assert_eq!(docker(1, "", &format!("{none}web\n")), None);
        assert_eq!(docker(3, "", &format!("{none}fosse-0123456789ab\n")), None);
        assert_eq!(docker(126, &format!("{oci}exec: x"), "and more"), None);
        let podman = |code, err: &str| refusal(Tool::Podman, &["fosse-1"], code, [b"", err.as_bytes()]);
        let directory = "Error: OCI runtime error: runc: exec failed: unable to start container process: exec: \"/tmp\": \
                         is a directory";
        assert_eq!(podman(125, directory).map(|refusal| refusal.code), Some(126));
        let absent = "Error: crun: executable file `no` not found in $PATH: No such file or directory: OCI runtime attempted to invoke a command that was not found\n";
        assert_eq!(code(podman(127, absent)), Some(127));
        assert_eq!(
            code(podman(126, "Error: crun: open executable: Permission denied: OCI permission denied")),
            Some(126)
        );
        assert_eq!(
            code(podman(125, "Error: no container with name or ID \"fosse-1\" found: no such container")),
            Some(125)
        );
        assert_eq!(
            code(podman(255, "Error: OCI runtime error: runc: exec failed: cannot exec in a stopped container")),
            Some(125)
        );
        // Programs of all kinds begin like this.
        assert_eq!(podman(255, "Error: no such host\n"), None);
        assert_eq!(podman(125, "Error: no such host\n"), None);
        assert_eq!(podman(127, "sh: no: not found\n"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parsers_fail_otherwise(bytes: Vec<u8>) {
            let _parsed = (facts(&bytes).is_ok(), networks(&bytes).is_ok(), id(&bytes), about(Tool::Docker, &bytes).is_ok());
        }

        #[test]
        fn no_time_makes_the_parser_fail_otherwise(text in "[0-9:.TZ+é-]{0,40}") {
            let _parsed = engine_time(&text);
        }

        #[test]
        fn a_damaged_answer_never_invents_an_exit_code(at in 0..DOCKER.len(), byte: u8) {
            let mut bytes = DOCKER.as_bytes().to_vec();
            bytes[at] = byte;
            for facts in facts(&bytes).unwrap_or_default() {
                prop_assert!(!facts.id.is_empty() || at < 12);
            }
        }
    }
}

//! What the tool's complaints mean: its texts differ between versions, and its exit code is 1 for all of them.
//!
//! The texts are those of 0.5 to 1.4. An error is the line that begins with `Error: `; up to 0.9 its code comes first
//! (`notFound: "…"`), later only causes have one. Other lines are the tool's log.

use crate::base::error::one_line;
use crate::process::{self, Cmd, Exit, Output};
use crate::runtime::docker::argv::ABSENT;
use crate::runtime::{Error, Refusal};

/// How the tool begins the line that says why it failed.
pub(crate) const ERROR: &str = "Error: ";

/// What a complaint is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The thing does not exist.
    Absent,
    /// The service is not there.
    Down,
    /// The service failed in the middle: what it was asked for may have been done.
    Unanswered,
    /// It cannot be done at this moment.
    NotNow,
    /// A container runs that must not.
    Running,
    /// A container does not run that must.
    NotRunning,
    /// Something else needs it still.
    InUse,
    /// There is something of that name.
    Taken,
    /// The image does not exist.
    NoImage,
    /// No more addresses or networks are to be had.
    NoAddresses,
    /// An exec that is over is still in the books of the service, for once.
    Stale,
    /// This version, or this system, has no such verb.
    NoSuchVerb,
    /// None of these.
    Other,
}

/// What a complaint is about. The more particular texts come first: one error may quote another.
pub(crate) fn meaning(complaint: &str) -> Meaning {
    const TEXTS: [(Meaning, &[&str]); 13] = [
        (Meaning::NoSuchVerb, &["Plugin 'container-", "Plugins are unavailable"]),
        (Meaning::Down, &["XPC connection error: Connection invalid"]),
        (Meaning::Unanswered, &["XPC timeout", "Connection interrupted"]),
        (Meaning::Down, &["container system start"]),
        (Meaning::NotNow, &["pending operation", "shuttingDown"]),
        (Meaning::Stale, &["deleteProcess: exec "]),
        (Meaning::InUse, &["referring containers", "active containers", "currently in use"]),
        (Meaning::Running, &["is running and can not be deleted", "container is running"]),
        (Meaning::NotRunning, &["no runtime client exists", "no sandbox client exists", "is not running"]),
        (Meaning::Taken, &["already exists", "already exist:"]),
        (Meaning::NoAddresses, &["no free indices", "overlaps an existing network", "vmnet_return_t"]),
        (Meaning::NoImage, &["image not found", "pull access denied", "manifest unknown"]),
        (Meaning::Absent, &["container not found:", "network not found:"]),
    ];
    let known = TEXTS.into_iter().find(|(_, texts)| texts.iter().any(|text| complaint.contains(text)));
    match known {
        Some((meaning, _)) => meaning,
        None if names_an_absent_container(complaint) || complaint.contains("notFound: ") => Meaning::Absent,
        None => Meaning::Other,
    }
}

/// `container with ID X not found`, `get failed: container X not found`.
fn names_an_absent_container(complaint: &str) -> bool {
    complaint.contains("not found")
        && ["container with ID ", "get failed: container "].iter().any(|text| complaint.contains(text))
}

/// What a complaint about a removal is about: there, and only there, a missing thing may be told by its name alone.
pub(crate) fn meaning_of_removal(complaint: &str) -> Meaning {
    const NAMED: [&str; 2] = ["failed to delete one or more containers:", "failed to delete one or more networks:"];
    match meaning(complaint) {
        Meaning::Other if NAMED.iter().any(|text| complaint.contains(text)) => Meaning::Absent,
        known => known,
    }
}

/// The words of a failed call that say why: its error with what follows it, else the end of what it said.
pub(crate) fn complaint(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let why = text
        .lines()
        .rev()
        .find(|line| line.starts_with(ERROR))
        .or_else(|| text.lines().rev().find(|l| !l.trim().is_empty()));
    match why {
        Some(line) => one_line(line.trim_start_matches(ERROR)),
        None => format!("it ended with {} and said nothing", output.exit),
    }
}

/// What a failed call means. All of its words count for that; those that say why are kept.
pub(crate) fn error(call: String, output: &Output) -> Error {
    let all = String::from_utf8_lossy(&output.stderr);
    let complaint = complaint(output);
    match meaning(&all) {
        Meaning::Down => Error::Unreachable { complaint },
        Meaning::NoImage => Error::NoImage,
        Meaning::NoAddresses => Error::NoAddresses { complaint },
        _ if all.trim().is_empty() => Error::Refused { call, complaint },
        _ => Error::Refused { call, complaint: one_line(&all).chars().take(2_000).collect() },
    }
}

/// The service is not up, as `system status` says it on stdout.
pub(crate) fn down(cmd: &Cmd, output: &Output) -> Error {
    match error(cmd.title(), output) {
        Error::Refused { .. } => Error::Unreachable { complaint: "its service is not running".into() },
        other => other,
    }
}

/// Whether a failure leaves open what became of the request.
pub(crate) fn is_unanswered(error: &Error) -> bool {
    match error {
        Error::Call(process::Error::Deadline { .. }) | Error::Garbled { .. } => true,
        Error::Call(process::Error::Start { .. } | process::Error::Cancelled { .. }) => false,
        Error::Refused { complaint, .. } => matches!(meaning(complaint), Meaning::Unanswered | Meaning::Taken),
        Error::Unreachable { .. } => true,
        Error::NoImage | Error::Forbidden { .. } | Error::NoAddresses { .. } => false,
    }
}

/// Whether the same request may succeed in a moment.
pub(crate) fn is_passing(error: &Error) -> bool {
    match error {
        Error::Refused { complaint, .. } => {
            matches!(meaning(complaint), Meaning::Unanswered | Meaning::NotNow | Meaning::Stale)
        }
        // A service that is not there does not come by itself; whoever has waited for it already may ask again.
        Error::Unreachable { .. } => false,
        Error::Call(_)
        | Error::Garbled { .. }
        | Error::NoImage
        | Error::Forbidden { .. }
        | Error::NoAddresses { .. } => false,
    }
}

/// The code that a shell gives for a command that was not started for this reason, where it is about the command.
pub(crate) fn code_of_unstarted(why: &str) -> Option<u8> {
    let by_start = why.contains("failed to start process") || why.contains("failed to create process");
    match why {
        _ if !by_start => None,
        _ if why.contains("failed to find target executable") => Some(127),
        _ if why.to_lowercase().contains("permission denied") => Some(126),
        _ => None,
    }
}

/// Whether a trial ended where it should: inside, for want of the program.
pub(crate) fn is_not_found_inside(output: &Output) -> bool {
    let text = String::from_utf8_lossy(&output.stderr);
    output.exit == Exit::Code(1) && text.contains("failed to find target executable") && text.contains(ABSENT)
}

/// Whether a stream's first bytes may be the tool's own words.
pub(crate) fn begins_like_a_refusal(start: &[u8]) -> bool {
    start.starts_with(ERROR.as_bytes())
}

/// What the tool said in the place of a command that it did not start: on stderr alone, and nothing else. A command
/// could say the same, so it is believed where the words name the container or its missing program.
pub(crate) fn refusal(container: &str, code: u8, said: [&[u8]; 2]) -> Option<Refusal> {
    let [b"", text] = said else { return None };
    let text = std::str::from_utf8(text).ok()?.trim_end();
    if code != 1 || !text.starts_with(ERROR) || text.lines().count() > 2 {
        return None;
    }
    let why = one_line(text.lines().next().unwrap_or_default().trim_start_matches(ERROR));
    let about_us = text.contains(container) || text.contains("failed to start process");
    match (code_of_unstarted(text), meaning(text)) {
        (Some(code), _) => Some(Refusal { code, why }),
        (None, Meaning::Down | Meaning::Unanswered) => Some(Refusal { code: 125, why }),
        (None, _) if about_us => Some(Refusal { code: 125, why }),
        (None, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(stderr: &str) -> Output {
        Output { exit: Exit::Code(1), stdout: Vec::new(), stderr: stderr.into(), truncated: false }
    }

    #[test]
    fn a_missing_container_is_known_by_the_texts_of_every_version() {
        for text in [
            "Error: container not found: X",
            "Error: get failed: container X not found",
            r#"Error: internalError: "failed to stop container" (cause: "notFound: "container with ID X not found"")"#,
            r#"Error: internalError: "failed to kill container" (cause: "notFound: "container with ID X not found"")"#,
            r#"Error: notFound: "get failed: container X not found""#,
        ] {
            assert_eq!(meaning(text), Meaning::Absent, "{text}");
            assert_eq!(meaning_of_removal(text), Meaning::Absent, "{text}");
        }
        for text in [
            r#"Error: failed to delete one or more containers: ["X"]"#,
            r#"Error: notFound: "failed to delete one or more networks: ["X"]""#,
            r#"Error: failed to delete one or more networks: ["X"]"#,
        ] {
            assert_eq!(meaning_of_removal(text), Meaning::Absent, "{text}");
        }
    }

    #[test]
    fn what_is_there_and_refuses_is_not_missing() {
        for (text, wanted) in [
            (
                r#"Error: internalError: "failed to delete container" (cause: "invalidState: "container X is running and can not be deleted"")"#,
                Meaning::Running,
            ),
            (
                r#"failed to delete network: ["id": X, "error": invalidState: "cannot delete subnet X with referring containers: a, b"]"#,
                Meaning::InUse,
            ),
            (
                r#"Error: internalError: "failed to kill container" (cause: "invalidState: "no runtime client exists: container is stopped"")"#,
                Meaning::NotRunning,
            ),
            (
                r#"Error: internalError: "failed to list containers" (cause: "interrupted: "XPC connection error: Connection invalid"")"#,
                Meaning::Down,
            ),
            (
                r#"Error: failed to list containers (cause: "internalError: "XPC timeout for request to com.apple.container.apiserver/containerList"")"#,
                Meaning::Unanswered,
            ),
            ("Error: network X has a pending operation", Meaning::NotNow),
            (r#"Error: delete failed for one or more networks: ["X"]"#, Meaning::Other),
            ("Error: Plugin 'container-network' not found.", Meaning::NoSuchVerb),
        ] {
            assert_eq!(meaning_of_removal(text), wanted, "{text}");
        }
    }

    #[test]
    fn an_interrupted_call_is_no_service_that_is_down() {
        let text = "Error: interrupted: \"XPC connection error: Connection interrupted\"\nEnsure container system service has been started with `container system start`.\n";
        let error = error("container list".into(), &failed(text));
        assert!(matches!(error, Error::Refused { .. }) && is_unanswered(&error), "{error:?}");
    }

    #[test]
    fn the_error_is_the_line_that_says_so() {
        let output = failed("pulling: [\"a\": b]\nError: image not found: nope\nSee 'container help'\n");
        assert_eq!(complaint(&output), "image not found: nope");
        assert!(matches!(error("x".into(), &output), Error::NoImage));
    }

    #[test]
    fn a_command_that_was_not_started_is_told_from_one_that_failed() {
        let said = |code, text: &str| refusal("fosse-1", code, [b"", text.as_bytes()]).map(|refusal| refusal.code);
        let absent = "Error: failed to start process X in container fosse-1 (cause: \"internalError: \"failed to find target executable nope\"\")\n";
        assert_eq!(said(1, absent), Some(127));
        assert_eq!(said(1, "Error: container fosse-1 is not running\n"), Some(125));
        assert_eq!(said(3, absent), None);
        assert_eq!(said(1, "Error: no such host\n"), None);
        assert_eq!(refusal("fosse-1", 1, [b"out", absent.as_bytes()]), None);
    }
}

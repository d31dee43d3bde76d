//! What to do when an engine answers and refuses: it is about the run, and not about the engine.

/// Words of engines, in lower case, and what to do about it. The first that fits counts.
const KNOWN: [(&[&str], &str); 8] = [
    (&["range of cpus", "cpu"], "--cpus N can be no more than the engine's machine has"),
    (&["memory", "oom"], "--memory is too small or too large: docker wants 6m or more, and a program more than that"),
    (&["must be lowercase", "reference format", "invalid reference"], "--image takes registry/name:tag in lower case"),
    (&["pids"], "--pids is too small or too large"),
    (&["no space left"], "the engine's disk is full: docker system df, or podman system df, says of what"),
    (
        &["bind source", "mount", "statfs", "not shared from the host"],
        "paths of the workspace and of --mount are those of the engine's machine",
    ),
    (&["user", "passwd"], "--user takes caller, image, root or UID[:GID]"),
    (&["network"], "--network open or none; fosse doctor tells whether the engine works"),
];

/// The hint for what an engine said.
pub(crate) fn advice(complaint: &str) -> &'static str {
    let lower = complaint.to_lowercase();
    let known = KNOWN.iter().find(|(words, _)| words.iter().any(|word| lower.contains(word)));
    known.map_or("fosse run --dry-run prints what the engine is asked for", |(_, hint)| hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_about_what_was_asked_for() {
        for (complaint, option) in [
            (
                "Error response from daemon: range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
                "--cpus",
            ),
            ("Error response from daemon: Minimum memory limit allowed is 6MB", "--memory"),
            ("invalid reference format: repository name (library/Busybox) must be lowercase", "--image"),
            ("container init was OOM-killed (memory limit too low?)", "--memory"),
            ("something else", "--dry-run"),
        ] {
            assert!(advice(complaint).contains(option), "{complaint}");
        }
    }
}

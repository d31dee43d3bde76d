//! What `fosse doctor` knows about Apple's containers: the service that may hang, and the init that tells exit codes.

use super::{Check, Verdict};
use crate::cli::config::Layer;
use crate::cli::resolve;

/// What helps, by what a call said or did not say.
pub(crate) fn hint(why: &str) -> String {
    let says = |words: &[&str]| words.iter().any(|word| why.contains(word));
    if says(&["no answer within", "other calls of the tool"]) {
        "its service hangs: container system stop, then container system start; container system logs says why".into()
    } else if says(&["not running", "Connection invalid", "system start"]) {
        "start its service: container system start".into()
    } else if says(&["kernel not configured"]) {
        "give it a kernel: container system kernel set --recommended".into()
    } else {
        "container system status and container system logs say more; try it yourself: container run --rm IMAGE true"
            .into()
    }
}

/// Whether an exit code is known although the client that was told it has gone.
pub(crate) fn carrier(layer: &Layer) -> Check {
    let check = |verdict, detail: &str| Check::new("apple carrier", verdict, detail);
    if layer.init.as_deref() == Some("off") {
        return check(Verdict::Note, "the tool's client, because init is off");
    }
    match resolve::linux_binary(layer) {
        Ok(Some(binary)) => {
            let detail =
                format!("the tool's client, and fosse's own PID 1 leaves the exit code ({})", binary.display());
            check(Verdict::Well, &detail)
        }
        Ok(None) => check(Verdict::Note, "the tool's client alone: if it is lost, so is the exit code")
            .hint("init_binary names fosse for Linux: fosse.json(5)"),
        Err(failure) => check(Verdict::Problem, failure.why()).hint("correct init_binary, or leave it out"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hung_service_gets_the_commands_that_help() {
        let hang = hint("container system status: no answer within 5s and killed");
        assert!(hang.contains("container system stop") && hang.contains("container system start"), "{hang}");
        assert!(hint("its service is not running").contains("container system start"));
    }
}

//! Whether a daemon is as this client would start it: one function, used by both sides.
//!
//! What differs from client to client (environment, workspace, the place of its configuration) is no part of it, else
//! clients would replace each other's daemon for ever: the files are those that the daemon reads.

use std::cmp::Ordering;

use serde_json::Value;

use crate::wire::daemon::Fingerprint;

/// The version of this program. Debug builds can claim another one, for tests.
pub(crate) fn version() -> String {
    #[cfg(debug_assertions)]
    if let Ok(Some(version)) = crate::base::env::text("FOSSE_TEST_VERSION") {
        return version;
    }
    env!("CARGO_PKG_VERSION").to_owned()
}

/// What a client thinks of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// It is as good as a new one, or better.
    Fresh,
    /// It is to be replaced, and why.
    Stale(String),
}

/// Judges a daemon by what it says of itself; `settings` is what its files say now.
pub(crate) fn judge(daemon: &Fingerprint, version: &str, settings: &Value) -> Judgement {
    match order(&daemon.version, version) {
        Some(Ordering::Less) => Judgement::Stale(format!("it is version {}, and this is {version}", daemon.version)),
        // What a newer one makes of its files is not for an older program to say.
        Some(Ordering::Greater) | None => Judgement::Fresh,
        // A file that cannot be read now, as while it is being written, says nothing.
        Some(Ordering::Equal) if settings.is_null() || *settings == daemon.settings => Judgement::Fresh,
        Some(Ordering::Equal) => Judgement::Stale("its configuration has changed".into()),
    }
}

/// Which of two versions is older; `None` if one is no version that this program understands.
fn order(a: &str, b: &str) -> Option<Ordering> {
    let numbers = |text: &str| -> Option<Vec<u64>> {
        text.split(['-', '+']).next()?.split('.').map(|part| part.parse().ok()).collect()
    };
    Some(numbers(a)?.cmp(&numbers(b)?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judged(theirs: &str, ours: &str, now: &Value) -> bool {
        let daemon = Fingerprint { version: theirs.into(), settings: json!({"keep_runs": 5}) };
        judge(&daemon, ours, now) == Judgement::Fresh
    }

    #[test]
    fn an_older_daemon_and_changed_settings_are_stale() {
        let (same, other) = (json!({"keep_runs": 5}), json!({"keep_runs": 6}));
        assert!(judged("1.2.3", "1.2.3", &same));
        assert!(!judged("1.2.3", "1.2.3", &other));
        assert!(!judged("1.2.3", "1.2.10", &same));
        assert!(!judged("0.9.9", "1.0.0-rc.1", &same));
    }

    #[test]
    fn a_newer_daemon_is_left_alone_whatever_its_files_say() {
        let other = json!({"keep_runs": 6});
        assert!(judged("1.2.10", "1.2.3", &other));
        assert!(judged("2.0.0", "1.9.9", &other));
    }

    #[test]
    fn what_cannot_be_read_replaces_nothing() {
        assert!(judged("1.0.0", "1.0.0", &Value::Null));
        assert!(judged("unknown", "1.0.0", &json!({})));
        assert!(judged("1.0.0", "x", &json!({})));
    }

    #[test]
    fn no_pair_of_versions_replaces_each_other() {
        for a in ["0.1.0", "0.1.1", "1.0.0", "x", "1.0.0-a", "1.0.0+b"] {
            for b in ["0.1.0", "0.1.1", "1.0.0", "x", "1.0.0-a", "1.0.0+b"] {
                let same = json!({"keep_runs": 5});
                assert!(judged(a, b, &same) || judged(b, a, &same), "{a} {b}");
            }
        }
    }
}

//! Starting a daemon in the background: by executing the program again, never by forking a process with threads.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::base::env;
use crate::base::error::{Failure, Result};
use crate::base::time::Deadline;
use crate::process::{Cmd, Detached, spawn_detached};
use crate::sys::poll;
use crate::wire::daemon::Verdict;

use super::Context;

/// The variable that names the program.
pub(crate) const EXECUTABLE: &str = "FOSSE_EXECUTABLE";

/// How long a first try may take before a second one helps: more than it takes to replace one that does not answer.
const PATIENCE: Duration = Duration::from_secs(4);

/// How long the second one may take: more than a daemon that was asked to end may.
const LIMIT: Duration = Duration::from_secs(15);

/// How long the first one has then to say what became of it.
const LAST_WORD: Duration = Duration::from_millis(300);

/// Between two looks for one that serves by now.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The most bytes of a report.
const REPORT_MAX: usize = 64 << 10;

/// The program that a daemon is started from: the named one, else this one.
pub(crate) fn executable() -> Result<PathBuf> {
    let what = "finding the program for the daemon";
    let hint = format!("set {EXECUTABLE} to the path of fosse");
    let (path, source) = match env::get(EXECUTABLE).map(PathBuf::from) {
        Some(path) => (path, format!("{EXECUTABLE} names")),
        None => {
            let own = std::env::current_exe().map_err(|error| Failure::new(what, error).hint(hint.clone()))?;
            (still_there(own), "it is".to_owned())
        }
    };
    let refuse = |why: &str| Failure::new(what, format!("{source} {}, {why}", path.display())).hint(hint.clone());
    if !path.is_absolute() {
        return Err(refuse("which is no absolute path"));
    }
    if is_test_binary(&path) {
        return Err(refuse("which is a test binary"));
    }
    match std::fs::metadata(&path) {
        Ok(found) if found.is_file() && found.permissions().mode() & 0o111 != 0 => Ok(path),
        Ok(_) => Err(refuse("which is no program")),
        Err(error) => Err(refuse(&format!("which cannot be used: {error}"))),
    }
}

/// The path of a program that was replaced while it runs, as an upgrade does: the kernel marks it (proc(5), exe).
fn still_there(own: PathBuf) -> PathBuf {
    let replaced = own.to_str().and_then(|path| path.strip_suffix(" (deleted)")).map(PathBuf::from);
    replaced.filter(|path| path.is_file()).unwrap_or(own)
}

/// Whether a path is one that cargo gives to tests: `deps/NAME-HASH`. Such a program is not fosse, and a daemon made of
/// it would run the tests, again and again.
fn is_test_binary(path: &Path) -> bool {
    let in_deps = path.parent().and_then(Path::file_name).is_some_and(|name| name == "deps");
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let hash = name.rsplit_once('-').map(|(_, hash)| hash).unwrap_or_default();
    in_deps && hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Starts one, and waits until it serves, or says why it does not.
pub(crate) fn start(context: &Context, force: bool) -> Result<Verdict> {
    let what = "starting the daemon";
    let mut cmd = Cmd::new(executable()?).args(["daemon", "start", "--detached"]);
    if force {
        cmd = cmd.args(["--force"]);
    }
    let begin = || spawn_detached(&cmd).map_err(|error| Failure::new(what, error));
    let first = begin()?;
    let mut report = read_report(&first, PATIENCE);
    if report.is_none() {
        // Frozen, perhaps with the lock in its hands: a second one takes it from there.
        let second = begin()?;
        report = read_report(&second, LIMIT);
        // It may be the daemon that the second one has found, a moment before it says so.
        read_report(&first, LAST_WORD);
        first.end();
        if report.is_none() {
            second.end();
            let why = format!("{} did not get ready, and was ended", cmd.program.to_string_lossy());
            return Err(Failure::new(what, why).hint(format!("is it fosse? {EXECUTABLE} may name it")));
        }
    }
    if let Some(Ok(verdict)) = report.filter(|report| !report.is_empty()).map(|report| serde_json::from_slice(&report))
    {
        return Ok(verdict);
    }
    // It was ended before it could say anything, perhaps by one that serves by now.
    let late = Deadline::after(PATIENCE);
    while !late.expired() {
        if let (_, Ok(health)) = context.look(late) {
            return Ok(Verdict::Running { pid: health.pid });
        }
        Deadline::after(LOOK_AGAIN).wait();
    }
    let hint = "its log, daemon.log in the state directory, may say more";
    Err(Failure::new(what, "it ended without a word").hint(hint))
}

/// Whether there is a daemon now; its process id.
pub(crate) fn judged(verdict: Verdict) -> Result<i32> {
    match verdict {
        Verdict::Ready { pid } | Verdict::Running { pid } => Ok(pid),
        Verdict::Failed { why, hint } => {
            let failure = Failure::new("starting the daemon", why);
            Err(match hint {
                Some(hint) => failure.hint(hint),
                None => failure,
            })
        }
    }
}

/// All that comes until its end; `None` if that is not in time.
fn read_report(started: &Detached, limit: Duration) -> Option<Vec<u8>> {
    let (mut report, mut piece, late) = (Vec::new(), [0; 4096], Deadline::after(limit));
    let mut pipe = &started.report;
    loop {
        poll::wait_readable(pipe, late.remaining()).ok()?;
        if !poll::ready_now(pipe).ok()? {
            if late.expired() {
                return None;
            }
            continue;
        }
        match pipe.read(&mut piece) {
            Ok(0) => return Some(report),
            Ok(_) if report.len() >= REPORT_MAX => return Some(report),
            Ok(count) => report.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return Some(report),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_binary_is_known_by_its_place() {
        assert!(is_test_binary(Path::new("/x/target/debug/deps/tests-0123456789abcdef")));
        for fine in ["/usr/bin/fosse", "/x/target/debug/fosse", "/x/deps/fosse", "/x/fosse-0123456789abcdef"] {
            assert!(!is_test_binary(Path::new(fine)), "{fine}");
        }
    }

    #[test]
    fn this_test_does_not_become_a_daemon() {
        let refused = executable().unwrap_err();
        assert!(refused.why().contains("test binary"), "{refused}");
    }
}

//! What could not be tested here: libtest has no word for it and would say "ok", so it is noted, and `tests/run` says it.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Mutex;

thread_local! {
    /// How often something was left out in this thread.
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

/// Whether a suite that cannot run is a failure.
pub fn strict() -> bool {
    std::env::var_os("FOSSE_TEST_STRICT").is_some_and(|value| value == "1")
}

/// Says that something was not tested; in strict mode that is a failure. A test of which no [`part`] was done counts as
/// left out as a whole.
pub fn left_out(why: &str) {
    assert!(!strict(), "{why}, which strict mode does not allow");
    COUNT.set(COUNT.get() + 1);
    note("left out", why);
}

/// The same where a part of the test has been done before.
pub fn rest_left_out(why: &str) {
    note("done", "");
    left_out(why);
}

/// The same of what no preparation could make possible here, which is no failure in strict mode either.
pub fn not_here(why: &str) {
    COUNT.set(COUNT.get() + 1);
    note("left out", why);
}

/// Does a part of a test. If it left nothing out, the test counts as done, whatever else it leaves out.
pub fn part<T>(body: impl FnOnce() -> T) -> T {
    let before = COUNT.get();
    let result = body();
    if COUNT.get() == before {
        note("done", "");
    }
    result
}

/// Appends a line about the test that runs to the file that `tests/run` names, or says it where libtest keeps nothing
/// back. Each once.
fn note(what: &str, why: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let thread = std::thread::current();
    let line = format!("{}\t{what}\t{why}\n", thread.name().unwrap_or("a thread of a test"));
    if !SAID.lock().unwrap().insert(line.clone()) {
        return;
    }
    match std::env::var_os("FOSSE_TEST_NOTES") {
        Some(file) => {
            let file = std::fs::OpenOptions::new().append(true).create(true).open(file);
            file.and_then(|mut file| file.write_all(line.as_bytes())).unwrap();
        }
        None if what == "done" => {}
        None => std::io::stderr().write_all(line.replace('\t', ": ").as_bytes()).unwrap_or_default(),
    }
}

/// Whether programs of the host's are installed; a test that needs one that is not is left out.
pub fn has(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<_> = std::env::split_paths(&path).filter(|dir| dir.is_absolute()).collect();
    let missing = programs.iter().find(|program| !dirs.iter().any(|dir| is_executable(&dir.join(program))));
    if let Some(program) = missing {
        left_out(&format!("{program} is not installed"));
    }
    missing.is_none()
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Does each step of a Drop, also after one that panics. That fails the test; in one that has failed already it would
/// end all the others with it.
pub fn in_drop<T>(this: &mut T, steps: &[fn(&mut T)]) {
    let mut first = None;
    for step in steps {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| step(this))) {
            first.get_or_insert(panic);
        }
    }
    match first {
        Some(panic) if !std::thread::panicking() => resume_unwind(panic),
        _ => {}
    }
}

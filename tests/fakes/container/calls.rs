//! The log of calls: a line when one begins, a line when it ends, and one in between when it stays with a process that
//! runs. A call that was killed has no end.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::args::Parsed;
use crate::call::at_the_end;
use crate::store::{self, Store};
use crate::supervisor::guard;

/// This call: its number and what is in its file below `inflight`.
static CURRENT: Mutex<Option<Current>> = Mutex::new(None);

struct Current {
    root: PathBuf,
    number: u64,
    note: Value,
}

impl Current {
    fn file(&self) -> PathBuf {
        self.root.join("inflight").join(self.number.to_string())
    }
}

fn nanoseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or_default()
}

/// The containers, networks or volumes that a call is about.
pub fn ids(verb: &str, parsed: &Parsed) -> Vec<String> {
    match verb {
        "run" | "create" => parsed.value("name").into_iter().map(str::to_owned).collect(),
        "start" | "exec" | "logs" | "export" => parsed.arguments.iter().take(1).cloned().collect(),
        "copy" => {
            let named = parsed.arguments.iter().filter_map(|side| side.split_once(':'));
            named.map(|(id, _)| id.to_owned()).collect()
        }
        "build" => Vec::new(),
        _ => parsed.arguments.clone(),
    }
}

/// What a stream of this process is.
fn kind(stream: u8) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    let path = format!("/proc/self/fd/{stream}");
    let Ok(found) = fs::metadata(&path) else { return "closed" };
    let target = fs::read_link(&path).unwrap_or_default();
    let kind = found.file_type();
    match () {
        () if target == Path::new("/dev/null") => "null",
        () if target.starts_with("/dev/pts") || target.starts_with("/dev/tty") => "tty",
        () if kind.is_fifo() => "pipe",
        () if kind.is_socket() => "socket",
        () if kind.is_char_device() => "tty",
        () => "file",
    }
}

fn append(root: &Path, line: &Value) {
    let file = File::options().append(true).create(true).open(root.join("calls.jsonl"));
    // One write, so that lines of several processes do not mix.
    let written = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
    written.unwrap_or_else(|error| crate::warn(&format!("calls.jsonl: {error}")));
}

/// Other calls whose processes live: not answered, or with a process that they stay with.
fn others(root: &Path) -> Vec<Value> {
    let entries = fs::read_dir(root.join("inflight")).into_iter().flatten().flatten();
    let notes = entries.filter_map(|entry| store::read::<Value>(&entry.path()));
    notes.filter(|note| Path::new(&format!("/proc/{}", note["pid"])).exists()).collect()
}

/// Notes that a call begins; its number.
pub fn begin(store: &Store, argv: &[String], verb: &str, parsed: &Parsed, fault: Option<&Value>) {
    let root = store.root.clone();
    let _guard = store::take(&root.join("calls.lock"));
    let number = store::read::<u64>(&root.join("calls.next")).unwrap_or(1);
    store::write(&root.join("calls.next"), &(number + 1));
    let beside = others(&root);
    let in_flight = beside.iter().filter(|note| note["attached"] != true).count();
    let ids = ids(verb, parsed);
    let pid = std::process::id();
    let interesting = |name: &str| name == "SSH_AUTH_SOCK" || name.starts_with("CONTAINER_");
    let env: Map<String, Value> =
        std::env::vars().filter(|(name, _)| interesting(name)).map(|(name, value)| (name, value.into())).collect();
    let note = json!({"call": number, "pid": pid, "verb": verb, "ids": ids});
    let line = json!({
        "event": "start", "call": number, "ns": nanoseconds(), "pid": pid, "verb": verb, "ids": ids, "argv": argv,
        "cwd": std::env::current_dir().unwrap_or_default(), "env": env,
        "stdin": kind(0), "stdout": kind(1), "stderr": kind(2),
        "in_flight": in_flight, "beside": beside, "fault": fault.map(|fault| fault["do"].clone()),
    });
    let current = Current { root: root.clone(), number, note };
    // The end waits for this, so that a call that is seen to begin is seen to end.
    let mut this = guard(&CURRENT);
    at_the_end(|code| {
        if let Some(current) = guard(&CURRENT).take() {
            let line = json!({"event": "end", "call": current.number, "ns": nanoseconds(), "rc": code});
            append(&current.root, &line);
            fs::remove_file(current.file()).unwrap_or_default();
        }
    });
    store::write(&current.file(), &current.note);
    append(&root, &line);
    *this = Some(current);
}

/// Notes that the process runs which this call stays with: the service has answered.
pub fn running() {
    if let Some(current) = guard(&CURRENT).as_mut() {
        current.note["attached"] = true.into();
        store::write(&current.file(), &current.note);
        append(&current.root, &json!({"event": "running", "call": current.number, "ns": nanoseconds()}));
    }
}

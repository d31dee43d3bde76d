//! Apple's service, played by the emulator (tests/fakes/container): a root of its own for each, with the test images.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::{Home, finish, wait_until};

/// A service of a test's own. Dropping it kills whatever runs in it.
pub struct Service {
    pub root: PathBuf,
    /// Whose service it is, if that is somebody else.
    user: Option<u32>,
    /// Whether it ends with this value.
    ends: bool,
}

impl Service {
    /// A service below a home, of a release such as `1.2.2`, with the two test images.
    pub fn new(home: &Home, version: &str) -> Service {
        Service::named(home, version, "container-service")
    }

    /// The same below another name.
    pub fn named(home: &Home, version: &str, name: &str) -> Service {
        let service = Service { root: home.dir.join(name), user: home.user, ends: true };
        fs::create_dir_all(service.root.join("images")).unwrap();
        service.write("profile.json", &json!({"version": version}));
        for image in ["busybox", "glibc"] {
            service.image(&format!("fosse-test:{image}"), image, &json!({"Cmd": ["/bin/sh"]}));
        }
        home.give(&service.root.join("images"));
        service
    }

    /// One more that is this service's, seen from another home: it ends with the first.
    pub fn another(&self) -> Service {
        Service { root: self.root.clone(), user: self.user, ends: false }
    }

    /// The containers and networks that carry the label of a state directory.
    pub fn objects(&self, instance: &str) -> Vec<String> {
        let files = |dir: &str, file: &str| {
            let entries = fs::read_dir(self.root.join(dir)).into_iter().flatten().flatten();
            let file_of = |path: PathBuf| if path.is_dir() { path.join(file) } else { path };
            entries.map(|entry| file_of(entry.path())).collect::<Vec<_>>()
        };
        let all = [files("containers", "config.json"), files("networks", "")].concat();
        let is_ours = |path: &&PathBuf| {
            let value: Value =
                fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
            value["labels"]["fosse.instance"] == instance
        };
        all.iter().filter(is_ours).map(|path| path.display().to_string()).collect()
    }

    /// Adds an image with the tree of one of the test images.
    pub fn image(&self, reference: &str, tree: &str, config: &Value) {
        let file = format!("images/{}.json", reference.replace(['/', ':'], "-"));
        let image = json!({"reference": reference, "rootfs": trees().join(tree), "config": config});
        self.write(&file, &image);
    }

    /// Writes one of the files that the service reads, at once.
    pub fn write(&self, name: &str, value: &Value) {
        let path = self.root.join(name);
        let new = path.with_extension("new");
        fs::write(&new, value.to_string()).unwrap();
        std::os::unix::fs::lchown(&new, self.user, self.user).unwrap();
        fs::rename(new, path).unwrap();
    }

    fn read(&self, name: &str) -> Value {
        fs::read(self.root.join(name)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// What a program needs to find this service and its tool.
    pub fn env(&self) -> [(&'static str, PathBuf); 2] {
        [("FAKE_CONTAINER_ROOT", self.root.clone()), ("FOSSE_CONTAINER", tool().to_owned())]
    }

    /// The tool with arguments.
    pub fn cmd<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(tool());
        command.args(args).env("FAKE_CONTAINER_ROOT", &self.root).stdin(Stdio::null());
        if let Some(user) = self.user {
            std::os::unix::process::CommandExt::uid(&mut command, user);
            std::os::unix::process::CommandExt::gid(&mut command, user);
        }
        command
    }

    /// Calls the tool and waits for its end.
    pub fn call<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Output {
        finish(self.cmd(args))
    }

    /// Whether the service is up: `running`, `not_running` or `unregistered`.
    pub fn server(&self, state: &str) {
        let boot = self.read("server.json")["boot"].as_u64().unwrap_or(1);
        self.write("server.json", &json!({"state": state, "boot": boot}));
    }

    /// The containers as they are on disk: id and state, with what the tool never tells (`exit`, `init`).
    pub fn containers(&self) -> Vec<(String, Value)> {
        let entries = fs::read_dir(self.root.join("containers")).into_iter().flatten().flatten();
        let ids = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut found: Vec<_> = ids.map(|id| (id.clone(), self.read(&format!("containers/{id}/state.json")))).collect();
        found.sort_by(|one, other| one.0.cmp(&other.0));
        found
    }

    /// The state of one container on disk.
    pub fn state(&self, id: &str) -> Value {
        self.read(&format!("containers/{id}/state.json"))
    }

    /// Rules of faults: each is an object (see the emulator's `faults.rs`).
    pub fn faults(&self, rules: &Value) {
        self.write("faults.json", rules);
    }

    /// How long the service takes, in milliseconds by verb (see the emulator's `latency.rs`).
    pub fn latency(&self, settings: &Value) {
        self.write("latency.json", settings);
    }

    /// All calls so far, by their numbers.
    pub fn calls(&self) -> Vec<Call> {
        let text = fs::read_to_string(self.root.join("calls.jsonl")).unwrap_or_default();
        let mut calls: Vec<Call> = Vec::new();
        // The last line may be on its way.
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
            let number = line["call"].as_u64().unwrap();
            let at = line["ns"].as_u64().unwrap();
            let known = calls.iter_mut().find(|call| call.number == number);
            match (line["event"].as_str().unwrap(), known) {
                ("start", _) => calls.push(Call::begun(number, at, line)),
                ("running", Some(call)) => call.running = Some(at),
                ("end", Some(call)) => {
                    call.end = Some(at);
                    call.code = line["rc"].as_i64().and_then(|code| i32::try_from(code).ok());
                }
                (event, _) => panic!("{event} of call {number} without a start"),
            }
        }
        calls
    }

    /// Fails if more calls of a verb than this were ever with the service at once.
    pub fn assert_in_flight_at_most(&self, verb: &str, most: usize) {
        let calls = self.calls();
        let same: Vec<&Call> = calls.iter().filter(|call| call.verb == verb).collect();
        for call in &same {
            let beside = same.iter().filter(|other| other.is_served_at(call.start)).count();
            assert!(beside <= most, "{beside} calls of {verb} at once: {call:?}");
        }
    }

    /// Fails if the service was ever asked for two changes of one container, network or volume at once.
    pub fn assert_one_change_at_a_time(&self) {
        let calls = self.calls();
        let changes: Vec<&Call> = calls.iter().filter(|call| call.changes()).collect();
        for call in &changes {
            for other in &changes {
                let same = other.number != call.number && other.ids.iter().any(|id| call.ids.contains(id));
                assert!(!(same && other.is_served_at(call.start)), "two changes at once: {other:?} and {call:?}");
            }
        }
    }

    /// Fails if a call was begun and never ended: it hangs, or was killed.
    pub fn assert_every_call_ended(&self) {
        let open: Vec<Call> = self.calls().into_iter().filter(|call| call.end.is_none()).collect();
        assert!(open.is_empty(), "calls without an end: {open:?}");
    }

    /// Fails if there was a call that the tool did not understand.
    pub fn assert_every_call_understood(&self) {
        let wrong: Vec<Call> =
            self.calls().into_iter().filter(|call| call.verb.is_empty() && call.code == Some(64)).collect();
        assert!(wrong.is_empty(), "calls that were not understood: {wrong:?}");
    }

    /// Fails if a text was in the arguments of any call.
    pub fn assert_no_argument_has(&self, secret: &str) {
        for call in self.calls() {
            assert!(!call.argv.iter().any(|arg| arg.contains(secret)), "{call:?}");
        }
    }

    /// Fails unless every container, network and volume is gone.
    pub fn assert_nothing_left(&self) {
        assert_eq!(self.containers(), Vec::new(), "containers are left");
        for (dir, own) in [("networks", "default.json"), ("volumes", "")] {
            let entries = fs::read_dir(self.root.join(dir)).into_iter().flatten().flatten();
            let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
            let left: Vec<String> = names.filter(|name| name != own).collect();
            assert_eq!(left, Vec::<String>::new(), "{dir} are left");
        }
    }

    /// Processes of this service: those of the emulator that belong to its root.
    fn processes(&self) -> Vec<i32> {
        let line = format!("FAKE_CONTAINER_ROOT={}", self.root.display());
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let ours = |pid: &i32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            is_emulator(*pid) && environment.split(|byte| *byte == 0).any(|entry| entry == line.as_bytes())
        };
        pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(ours).collect()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if !self.ends {
            return;
        }
        // A machine dies with its helper, and its processes with it.
        let end = |service: &mut Service| {
            wait_until("the service is gone", || {
                let left = service.processes();
                for pid in &left {
                    super::try_kill(*pid, super::KILL);
                }
                left.is_empty()
            });
        };
        super::in_drop(self, &[end]);
        // What the kernel keeps of an overlay is nobody's to enter.
        let ids = self.containers().into_iter().map(|(id, _)| id);
        for dir in ids.map(|id| self.root.join("containers").join(id).join("work/work")) {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).unwrap_or_default();
        }
    }
}

/// A call of the tool.
#[derive(Debug, Clone)]
pub struct Call {
    pub number: u64,
    /// By its full name, without aliases; empty if there is none such.
    pub verb: String,
    /// Of the containers, networks or volumes that it was about.
    pub ids: Vec<String>,
    pub argv: Vec<String>,
    pub pid: i32,
    /// When it began, when the process ran that it stayed with, and when it ended, in nanoseconds.
    pub start: u64,
    pub running: Option<u64>,
    pub end: Option<u64>,
    pub code: Option<i32>,
    /// The line of its start.
    pub line: Value,
}

impl Call {
    fn begun(number: u64, start: u64, line: Value) -> Call {
        let texts = |name: &str| serde_json::from_value(line[name].clone()).unwrap();
        Call {
            number,
            verb: line["verb"].as_str().unwrap().to_owned(),
            ids: texts("ids"),
            argv: texts("argv"),
            pid: i32::try_from(line["pid"].as_i64().unwrap()).unwrap(),
            start,
            running: None,
            end: None,
            code: None,
            line,
        }
    }

    /// Whether the service was at it at a time. One that was killed is not counted after its start.
    fn is_served_at(&self, at: u64) -> bool {
        let end = self.running.or(self.end).unwrap_or(self.start);
        self.start <= at && at <= end
    }

    /// Whether it changes something.
    fn changes(&self) -> bool {
        let verb = self.verb.rsplit(' ').next().unwrap_or_default();
        matches!(verb, "run" | "create" | "start" | "stop" | "kill" | "delete" | "tag")
    }
}

/// Whether a process is one of the emulator, also if another build has taken its place on disk.
fn is_emulator(pid: i32) -> bool {
    let exe = fs::read_link(format!("/proc/{pid}/exe")).map(|path| path.to_string_lossy().into_owned());
    exe.is_ok_and(|exe| exe.trim_end_matches(" (deleted)").ends_with("/examples/container"))
}

/// The trees of the test images, laid out once.
pub fn trees() -> &'static Path {
    built().as_ref().unwrap_or_else(|why| panic!("{why}"))
}

/// Whether there is what the images are made of.
pub fn has_images() -> bool {
    built().is_ok()
}

fn built() -> &'static Result<PathBuf, String> {
    static TREES: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    TREES.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("trees");
        let mut command = Command::new("sh");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/images")).arg("files").arg(&dir);
        let output = finish(command);
        if output.status.success() { Ok(dir) } else { Err(super::stderr(&output)) }
    })
}

/// The emulator. If it is missing, or older than its sources, it is built.
pub fn tool() -> &'static Path {
    static TOOL: OnceLock<PathBuf> = OnceLock::new();
    TOOL.get_or_init(|| {
        let profile = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned();
        let tool = profile.join("examples/container");
        let sources = ["tests/fakes/container", "src/sys", "src/base"];
        let newest = sources.iter().map(|dir| newest(&Path::new(env!("CARGO_MANIFEST_DIR")).join(dir))).max();
        let is_fresh = fs::metadata(&tool).and_then(|found| found.modified()).is_ok_and(|made| Some(made) >= newest);
        if !is_fresh {
            build(&profile);
        }
        assert!(tool.is_file(), "{} is missing", tool.display());
        tool
    })
}

/// When the newest file below a directory was changed.
fn newest(dir: &Path) -> SystemTime {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let times = entries.map(|entry| match entry.file_type().unwrap().is_dir() {
        true => newest(&entry.path()),
        false => entry.metadata().unwrap().modified().unwrap(),
    });
    times.max().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Builds it with the cargo that runs the tests, for the same profile and target.
fn build(profile: &Path) {
    let all = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let words: Vec<String> =
        profile.strip_prefix(all).unwrap_or(profile).iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--locked", "--quiet", "--example", "container", "--target-dir"]).arg(all);
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    let (name, target) = (words.last().unwrap(), words.len() > 1);
    command.args(["--profile", if name == "debug" { "dev" } else { name }]);
    if target {
        command.args(["--target", &words[0]]);
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    // It may be as it was before.
    let touched =
        fs::File::open(profile.join("examples/container")).and_then(|file| file.set_modified(SystemTime::now()));
    touched.unwrap_or_default();
}

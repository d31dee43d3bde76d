//! A home of its own for each test, real engines, stand-ins for those that cannot be had, and waiting for
//! conditions.

#[cfg(target_os = "linux")]
#[allow(dead_code, reason = "not every tool for it has a use yet")]
pub mod apple;
mod client;
#[cfg(target_os = "linux")]
pub mod daemon;
pub mod disk;
pub mod engines;
#[cfg(target_os = "linux")]
pub mod http;
#[cfg(target_os = "linux")]
pub mod init;
#[cfg(target_os = "linux")]
pub mod native;
pub mod own_engine;
pub mod processes;
mod skip;
#[cfg(target_os = "linux")]
pub mod terminal;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub use client::*;
pub use engines::*;
pub use skip::*;

/// How long anything may take before a test calls it a hang. Generous: a low limit only buys flakes.
pub const LIMIT: Duration = Duration::from_secs(120);

/// The engines that are programs of their own.
const REAL: &[Engine] = &[Engine::Docker, Engine::Podman];

/// The image with busybox.
pub const IMAGE: &str = "fosse-test:busybox";

/// Whether nothing is to be spared.
pub fn is_full() -> bool {
    repeat_percent().is_some_and(|percent| percent >= 100)
}

/// How often a repeated check runs: FOSSE_TEST_REPEAT percent of `full` times; by default a tenth of them in strict
/// mode, which is what fits into a run on two processors, and fewer otherwise.
pub fn repeat(full: usize) -> usize {
    (full * repeat_percent().unwrap_or(if strict() { 10 } else { 8 }) / 100).max(2)
}

/// What FOSSE_TEST_REPEAT says.
fn repeat_percent() -> Option<usize> {
    std::env::var("FOSSE_TEST_REPEAT").ok()?.parse().ok()
}

/// Waits for a condition. To ask may cost more than what is waited for, and takes processors away from it: the longer
/// it takes, the less often it is asked.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LIMIT, "waited in vain until {what}");
        std::thread::sleep((start.elapsed() / 10).clamp(Duration::from_millis(5), Duration::from_millis(100)));
    }
}

/// Does something with each, so many at once.
pub fn some_at_once<T: Sync>(all: &[T], count: usize, body: impl Fn(&T) + Sync) {
    for some in all.chunks(count) {
        std::thread::scope(|scope| {
            for one in some {
                scope.spawn(|| body(one));
            }
        });
    }
}

/// The program under test.
pub fn fosse() -> &'static str {
    env!("CARGO_BIN_EXE_fosse")
}

/// Whether everybody can execute a file, as far as modes say.
pub fn others_can_execute(file: &Path) -> bool {
    let mut way = file.ancestors().filter(|path| !path.as_os_str().is_empty());
    way.all(|path| fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o001 != 0))
}

/// Directories of one test's own. Dropping it finishes and removes its runs, and fails the test if something of
/// them is left.
pub struct Home {
    pub dir: PathBuf,
    /// What carries its runs.
    pub carrier: Carrier,
    /// Whose runs these are; those of the user whose test this is if nobody is named.
    pub user: Option<u32>,
    /// The engines that the program finds from here. Each call of a tool costs more than all that most tests do, so
    /// whoever needs one engine has that one.
    engines: &'static [Engine],
    /// Apple's service, if it has one.
    pub apple: Option<apple::Service>,
}

impl Home {
    pub fn new() -> Self {
        Home::with(Carrier::Init)
    }

    pub fn with(carrier: Carrier) -> Self {
        Home::make(carrier, None, REAL)
    }

    /// Where the program finds one engine, or none for the built-in sandbox. With FOSSE_TEST_REPEAT=100 it finds all.
    pub fn on(engine: Engine, carrier: Carrier) -> Self {
        let alone = match engine {
            Engine::Apple(release) => {
                let mut home = Home::make(carrier, None, &[]);
                home.apple = Some(apple::Service::new(&home, release));
                return home;
            }
            _ if is_full() => REAL,
            Engine::Native => &[],
            Engine::Docker => &[Engine::Docker],
            Engine::Podman => &[Engine::Podman],
        };
        Home::make(carrier, None, alone)
    }

    /// Where the program finds no engine: for what is about none.
    pub fn without_engines() -> Self {
        Home::on(Engine::Native, Carrier::Init)
    }

    /// Of another user's, which only root can make. Whoever has no rights has no engine: podman would start one in the
    /// home, and leave it there.
    pub fn of_user(user: Option<u32>) -> Self {
        Home::make(Carrier::Init, user, if user.is_some() { &[] } else { REAL })
    }

    /// The same, in another directory than that for temporary files.
    pub fn of_user_in(parent: &Path, user: Option<u32>) -> Self {
        Home::make_in(parent, Carrier::Init, user, if user.is_some() { &[] } else { REAL })
    }

    /// One more of the same kind.
    pub fn another(&self) -> Self {
        let mut home = Home::make(self.carrier, self.user, self.engines);
        home.apple = self.apple.as_ref().map(apple::Service::another);
        home
    }

    fn make(carrier: Carrier, user: Option<u32>, engines: &'static [Engine]) -> Self {
        Home::make_in(&std::env::temp_dir(), carrier, user, engines)
    }

    fn make_in(parent: &Path, carrier: Carrier, user: Option<u32>, engines: &'static [Engine]) -> Self {
        let dir = parent.join(format!("fosse-test-{}", fosse::base::id::random_hex(6).unwrap()));
        let home = Home { dir, carrier, user, engines, apple: None };
        for dir in [home.dir.clone(), home.workspace(), home.dir.join("home")] {
            fs::create_dir(&dir).unwrap();
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
            home.give(&dir);
        }
        if user.is_some() && !others_can_execute(Path::new(fosse())) {
            let program = home.dir.join("fosse");
            // A copy by another process: a child of another test that had it open for writing would keep it busy.
            let copy = || Command::new("cp").arg(fosse()).arg(&program).status().unwrap();
            assert!(fs::hard_link(fosse(), &program).is_ok() || copy().success());
        }
        home
    }

    /// Whose runs these are: user and group.
    pub fn ids(&self) -> (u32, u32) {
        self.user.map_or_else(fosse::sys::process::effective_ids, |user| (user, user))
    }

    /// Makes what is below the home, and everything on the way to it, belong to its user.
    pub fn give(&self, path: &Path) {
        let ours = path.ancestors().take_while(|path| path.starts_with(&self.dir));
        for path in ours.filter(|_| self.user.is_some()) {
            std::os::unix::fs::lchown(path, self.user, self.user).unwrap();
        }
    }

    /// Makes a command its user's.
    pub fn belongs<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        use std::os::unix::process::CommandExt;
        match self.user {
            Some(user) => command.uid(user).gid(user),
            None => command,
        }
    }

    /// The program under test, or the copy of it that this home's user can execute.
    pub fn program(&self) -> PathBuf {
        let copies = ["bin/fosse", "fosse"].map(|name| self.dir.join(name));
        copies.into_iter().find(|file| file.is_file()).unwrap_or_else(|| fosse().into())
    }

    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    pub fn workspace(&self) -> PathBuf {
        self.dir.join("ws")
    }

    pub fn user_config(&self) -> PathBuf {
        self.dir.join("home/.config/fosse/config.json")
    }

    /// Writes a file below the home, with its parents.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        self.give(&path);
        path
    }

    /// Writes an executable script below the home.
    pub fn script(&self, path: &str, content: &str) -> PathBuf {
        let text = self.write(&format!("{path}.text"), format!("#!/bin/sh\n{content}\n"));
        let path = self.dir.join(path);
        copy_program(&text, &path);
        fs::remove_file(text).unwrap();
        self.give(&path);
        path
    }

    /// The program with arguments, in this home: nothing of the caller's settings reaches it.
    pub fn cmd<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(self.program());
        self.belongs(&mut command);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("FOSSE_") || name.to_string_lossy().starts_with("XDG_") {
                command.env_remove(&name);
            }
        }
        command
            .args(args)
            .env("FOSSE_STATE_DIR", self.state())
            .env("FOSSE_RUNTIME_DIR", self.dir.join("run"))
            .env("FOSSE_INIT", if self.carrier == Carrier::Init { "auto" } else { "off" })
            .env("HOME", self.dir.join("home"))
            // A test that is about it says so.
            .env("FOSSE_DAEMON", "off")
            .current_dir(self.workspace())
            .stdin(Stdio::null());
        for engine in REAL.iter().filter(|engine| !self.engines.contains(engine)) {
            command.env(format!("FOSSE_{}", engine.name().to_uppercase()), self.dir.join("none"));
        }
        command.envs(self.apple.iter().flat_map(apple::Service::env));
        command
    }

    /// Runs the program to its end.
    pub fn fosse<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Output {
        finish(self.cmd(args))
    }

    /// `fosse run` of a command line on an engine, with options.
    pub fn run_cmd(&self, engine: Engine, options: &[&str], command: &[&str]) -> Command {
        let mut args = [&["run"], engine.options()].concat();
        if engine == Engine::Podman && !options.contains(&"--network") && !is_full() {
            // Podman makes its network with a dozen programs, and that takes as long as all else it does for a run.
            args.extend(["--network", "none"]);
        }
        args.extend(options);
        args.push("--");
        args.extend(command);
        self.cmd(args)
    }

    pub fn run(&self, engine: Engine, options: &[&str], command: &[&str]) -> Output {
        finish(self.run_cmd(engine, options, command))
    }

    /// Starts a run and waits until its command has printed `ready`. A trap that the script begins with is set by then.
    pub fn start(&self, engine: Engine, options: &[&str], script: &str) -> Client {
        let (trap, rest) = script.split_at(end_of_trap(script));
        let script = format!("{trap}echo ready; {rest}");
        let client = Client::spawn(self.run_cmd(engine, options, &["sh", "-c", &script]));
        client.wait_for_output("ready\n");
        client
    }

    /// The records of all runs, newest first.
    pub fn list(&self) -> Vec<Value> {
        let output = self.fosse(["list", "--json"]);
        assert!(output.status.success(), "{output:?}");
        output
            .stdout
            .split(|b| *b == b'\n')
            .filter(|l| !l.is_empty())
            .map(|l| serde_json::from_slice(l).unwrap())
            .collect()
    }

    /// The record of the newest run.
    pub fn newest(&self) -> Value {
        self.list().into_iter().next().expect("no run")
    }

    /// The id of the newest run.
    pub fn newest_id(&self) -> String {
        self.newest()["id"].as_str().unwrap().to_owned()
    }

    pub fn logs(&self, run: &str) -> Output {
        self.fosse(["logs", run])
    }

    /// The host's number of the owner of the newest run.
    pub fn owner(&self) -> i32 {
        let lock = self.state().join("runs").join(self.newest_id()).join("owner.lock");
        let holder: Value = serde_json::from_slice(&fs::read(lock).unwrap()).unwrap();
        holder["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_else(|| panic!("no pid: {holder}"))
    }

    /// The host's number of PID 1 in the place of the newest run, which lives.
    pub fn init_of(&self, engine: Engine) -> i32 {
        if let Some(service) = &self.apple {
            let init = service.state(&format!("fosse-{}", self.newest_id()))["init"].as_i64();
            return init.and_then(|pid| i32::try_from(pid).ok()).expect("the container has no init");
        }
        if engine.is_native() {
            // Its parent is the owner, or whoever takes the control groups away.
            let children = |of: i32| processes::children(of).into_iter().map(|(pid, _)| pid);
            let mut below = children(self.owner()).flat_map(|child| children(child).chain([child]));
            let is_first = |pid: &i32| {
                processes::status_field_if_any(*pid, "NSpid").is_some_and(|numbers| numbers.ends_with("\t1"))
            };
            return below.find(is_first).expect("the place has no init");
        }
        let name = format!("fosse-{}", self.newest_id());
        engine.says(["inspect", "--format", "{{.State.Pid}}", &name]).parse().unwrap()
    }

    /// Calls the tool of an engine.
    pub fn call<A: AsRef<OsStr>>(&self, engine: Engine, args: impl IntoIterator<Item = A>) -> Output {
        match &self.apple {
            Some(service) => service.call(args),
            None => engine.call(args),
        }
    }

    /// The ids of the runs whose end nobody has recorded.
    fn without_end(&self) -> Vec<String> {
        let runs = fs::read_dir(self.state().join("runs")).into_iter().flatten().flatten();
        let is_over = |run: &fs::DirEntry| {
            let record = fs::read(run.path().join("record.json")).unwrap_or_default();
            serde_json::from_slice::<Value>(&record).is_ok_and(|record| record["stopped_at"].is_string())
        };
        runs.filter(|run| !is_over(run)).map(|run| run.file_name().to_string_lossy().into_owned()).collect()
    }

    pub fn instance(&self) -> Option<String> {
        Some(fs::read_to_string(self.state().join("instance")).ok()?.trim().to_owned())
    }

    /// The ids of everything in an engine that is this home's. The built-in sandbox keeps nothing anywhere.
    pub fn objects(&self, engine: Engine) -> Vec<String> {
        if let (Some(service), true) = (&self.apple, engine.is_apple()) {
            return self.instance().map(|instance| service.objects(&instance)).unwrap_or_default();
        }
        if !self.engines.contains(&engine) {
            return Vec::new();
        }
        let Some(instance) = self.instance() else { return Vec::new() };
        let label = format!("label=fosse.instance={instance}");
        let containers = engine.says(["ps", "--all", "--quiet", "--filter", &label]);
        let networks = engine.says(["network", "ls", "--quiet", "--filter", &label]);
        containers.lines().chain(networks.lines()).map(str::to_owned).collect()
    }

    /// Files that a run leaves only while it lives.
    pub fn temporary_files(&self) -> Vec<PathBuf> {
        let mut left = Vec::new();
        let runs = fs::read_dir(self.state().join("runs")).into_iter().flatten().flatten();
        for run in runs {
            if run.file_name().to_string_lossy().starts_with('.') {
                left.push(run.path());
            }
            let stays = ["record.json", "output.log", "owner.lock"];
            let files = fs::read_dir(run.path()).into_iter().flatten().flatten().map(|file| file.path());
            left.extend(files.filter(|path| !stays.iter().any(|name| path.ends_with(name))));
        }
        for dir in ["state/names", "run"] {
            left.extend(fs::read_dir(self.dir.join(dir)).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
        left
    }

    /// Processes that name this home in their arguments or environment, other than this one.
    pub fn processes(&self) -> Vec<String> {
        processes::naming(&self.dir.to_string_lossy())
    }

    /// Processes inside of the places of this home's runs: they name the run, or are shown this home's directories.
    pub fn insiders(&self) -> Vec<String> {
        let runs = fs::read_dir(self.state().join("runs")).into_iter().flatten().flatten();
        let ids = runs.map(|run| format!("FOSSE_RUN_ID={}", run.file_name().to_string_lossy()));
        processes::inside(&self.dir.to_string_lossy(), &ids.collect::<Vec<_>>())
    }

    /// Fails unless everything is gone that only a live run may have.
    pub fn assert_nothing_left(&self) {
        if let Some(service) = &self.apple {
            let left = self.instance().map(|instance| service.objects(&instance)).unwrap_or_default();
            assert_eq!(left, Vec::<String>::new(), "objects left in Apple's service");
        }
        for engine in self.engines.iter().copied().filter(|engine| engine.available()) {
            if self.carrier == Carrier::Init {
                // The engine removes them by itself, and may still be at it.
                wait_until("the engine has removed everything", || self.objects(engine).is_empty());
            } else {
                assert_eq!(self.objects(engine), Vec::<String>::new(), "objects left in {}", engine.name());
            }
        }
        assert_eq!(self.temporary_files(), Vec::<PathBuf>::new(), "files left");
        wait_until("no process is left", || self.processes().is_empty());
        wait_until("no process is left inside", || self.insiders().is_empty());
    }
}

impl Home {
    /// Ends the daemon and the runs, and removes what engines hold of them.
    fn end_all(&self) {
        #[cfg(target_os = "linux")]
        daemon::end_all(self);
        if self.instance().is_none() {
            return;
        }
        let live = self.without_end();
        if !live.is_empty() {
            finish(self.cmd(["destroy", "-q", "-f"].into_iter().chain(live.iter().map(String::as_str))));
        }
        for engine in self.engines.iter().copied() {
            for object in self.objects(engine) {
                engine.call(["rm", "--force", "--volumes", &object]);
                engine.call(["network", "rm", &object]);
            }
        }
    }

    /// Fails unless all processes end.
    fn assert_all_end(&self) {
        if !std::thread::panicking() {
            // The program that watches a container of podman's ends after it, by itself, and so does a tmux.
            wait_until("no process of this test is left", || self.processes().is_empty());
            // An engine removes them by itself, and may still be at it.
            wait_until("no process is left inside", || self.insiders().is_empty());
        }
    }

    /// Kills what a failure has left, which could otherwise make files while they are removed.
    fn kill_all(&self) {
        wait_until("what was killed is gone", || {
            let left = self.processes();
            for process in &left {
                try_kill(processes::number(process), KILL);
            }
            left.is_empty()
        });
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        in_drop(
            self,
            &[
                |home| home.end_all(),
                // Its machines go with it.
                |home| home.apple = None,
                |home| home.assert_all_end(),
                |home| home.kill_all(),
                |home| fs::remove_dir_all(&home.dir).unwrap_or_default(),
            ],
        );
    }
}

/// Where the trap ends that a script begins with: `trap 'COMMAND' SIGNAL…; `.
fn end_of_trap(script: &str) -> usize {
    let begins = || {
        let command = script.strip_prefix("trap '")?;
        let signals = command.find('\'')?;
        Some(script.len() - command.len() + signals + command[signals..].find("; ")? + 2)
    };
    begins().unwrap_or(0)
}

/// Copies a program by another process: a child of another test that had it open for writing could keep it from being
/// executed.
pub fn copy_program(from: &Path, to: &Path) {
    fs::remove_file(to).unwrap_or_default();
    let copied = finish({
        let mut copy = Command::new("cp");
        copy.args([from, to]);
        copy
    });
    assert!(copied.status.success(), "{copied:?}");
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Freezes the place of the newest run, as a stranger may, or lets it go on. Of a sandbox that is its init.
pub fn pause(home: &Home, engine: Engine, freeze: bool) {
    if engine.is_native() || engine.is_apple() {
        return kill(home.init_of(engine), if freeze { STOP } else { CONT });
    }
    let verb = if freeze { "pause" } else { "unpause" };
    assert!(engine.call([verb, &format!("fosse-{}", home.newest_id())]).status.success(), "{verb}");
}

/// Sends a signal to a process of this test.
pub fn kill(pid: i32, signal: i32) {
    assert!(try_kill(pid, signal), "kill -{signal} {pid}");
}

/// The same for one that may have ended: whether it was there.
pub fn try_kill(pid: i32, signal: i32) -> bool {
    // The shell has it in itself; the program is not everywhere.
    let mut command = Command::new("sh");
    command.args(["-c", "kill -s \"$1\" -- \"$2\"", "sh", &signal.to_string(), &pid.to_string()]);
    finish(command).status.success()
}

/// A process's state letter (proc_pid_stat(5)), if it exists.
pub fn process_state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim().chars().next()
}

/// The exit code, where it ended by itself.
pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("killed: {output:?}"))
}

/// The exit code as a shell has it: a signal's is 128 and its number.
pub fn shell_code(output: &Output) -> i32 {
    let by_signal = || std::os::unix::process::ExitStatusExt::signal(&output.status).map(|signal| 128 + signal);
    output.status.code().or_else(by_signal).unwrap()
}

/// stderr as text.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// stdout as text.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// All files below a directory with their content: to see that nothing changed.
pub fn snapshot(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            files.push((entry.path(), Vec::new()));
            files.extend(snapshot(&entry.path()));
        } else {
            files.push((entry.path(), fs::read(entry.path()).unwrap_or_default()));
        }
    }
    files.sort();
    files
}

pub const HUP: i32 = 1;
pub const INT: i32 = 2;
pub const QUIT: i32 = 3;
pub const KILL: i32 = 9;
pub const USR1: i32 = 10;
pub const TERM: i32 = 15;
pub const CONT: i32 = 18;
pub const STOP: i32 = 19;
pub const TSTP: i32 = 20;

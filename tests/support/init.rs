//! `fosse init` under test: as PID 1 of a namespace or as a child subreaper, with its API or without.

use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};

use super::http::{Address, Answer, Conn, bytes_of};
use super::{Client, Home, KILL, TERM, in_drop, kill, left_out, part, process_state, processes, try_kill, wait_until};

/// Where init runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A child subreaper.
    Subreaper,
    /// A child subreaper that was started with SIGCHLD ignored: the kernel would discard every exit status.
    IgnoredChld,
    /// PID 1 of a namespace.
    Pid1,
    /// PID 1 of a namespace where a process number comes back after a hundred others.
    FewPids,
}

/// The two ways to be where orphans go.
pub const BOTH: [Place; 2] = [Place::Subreaper, Place::Pid1];

const UNSHARE: [&str; 5] = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
const FEW: [&str; 4] = ["sh", "-c", "echo 400 >/proc/sys/kernel/pid_max && exec \"$@\"", "sh"];

impl Place {
    /// Whether it is to be had; else what needs it is left out.
    pub fn available(self) -> bool {
        static FOUND: OnceLock<[bool; 2]> = OnceLock::new();
        let [namespace, few] = *FOUND.get_or_init(|| {
            let namespace = succeeds(&[&UNSHARE[..], &["true"]].concat());
            [namespace, namespace && few_pids()]
        });
        let found = match self {
            Place::Subreaper | Place::IgnoredChld => true,
            Place::Pid1 => namespace,
            Place::FewPids => few,
        };
        if !found {
            left_out(&format!("{self:?}: a pid namespace needs root, and one with few pids Linux 6.14"));
        } else {
            // Whoever asks does it there.
            part(|| ());
        }
        found
    }

    fn has_namespace(self) -> bool {
        matches!(self, Place::Pid1 | Place::FewPids)
    }

    /// `fosse init` with arguments, there.
    pub fn cmd(self, home: &Home, args: &[&str]) -> Command {
        let subreaper: &[&str] = if self.has_namespace() { &["init"] } else { &["init", "--subreaper"] };
        let inner = home.cmd([subreaper, args].concat());
        match self {
            Place::Subreaper => inner,
            // Not a shell's trap: dash cannot ignore this one.
            Place::IgnoredChld => wrapped(&inner, &["env", "--ignore-signal=CHLD"]),
            Place::Pid1 => wrapped(&inner, &UNSHARE),
            Place::FewPids => wrapped(&inner, &[&UNSHARE[..], &FEW].concat()),
        }
    }
}

fn succeeds(command: &[&str]) -> bool {
    Command::new(command[0]).args(&command[1..]).output().is_ok_and(|output| output.status.success())
}

/// Whether a pid namespace can have a small pid_max of its own. Older kernels have one for all: asking them would
/// change everybody's, so that the version goes first.
fn few_pids() -> bool {
    const PATH: &str = "/proc/sys/kernel/pid_max";
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-', '\n']).map_while(|part| part.parse::<u32>().ok());
    if (numbers.next(), numbers.next()) < (Some(6), Some(14)) {
        return false;
    }
    let before = std::fs::read_to_string(PATH).unwrap_or_default();
    let small = succeeds(&[&UNSHARE[..], &FEW, &["true"]].concat());
    let same = std::fs::read_to_string(PATH).unwrap_or_default() == before;
    if !same {
        std::fs::write(PATH, before).unwrap();
    }
    small && same
}

/// A command behind another that executes it, with the same environment and directory.
pub fn wrapped(inner: &Command, wrapper: &[&str]) -> Command {
    let mut command = Command::new(wrapper[0]);
    command.args(&wrapper[1..]).arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.current_dir(inner.get_current_dir().unwrap()).stdin(Stdio::null());
    command
}

/// A running init. A test that has passed says how it ends: [`Init::end`] or [`Init::ended`].
pub struct Init {
    pub home: Home,
    /// Its number as this test sees it.
    pub pid: i32,
    address: Option<Address>,
    client: Option<Client>,
}

impl Init {
    /// Runs a command that starts init in a place, and waits until it serves, if it is to serve.
    pub fn new(place: Place, home: Home, command: Command, address: Option<Address>) -> Self {
        let client = Client::spawn(command);
        let mut init = Init { home, pid: client.pid(), address, client: Some(client) };
        if place.has_namespace() {
            wait_until("init is there", || {
                init.assert_alive();
                processes::children(init.client().pid()).first().map(|(pid, _)| init.pid = *pid).is_some()
            });
        }
        if let Some(address) = init.address.clone() {
            wait_until("it serves", || {
                init.assert_alive();
                address.connect().is_ok()
            });
        }
        init
    }

    /// An init whose command ends by itself, so that there may be nothing to see of it by now.
    pub fn started(command: Command, home: Home) -> Self {
        let client = Client::spawn(command);
        Init { home, pid: client.pid(), address: None, client: Some(client) }
    }

    /// An init that only serves, on a socket.
    pub fn serve(place: Place) -> Option<Self> {
        Self::serve_with(place, &[], |command| command)
    }

    /// An init that serves on a socket, with further arguments, started by a command that was changed.
    pub fn serve_with(place: Place, args: &[&str], change: impl FnOnce(Command) -> Command) -> Option<Self> {
        if !place.available() {
            return None;
        }
        let home = Home::new();
        let socket = home.dir.join("api.sock");
        let command = place.cmd(&home, &[&["--socket", socket.to_str().unwrap()], args].concat());
        Some(Init::new(place, home, change(command), Some(Address::Unix(socket))))
    }

    /// An init with options that runs a shell script which says `ready` when it is.
    pub fn script(place: Place, options: &[&str], script: &str) -> Option<Self> {
        if !place.available() {
            return None;
        }
        let home = Home::new();
        let command = place.cmd(&home, &[options, &["--", "sh", "-c", script]].concat());
        let init = Init::new(place, home, command, None);
        init.client().wait_for_output("ready\n");
        Some(init)
    }

    fn assert_alive(&self) {
        let client = self.client();
        let alive = process_state(client.pid()).is_some_and(|state| state != 'Z');
        assert!(alive, "it has ended; stdout {:?}, stderr {:?}", client.stdout_text(), client.stderr_text());
    }

    pub fn client(&self) -> &Client {
        self.client.as_ref().unwrap()
    }

    pub fn client_mut(&mut self) -> &mut Client {
        self.client.as_mut().unwrap()
    }

    pub fn address(&self) -> &Address {
        self.address.as_ref().expect("it has no API")
    }

    pub fn connect(&self) -> Conn {
        self.address().connect().unwrap()
    }

    pub fn signal(&self, signal: i32) {
        kill(self.pid, signal);
    }

    /// Its children that wait to be reaped.
    pub fn zombies(&self) -> usize {
        processes::children(self.pid).iter().filter(|(_, state)| *state == 'Z').count()
    }

    /// Waits until it has no child any more, dead or alive.
    pub fn wait_childless(&self) {
        wait_until("init has no child", || processes::children(self.pid).is_empty());
    }

    /// Executes a command, on a connection of its own.
    pub fn execute(&self, request: &Value) -> Answer {
        self.address().ask(&self.address().post(&[], request.to_string().as_bytes()))
    }

    /// The same where only 200 will do.
    pub fn done(&self, request: &Value) -> Value {
        let answer = self.execute(request);
        assert_eq!(answer.status, 200, "{request}: {answer:?}");
        let result = answer.json();
        assert_eq!(result["timedOut"], false, "{request}: {result}");
        result
    }

    /// The exit code and the output of a shell script.
    pub fn sh(&self, script: &str) -> (i64, String) {
        let result = self.done(&json!({"command": ["sh", "-c", script]}));
        (code_of(&result), String::from_utf8_lossy(&bytes_of(&result, "result")).into_owned())
    }

    /// Fails unless it answers on a new connection, and runs commands.
    pub fn assert_well(&self) {
        self.assert_healthy();
        assert_eq!(self.sh("echo well; exit 3"), (3, "well\n".into()));
    }

    /// Fails unless it answers on a new connection.
    pub fn assert_healthy(&self) {
        let answer = self.address().ask(&self.address().get("/health"));
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["echild"], 0, "a child's end was seen and could not be had: {answer:?}");
    }

    /// Asks it to end, and fails if anything is left of it.
    pub fn end(self) -> Output {
        self.signal(TERM);
        self.ended()
    }

    /// Waits until it has ended by itself, and fails if anything is left of it.
    pub fn ended(mut self) -> Output {
        let output = self.client.take().unwrap().output();
        if let Some(Address::Unix(path)) = &self.address {
            assert!(!path.exists(), "its socket is left: {output:?}");
        }
        assert_eq!(self.home.processes(), Vec::<String>::new(), "processes are left: {output:?}");
        output
    }
}

impl Drop for Init {
    /// After a failure: what it ran would otherwise stay.
    fn drop(&mut self) {
        if self.client.take().is_some() {
            let kill = |init: &mut Init| {
                for process in init.home.processes() {
                    // It may be gone by now.
                    try_kill(processes::number(&process), KILL);
                }
            };
            let wait = |init: &mut Init| wait_until("what was killed is gone", || init.home.processes().is_empty());
            in_drop(self, &[kill, wait]);
        }
    }
}

/// Runs the body with a serving init in each of the places, which then ends and leaves nothing.
pub fn serving(places: &[Place], body: impl Fn(&Init)) {
    for place in places {
        if let Some(init) = Init::serve(*place) {
            body(&init);
            init.end();
        }
    }
}

/// The exit code of an executed command, which is always one.
pub fn code_of(result: &Value) -> i64 {
    let code = result["exitCode"].as_i64().unwrap_or_else(|| panic!("no exit code: {result}"));
    assert!((0..=255).contains(&code), "{result}");
    code
}

/// A request to run a shell script, all of whose processes can be told by the tag; the time-out is in seconds.
pub fn tagged(tag: &str, script: &str, timeout: u64) -> Value {
    let script = format!("export FOSSE_TEST_TAG={tag}\n{script}");
    json!({"command": ["sh", "-c", script], "timeout": timeout})
}

/// A tag that nothing else has.
pub fn new_tag() -> String {
    format!("tag-{}", fosse::base::id::random_hex(6).unwrap())
}

/// Waits until no process has the tag any more.
pub fn wait_gone(tag: &str) {
    wait_until(&format!("{tag} is gone"), || processes::naming(tag).is_empty());
}

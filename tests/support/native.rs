//! The native runtime under test: as root and as somebody without rights, beside the same command outside.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use super::{Client, Home, code, finish, fosse, left_out, part, processes, stdout, wait_until};

/// The user without rights, and its group: nobody has this number.
pub const USER: u32 = 4321;

/// Who starts fosse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// The superuser, who would be let through every check that is not the sandbox's.
    Root,
    /// Somebody without rights.
    User,
}

impl Caller {
    /// A home whose owner is this caller, with a program that it can execute.
    pub fn home(self) -> Home {
        Home::of_user((self == Caller::User && is_root()).then_some(USER))
    }

    /// The number of this caller's user.
    pub fn uid(self) -> u32 {
        match self {
            Caller::Root => 0,
            Caller::User if is_root() => USER,
            Caller::User => fosse::sys::process::effective_ids().0,
        }
    }

    /// Whether this caller is to be had, and may make the namespaces: asked of the kernel and not of fosse, which
    /// would hide a broken runtime.
    pub fn available(self) -> bool {
        static FOUND: OnceLock<[bool; 2]> = OnceLock::new();
        let found = FOUND.get_or_init(|| [Caller::Root, Caller::User].map(Caller::probe))[self as usize];
        if !found {
            left_out(&format!("{self:?} as the caller of the native runtime is not to be had, or has no namespaces"));
        }
        found
    }

    fn probe(self) -> bool {
        if self == Caller::Root && !is_root() {
            return false;
        }
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "--pid", "--fork", "true"]).current_dir("/");
        if self == Caller::User && is_root() {
            command.uid(USER).gid(USER);
        }
        command.output().is_ok_and(|output| output.status.success())
    }
}

/// Whether this process is the superuser's.
pub fn is_root() -> bool {
    fosse::sys::process::effective_ids().0 == 0
}

/// Runs the body for both callers, each with a home of its own.
#[allow(clippy::disallowed_macros, reason = "the test runner shows it when the test fails")]
pub fn for_each_caller(body: impl Fn(Caller, &Home)) {
    for caller in [Caller::Root, Caller::User] {
        if caller.available() {
            eprintln!("caller: {caller:?}");
            let home = caller.home();
            part(|| body(caller, &home));
            assert_gone(&home);
        }
    }
}

/// Directories that are shown inside, unlike /tmp: what is below them is the host's own files only where it is bound.
/// In `/` a home is a new directory at the root. Each is one where the machine has it on its root's file system.
pub const SHOWN: [&str; 8] = ["/", "/etc", "/mnt", "/opt", "/srv", "/usr/local", "/var/lib", "/var/tmp"];

/// Runs the body for both callers with a home in each of those directories, if the superuser can make them.
#[allow(clippy::disallowed_macros, reason = "the test runner shows it when the test fails")]
pub fn for_each_caller_and_place(body: impl Fn(Caller, &Home)) {
    if !is_root() {
        left_out("homes outside of /tmp take root to make");
        return;
    }
    for caller in [Caller::Root, Caller::User] {
        for place in SHOWN.iter().map(Path::new).filter(|place| caller.available() && place.is_dir()) {
            eprintln!("caller: {caller:?} in {}", place.display());
            let home = Home::of_user_in(place, (caller == Caller::User).then_some(USER));
            body(caller, &home);
            assert_gone(&home);
        }
    }
}

/// Runs the body for the superuser only: for what others could not do outside either.
pub fn for_root(body: impl Fn(&Home)) {
    if Caller::Root.available() {
        let home = Caller::Root.home();
        part(|| body(&home));
        assert_gone(&home);
    }
}

/// `fosse run` of a command in the native runtime. What is in there has the home's name in its environment.
pub fn run_cmd(home: &Home, options: &[&str], command: &[&str]) -> Command {
    let mark = format!("MARK={}", home.dir.display());
    let mut args = vec!["run", "--runtime", "native", "-e", &mark];
    args.extend(options);
    args.push("--");
    args.extend(command);
    home.cmd(args)
}

/// Runs a script of the shell in the native runtime.
pub fn run(home: &Home, options: &[&str], script: &str) -> Output {
    finish(run_cmd(home, options, &["sh", "-c", script]))
}

/// What a script says in there, which must succeed and complain about nothing.
pub fn says(home: &Home, options: &[&str], script: &str) -> String {
    said(&run(home, options, script))
}

/// The output of something that must have succeeded.
pub fn said(output: &Output) -> String {
    assert_eq!(code(output), 0, "{output:?}");
    stdout(output).trim_end().to_owned()
}

/// Starts a script and waits until it says `ready`.
pub fn start(home: &Home, options: &[&str], script: &str) -> Client {
    let script = format!("echo ready; {script}");
    let client = Client::spawn(run_cmd(home, options, &["sh", "-c", &script]));
    client.wait_for_output("ready\n");
    client
}

/// The same script outside, as the caller: what it could do without the sandbox.
pub fn outside(home: &Home, script: &str) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", script]).current_dir(home.workspace()).env("HOME", home.dir.join("home")).stdin(Stdio::null());
    home.belongs(&mut command);
    finish(command)
}

/// A script that does nothing outside: what it tries is harmless only in mounts that are not the machine's.
pub fn guarded(script: &str) -> String {
    let own = fs::read_link("/proc/self/ns/mnt").unwrap();
    format!("[ \"$(readlink /proc/self/ns/mnt)\" != \"{}\" ] || exit 99; {script}", own.display())
}

/// Runs a script as root in a mount namespace of its own, where it may mount what it likes over the machine's
/// directories; `"$@"` is the command and `caller "$@"` runs it as the home's user.
pub fn in_mounts(home: &Home, script: &str, command: &Command) -> Command {
    assert!(is_root(), "mounts need root");
    let become_user = match home.user {
        Some(user) => format!("setpriv --reuid {user} --regid {user} --clear-groups \"$@\""),
        None => "\"$@\"".to_owned(),
    };
    let script = format!("set -e; caller() {{ {become_user}; }}; {script}");
    let wrapper = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"];
    super::init::wrapped(command, &wrapper)
}

/// A shell command that runs a program of perl, which every Debian has; it contains no single quotes.
pub fn perl(program: &str) -> String {
    assert!(!program.contains('\''), "{program}");
    format!("perl -e '{program}'")
}

/// A program of perl that makes system calls, each with a name, and says what came of them: a line `NAME=ERROR`, the
/// error as a number, 0 for none.
pub fn calls<'a>(calls: impl IntoIterator<Item = (&'a str, libc::c_long, &'a str)>) -> String {
    let mut program = "$| = 1; open(NULL, \"</dev/null\"); sub t { my ($name, $number, @args) = @_; $! = 0; my $r = \
                       syscall($number, @args); print $name, \"=\", ($r == -1 ? $! + 0 : 0), \"\\n\"; }\n"
        .to_owned();
    for (name, number, args) in calls {
        program += &format!("t(\"{name}\", {number}, {args});\n");
    }
    perl(&program)
}

/// Name and number of each line of what [`calls`] prints.
pub fn results(text: &str) -> Vec<(String, i32)> {
    let pair = |line: &str| Some((line.split_once('=')?.0.to_owned(), line.split_once('=')?.1.parse().ok()?));
    text.lines().map(|line| pair(line).unwrap_or_else(|| panic!("{line:?}: {text}"))).collect()
}

/// All descendants of a process that live now.
pub fn descendants(of: i32) -> Vec<i32> {
    let mut found = Vec::new();
    let mut next = vec![of];
    while let Some(pid) = next.pop() {
        // One that has ended may be gone before anything is done to it.
        let living = processes::children(pid).into_iter().filter(|(_, state)| *state != 'Z');
        let children: Vec<i32> = living.map(|(pid, _)| pid).collect();
        found.extend(&children);
        next.extend(children);
    }
    found
}

/// The descendant of a process that is PID 1 of a namespace: fosse's init.
pub fn first_of_namespace(owner: i32) -> Option<i32> {
    descendants(owner).into_iter().find(|pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
        let numbers: Vec<&str> = numbers.split_whitespace().collect();
        numbers.len() > 1 && numbers.last() == Some(&"1")
    })
}

/// The name that every path below a home has in it, wherever it is mounted.
pub fn name_of(home: &Home) -> String {
    home.dir.file_name().unwrap().to_string_lossy().into_owned()
}

/// Processes that live in a place with something of this home mounted, or have the home's name in their arguments or
/// environment: what a run of it consists of.
pub fn alive(home: &Home) -> Vec<String> {
    let own = fs::read_link("/proc/self/ns/mnt").unwrap();
    let needle = name_of(home);
    let mut places: BTreeSet<PathBuf> = BTreeSet::from([own]);
    let mut found: BTreeSet<String> = processes::naming(&home.dir.to_string_lossy()).into_iter().collect();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        let Ok(place) = fs::read_link(format!("/proc/{pid}/ns/mnt")) else { continue };
        // Threads of one place all show the same: asked once, unless it is one of the home's.
        if places.contains(&place) {
            continue;
        }
        let mounts = fs::read(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        if String::from_utf8_lossy(&mounts).contains(&needle) {
            found.insert(format!("{pid} {}", processes::name(pid)));
        } else {
            places.insert(place);
        }
    }
    found.into_iter().collect()
}

/// Mounts, control groups and temporary files of this home's runs that the machine shows.
pub fn traces(home: &Home) -> Vec<String> {
    let needle = name_of(home);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut found: Vec<String> = mounts.lines().filter(|line| line.contains(&needle)).map(str::to_owned).collect();
    let runs = fs::read_dir(home.state().join("runs")).into_iter().flatten().flatten();
    let ids: Vec<String> = runs.map(|run| run.file_name().to_string_lossy().into_owned()).collect();
    let has_id = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        ids.iter().any(|id| name.contains(id.as_str()))
    };
    let groups = directories(Path::new("/sys/fs/cgroup"));
    let files = fs::read_dir(std::env::temp_dir()).unwrap().flatten().map(|entry| entry.path());
    found.extend(groups.into_iter().chain(files).filter(|path| has_id(path)).map(|path| path.display().to_string()));
    found
}

/// All directories below one.
fn directories(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let own: Vec<PathBuf> =
        entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect();
    own.iter().flat_map(|dir| directories(dir)).chain(own.clone()).collect()
}

/// Fails unless everything of this home's runs is gone.
pub fn assert_gone(home: &Home) {
    wait_until("no process of a run is left", || alive(home).is_empty());
    assert_eq!(traces(home), Vec::<String>::new(), "left on the machine");
    assert_eq!(home.temporary_files(), Vec::<PathBuf>::new(), "files left");
}

/// Names of what a directory holds, sorted.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())).flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A copy of the program below the home, which its user can execute whatever directories lead to the original, and
/// which it could write.
pub fn own_program(home: &Home) -> PathBuf {
    let path = home.write("bin/fosse", "");
    crate::support::copy_program(fosse().as_ref(), &path);
    home.give(&path);
    path
}

/// Paths on the machine that no run may make. What a sandbox that does not hold made there is taken away again, so that
/// a failed test leaves the machine as it was.
pub struct Forbidden(Vec<PathBuf>);

impl Forbidden {
    pub fn new<P: Into<PathBuf>>(paths: impl IntoIterator<Item = P>) -> Self {
        let forbidden = Forbidden(paths.into_iter().map(Into::into).collect());
        assert_eq!(forbidden.made(), Vec::<&PathBuf>::new(), "there before");
        forbidden
    }

    /// Those that are there.
    pub fn made(&self) -> Vec<&PathBuf> {
        self.0.iter().filter(|path| fs::symlink_metadata(path).is_ok()).collect()
    }
}

impl Drop for Forbidden {
    fn drop(&mut self) {
        for path in self.made() {
            // A directory only if nothing is in it.
            fs::remove_file(path).or_else(|_| fs::remove_dir(path)).unwrap_or_default();
        }
    }
}

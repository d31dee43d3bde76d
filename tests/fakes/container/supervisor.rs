//! The supervisor of a container: the runtime helper and the virtual machine in one process. It owns the log, knows the
//! exit code, and tells it to who waits at that moment and to nobody later.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use fosse::sys::linux::namespace;
use fosse::sys::process::{Pid, PidHandle};
use fosse::sys::signal::Signal;
use fosse::sys::{fd, lock, process};
use serde_json::{Value, json};

use crate::model::{Config, State};
use crate::networks;
use crate::store::{self, Store};
use crate::texts::{Fail, fail, internal, invalid_state};
use crate::wire::{self, Lines};

/// How long the streams of a container may stay open after its end: descriptors can be handed out of it.
const DRAIN: Duration = Duration::from_secs(3);

/// What the threads of a supervisor share.
pub struct Shared {
    pub store: Store,
    pub config: Config,
    /// The number of PID 1 as the host sees it.
    pub init: Mutex<Option<Pid>>,
    /// The terminal of the command.
    pub terminal: Mutex<Option<OwnedFd>>,
    /// The exit code, once everything is cleaned up.
    end: Mutex<Option<Value>>,
    ended: Condvar,
    /// How many connections are being answered.
    pub answering: Mutex<usize>,
    pub answered: Condvar,
}

pub fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Waits for the end; the answer that waiters get, or nothing if it takes longer.
    pub fn wait(&self, limit: Option<Duration>) -> Option<Value> {
        let end = guard(&self.end);
        match limit {
            None => {
                let end = self.ended.wait_while(end, |end| end.is_none()).unwrap_or_else(PoisonError::into_inner);
                end.clone()
            }
            Some(limit) => {
                let waited = self.ended.wait_timeout_while(end, limit, |end| end.is_none());
                waited.unwrap_or_else(PoisonError::into_inner).0.clone()
            }
        }
    }

    /// Signals PID 1. The kernel's rules for it hold: what it does not handle it does not get, KILL apart.
    pub fn signal(&self, number: i32) {
        let Some(pid) = *guard(&self.init) else { return };
        if let Ok(handle) = PidHandle::open(pid) {
            handle.signal(Signal::from_number(number)).unwrap_or_default();
        }
    }
}

/// Starts the supervisor of a container, which is nobody's child and holds nothing of this process's; the connection
/// that tells of the start and the end.
pub fn launch(store: &Store, id: &str) -> std::io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    let log = File::options().create(true).append(true).open(store.dir(id).join("boot.log"))?;
    let mut command = Command::new("/proc/self/exe");
    command.args(["__supervise", id]).env_clear().env("FAKE_CONTAINER_ROOT", &store.root);
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
    command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(log);
    process::detach(&mut command);
    // The child that is seen here ends at once.
    command.spawn()?.wait()?;
    Ok(ours)
}

/// The life of a supervisor. It is asked: `{"stdin", "rows", "columns"}`, with the client's ends of stdin, stdout and
/// stderr, as many as there are.
pub fn main(root: PathBuf, id: &str) -> ! {
    let stream = namespace::take_stdin().unwrap_or_else(|error| crate::give_up(&format!("supervisor: {error}")));
    process::set_name(c"container-sup").unwrap_or_default();
    let store = Store::open(root);
    let mut lines = Lines::of(stream);
    let Some(request) = lines.next() else { std::process::exit(0) };
    let life = store::open(&store.dir(id).join("sup.lock"));
    let refused = |fail: &Fail| wire::send(lines.stream(), &json!({"error": fail}), &[]).unwrap_or_default();
    if !lock::try_exclusive(&life).unwrap_or(false) {
        refused(&invalid_state(format!("container expected to be in created state, got: {}", "running")));
        std::process::exit(0)
    }
    let Some(container) = store.container(id) else {
        refused(&crate::texts::no_container(id));
        std::process::exit(0)
    };
    {
        let _guard = store.lock();
        let mut state = container.state;
        (state.supervisor, state.boot, state.running) = (Some(Pid::own().number()), store.server().boot, false);
        store.write_state(id, &state);
    }
    let shared = Arc::new(Shared {
        store,
        config: container.config,
        init: Mutex::new(None),
        terminal: Mutex::new(None),
        end: Mutex::new(None),
        ended: Condvar::new(),
        answering: Mutex::new(0),
        answered: Condvar::new(),
    });
    match begin(&shared, &request, &mut lines) {
        Err(fail) => {
            let _guard = shared.store.lock();
            let state = State { boot: shared.store.server().boot, ..State::default() };
            if shared.store.dir(id).exists() {
                shared.store.write_state(id, &State { started: shared.store.state(id).started, ..state });
            }
            drop(life);
            wire::send(lines.stream(), &json!({"error": fail}), &[]).unwrap_or_default();
        }
        Ok((boot, readers)) => {
            wire::send(lines.stream(), &json!({"started": true}), &[]).unwrap_or_default();
            let code = follow(&shared, boot, readers);
            finish(&shared, code, life);
            // Whoever waits on the connection of the start.
            wire::send(lines.stream(), &json!({"exit": code}), &[]).unwrap_or_default();
            // The others that wait.
            let answering = guard(&shared.answering);
            drop(shared.answered.wait_timeout_while(answering, DRAIN, |count| *count > 0));
            remove_if_wanted(&shared);
        }
    }
    std::process::exit(0)
}

/// Ends of streams that are copied to the client and to the log until they end.
type Readers = crossbeam_channel::Receiver<std::convert::Infallible>;

fn begin(shared: &Arc<Shared>, request: &Value, lines: &mut Lines) -> Result<(Lines, Readers), Fail> {
    let (store, config) = (&shared.store, &shared.config);
    let failed = |error: std::io::Error| internal(format!("bootstrap: {error}"));
    let stdin = if request["stdin"] == true { lines.take_fd() } else { None };
    let clients = [lines.take_fd(), lines.take_fd()];
    let dir = store.dir(&config.id);
    // Truncated at each start.
    let mut options = File::options();
    options.create(true).write(true).truncate(true).mode(0o644).open(dir.join("stdio.log")).map_err(failed)?;
    let addresses = networks::attach(store, config)?;
    let listener = wire::listen(&dir).map_err(failed)?;
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg("__boot").stdin(OwnedFd::from(theirs)).stdout(Stdio::null());
    let mut boot = command.spawn().map_err(failed)?;
    thread::spawn(move || boot.wait().map(drop).unwrap_or_default());
    let ask = json!({"id": config.id, "rows": request["rows"], "columns": request["columns"]});
    let mut outputs = Vec::new();
    let mut input = None;
    if config.terminal {
        wire::send(&ours, &ask, &[]).map_err(failed)?;
        input = stdin;
    } else {
        let null = File::open("/dev/null").map(OwnedFd::from).map_err(failed)?;
        let stdin = stdin.unwrap_or(null);
        let ((out, out_end), (err, err_end)) = (fd::pipe().map_err(failed)?, fd::pipe().map_err(failed)?);
        wire::send(&ours, &ask, &[stdin.as_fd(), out_end.as_fd(), err_end.as_fd()]).map_err(failed)?;
        outputs = vec![out, err];
    }
    let mut boot = Lines::of(ours);
    let pid = loop {
        let line = boot.next().ok_or_else(|| fail("interrupted", "XPC connection error: Connection interrupted"))?;
        if line["terminal"] == true {
            let leader = boot.take_fd().ok_or_else(|| internal("no terminal"))?;
            outputs = vec![leader.try_clone().map_err(failed)?];
            *guard(&shared.terminal) = Some(leader);
        } else if line["failed"].is_object() {
            let text = |name: &str| line["failed"][name].as_str().unwrap_or_default().to_owned();
            let start = internal(format!("failed to start process {0} in container {0}", config.id));
            return Err(start.caused_by(fail(&text("code"), text("text"))));
        } else {
            break line["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::new);
        }
    };
    *guard(&shared.init) = pid;
    if let (Some(input), Some(terminal)) = (input, guard(&shared.terminal).as_ref()) {
        type_in(input, terminal.try_clone().map_err(failed)?);
    }
    // A frozen log is one that nobody writes.
    let log = (request["freeze"] != true).then(|| dir.join("stdio.log"));
    let readers = read_all(outputs, clients, log.as_deref());
    {
        let _guard = store.lock();
        let state = State {
            running: true,
            started: Some(store::now()),
            addresses,
            boot: store.server().boot,
            supervisor: Some(Pid::own().number()),
            init: pid.map(Pid::number),
            exit: None,
            ghost: false,
        };
        store.write_state(&config.id, &state);
    }
    crate::execs::serve(shared, listener);
    Ok((boot, readers))
}

/// Copies what a terminal shows to a client alone.
pub fn show(terminal: OwnedFd, client: Option<File>) {
    thread::spawn(move || copy(File::from(terminal), client, None));
}

/// Copies what the client types to the terminal.
pub fn type_in(input: OwnedFd, terminal: OwnedFd) {
    thread::spawn(move || {
        let (mut input, mut terminal) = (File::from(input), File::from(terminal));
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = wire::read(&mut input, &mut buffer) {
            if terminal.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
    });
}

fn read_all(outputs: Vec<OwnedFd>, clients: [Option<OwnedFd>; 2], log: Option<&Path>) -> Readers {
    let (sender, readers) = crossbeam_channel::bounded(0);
    for (output, client) in outputs.into_iter().zip(clients) {
        let log = log.map(|log| File::options().append(true).open(log));
        let sender = sender.clone();
        thread::spawn(move || {
            copy(File::from(output), client.map(File::from), log.and_then(Result::ok));
            drop(sender);
        });
    }
    readers
}

/// The client first, then the file. A client that is not there any more ends both, for good; the command is read on.
fn copy(mut output: File, mut client: Option<File>, mut log: Option<File>) {
    let mut buffer = vec![0; 64 << 10];
    // A terminal whose other side was closed is an error.
    while let Ok(count @ 1..) = wire::read(&mut output, &mut buffer) {
        let bytes = &buffer[..count];
        if client.as_mut().is_some_and(|client| client.write_all(bytes).is_err()) {
            (client, log) = (None, None);
        }
        if let Some(file) = &mut log {
            file.write_all(bytes).unwrap_or_default();
        }
    }
}

/// Waits for the end of the command; its exit code.
fn follow(shared: &Shared, mut boot: Lines, readers: Readers) -> i32 {
    let code = boot.next().and_then(|line| i32::try_from(line["exited"].as_i64()?).ok()).unwrap_or(255);
    *guard(&shared.init) = None;
    readers.recv_timeout(DRAIN).map_or_else(drop, |never| match never {});
    code
}

/// Cleans up: the machine goes, and with it networks and addresses. Only then anybody hears of the end.
fn finish(shared: &Shared, code: i32, life: File) {
    let store = &shared.store;
    let latency = store.settings("latency.json");
    thread::sleep(Duration::from_millis(latency["teardown"].as_u64().unwrap_or_default()));
    {
        let _guard = store.lock();
        let mut state = store.state(&shared.config.id);
        (state.running, state.addresses, state.exit) = (false, Vec::new(), Some(code));
        if store.dir(&shared.config.id).exists() {
            store.write_state(&shared.config.id, &state);
        }
        drop(life);
    }
    *guard(&shared.end) = Some(json!({"exit": code}));
    shared.ended.notify_all();
}

fn remove_if_wanted(shared: &Shared) {
    if shared.config.remove {
        let _guard = shared.store.lock();
        shared.store.remove_container(&shared.config.id);
    }
}

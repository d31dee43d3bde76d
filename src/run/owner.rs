//! Becoming the one writer of a run, and proving who that is.
//!
//! The run's directory is made under another name, locked, filled, and only then renamed to its id: nobody ever
//! sees a run that is not owned before its owner is done.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::base::error::{Failure, Ignore, Result};
use crate::base::fs::{create_private, private_dir, read_bounded, remove_dir, remove_file, write_atomic};
use crate::base::id::{RunId, RunName, random_hex};
use crate::base::paths::RunPaths;
use crate::base::time::Deadline;
use crate::run::lockfile::LockFile;
pub(crate) use crate::run::lockfile::read as read_owner;
use crate::run::slot::Slot;
use crate::run::store::{Store, is_owned};
use crate::run::{failpoint, live};
use crate::sys::file::leads_to;
use crate::sys::lock;
use crate::sys::process::Pid;
use crate::sys::signal::Signal;
use crate::sys::stat::{Halt, Stat};
use crate::wire::control::Owner;
use crate::wire::record::{self, Record};

/// Bytes set aside for the final record, in case the disk is full by then.
const RESERVE: usize = 16 << 10;

/// How long a name that is taken is tried.
const NAME_LIMIT: Duration = Duration::from_millis(100);

/// How often a lock that somebody holds is tried again.
const LOCK_TRY: Duration = Duration::from_millis(10);

/// The boot of this machine (random(4)); empty where there is none.
pub(crate) fn boot_id() -> String {
    read_line("/proc/sys/kernel/random/boot_id")
}

/// This machine (machine-id(5)); empty where there is none.
pub fn machine_id() -> String {
    read_line("/etc/machine-id")
}

fn read_line(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// The lock of who finishes a run.
pub(crate) struct Held {
    _lock: File,
}

/// A run that this process owns.
pub(crate) struct Owned {
    /// Its files.
    pub(crate) paths: RunPaths,
    /// Its control socket.
    pub(crate) socket: PathBuf,
    /// Its lock, which falls with the last of these.
    pub(crate) lock: Arc<LockFile>,
    name: NameLock,
    id: RunId,
    store: Store,
}

/// A live name.
struct NameLock {
    path: PathBuf,
    _file: File,
}

impl NameLock {
    /// Takes the name, or says that it is taken. The file goes away with the run, so whoever opened it just
    /// before has a lock on nothing: the name must still lead to the file that is locked.
    fn take(path: &Path, id: &RunId) -> io::Result<Option<NameLock>> {
        // Who removes a name that nobody holds has it for a moment.
        let late = Deadline::after(NAME_LIMIT);
        loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(path)?;
            if !lock::try_exclusive(&file)? {
                if late.expired() {
                    return Ok(None);
                }
                Deadline::after(LOCK_TRY).wait();
                continue;
            }
            if leads_to(path, &file) {
                if let Err(error) = file.set_len(0).and_then(|()| file.write_all(id.as_str().as_bytes())) {
                    remove_file(path).ignore();
                    return Err(error);
                }
                return Ok(Some(NameLock { path: path.to_owned(), _file: file }));
            }
        }
    }

    fn release(self) {
        // While it is locked, the name is ours to remove.
        remove_file(&self.path).ignore();
    }
}

/// Removes the file of a name whose run is over, unless another run has taken the name.
pub(crate) fn forget_name(store: &Store, name: &RunName, id: &RunId) {
    let path = store.paths.name_lock(name);
    let ours = read_bounded(&path, 64).is_ok_and(|content| content == id.as_str().as_bytes());
    if ours {
        // One that another run holds by now is that run's.
        if let Ok(Some(lock)) = NameLock::take(&path, id) {
            lock.release();
        }
    }
}

/// Removes the files of names that nobody holds: a client that was killed before its run came to be leaves one.
pub(crate) fn forget_free_names(store: &Store) {
    for entry in fs::read_dir(store.paths.names()).into_iter().flatten().flatten() {
        let path = entry.path();
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(&path);
        let Ok(file) = file else { continue };
        if lock::try_exclusive(&file).is_ok_and(|taken| taken) && leads_to(&path, &file) {
            // While it is locked, the name is ours to remove.
            remove_file(&path).ignore();
        }
    }
}

/// Makes the directories, and the instance's name on the first run.
pub(crate) fn prepare_places(store: &Store) -> Result<String> {
    let paths = &store.paths;
    for dir in [&paths.state, &paths.runs(), &paths.names(), &paths.runtime, &paths.sockets] {
        private_dir(dir, store.uid)?;
    }
    instance(store)
}

fn instance(store: &Store) -> Result<String> {
    let path = store.paths.instance();
    let failed = |error: io::Error| {
        Failure::new(format!("naming this state directory in {}", path.display()), error)
            .hint("can you write there, and is there space?")
    };
    if let Some(known) = store.instance() {
        return Ok(known);
    }
    // Two first runs at once: both write a name of their own, one link wins, both read that.
    let own = store.paths.state.join(format!(".instance-{}.new", random_hex(8).map_err(failed)?));
    write_atomic(&own, format!("{}\n", random_hex(8).map_err(failed)?).as_bytes()).map_err(failed)?;
    let linked = fs::hard_link(&own, &path);
    remove_file(&own).map_err(failed)?;
    match (linked, store.instance()) {
        (_, Some(known)) => Ok(known),
        (Err(error), None) if error.kind() == io::ErrorKind::AlreadyExists => Err(damaged(&path)),
        (Err(error), None) => Err(failed(error)),
        (Ok(()), None) => Err(failed(io::Error::other("it cannot be read back"))),
    }
}

/// What is said of a name that cannot be read. Another one would make strangers of what engines have by this one.
fn damaged(path: &Path) -> Failure {
    let hint = "remove the file if no engine has anything of earlier runs: docker ps -a --filter label=fosse.run";
    Failure::new("reading the name of this state directory", format!("{} is damaged", path.display())).hint(hint)
}

/// The instance's name, if there is one; an error if there is one that cannot be read.
pub(crate) fn known_instance(store: &Store) -> Result<Option<String>> {
    let path = store.paths.instance();
    match store.instance() {
        None if fs::symlink_metadata(&path).is_ok() => Err(damaged(&path)),
        known => Ok(known),
    }
}

impl Owned {
    /// Makes a run with this name, or with a generated one, and owns it.
    pub(crate) fn create(
        store: &Store,
        id: &RunId,
        name: Option<&RunName>,
        record: impl FnOnce(&RunName) -> Record,
    ) -> Result<(Owned, Slot)> {
        let wanted = name.cloned().unwrap_or_else(|| RunName::generated(id));
        let failed = |error: io::Error| {
            Failure::new("creating the run", error).hint("is the state directory writable, and is there space?")
        };
        let Some(name) = NameLock::take(&store.paths.name_lock(&wanted), id).map_err(failed)? else {
            return Err(Failure::new("creating the run", format!("the name {wanted} is in use by a live run"))
                .hint(format!("choose another --name, or end it: fosse stop {wanted}")));
        };
        failpoint::pass("named");
        let building = RunPaths { dir: store.paths.runs().join(format!(".new-{id}")) };
        let built = Self::fill(store, id, &building, &record(&wanted));
        let (lock, socket) = match built {
            Ok(parts) => parts,
            Err(error) => {
                discard_unfinished(&building).ignore();
                name.release();
                return Err(failed(error));
            }
        };
        failpoint::pass("filled");
        let paths = store.run(id);
        if let Err(error) = fs::rename(&building.dir, &paths.dir) {
            discard_unfinished(&building).ignore();
            name.release();
            return Err(failed(error));
        }
        failpoint::pass("created");
        let slot = Slot::new(paths.clone(), record_of(&paths).map_err(failed)?);
        let lock = Arc::new(lock);
        Ok((Owned { paths, socket, lock, name, id: id.clone(), store: store.clone() }, slot))
    }

    fn fill(store: &Store, id: &RunId, paths: &RunPaths, record: &Record) -> io::Result<(LockFile, PathBuf)> {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new().mode(0o700).create(&paths.dir)?;
        // It has its name once it is taken: who sweeps half-made runs sees a dead owner's in one that is free.
        let unnamed = unnamed_lock(paths);
        let lock = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&unnamed)?;
        if !lock::try_exclusive(&lock)? {
            return Err(io::Error::other("a new lock is taken"));
        }
        fs::rename(unnamed, paths.owner_lock())?;
        let socket = store.paths.socket(id);
        let own = Pid::own();
        let owner = Owner {
            pid: own.number(),
            start_time: Stat::of(own).map_or(0, |stat| stat.start),
            boot_id: boot_id(),
            socket: socket.to_string_lossy().into_owned(),
            end: None,
        };
        let lock = LockFile::new(lock, owner)?;
        create_private(&paths.output(), b"")?;
        create_private(&reserve(paths), &vec![0; RESERVE])?;
        write_atomic(&paths.record(), &record::format(record))?;
        Ok((lock, socket))
    }

    /// Frees what was set aside for the final record.
    pub(crate) fn spend_reserve(&self) {
        spend_reserve(&self.paths);
    }

    /// Gives the run up: from here on others may read that nobody owns it. Its name is free again.
    pub(crate) fn release(self, record: &Record) {
        spend_reserve(&self.paths);
        // Who waits and finds the run destroyed knows it from here, else from the record.
        self.lock.tell_end(record).ignore();
        live::remove(&self.store, &self.id);
        self.name.release();
        drop(self.lock);
    }

    /// Gives the run up and removes every trace of it: it never came to be.
    pub(crate) fn discard(self, record: &Record) -> io::Result<()> {
        self.lock.tell_end(record).ignore();
        discard_unfinished(&self.paths)?;
        live::remove(&self.store, &self.id);
        self.name.release();
        Ok(())
    }
}

/// Frees what an owner has set aside: it is about to write its last, or cannot any more.
pub(crate) fn spend_reserve(paths: &RunPaths) {
    remove_file(&reserve(paths)).ignore();
}

/// The lock's file before it is taken.
fn unnamed_lock(paths: &RunPaths) -> PathBuf {
    paths.dir.join(".owner.lock")
}

/// Removes what was begun, by the names that it may have: to read a directory takes a descriptor, and the want of one may
/// be what the beginning failed for.
fn discard_unfinished(paths: &RunPaths) -> io::Result<()> {
    for path in [unnamed_lock(paths), paths.owner_lock(), paths.output(), reserve(paths), paths.record()] {
        remove_file(&path).ignore();
    }
    fs::remove_dir(&paths.dir).or_else(|_| remove_dir(&paths.dir))
}

fn reserve(paths: &RunPaths) -> PathBuf {
    paths.dir.join("reserve")
}

fn record_of(paths: &RunPaths) -> io::Result<Record> {
    let bytes = read_bounded(&paths.record(), record::MAX_BYTES)?;
    record::parse(&bytes).map_err(io::Error::other)
}

/// Takes over a run whose owner is dead, trying until `deadline`: an owner may be at its very end, and another may be
/// finishing it. Who finishes a run does not own it: its owner's lock stays free, so that readers see an orphan.
pub(crate) fn take_over(store: &Store, id: &RunId, deadline: Deadline) -> Result<Option<(Held, Slot)>> {
    let paths = store.run(id);
    let failed = |error: io::Error| Failure::new(format!("taking over run {id}"), error);
    // A run that has lost its owner never has one again.
    if !paths.owner_lock().exists() || !in_time(deadline, || is_owned(&paths).map(|owned| !owned)).map_err(failed)? {
        return Ok(None);
    }
    match hold(store, id, deadline)? {
        Some(held) => adopt(store, id, held, deadline),
        None => Ok(None),
    }
}

/// Keeps everybody else from finishing a run, trying until `deadline`; its owner may live.
pub(crate) fn hold(store: &Store, id: &RunId, deadline: Deadline) -> Result<Option<Held>> {
    let path = store.run(id).output();
    let failed = |error: io::Error| Failure::new(format!("taking over run {id}"), error);
    let lock = match OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&path)
    {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    // Destroyed by another while we waited: the lock is on nothing.
    if !in_time(deadline, || lock::try_exclusive(&lock)).map_err(failed)? || !leads_to(&path, &lock) {
        return Ok(None);
    }
    Ok(Some(Held { _lock: lock }))
}

/// Takes over a run that is held, as soon as its owner is dead.
pub(crate) fn adopt(store: &Store, id: &RunId, held: Held, deadline: Deadline) -> Result<Option<(Held, Slot)>> {
    let paths = store.run(id);
    let failed = |error: io::Error| Failure::new(format!("taking over run {id}"), error);
    if !in_time(deadline, || is_owned(&paths).map(|owned| !owned)).map_err(failed)? {
        return Ok(None);
    }
    let record = record_of(&paths).map_err(failed)?;
    spend_reserve(&paths);
    Ok(Some((held, Slot::new(paths, record))))
}

/// Tries until it succeeds or the time is over. A blocking flock(2) has no time limit, and between two tries nothing
/// else can be waited for.
fn in_time(deadline: Deadline, mut attempt: impl FnMut() -> io::Result<bool>) -> io::Result<bool> {
    while !attempt()? {
        if deadline.expired() {
            return Ok(false);
        }
        Deadline::after(LOCK_TRY).wait();
    }
    Ok(true)
}

/// Signals an owner, after proving that the process is the one that wrote the lock's file and runs for this user: the
/// handle is opened first, then the identity checked, then exactly that process signalled. One that has ended is fine.
#[cfg(target_os = "linux")]
pub(crate) fn signal_proved(owner: &Owner, uid: u32, signal: Signal) -> Result<()> {
    use crate::sys::process::PidHandle;
    let what = || format!("signalling the owner that does not answer (process {})", owner.pid);
    let refuse = |why: &str| Failure::new(what(), why).hint("end it by hand, then try again");
    if owner.boot_id != boot_id() {
        return Err(refuse("it belongs to another boot of this machine, or to another machine"));
    }
    let pid = Pid::new(owner.pid).ok_or_else(|| refuse("its lock names no process"))?;
    let handle = match PidHandle::open(pid) {
        Ok(handle) => handle,
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
        Err(error) => return Err(Failure::new(what(), error)),
    };
    if Stat::of(pid).map(|stat| stat.start) != Some(owner.start_time) {
        return Err(refuse("that process id belongs to another process by now"));
    }
    let user = fs::metadata(format!("/proc/{}", pid.number()))
        .map(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata))
        .ok();
    if user != Some(uid) && uid != 0 {
        return Err(refuse("it runs for another user"));
    }
    match handle.signal(signal) {
        Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Err(Failure::new(what(), error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Elsewhere a process cannot be named for certain (there is no pidfd), so it is not signalled.
#[cfg(not(target_os = "linux"))]
pub(crate) fn signal_proved(owner: &Owner, _uid: u32, _signal: Signal) -> Result<()> {
    let what = format!("signalling the owner that does not answer (process {})", owner.pid);
    Err(Failure::new(what, "not on this system"))
}

/// Whether the process that the lock's file names stands still, so that no signal but KILL would reach it.
pub(crate) fn stands_still(owner: &Owner) -> bool {
    let stat = Pid::new(owner.pid).and_then(Stat::of);
    stat.is_some_and(|stat| stat.start == owner.start_time && stat.halt != Halt::No)
}

//! Namespaces, and who a process is in them (namespaces(7), user_namespaces(7)).

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use crate::sys::process::Pid;
use crate::sys::{cerr, retry};

/// Enters a user namespace of its own in which this process is `inside`; outside it stays who it is (user and
/// group). Of several users or groups it can only have that one: setgroups(2) is denied, as the kernel asks.
pub fn enter_user_namespace(inside: (u32, u32)) -> io::Result<()> {
    // SAFETY: geteuid and getegid have no arguments and cannot fail.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    // SAFETY: unshare takes an integer.
    cerr(unsafe { libc::unshare(libc::CLONE_NEWUSER) })?;
    // Its files in /proc belong to this process only as long as it is dumpable, which a change of user ends.
    // SAFETY: prctl with integer arguments.
    cerr(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1 as libc::c_ulong, 0, 0, 0) })?;
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("{} {uid} 1", inside.0))?;
    std::fs::write("/proc/self/gid_map", format!("{} {gid} 1", inside.1))
}

/// Enters mount, ipc and uts namespaces of its own, and a network one if that is wanted; children get a pid namespace.
pub fn enter_namespaces(network: bool) -> io::Result<()> {
    let kinds = &KINDS[..if network { KINDS.len() } else { KINDS.len() - 1 }];
    let enter = |flags| {
        // SAFETY: unshare takes an integer.
        cerr(unsafe { libc::unshare(flags) }).map(drop)
    };
    enter(kinds.iter().fold(0, |all, (_, flag)| all | flag)).map_err(|error| {
        // Which of them the kernel refuses it tells only who asks for each.
        match kinds.iter().find_map(|(name, flag)| Some((name, enter(*flag).err()?))) {
            Some((name, error)) => About::error(name, error),
            None => error,
        }
    })
}

/// The last one is made only if that is asked for.
const KINDS: [(&str, libc::c_int); 5] = [
    ("mount", libc::CLONE_NEWNS),
    ("ipc", libc::CLONE_NEWIPC),
    ("uts", libc::CLONE_NEWUTS),
    ("pid", libc::CLONE_NEWPID),
    ("net", libc::CLONE_NEWNET),
];

/// What an error is about, where the errno alone does not say.
#[derive(Debug)]
pub(crate) struct About {
    what: &'static str,
    error: io::Error,
}

impl About {
    /// Says what it is about.
    pub(crate) fn error(what: &'static str, error: io::Error) -> io::Error {
        io::Error::new(error.kind(), About { what, error })
    }

    /// The errno of any error, also of one about something.
    pub(crate) fn errno(error: &io::Error) -> i32 {
        let about = error.get_ref().and_then(|inner| inner.downcast_ref::<About>());
        error.raw_os_error().or_else(|| about?.error.raw_os_error()).unwrap_or_default()
    }
}

impl std::fmt::Display for About {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.what, self.error)
    }
}

impl std::error::Error for About {}

/// Enters a mount namespace of its own, which only who has the rights of root can without a user namespace.
pub(crate) fn enter_mount_namespace() -> io::Result<()> {
    // SAFETY: unshare takes an integer.
    cerr(unsafe { libc::unshare(libc::CLONE_NEWNS) }).map(drop)
}

/// Where the users and groups are that nobody has: numbers that no system gives away, of which a user namespace needs
/// no other use than to be named.
const NOBODYS: (u32, u32) = (0x7000_0000, 0x0fff_ffff);

/// A user namespace in which user 0 and so on, and the groups, are such as nobody has outside. It is kept by its
/// descriptor alone. Only root can make it.
pub(crate) fn of_nobody() -> io::Result<OwnedFd> {
    let (wait, ready) = crate::sys::fd::pipe()?;
    let (hold, go) = crate::sys::fd::pipe()?;
    let Some(child) = fork(Parent::This)? else {
        drop((wait, go));
        // SAFETY: unshare takes an integer.
        let entered = cerr(unsafe { libc::unshare(libc::CLONE_NEWUSER) }).is_ok();
        if entered {
            File::from(ready).write_all(b"x").unwrap_or_default();
            File::from(hold).read(&mut [0]).map_or_else(drop, drop);
        }
        // SAFETY: _exit does not return.
        unsafe { libc::_exit(0) }
    };
    drop((ready, hold));
    let entered = File::from(wait).read_exact(&mut [0]);
    let made = entered.and_then(|()| {
        let (first, count) = NOBODYS;
        let files = format!("/proc/{}", child.number());
        for map in ["uid_map", "gid_map"] {
            std::fs::write(format!("{files}/{map}"), format!("0 {first} {count}"))?;
        }
        File::open(format!("{files}/ns/user"))
    });
    drop(go);
    crate::sys::process::wait_unreaped(child)?;
    super::init::reap(child)?;
    made.map(OwnedFd::from)
}

/// Takes this process's control groups for the roots of what it and its children see of them (cgroup_namespaces(7)).
pub(crate) fn enter_cgroup_namespace() -> io::Result<()> {
    // SAFETY: unshare takes an integer.
    cerr(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) }).map(drop)
}

/// Becomes that user and group for good, with no other group.
pub fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: no groups, and integers.
    unsafe {
        cerr(libc::setgroups(0, std::ptr::null()))?;
        cerr(libc::setresgid(gid, gid, gid))?;
        cerr(libc::setresuid(uid, uid, uid)).map(drop)
    }
}

/// Does something with the rights to files that a user and group have who are in no other group (setfsuid(2)), and with
/// this process's own to everything else. Only for root, in a process that has one thread.
pub(crate) fn with_files_of<T>((uid, gid): (u32, u32), act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    // SAFETY: geteuid and getegid have no arguments and cannot fail.
    let (own_uid, own_gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    // SAFETY: no groups.
    cerr(unsafe { libc::setgroups(0, std::ptr::null()) })?;
    let done = files_of(uid, gid).and_then(|()| act());
    files_of(own_uid, own_gid)?;
    done
}

fn files_of(uid: u32, gid: u32) -> io::Result<()> {
    // They say only what was before; a number that nobody can have changes nothing.
    let none = u32::MAX;
    // SAFETY: integers; these calls have no other arguments.
    let is = unsafe {
        libc::setfsgid(gid);
        libc::setfsuid(uid);
        (libc::setfsuid(none), libc::setfsgid(none))
    };
    let is = (u32::from_ne_bytes(is.0.to_ne_bytes()), u32::from_ne_bytes(is.1.to_ne_bytes()));
    // The kernel takes such a change for one of the user.
    // SAFETY: prctl with integer arguments.
    cerr(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1 as libc::c_ulong, 0, 0, 0) })?;
    if is == (uid, gid) { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

/// Leaves every supplementary group, where this process may.
pub(crate) fn leave_groups() {
    // SAFETY: no groups.
    cerr(unsafe { libc::setgroups(0, std::ptr::null()) }).map_or_else(drop, drop);
}

/// Whose child a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    /// Of who forks it.
    This,
    /// Of the parent of who forks it, which learns of its end and can wait for it (clone(2), CLONE_PARENT).
    Grandparent,
}

/// Forks. `None` in the child. The caller has no other thread.
pub fn fork(parent: Parent) -> io::Result<Option<Pid>> {
    let flags = if parent == Parent::Grandparent { libc::CLONE_PARENT } else { 0 };
    let flags = libc::c_ulong::try_from(flags | libc::SIGCHLD).unwrap_or_default();
    let none = 0 as libc::c_ulong;
    // SAFETY: without a stack and other shared things this is fork(2): the child goes on with a copy of everything.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, none, none, none, none) };
    match cerr(libc::c_int::try_from(pid).unwrap_or(-1))? {
        0 => Ok(None),
        pid => Pid::new(pid).map(Some).ok_or_else(|| io::Error::other("it got no process id")),
    }
}

/// Arranges to be killed when the *thread* that is this process's parent ends (PR_SET_PDEATHSIG, prctl(2)). A change
/// of user takes that back. Whether the parent had ended before must be asked in another way.
pub fn die_with_parent() -> io::Result<()> {
    // SAFETY: prctl with integer arguments.
    cerr(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0, 0, 0) }).map(drop)
}

/// Takes the request of [`die_with_parent`] back.
pub(crate) fn outlive_parent() -> io::Result<()> {
    // SAFETY: prctl with integer arguments.
    cerr(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, 0 as libc::c_ulong, 0, 0, 0) }).map(drop)
}

/// Leads a session of its own: no terminal is its own any more.
pub fn leave_session() -> io::Result<()> {
    // SAFETY: setsid has no arguments.
    cerr(unsafe { libc::setsid() }).map(drop)
}

/// Keeps stdin, which becomes the null device's, and closes every descriptor above stderr. Only at the start of a
/// program, when nothing owns any of them.
pub fn take_stdin() -> io::Result<UnixStream> {
    super::keeper::close_above_stderr();
    let stdin = io::stdin().as_fd().try_clone_to_owned()?;
    let null = File::open("/dev/null")?;
    // SAFETY: two open descriptors; what was stdin is owned by nobody.
    retry(|| unsafe { libc::dup2(null.as_raw_fd(), libc::STDIN_FILENO) })?;
    Ok(UnixStream::from(stdin))
}

/// Lets no process of this user in this user namespace, these included, make more than so many processes and threads
/// (RLIMIT_NPROC; per user namespace since Linux 5.14).
pub(crate) fn limit_processes(most: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: a valid limit.
    cerr(unsafe { libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit) }).map(drop)
}

/// Brings the loopback interface up (netdevice(7)), and lets this group, the only one that there is, send echo requests
/// without rights (icmp(7), ping_group_range): in a new network namespace nobody may. Where /proc cannot be written
/// there is the interface alone.
pub fn start_loopback() -> io::Result<()> {
    // SAFETY: getegid has no arguments and cannot fail.
    let gid = unsafe { libc::getegid() };
    std::fs::write("/proc/sys/net/ipv4/ping_group_range", format!("{gid} {gid}")).unwrap_or_default();
    // SAFETY: socket takes integers.
    let socket = cerr(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the call returned a new descriptor that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
        *to = libc::c_char::try_from(*from).unwrap_or_default();
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or_default();
    // SAFETY: an open socket, and a valid structure for this request.
    cerr(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }).map(drop)
}

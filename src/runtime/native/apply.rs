//! Making a place by its plan: in a process of its own that has one thread, was executed for nothing else, and is
//! told the plan on the socket that is its stdin.
//!
//! The builder enters the namespaces and forks PID 1. That one is the owner's child, not the builder's: the kernel
//! kills it when its owner ends, and the builder is needed no more. Only where control groups are to be taken away
//! at the end is there a guard in between, which outlives both.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use super::cgroup::{self, Group};
use super::open::Opened;
use super::plan::{HostPath, Step};
use super::report::{self, Report};
use super::root::Root;
use super::veil;
use crate::base::error::Ignore;
use crate::base::time::Deadline;
use crate::sys::fd::pipe;
use crate::sys::linux::epoll::{Epoll, Interest};
use crate::sys::linux::init::reap;
use crate::sys::linux::mount;
use crate::sys::linux::namespace::{self, About, Parent};
use crate::sys::linux::{caps, seccomp};
use crate::sys::process::{Pid, PidHandle, set_name, wait_unreaped};
use crate::sys::signal::Signal;
use crate::sys::socket;

/// How long the guard tries to take a control group away whose processes are dead.
const REMOVAL: std::time::Duration = std::time::Duration::from_secs(5);

/// Makes the place. Returns in its PID 1 only, with the socket on which the owner waits for a greeting, and the
/// file that counts kills for memory; an error was told to the owner.
pub(crate) fn become_place() -> io::Result<(UnixStream, Option<File>)> {
    let socket = namespace::take_stdin()?;
    set_name(c"fosse-init")?;
    let steps: Vec<Step> = report::read(&socket)?;
    let (outside, inside): (Vec<_>, Vec<_>) = steps.into_iter().partition(Step::is_outside);
    let (groups, outside): (Vec<_>, Vec<_>) = outside.into_iter().partition(|step| matches!(step, Step::Group(_)));
    let mut limits = Limits::default();
    // What is done here is no step of the plan.
    let beside = |what, error| {
        let error = About::error(what, error);
        tell_failure(&socket, None, &error);
        error
    };
    if !groups.is_empty() {
        // What is made from here on is taken away also if the owner ends now.
        namespace::outlive_parent().map_err(|error| beside("outliving the owner", error))?;
    }
    let made = each(&socket, &groups, |step| limits.make(step));
    if made.is_err() {
        take_away(&limits.groups);
    }
    made?;
    let guard = if limits.groups.is_empty() { None } else { Some(leave_a_guard(&socket, &limits.groups)) };
    let guard = guard.transpose().map_err(|error| beside("starting the guard of the control groups", error))?;
    let mut opened = Opened::default();
    each(&socket, &outside, |step| build(step, &mut opened))?;
    let forked = pipe().and_then(|ends| Ok((ends, namespace::fork(Parent::Grandparent)?)));
    let ((wait, go), first) = forked.map_err(|error| beside("starting PID 1 in a new pid namespace", error))?;
    let Some(first) = first else {
        drop(go);
        become_first(&socket, &wait, &limits.doors, &inside, opened)?;
        return Ok((socket, limits.counter));
    };
    drop(wait);
    if let Some(guard) = guard {
        File::from(guard).write_all(&first.number().to_le_bytes())?;
    }
    report::write(&socket, &Report::Begun(first.number()))?;
    drop(go);
    std::process::exit(0)
}

/// Does steps until one fails; the owner is told which.
fn each(socket: &UnixStream, steps: &[Step], mut act: impl FnMut(&Step) -> io::Result<()>) -> io::Result<()> {
    for step in steps {
        act(step).inspect_err(|error| tell_failure(socket, Some(step), error))?;
    }
    Ok(())
}

fn tell_failure(socket: &UnixStream, step: Option<&Step>, error: &io::Error) {
    let (errno, why) = (About::errno(error), error.to_string());
    report::write(socket, &Report::Failed { step: step.cloned(), errno, why }).ignore();
}

/// The control groups, and their files that are needed when this process is somebody else.
#[derive(Default)]
struct Limits {
    groups: Vec<Group>,
    /// Where PID 1 enters them, each with the step that made it.
    doors: Vec<(Step, File)>,
    counter: Option<File>,
}

impl Limits {
    fn make(&mut self, step: &Step) -> io::Result<()> {
        let Step::Group(group) = step else { return Err(io::ErrorKind::InvalidInput.into()) };
        match cgroup::make(group) {
            // It would only have been seen.
            Err(_) if group.values.is_empty() => return Ok(()),
            made => made?,
        }
        self.groups.push(group.clone());
        self.doors.push((step.clone(), cgroup::door(group)?));
        let counter = cgroup::oom_counter(group).and_then(|path| File::open(path).ok());
        self.counter = self.counter.take().or(counter);
        Ok(())
    }
}

/// A step of the builder's.
fn build(step: &Step, opened: &mut Opened) -> io::Result<()> {
    match step {
        Step::MountNamespace => {
            namespace::enter_mount_namespace()?;
            mount::make_all_private()
        }
        Step::Open { user: Some(user), bind } => namespace::with_files_of(*user, || opened.open(bind)),
        Step::Open { user: None, bind } => opened.open(bind),
        Step::Become { uid, gid } => namespace::become_user(*uid, *gid),
        Step::Veil { paths } => {
            let left_out = veil::lay(paths)?;
            opened.veil(paths.iter().map(|HostPath(path)| path.clone()).collect(), left_out);
            Ok(())
        }
        Step::UserNamespace { uid, gid } => {
            namespace::leave_groups();
            namespace::enter_user_namespace((*uid, *gid))
        }
        Step::Namespaces { network } => {
            namespace::enter_namespaces(*network)?;
            // What the host mounts or unmounts from here on comes into nothing that is shown.
            mount::make_all_private()
        }
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// The life of PID 1 until it is init. The owner knows its number before it does anything.
fn become_first(
    socket: &UnixStream,
    wait: &OwnedFd,
    doors: &[(Step, File)],
    steps: &[Step],
    opened: Opened,
) -> io::Result<()> {
    File::from(wait.try_clone()?).read(&mut [0]).map(drop)?;
    namespace::die_with_parent()?;
    // An owner that ended before that request will send no signal, and its end of the socket is closed.
    if socket::is_at_its_end(socket) {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    // The builder leads a group, and so could not.
    namespace::leave_session()?;
    for (step, door) in doors {
        let joined = cgroup::enter(door).map_err(|error| About::error("entering it", error));
        joined.inspect_err(|error| tell_failure(socket, Some(step), error))?;
    }
    let left_out = opened.left_out.clone();
    let (mut root, mut opened) = (None, Some(opened));
    each(socket, steps, |step| settle(step, &mut root, &mut opened))?;
    let read_only = root.map(|root: Root| root.read_only).unwrap_or_default();
    let paths = |paths: Vec<PathBuf>| paths.into_iter().map(HostPath).collect();
    report::write(socket, &Report::Done { read_only: paths(read_only), left_out: paths(left_out) })
}

/// A step of PID 1's.
fn settle(step: &Step, root: &mut Option<Root>, opened: &mut Option<Opened>) -> io::Result<()> {
    match step {
        Step::CgroupNamespace => match namespace::enter_cgroup_namespace() {
            // Within a sandbox none can be made, and none is needed: there the own groups are the topmost already.
            Err(_) if cgroup::is_at_the_top() => Ok(()),
            entered => entered,
        },
        Step::Processes { most } => namespace::limit_processes(*most),
        Step::Loopback => namespace::start_loopback(),
        Step::Root => {
            *root = Some(Root::make(opened.take().unwrap_or_default())?);
            Ok(())
        }
        Step::NoPrivileges => {
            caps::drop_all()?;
            caps::no_new_privileges()?;
            if caps::any_left()? { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(()) }
        }
        Step::Filter { allow_namespaces } => seccomp::install(seccomp::Policy { allow_namespaces: *allow_namespaces }),
        other => root.as_mut().ok_or(io::ErrorKind::InvalidInput)?.apply(other),
    }
}

/// Goes on as a child, and leaves a process behind that is nobody else and nowhere else than the owner is: it can
/// take the control groups away. It is told the number of PID 1, whose parent it is, on the pipe.
fn leave_a_guard(socket: &UnixStream, groups: &[Group]) -> io::Result<OwnedFd> {
    let (told, tell) = pipe()?;
    let Some(builder) = namespace::fork(Parent::This)? else {
        namespace::die_with_parent()?;
        return Ok(tell);
    };
    drop(tell);
    let guarded = guard(builder, File::from(told), socket);
    take_away(groups);
    std::process::exit(i32::from(guarded.is_err()))
}

/// Waits for the end of PID 1, and brings it about if the owner ends.
fn guard(builder: Pid, mut told: File, socket: &UnixStream) -> io::Result<()> {
    let mut number = [0; 4];
    let begun = told.read_exact(&mut number);
    wait_unreaped(builder)?;
    reap(builder)?;
    begun?;
    let first = Pid::new(i32::from_le_bytes(number)).ok_or(io::ErrorKind::InvalidData)?;
    let handle = PidHandle::open(first)?;
    let mut epoll = Epoll::new()?;
    epoll.add(&handle, 0, Interest::READ)?;
    epoll.add(socket, 1, Interest::HANGUP)?;
    let mut ended = false;
    while !ended {
        for event in epoll.wait(None)? {
            ended |= event.token == 0;
            if event.token == 1 {
                handle.signal(Signal::KILL).ignore();
                epoll.remove(socket);
            }
        }
    }
    reap(first)
}

fn take_away(groups: &[Group]) {
    for group in groups.iter().rev() {
        cgroup::remove(group.top(), Deadline::after(REMOVAL)).ignore();
    }
}

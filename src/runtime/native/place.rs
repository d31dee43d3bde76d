//! A place as its owner sees it: a builder is started, and PID 1 inside is this process's child from then on.

use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select};

use super::plan::{HostPath, Step};
use super::report::{self, Report};
use crate::base::error::Ignore;
use crate::base::threads;
use crate::base::time::Deadline;
use crate::process::Cancel;
use crate::runtime::pid1::Visitor;
use crate::sys::process::{Pid, PidHandle, hand_down_and_die_with_parent, wait_unreaped};
use crate::sys::signal::Signal;

/// The arguments with which this program is a builder.
pub(crate) const BUILDER: [&str; 2] = ["init", "--place"];

/// How long a builder that failed may take to end.
const END_LIMIT: Duration = Duration::from_secs(1);

/// Why there is no place.
#[derive(Debug)]
pub(crate) enum Error {
    /// A step could not be done, for this errno (0 if there is none).
    Step(Option<Step>, i32, String),
    /// It could not be tried, or was not heard of again.
    Lost(io::Error),
    /// It took too long.
    Late,
    /// Nobody wants it any more.
    Cancelled,
}

/// A process that waits to be told what place to make. It costs as much time to start as a place to make, and so is
/// started as soon as it is known that there will be one.
pub(crate) struct Builder {
    plan: Sender<Vec<Step>>,
    told: Receiver<Result<Made, Error>>,
    bell: UnixStream,
    ended: Receiver<Infallible>,
}

impl Builder {
    /// Starts one. If it is dropped, the process ends. The thread that starts it lives as long as PID 1, which the
    /// kernel kills when that thread ends.
    pub(crate) fn start() -> io::Result<Builder> {
        let (ours, theirs) = UnixStream::pair()?;
        let bell = ours.try_clone()?;
        let ((plan, planned), (tell, told), (going, ended)) = (bounded(1), bounded(1), bounded(0));
        let body = move || {
            live(ours, theirs, &planned, &tell);
            drop(going);
        };
        threads::start("place", 128, body)?;
        Ok(Builder { plan, told, bell, ended })
    }

    /// Lets it make a place, step by step.
    pub(crate) fn make(self, steps: &[Step], deadline: Deadline, cancel: &Cancel) -> Result<Place, Error> {
        let Builder { plan, told, bell, ended } = self;
        plan.send(steps.to_vec()).map_err(|_| Error::Lost(io::ErrorKind::BrokenPipe.into()))?;
        let late = deadline.channel();
        let made = select! {
            recv(told) -> made => made.unwrap_or_else(|_| Err(Error::Lost(io::ErrorKind::BrokenPipe.into()))),
            recv(late) -> _ => Err(Error::Late),
            recv(cancel) -> _ => Err(Error::Cancelled),
        };
        match made {
            Ok((visitor, about, handle)) => Ok(Place { visitor: Some(visitor), about, handle, ended }),
            Err(error) => {
                // Whoever is still at it finds that nobody is there.
                bell.shutdown(std::net::Shutdown::Both).ignore();
                // Its control groups go with it, and another may be tried at once.
                select! {
                    recv(ended) -> _ => {}
                    recv(Deadline::after(END_LIMIT).channel()) -> _ => {}
                }
                Err(error)
            }
        }
    }
}

/// What of the host is in a place otherwise than the plan says.
#[derive(Debug, Default)]
pub(crate) struct Lacks {
    /// What can only be read because the kernel refused an overlay over it.
    pub(crate) read_only: Vec<PathBuf>,
    /// What is not shown because it cannot be shown as nobody's.
    pub(crate) left_out: Vec<PathBuf>,
}

/// A place whose init has greeted.
pub(crate) struct Place {
    /// What its init waits for.
    pub(crate) visitor: Option<Visitor>,
    /// What of the host is otherwise in it than elsewhere.
    pub(crate) about: Lacks,
    handle: PidHandle,
    ended: Receiver<Infallible>,
}

impl Place {
    /// Signals PID 1 from outside: KILL ends everything inside, at once.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        self.handle.signal(signal)
    }

    /// Whether everything inside is gone and reaped within the limit.
    pub(crate) fn is_gone_within(&self, limit: Deadline) -> bool {
        select! {
            recv(self.ended) -> _ => true,
            recv(limit.channel()) -> _ => false,
        }
    }
}

type Made = (Visitor, Lacks, PidHandle);

/// The life of the thread that is the parent of a place.
fn live(ours: UnixStream, theirs: UnixStream, planned: &Receiver<Vec<Step>>, tell: &Sender<Result<Made, Error>>) {
    let mut builder = match start(theirs) {
        Ok(builder) => builder,
        Err(error) => return tell.send(Err(Error::Lost(error))).ignore(),
    };
    // Nobody wants a place after all: the builder finds that there is no plan.
    let Ok(steps) = planned.recv() else {
        drop(ours);
        return builder.wait().ignore();
    };
    let first = report::write(&ours, &steps).map_err(Error::Lost).and_then(|()| begun(&ours));
    let guarded = steps.iter().any(|step| matches!(step, Step::Group(_)));
    let pid = first.as_ref().ok().copied();
    // Without a PID 1 the socket is closed by this, so that nothing keeps the builder whose end is waited for.
    let made = first.and_then(move |pid| {
        let handle = PidHandle::open(pid).map_err(Error::Lost)?;
        let (visitor, about) = greeted(ours)?;
        Ok((visitor, about, handle))
    });
    tell.send(made).ignore();
    builder.wait().map(drop).ignore();
    if let (Some(pid), false) = (pid, guarded) {
        wait_unreaped(pid).and_then(|()| crate::sys::linux::init::reap(pid)).ignore();
    }
}

#[allow(clippy::disallowed_methods, reason = "the builder becomes, or guards, what its owner waits for")]
fn start(theirs: UnixStream) -> io::Result<std::process::Child> {
    // This very program, also if another one has taken its place on disk.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("fosse").args(BUILDER).env_clear();
    command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
    hand_down_and_die_with_parent(&mut command);
    command.spawn()
}

/// The number of PID 1.
fn begun(ours: &UnixStream) -> Result<Pid, Error> {
    let nonsense = || Error::Lost(io::ErrorKind::InvalidData.into());
    match report::read(ours).map_err(Error::Lost)? {
        Report::Begun(number) => Pid::new(number).ok_or_else(nonsense),
        Report::Failed { step, errno, why } => Err(Error::Step(step, errno, why)),
        Report::Done { .. } => Err(nonsense()),
    }
}

fn greeted(ours: UnixStream) -> Result<(Visitor, Lacks), Error> {
    match report::read(&ours).map_err(Error::Lost)? {
        Report::Done { read_only, left_out } => {
            let paths = |paths: Vec<HostPath>| paths.into_iter().map(|HostPath(path)| path).collect();
            let about = Lacks { read_only: paths(read_only), left_out: paths(left_out) };
            Ok((Visitor::on(ours).map_err(Error::Lost)?, about))
        }
        Report::Failed { step, errno, why } => Err(Error::Step(step, errno, why)),
        Report::Begun(_) => Err(Error::Lost(io::ErrorKind::InvalidData.into())),
    }
}

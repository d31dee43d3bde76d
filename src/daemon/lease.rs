//! The owner's side: for the time of a run that an engine has objects of, a connection to the daemon. Its end makes the
//! daemon look at the run at once. The run never waits for any of this.

use std::io::Read;
use std::time::Duration;

use crate::base::error::Ignore;
use crate::base::id::RunId;
use crate::base::log;
use crate::base::threads;
use crate::base::time::{Deadline, Since};
use crate::process;
use crate::wire::daemon::{Health, Lease, ToolAt};

use super::client::{ANSWER_LIMIT, Error, posted, talk, understood};
use super::leases::STOPPED;
use super::{Context, contend, launch, lock};

/// How long the successor of a daemon that was replaced is waited for before another one is started.
const SUCCESSION: Duration = Duration::from_secs(1);

/// Between two looks for a successor.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Between two looks for a daemon where somebody wanted none.
const NONE_WANTED: Duration = Duration::from_secs(5);

/// Between two starts that failed, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// How a lease ended.
enum End {
    /// The connection broke: the daemon died, or is being replaced.
    Broken,
    /// Somebody wants no daemon.
    Stopped,
}

/// Keeps a lease for a run until this process ends, in a thread of its own.
pub(crate) fn hold(context: Context, run: RunId, tool: &str) {
    let path = process::find(tool).and_then(|path| std::path::absolute(path).ok());
    let tool = path.map(|path| ToolAt { name: tool.to_owned(), path: path.to_string_lossy().into_owned() });
    let lease = Lease { run, tool };
    // Without a thread there is no lease, and the daemon's scan finds the run all the same.
    let started = threads::start("lease", 256, move || keep(&context, &lease));
    started.ignore();
}

fn keep(context: &Context, lease: &Lease) {
    let lease = posted("/v1/lease", lease);
    // No successor is to be waited for at first.
    let mut succession = Deadline::after(Duration::ZERO);
    let mut wanted = true;
    let mut pause = FIRST_PAUSE;
    let mut said = false;
    // One that was just started is taken as it is, whatever FOSSE_EXECUTABLE made of it.
    let mut judges = true;
    loop {
        let begun = Since::now();
        match once(context, &lease, judges) {
            Ok(End::Broken) => {
                (succession, wanted, pause, judges) = (Deadline::after(SUCCESSION), true, FIRST_PAUSE, true);
                if begun.elapsed() < FIRST_PAUSE {
                    // A daemon that has no room for it is not asked again and again.
                    Deadline::after(FIRST_PAUSE).wait();
                }
                continue;
            }
            Ok(End::Stopped) => wanted = false,
            Err(_) if !wanted => {}
            Err(_) if !succession.expired() => {
                Deadline::after(LOOK_AGAIN).wait();
                continue;
            }
            Err(_) => {
                match launch::start(context, false).and_then(launch::judged) {
                    Ok(_) if judges => judges = false,
                    // One that ends as soon as it serves is not started again and again.
                    Ok(_) => wait_longer(&mut pause),
                    Err(failure) => {
                        if !said {
                            said = true;
                            log::warn(&format!("{failure}; without it, fosse clean removes what a killed run leaves"));
                        }
                        wait_longer(&mut pause);
                    }
                }
                continue;
            }
        }
        Deadline::after(NONE_WANTED).wait();
    }
}

fn wait_longer(pause: &mut Duration) {
    Deadline::after(*pause).wait();
    *pause = (*pause * 2).min(LAST_PAUSE);
}

/// Gets a lease and keeps it to its end.
fn once(context: &Context, lease: &[u8], judges: bool) -> Result<End, Error> {
    let holder = lock::read(&context.lock_path());
    let nobody = || Error::Nobody(std::io::ErrorKind::NotFound.into());
    let socket = context.socket(holder.as_ref()).ok_or_else(nobody)?;
    let mut talk = talk(&socket, context.store.uid, lease, Deadline::after(ANSWER_LIMIT))?;
    let health: Health = understood(&talk.answer)?;
    if judges && !contend::is_fresh(context, &health) {
        // Starting one replaces it.
        return Err(Error::Foreign("it is stale".into()));
    }
    talk.stream.set_read_timeout(None).map_err(Error::Nobody)?;
    let (mut said, mut piece) = (Vec::new(), [0; 64]);
    loop {
        match talk.stream.read(&mut piece) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(count @ 1..) if said.len() < STOPPED.len() => said.extend_from_slice(&piece[..count]),
            Ok(1..) => {}
            Ok(0) | Err(_) => return Ok(if said == STOPPED { End::Stopped } else { End::Broken }),
        }
    }
}

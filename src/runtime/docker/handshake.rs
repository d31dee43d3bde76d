//! One call that makes a container with fosse's own PID 1 in it, and the handshake that decides whether it serves.

use super::{Engine, argv, parse};
use crate::base::time::Deadline;
use crate::process::{self, Cancel, no_cancel};
use crate::runtime::pid1::{Door, HANDSHAKE, Visitor};
use crate::runtime::spec::{OWN_DIRECTORY, OwnInit};
use crate::runtime::{Error, Made, Result, Runtime, Spec, Status};

/// What an engine gave that was asked for a container with fosse's init.
pub(crate) enum Answer {
    /// It greeted.
    Greeted(Made),
    /// It did not, and will not with this engine and image: nothing has run, and nothing is left.
    Never,
    /// It could not be tried, for a reason that may be the run's own.
    NotNow,
}

/// What became of a greeting.
enum Greeting {
    Came(Visitor),
    /// Init has ended without one, or something else came.
    WillNotCome,
    /// Init lives and says nothing: the machine may just be slow.
    IsLate,
}

impl Engine {
    /// Makes the container, and waits for the greeting of the init in it.
    pub(super) fn create_with_init(
        &self,
        spec: &Spec,
        own: &OwnInit,
        deadline: Deadline,
        cancel: &Cancel,
    ) -> Result<Answer> {
        let Ok(door) = Door::open(own) else { return Ok(Answer::NotNow) };
        let cmd = self.cmd(argv::run(self.kind, spec, own));
        let output = process::call(&cmd, deadline, cancel)?;
        let answer = if output.exit.success() {
            if let Some(warning) = parse::discarded_limit(&output.stderr) {
                return Err(Error::Refused { call: cmd.title(), complaint: warning });
            }
            let id = self.created_id(&cmd, &output)?;
            match self.greeting(&door, spec, cancel)? {
                Greeting::Came(visitor) if parse::is_id(&id) => {
                    return Ok(Answer::Greeted(Made { id: Some(id), init: Some(visitor), read_only: Vec::new() }));
                }
                Greeting::Came(_) => return Err(self.no_id(&cmd)),
                Greeting::WillNotCome => Answer::Never,
                Greeting::IsLate => Answer::NotNow,
            }
        } else {
            match self.refusal(&cmd, &output) {
                Error::Refused { complaint, .. } if is_about_init(&complaint) => Answer::Never,
                // Whatever else it refuses, it will refuse to the second path as well, in words about that.
                Error::Refused { .. } => Answer::NotNow,
                other => return Err(other),
            }
        };
        // Nobody answers an init that comes late.
        drop(door);
        self.remove_containers(&[spec.object_name()], deadline)?;
        Ok(answer)
    }

    /// Waits for init. Once it is late, the engine is asked whether the container lives at all.
    fn greeting(&self, door: &Door, spec: &Spec, cancel: &Cancel) -> Result<Greeting> {
        let late = HANDSHAKE.begin();
        loop {
            match door.wait(HANDSHAKE.first) {
                Ok(Some(visitor)) => return Ok(Greeting::Came(visitor)),
                Ok(None) => {}
                Err(_) => return Ok(Greeting::WillNotCome),
            }
            if cancel.try_recv() == Err(crossbeam_channel::TryRecvError::Disconnected) {
                return Err(Error::Call(process::Error::Cancelled { call: "the handshake".into() }));
            }
            let facts = self.inspect(&[spec.object_name()], self.limits.query(), &no_cancel())?;
            let lives = facts.first().is_some_and(|facts| facts.status == Status::Live);
            if !lives {
                return Ok(Greeting::WillNotCome);
            }
            if late.expired() {
                return Ok(Greeting::IsLate);
            }
        }
    }
}

/// Whether an engine's complaint is about what fosse added: its binary for another architecture, or one that may not
/// be executed; its files, which the engine does not see.
fn is_about_init(complaint: &str) -> bool {
    complaint.contains(OWN_DIRECTORY) || complaint.contains("exec format error") || complaint.contains("bind source")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_about_fosses_files_is_known() {
        for complaint in [
            r#"exec: "/.fosse/init": permission denied: unknown"#,
            "exec /.fosse/init: exec format error",
            r#"invalid mount config for type "bind": bind source path does not exist: /home/u/bin/fosse"#,
        ] {
            assert!(is_about_init(complaint), "{complaint}");
        }
        assert!(!is_about_init("unable to find user nobody: no matching entries in passwd file"));
    }
}

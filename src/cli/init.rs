//! `fosse init`: PID 1 for any image.

use std::ffi::OsStr;
use std::path::Path;

use super::args::Init;
use super::report::{self, Result};
use crate::init::{self, Options};
use crate::runtime::native::apply;

pub(crate) fn init(args: Init) -> Result {
    let Init { listen, socket, subreaper, group, grace, exit_file, command } = args;
    let options = Options { command, subreaper, group, grace, listen, socket, exit_file };
    Ok(init::run(&options)?)
}

/// Makes the place of a run that the owner at the other end of stdin describes, and is its init.
pub(crate) fn in_a_place() -> u8 {
    match apply::become_place() {
        Ok((owner, counter)) => init::run_in_a_place(owner, counter).unwrap_or(super::RUN_FAULT),
        // The owner was told.
        Err(_) => super::RUN_FAULT,
    }
}

/// As the init of a run's place, for the owner that listens on a socket.
pub(crate) fn for_an_owner(socket: &OsStr) -> u8 {
    let ended = init::run_for_an_owner(Path::new(socket)).map_err(report::Error::Failed);
    ended.unwrap_or_else(|error| report::code_of(&error, super::RUN_FAULT))
}

//! `fosse init`: PID 1 for any image.

use super::args::Init;
use super::report::Result;
use crate::init::{self, Options};

pub fn init(args: Init) -> Result {
    let Init { listen, socket, subreaper, grace, command } = args;
    let options = Options { command, subreaper, grace, listen, socket };
    Ok(init::run(&options)?)
}

//! `fosse init`: PID 1 for any image.

use super::args::Init;
use super::report::Result;
use crate::init::{self, Options};

pub fn init(args: Init) -> Result {
    let options = Options { command: args.command, subreaper: args.subreaper, grace: args.grace };
    Ok(init::run(&options)?)
}

//! From an error to words on stderr and an exit code.

use super::output::WriteError;
use crate::base::error::Failure;
use crate::base::log;

/// Why a verb ends early.
#[derive(Debug)]
pub(crate) enum Error {
    /// What was typed or configured makes no sense: the usage code.
    Usage(Failure),
    /// Something else: 1, or `run`'s 125.
    Failed(Failure),
    /// Nobody reads stdout any more: a quiet end.
    Closed,
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Error::Failed(failure)
    }
}

impl From<WriteError> for Error {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Closed => Error::Closed,
            WriteError::Failed(failure) => Error::Failed(failure),
        }
    }
}

/// A verb's result: its exit code.
pub(crate) type Result<T = u8> = std::result::Result<T, Error>;

/// Says an error and gives its exit code; `usage` is the verb's code for wrong usage.
pub(crate) fn code_of(error: &Error, usage: u8) -> u8 {
    match error {
        Error::Closed => 0,
        Error::Usage(failure) => {
            log::error(failure);
            usage
        }
        Error::Failed(failure) => {
            log::error(failure);
            if usage == super::RUN_FAULT { usage } else { 1 }
        }
    }
}

/// Says a failure that concerns one operand; the verb goes on with the others.
pub(crate) fn operand(failure: &Failure, code: &mut u8) {
    log::error(failure);
    *code = 1;
}

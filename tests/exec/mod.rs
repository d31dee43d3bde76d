//! Another command in a run that lives.

pub mod commands;
pub mod signals;

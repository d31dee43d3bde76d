//! The shapes that are stored on disk or sent between processes. No behaviour beyond reading and writing them.

pub mod channel;
pub mod control;
pub mod daemon;
pub mod exit;
pub mod path;
pub mod record;

//! Every promise of fosse, one file a verb or promise. `support` has the tools; names say what is promised.
#![allow(unreachable_pub, reason = "in a program of its own, pub is what modules show each other")]
#![allow(clippy::disallowed_methods, reason = "tests start programs, read the environment and the clock")]

mod support;

mod apple;
mod daemon;
mod engines;
#[cfg(target_os = "linux")]
mod exec;
#[cfg(target_os = "linux")]
mod init;
mod manual;
#[cfg(target_os = "linux")]
mod native;
mod runs;
mod source;
#[cfg(target_os = "linux")]
mod terminal;
mod verbs;

#![doc = include_str!("DESIGN.md")]
#![cfg_attr(not(target_os = "linux"), allow(dead_code, unreachable_pub, reason = "for the parts for Linux"))]

pub mod base;
pub mod cli;
pub mod daemon;
pub mod http;
#[cfg(target_os = "linux")]
pub mod init;
pub mod process;
pub mod run;
pub mod runtime;
pub mod sys;
pub mod term;
pub mod wire;

pub use cli::main;

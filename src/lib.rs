#![doc = include_str!("DESIGN.md")]

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

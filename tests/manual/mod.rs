//! What the manual, the README, the help and the completions say is what the program does.

pub mod completions;
pub mod daemon_page;
pub mod pages;
pub mod usage;

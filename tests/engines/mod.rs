//! Docker and Podman: which one is asked, what is made there, and what others do to it.

pub mod behind;
pub mod choice;
#[cfg(target_os = "linux")]
pub mod lookup;
pub mod network;
#[cfg(target_os = "linux")]
pub mod objects;
#[cfg(target_os = "linux")]
pub mod rootless;

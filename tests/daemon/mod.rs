//! The daemon: how it begins, serves, cleans up and ends, alone and in company.

#[cfg(target_os = "linux")]
pub mod api;
#[cfg(target_os = "linux")]
pub mod company;
#[cfg(target_os = "linux")]
pub mod files;
#[cfg(target_os = "linux")]
pub mod frozen;
#[cfg(target_os = "linux")]
pub mod helps;
pub mod life;
#[cfg(target_os = "linux")]
pub mod manager;
#[cfg(target_os = "linux")]
pub mod notices;
#[cfg(target_os = "linux")]
pub mod orphans;
#[cfg(target_os = "linux")]
pub mod races;
#[cfg(target_os = "linux")]
pub mod sweeps;

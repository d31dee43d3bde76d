//! Apple's runtime, against an emulator of its tool.

#[cfg(target_os = "linux")]
pub mod facts;
#[cfg(target_os = "linux")]
pub mod facts_json;
#[cfg(target_os = "linux")]
pub mod facts_texts;
#[cfg(target_os = "linux")]
pub mod faults;
pub mod mac;
#[cfg(target_os = "linux")]
pub mod runs;
#[cfg(target_os = "linux")]
pub mod storms;

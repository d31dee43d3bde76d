//! Values that every module needs and that need nobody.

pub mod base64;
pub mod duration;
pub mod env;
pub mod error;
pub mod fs;
pub mod id;
pub mod log;
pub mod paths;
pub mod size;
pub mod time;

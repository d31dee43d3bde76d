//! The verbs that look and tidy, and the configuration.

pub mod clean;
pub mod config;
pub mod look;

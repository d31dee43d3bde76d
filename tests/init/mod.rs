//! fosse's own PID 1: its signals, orphans, exit file, and its service for requests.

pub mod clients;
pub mod execute;
pub mod execute_ends;
pub mod execute_load;
pub mod exit_file;
pub mod http;
pub mod orphans;
pub mod plain;
pub mod signals;

//! Values that every module needs and that need nobody.
//!
//! | module | what it knows |
//! |---|---|
//! | `id` | ids and names of runs |
//! | `time` | the clock, points in time, deadlines |
//! | `duration` | `10s`, `1m30s` |
//! | `size` | `512m`, `2g` |
//! | `paths` | where fosse keeps things |
//! | `fs` | private directories, atomic writes, bounded reads |
//! | `env` | the environment of this process |
//! | `error` | what failed, why, and what to do |
//! | `log` | lines on stderr |
//! | `base64` | bytes in JSON |
//! | `hash` | names made short |
//! | `sync`, `threads` | locks and threads of this process |

pub mod base64;
pub mod duration;
pub mod env;
pub mod error;
pub mod fs;
pub mod hash;
pub mod id;
pub mod log;
pub mod paths;
pub mod size;
pub mod sync;
pub mod threads;
pub mod time;

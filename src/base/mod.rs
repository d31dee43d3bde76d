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

pub(crate) mod base64;
pub(crate) mod duration;
pub mod env;
pub(crate) mod error;
pub(crate) mod fs;
pub(crate) mod hash;
pub mod id;
pub(crate) mod log;
pub mod paths;
pub(crate) mod size;
pub(crate) mod sync;
pub(crate) mod threads;
pub mod time;

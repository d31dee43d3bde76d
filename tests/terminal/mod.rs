//! Interactive sessions: the terminal is the command's, and always comes back.

pub mod background;
pub mod ends;
pub mod life;
pub mod programs;
pub mod streams;

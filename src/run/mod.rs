pub mod failpoint;

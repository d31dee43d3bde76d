//! Linux's own means as a place to run in: namespaces and control groups, without an engine.

pub mod cgroup;

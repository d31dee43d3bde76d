//! The runtime without an engine: Linux's own namespaces, with the host's files below ephemeral overlays.

pub mod host;

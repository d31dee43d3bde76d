//! The engines, as the configuration names them.

use super::config::Layer;
use crate::run::engines::{Engines, Tools};
use crate::run::store::Store;
use crate::runtime::Limits;

/// As the configuration says. `remember` is false where nothing may be written.
pub fn engines(store: &Store, config: &Layer, remember: bool) -> Engines {
    let usual = Limits::default();
    let limits = Limits {
        query: config.query_timeout.unwrap_or(usual.query),
        change: config.change_timeout.unwrap_or(usual.change),
    };
    let tools =
        Tools { docker: config.docker.clone(), podman: config.podman.clone(), container: config.container.clone() };
    Engines::new(&store.paths, limits, tools, remember)
}

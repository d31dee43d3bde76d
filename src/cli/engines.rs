//! The engines, as the configuration names them.

use super::config::Layer;
use crate::run::engines::{Engines, Tools};
use crate::run::store::Store;
use crate::runtime::{Kind, Limits};

/// As the configuration says. `remember` is false where nothing may be written.
pub(crate) fn engines(store: &Store, config: &Layer, remember: bool) -> Engines {
    let usual = Limits::default();
    let limits = Limits {
        query: config.query_timeout.unwrap_or(usual.query),
        change: config.change_timeout.unwrap_or(usual.change),
    };
    let tools =
        Tools { docker: config.docker.clone(), podman: config.podman.clone(), container: config.container.clone() };
    let wanted = config.runtime.as_deref().and_then(Kind::parse);
    Engines::new(&store.paths, limits, tools, remember).wanting(wanted)
}

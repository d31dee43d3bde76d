//! `fosse destroy`: removes ended runs, with everything that belongs to them.

use super::args::Destroy;
use super::config;
use super::engines::engines;
use super::report::{Result, operand};
use super::stop::{find, title};
use crate::base::log::{self, Level};
use crate::run::resolve::resolve;
use crate::run::{destroy, finish};

pub(crate) fn destroy(args: &Destroy) -> Result {
    log::set_level(if args.quiet { Level::Quiet } else { Level::Normal });
    let store = super::store()?;
    let engines = engines(&store, &config::trusted(&store.paths)?, true);
    let mut code = 0;
    for text in &args.run {
        if args.force && resolve(&store, text)?.is_err_and(|none| none.candidates.is_empty()) {
            continue;
        }
        let destroyed = find(&store, text, "destroying a run").and_then(|id| {
            let title = title(&store, &id);
            let of = |record: &_| engines.of(record);
            if args.force && matches!(store.load(&id), Some(crate::run::store::Entry::Known(_))) {
                finish::stop(&store, &id, None, &of)?;
            }
            destroy::destroy(&store, &id, &of)?;
            Ok(title)
        });
        match destroyed {
            Ok(title) => log::info(&format!("destroyed {title}")),
            Err(failure) => operand(&failure, &mut code),
        }
    }
    Ok(code)
}

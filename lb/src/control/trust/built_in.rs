//! The strategy of a pool whose plugin may not be loaded: it decides nothing, so the built-in fallback picks.
//!
//! Why a strategy: a pool always has one, and the rest of control need not know the exception.

use std::sync::Arc;

use lb_strategy::abi::LbStrategyTable;
use lb_strategy::{Backends, Error, Host, NoOptions, Pick, Request};
use lb_strategy_host::{Plugin, Strategy, plugin_from_table};

/// Its name in `/status` and in the metrics.
const NAME: &str = "built_in_fallback";

struct Undecided;

static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<Undecided>(env!("CARGO_PKG_VERSION"), "built in");

/// An instance for the pool `pool`. No code of a plugin runs.
pub(in crate::control) fn built_in(pool: &str, workers: usize) -> Arc<Strategy> {
    let plugin: Arc<Plugin> = plugin_from_table(&TABLE, workers).expect("the table of the SDK is sound");
    Strategy::for_pool(plugin, &serde_json::Value::Null, pool).expect("it has no options and cannot fail")
}

// === impl Undecided ===

impl lb_strategy::Strategy for Undecided {
    const NAME: &'static str = NAME;
    type Config = NoOptions;
    type Picker = ();

    fn new(_: NoOptions, _: Host) -> Result<Self, Error> {
        Ok(Self)
    }

    fn picker(&self, _: &Backends<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn pick(&self, _: &(), _: &Backends<'_>, _: &Request<'_>) -> Pick {
        Pick::Fallback
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_strategy_has_no_file_and_no_digest() {
        let strategy = built_in("default", 2);
        let plugin = strategy.plugin();
        assert_eq!((plugin.name(), plugin.path(), plugin.sha256()), (NAME, None, None));
    }
}

//! A hedge for which the strategy answers that it must wait.

use std::sync::Arc;

use lb_strategy::abi::LbStrategyTable;
use lb_strategy::{Backends, Error, Host, NoOptions, Pick, Request};
use lb_strategy_host::{Strategy, plugin_from_table};
use serde_json::json;

use super::stand::Stand;
use super::{hold_first, limited};
use crate::support::WORKERS;

static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<FirstOnly>("0", "test");

/// Picks the first backend for first attempts, and lets all others wait.
struct FirstOnly;

impl lb_strategy::Strategy for FirstOnly {
    const NAME: &'static str = "first_only";
    type Config = NoOptions;
    type Picker = ();

    fn new(_: NoOptions, _: Host) -> Result<Self, Error> {
        Ok(Self)
    }

    fn picker(&self, _: &Backends<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn pick(&self, _: &(), backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        match request.attempt() {
            0 => backends.candidate(request, 0).map_or(Pick::NoBackend, |(index, _)| Pick::Backend(index)),
            _ => Pick::Wait,
        }
    }
}

fn first_only() -> Arc<Strategy> {
    Strategy::new(plugin_from_table(&TABLE, WORKERS).unwrap(), &json!({})).unwrap()
}

#[test]
fn a_hedge_that_would_wait_is_not_made_but_a_retry_is() {
    let stand = Stand::<2>::new(hold_first);
    let setup = stand.setup().retry(limited).with(|setup| setup.pools[0].strategy = first_only());
    let warm = stand.warm_up(setup);
    warm.lb.metrics.set_strategy("default", "first_only", "1");
    let fallbacks = || warm.lb.metric("lb_strategy_fallbacks_total", &["reason=\"no_queue\""]);
    let before = fallbacks();
    assert_eq!(warm.client("GET").answer().text(), "ok", "by a retry: without a queue the fallback picks");
    warm.lb.comes_to_rest();
    assert_eq!((warm.hedges(), fallbacks() - before, stand.tries()), ([0.0; 3], 1.0, [1, 1]));
}

//! The outcomes that a strategy gets for a hedged request.

use std::sync::Arc;

use lb_strategy::abi::LbStrategyTable;
use lb_strategy::{Backends, Error, Finish, Host, NoOptions, Outcome, Pick, Request};
use lb_strategy_host::{Strategy, plugin_from_table};
use parking_lot::Mutex;
use serde_json::json;

use super::hold_first;
use super::stand::Stand;
use crate::support::WORKERS;

static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<InOrder>("0", "test");

/// The outcome and the number of each attempt. Only one test uses it.
static ENDED: Mutex<Vec<(Outcome, u32)>> = Mutex::new(Vec::new());

/// Picks the first backend that was not tried, and records every finish in `ENDED`.
struct InOrder;

impl lb_strategy::Strategy for InOrder {
    const NAME: &'static str = "in_order";
    const WANTS_FINISH: bool = true;
    type Config = NoOptions;
    type Picker = ();

    fn new(_: NoOptions, _: Host) -> Result<Self, Error> {
        Ok(Self)
    }

    fn picker(&self, _: &Backends<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn pick(&self, _: &(), backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        backends.candidates(request).next().map_or(Pick::NoBackend, |(index, _)| Pick::Backend(index))
    }

    fn on_finish(&self, finish: &Finish<'_>) {
        ENDED.lock().push((finish.outcome(), finish.attempt()));
    }
}

fn in_order() -> Arc<Strategy> {
    Strategy::new(plugin_from_table(&TABLE, WORKERS).unwrap(), &json!({})).unwrap()
}

#[test]
fn a_strategy_gets_the_attempt_that_lost_as_one_that_was_not_needed() {
    let stand = Stand::<2>::new(hold_first);
    let warm = stand.warm_up(stand.setup().with(|setup| setup.pools[0].strategy = in_order()));
    ENDED.lock().clear();
    assert_eq!(warm.client("GET").answer().text(), "ok");
    warm.lb.comes_to_rest();
    let mut ended = ENDED.lock().clone();
    ended.sort_unstable_by_key(|(_, number)| *number);
    assert_eq!(ended, [(Outcome::ClientGone, 0), (Outcome::Ok, 1)]);
}

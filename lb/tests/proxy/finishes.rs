//! `on_finish` runs exactly once for every attempt, for every kind of end, and also if another strategy made the pick.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use lb_strategy::abi::LbStrategyTable;
use lb_strategy::{Backends, Error, Finish, Host, NoOptions, Outcome, Pick, Request};
use lb_strategy_host::{Strategy, plugin_from_table};
use lb_test_support::{closed_address, mock, request, wait_until};
use mock_server::Change;
use parking_lot::Mutex;
use serde_json::json;

use crate::support::{PoolSetup, Setup, WORKERS, backend, ms};

static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<Ledger>("0", "test");

/// Picks of all instances. Only one test uses these statics.
static PICKS: AtomicU64 = AtomicU64::new(0);
static HEARD: Mutex<Vec<Heard>> = Mutex::new(Vec::new());

/// Picks in turn, and records every finish in `HEARD`.
struct Ledger;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Heard {
    outcome: Outcome,
    own: bool,
    upgraded: bool,
    token: u64,
}

impl lb_strategy::Strategy for Ledger {
    const NAME: &'static str = "ledger";
    const WANTS_FINISH: bool = true;
    type Config = NoOptions;
    type Picker = ();

    fn new(_: NoOptions, _: Host) -> Result<Self, Error> {
        Ok(Self)
    }

    fn picker(&self, _: &Backends<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// The token is the number of the pick, from 1.
    fn pick(&self, _: &(), backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        let turn = PICKS.fetch_add(1, SeqCst);
        let candidates: Vec<usize> = backends.candidates(request).map(|(index, _)| index).collect();
        match candidates.len() as u64 {
            0 => Pick::NoBackend,
            n => Pick::BackendWithToken(candidates[(turn % n) as usize], turn + 1),
        }
    }

    fn on_finish(&self, finish: &Finish<'_>) {
        let (outcome, token) = (finish.outcome(), finish.token());
        HEARD.lock().push(Heard { outcome, own: finish.is_own(), upgraded: finish.is_upgraded(), token });
    }
}

fn ledger() -> Arc<Strategy> {
    Strategy::new(plugin_from_table(&TABLE, WORKERS).unwrap(), &json!({})).unwrap()
}

#[test]
fn on_finish_runs_once_for_every_attempt_and_every_outcome() {
    let server = mock("1");
    let setup = || Setup::of(&[&server]).with(|setup| setup.pools[0].strategy = ledger());
    let alone = setup().pools[0].clone();
    let lb = setup().with(|setup| setup.pools[0] = alone.clone()).start();
    let stall = |on: bool| server.change(&Change { stall: Some(on), ..Change::default() }).unwrap();
    let heard = |count: usize| {
        wait_until("the finishes to be recorded", || HEARD.lock().len() >= count);
        lb.comes_to_rest();
        let heard = HEARD.lock().clone();
        assert_eq!(heard.len(), count, "{heard:?}");
        heard[count - 1]
    };
    let own = |outcome, token| Heard { outcome, own: true, upgraded: false, token };

    assert_eq!(lb.client().get("/home").status(), 200);
    assert_eq!(heard(1), own(Outcome::Ok, 1));

    stall(true);
    let mut leaving = lb.client();
    leaving.send(&request("GET", "/home", &[]));
    wait_until("the request to be at the backend", || server.stats().in_progress == 1);
    leaving.reset();
    assert_eq!(heard(2), own(Outcome::ClientGone, 2));
    let hasty = setup().timeouts(|timeouts| timeouts.response_head = ms(100)).attempts(1).start();
    assert_eq!(hasty.client().get("/home").status(), 504);
    hasty.comes_to_rest();
    assert_eq!(heard(3), own(Outcome::Timeout, 3));
    drop(hasty);
    stall(false);

    let mut tunnel = lb.client();
    tunnel.send(&request("GET", "/echo", &["connection: Upgrade", "upgrade: echo"]));
    assert_eq!(tunnel.answer().status(), 101);
    assert_eq!(HEARD.lock().len(), 3, "a tunnel has not ended");
    drop(tunnel);
    assert_eq!(Heard { outcome: Outcome::Ok, ..heard(4) }, Heard { upgraded: true, ..own(Outcome::Ok, 4) });

    // A refused connection and a retry are two attempts, so there are two finishes. The fifth pick takes backend
    // `gone`.
    let both =
        PoolSetup { backends: vec![backend("gone", closed_address()), alone.backends[0].clone()], ..alone.clone() };
    let number = lb.publish(&[both]);
    wait_until("the workers to follow", || lb.hall.is_taken_up(number));
    assert_eq!(lb.client().get("/home").status(), 200);
    assert_eq!(heard(6), own(Outcome::Ok, 6));
    assert_eq!(HEARD.lock()[4], own(Outcome::ConnectError, 5));

    // The strategy in force at the end gets the finish. `own` is false, because another instance made the pick.
    stall(true);
    let mut waiting = lb.client();
    let number = lb.publish(std::slice::from_ref(&alone));
    wait_until("the workers to follow", || lb.hall.is_taken_up(number));
    waiting.send(&request("GET", "/home", &[]));
    wait_until("the request to be at the backend", || server.stats().in_progress == 1);
    let number = lb.publish(&[PoolSetup { strategy: ledger(), ..alone }]);
    wait_until("the workers to follow", || lb.hall.is_taken_up(number));
    stall(false);
    assert_eq!(waiting.answer().status(), 200);
    assert_eq!(heard(7), Heard { own: false, ..own(Outcome::Ok, 0) });
    assert_eq!(PICKS.load(SeqCst), 7);
}

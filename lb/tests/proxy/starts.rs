//! `on_start` runs exactly once for every attempt, before anything of the request is sent, however the backend was
//! chosen.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use lb_strategy::abi::LbStrategyTable;
use lb_strategy::{Backends, Error, Finish, Host, Pick, Request, Start};
use lb_strategy_host::{Strategy, backend_id, plugin_from_table};
use lb_test_support::{Hostile, chunk, closed_address, mock, request, request_with, wait_until};
use mock_server::Change;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;

use crate::sticky::sticky;
use crate::support::{Balancer, Setup, WORKERS};

static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<Opener>("0", "test");

/// The begins and ends of all instances.
static HEARD: Mutex<Vec<(u64, Heard)>> = Mutex::new(Vec::new());

/// Picks in its way, and records begins and ends.
struct Opener {
    options: Options,
    picks: AtomicU64,
}

#[derive(Clone, Copy, Deserialize)]
struct Options {
    /// Tells the instances of several tests apart.
    id: u64,
    way: Way,
}

#[derive(Clone, Copy, Deserialize)]
enum Way {
    /// The candidates in turn. The token is the number of the pick, from 1.
    InTurn,
    Undecided,
    /// An index outside the list.
    BadIndex,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Heard {
    Start { backend: u64, attempt: u32, own: bool, token: u64, length: Option<u64> },
    Finish { backend: u64, attempt: u32, own: bool, token: u64 },
}

impl lb_strategy::Strategy for Opener {
    const NAME: &'static str = "opener";
    const WANTS_START: bool = true;
    const WANTS_FINISH: bool = true;
    type Config = Options;
    type Picker = ();

    fn new(options: Options, _: Host) -> Result<Self, Error> {
        Ok(Self { options, picks: AtomicU64::new(0) })
    }

    fn picker(&self, _: &Backends<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn pick(&self, _: &(), backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        let turn = self.picks.fetch_add(1, SeqCst);
        match self.options.way {
            Way::Undecided => Pick::Fallback,
            Way::BadIndex => Pick::BackendWithToken(backends.len(), turn + 1),
            Way::InTurn => {
                let candidates: Vec<usize> = backends.candidates(request).map(|(index, _)| index).collect();
                match candidates.len() as u64 {
                    0 => Pick::NoBackend,
                    n => Pick::BackendWithToken(candidates[(turn % n) as usize], turn + 1),
                }
            }
        }
    }

    fn on_start(&self, start: &Start<'_>) {
        assert!(start.slot().is_some(), "the backend is in the list");
        let (backend, attempt, own) = (start.backend_id(), start.attempt(), start.is_own());
        let heard = Heard::Start { backend, attempt, own, token: start.token(), length: start.body_length() };
        HEARD.lock().push((self.options.id, heard));
    }

    fn on_finish(&self, finish: &Finish<'_>) {
        let (backend, attempt, own) = (finish.backend_id(), finish.attempt(), finish.is_own());
        let heard = Heard::Finish { backend, attempt, own, token: finish.token() };
        HEARD.lock().push((self.options.id, heard));
    }
}

fn opener(id: u64, way: &str) -> Arc<Strategy> {
    Strategy::new(plugin_from_table(&TABLE, WORKERS).unwrap(), &json!({ "id": id, "way": way })).unwrap()
}

fn before(setup: Setup, id: u64, way: &str) -> Setup {
    setup.with(|setup| setup.pools[0].strategy = opener(id, way))
}

fn heard(id: u64) -> Vec<Heard> {
    HEARD.lock().iter().filter(|(of, _)| *of == id).map(|(_, heard)| *heard).collect()
}

/// The attempts so far, in order, after a check that each has one begin and then one end that agree.
#[track_caller]
fn attempts(lb: &Balancer, id: u64) -> Vec<Heard> {
    lb.comes_to_rest();
    let heard = heard(id);
    let (starts, finishes): (Vec<_>, Vec<_>) =
        heard.iter().copied().partition(|one| matches!(one, Heard::Start { .. }));
    let end_of = |start: &Heard| match *start {
        Heard::Start { backend, attempt, own, token, .. } => Heard::Finish { backend, attempt, own, token },
        end @ Heard::Finish { .. } => end,
    };
    assert_eq!(starts.iter().map(end_of).collect::<Vec<_>>(), finishes, "{heard:?}");
    assert!(heard.iter().step_by(2).all(|one| matches!(one, Heard::Start { .. })), "{heard:?}");
    starts
}

fn start(backend: &str, attempt: u32, token: u64, length: Option<u64>) -> Heard {
    Heard::Start { backend: backend_id(backend), attempt, own: token > 0, token, length }
}

#[test]
fn an_attempt_begins_before_its_backend_has_the_request_and_with_the_length_of_its_body() {
    let server = mock("1");
    let lb = before(Setup::of(&[&server]), 1, "InTurn").start();
    let mut client = lb.client();
    server.change(&Change { stall: Some(true), ..Change::default() }).unwrap();
    client.send(&request("GET", "/home", &[]));
    wait_until("the request to be at the backend", || server.stats().in_progress == 1);
    assert_eq!(heard(1), [start("b1", 0, 1, Some(0))]);
    server.change(&Change { stall: Some(false), ..Change::default() }).unwrap();
    assert_eq!(client.answer().status(), 200);

    client.send(&request_with("POST", "/home", &[], b"hello"));
    client.answer();
    let chunked = request("POST", "/home", &["transfer-encoding: chunked"]);
    client.send(&[chunked, chunk(b"hello"), chunk(b"")].concat());
    client.answer();
    let all = [start("b1", 0, 1, Some(0)), start("b1", 0, 2, Some(5)), start("b1", 0, 3, None)];
    assert_eq!(attempts(&lb, 1), all);
}

#[test]
fn every_retry_has_a_begin_of_its_own() {
    let servers = [(); 2].map(|()| {
        Hostile::start(|_, wire| {
            wire.head();
            wire.reset();
        })
    });
    let setup = Setup::new(&[closed_address(), servers[0].addr, servers[1].addr]).attempts(3);
    let lb = before(setup, 2, "InTurn").start();
    let mut client = lb.client();
    client.send(&request_with("PUT", "/home", &[], b"hello"));
    assert_eq!(client.answer().status(), 502);
    // The strategy picks the first of three, the second of the two that are left, and the only one that is left.
    let all = [start("b1", 0, 1, Some(5)), start("b3", 1, 2, Some(5)), start("b2", 2, 3, Some(5))];
    assert_eq!(attempts(&lb, 2), all);
}

#[test]
fn a_fallback_pick_begins_once_and_is_not_the_strategys_own() {
    let server = mock("1");
    for (id, way) in [(3, "Undecided"), (4, "BadIndex")] {
        let lb = before(Setup::of(&[&server]), id, way).start();
        assert_eq!(lb.client().get("/home").status(), 200);
        assert_eq!(attempts(&lb, id), [start("b1", 0, 0, Some(0))], "{way}");
    }
}

#[test]
fn a_request_of_a_session_begins_without_a_pick() {
    let server = mock("1");
    let lb = before(Setup::of(&[&server]), 5, "InTurn").with(|setup| setup.policies = vec![sticky(setup)]).start();
    let answer = lb.client().get("/home");
    let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    assert_eq!(lb.client().ask("GET", "/home", &[&format!("cookie: {cookie}")]).status(), 200);
    assert_eq!(attempts(&lb, 5), [start("b1", 0, 1, Some(0)), start("b1", 0, 0, Some(0))]);
}

#[test]
fn a_request_without_a_backend_has_no_begin() {
    let lb = before(Setup::new(&[]), 6, "InTurn").start();
    assert_eq!(lb.client().get("/home").status(), 503);
    assert_eq!(attempts(&lb, 6), []);
}

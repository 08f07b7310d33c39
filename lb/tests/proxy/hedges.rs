//! Hedges: a second attempt beside a slow first one, when the worker knows the usual time of its pool.
//!
//! The strategy is consistent_hash, and requests for `/slow` have a key that leads to b1. So the first attempt of each
//! is on b1, and the others are elsewhere. A request of the warm-up may be hedged, too, because some of them are slower
//! than the others. So tests count from its end.

mod held;
mod outcome;
mod stand;

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use lb::config::{Policy, RetryPolicy, Secret, StickySessions};
use lb_balance::Loss;
use lb_test_support::{Wire, request, request_with, wait_until};
use serde_json::json;

use self::stand::{Events, HINTS, OK, Stand, Warm};
use crate::access_log::Log;
use crate::support::{DOWN, PoolSetup, policy};

const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy";
/// The time of an attempt, where a test waits for its end.
const ATTEMPT_NS: u64 = 1_000_000_000;

fn limited(retry: &mut RetryPolicy) {
    retry.rules.per_attempt_ns = Some(ATTEMPT_NS);
}

/// The first attempt waits until its connection ends, and the others are served.
fn hold_first(is_first: bool, wire: &mut Wire, _: &Events) {
    match is_first {
        true => wire.hold(),
        false => wire.write(OK),
    }
}

#[test]
fn a_slow_request_gets_the_response_of_a_second_backend_and_its_first_attempt_is_no_failure() {
    let stand = Stand::<2>::new(hold_first);
    let warm = stand.warm_up(stand.setup());
    assert_eq!(warm.client("GET").answer().text(), "ok");
    warm.lb.comes_to_rest();
    assert_eq!((warm.since(), stand.tries()), ([1.0, 0.0, 0.0, 0.0], [1, 1]));
    let in_row = |backend: &lb::pool::Backend| backend.stats.consecutive_errors.load(SeqCst);
    assert!(warm.lb.backends.iter().all(|backend| in_row(backend) == 0));
    wait_until("the connection of the first attempt to be closed", || stand.servers[0].closed() >= 1);
}

#[test]
fn without_the_rule_no_request_is_hedged() {
    let stand = Stand::<2>::new(hold_first);
    let off = |retry: &mut RetryPolicy| retry.rules.hedge = RetryPolicy::default().rules.hedge;
    let warm = stand.warm_up(stand.setup().retry(off).retry(limited));
    let timed_out = warm.errors("timeout");
    assert_eq!(warm.client("GET").answer().text(), "ok", "by a retry");
    warm.lb.comes_to_rest();
    assert_eq!((warm.hedges(), warm.errors("timeout") - timed_out), ([0.0; 3], 1.0));
}

#[test]
fn only_idempotent_requests_without_a_body_are_hedged() {
    let stand = Stand::<2>::new(|_, wire, _| wire.hold());
    let setup = stand.setup().retry(limited).retry(|retry| {
        (retry.rules.idempotency_key, retry.rules.on.timeout) = (true, false);
    });
    let warm = stand.warm_up(setup);
    for asked in [
        request("POST", "/slow", &[&warm.key]),
        request("PATCH", "/slow", &[&warm.key]),
        // A backend may refuse a key while the first request with it runs.
        request("POST", "/slow", &[&warm.key, "idempotency-key: 1"]),
        request_with("PUT", "/slow", &[&warm.key], b"abc"),
        request("GET", "/slow", &[&warm.key, "connection: upgrade", "upgrade: websocket"]),
    ] {
        let (before, mut client) = (stand.events.asked(), warm.lb.client());
        client.send(&asked);
        client.answer().is_own(504, "timeout");
        assert_eq!(stand.events.asked(), before + 1, "{}", asked.escape_ascii());
    }
    warm.lb.comes_to_rest();
    assert_eq!(warm.hedges(), [0.0; 3]);
    for method in ["GET", "HEAD", "OPTIONS", "DELETE", "PUT"] {
        let (before, client) = (stand.events.asked(), warm.client(method));
        stand.events.await_attempts(before + 2);
        client.reset();
    }
    warm.lb.comes_to_rest();
    assert_eq!(warm.hedges(), [0.0, 5.0, 0.0]);
}

#[test]
fn hedges_are_bounded_by_the_budget_of_the_retries() {
    let stand = Stand::<2>::new(hold_first);
    let few = |retry: &mut RetryPolicy| (retry.budget.percent, retry.budget.reserve_per_s) = (0, 1);
    let warm = stand.warm_up(stand.setup().retry(few));
    let in_warm_up = warm.retries("hedge");
    for won in 0..20 {
        let mut client = warm.client("GET");
        wait_until("a hedge to win or to be denied", || warm.hedges()[0] + warm.hedges()[2] > f64::from(won));
        if warm.hedges()[2] > 0.0 {
            client.reset();
            break;
        }
        assert_eq!(client.answer().status(), 200);
    }
    warm.lb.comes_to_rest();
    let [won, lost, denied] = warm.hedges();
    assert_eq!((in_warm_up + won, lost, denied), (10.0, 0.0, 1.0), "the reserve is 10 retries");
    assert_eq!(warm.retries("hedge"), 10.0);
}

#[test]
fn an_attempt_that_fails_leaves_the_other_one_alone() {
    for (is_first_to_fail, is_reset) in [(true, true), (true, false), (false, true), (false, false)] {
        let stand = Stand::<2>::new(move |is_first, wire, events| {
            events.await_attempts(2);
            match is_first == is_first_to_fail {
                true if is_reset => wire.reset(),
                true => wire.write(BUSY),
                false => {
                    events.await_gate();
                    wire.write(OK);
                }
            }
        });
        let warm = stand.warm_up(stand.setup());
        let mut client = warm.client("GET");
        wait_until("both attempts to begin", || stand.events.asked() == 2);
        // A response that another one may replace keeps its place.
        wait_until("one attempt to fail", || match is_reset {
            true => warm.lb.metric("lb_backend_requests_in_flight", &[]) == 1.0,
            false => warm.responses("503") == 1.0,
        });
        stand.events.open();
        assert_eq!(client.answer().text(), "ok", "the first one fails: {is_first_to_fail}");
        warm.lb.comes_to_rest();
        let won = f64::from(u8::from(is_first_to_fail));
        assert_eq!((warm.hedges(), stand.tries()), ([won, 1.0 - won, 0.0], [1, 1]));
        // A reset of a keep-alive connection may be no failure.
        assert!(warm.errors("reset") <= f64::from(u8::from(is_reset)));
    }
}

#[test]
fn after_two_failures_the_last_one_decides_and_a_further_attempt_goes_to_a_third_backend() {
    for (attempts, is_first_to_fail) in [(2, true), (2, false), (3, true), (3, false)] {
        let stand = Stand::<3>::new(move |is_first, wire, events| {
            events.await_attempts(2);
            if events.is_open() && !is_first && events.asked() == 3 {
                return wire.write(OK);
            }
            if is_first == is_first_to_fail {
                return wire.write(BUSY);
            }
            events.await_gate();
            wire.reset();
        });
        let warm = stand.warm_up(stand.setup().attempts(attempts));
        let mut client = warm.client("GET");
        wait_until("one attempt to fail", || warm.responses("503") == 1.0);
        stand.events.open();
        let answer = client.answer();
        match attempts {
            2 => answer.is_own(502, "reset"),
            _ => assert_eq!(answer.text(), "ok"),
        }
        warm.lb.comes_to_rest();
        let mut tries = stand.tries();
        tries.sort_unstable();
        assert_eq!(tries, if attempts == 2 { [0, 1, 1] } else { [1; 3] });
        // The connection may be a keep-alive one, whose reset is no failure.
        let retried = warm.retries("reset") + warm.retries("reused_connection");
        assert_eq!(retried, f64::from(attempts - 2));
        assert!(warm.errors("reset") <= 1.0);
        assert_eq!(warm.hedges(), [0.0, 1.0, 0.0]);
    }
}

#[test]
fn a_client_that_leaves_ends_both_attempts() {
    let stand = Stand::<2>::new(|_, wire, _| wire.hold());
    let warm = stand.warm_up(stand.setup());
    let client = warm.client("GET");
    stand.events.await_attempts(2);
    client.reset();
    warm.lb.comes_to_rest();
    assert_eq!((warm.lb.ended_with(499), warm.hedges()), (1, [0.0, 1.0, 0.0]));
    assert_eq!(warm.errors("client_abort"), 2.0);
}

/// Changes a backend and wakes the worker.
fn change(warm: &Warm, pool: &PoolSetup, change: impl FnOnce()) {
    change();
    let number = warm.lb.publish(std::slice::from_ref(pool));
    wait_until("the worker to follow", || warm.lb.hall.is_taken_up(number));
}

#[test]
fn a_lost_backend_ends_its_attempt_and_not_the_other_one() {
    for lost in [0, 1] {
        let stand = Stand::<2>::new(|_, wire, events| {
            events.await_gate();
            wire.write(OK);
        });
        let setup = stand.setup();
        let pool = setup.pools[0].clone();
        let warm = stand.warm_up(setup);
        let mut client = warm.client("GET");
        stand.events.await_attempts(2);
        change(&warm, &pool, || warm.lb.backends[lost].set_loss(Loss::Down));
        wait_until("the attempt to end", || warm.errors("backend_down") == 1.0);
        let in_flight = [0, 1].map(|place: usize| warm.lb.backends[place].in_flight());
        assert_eq!(in_flight, if lost == 0 { [0, 1] } else { [1, 0] });
        stand.events.open();
        assert_eq!(client.answer().text(), "ok");
        warm.lb.comes_to_rest();
    }
}

#[test]
fn the_deadline_of_a_drain_ends_both_attempts() {
    let stand = Stand::<2>::new(|_, wire, _| wire.hold());
    let warm = stand.warm_up(stand.setup());
    let mut client = warm.client("GET");
    stand.events.await_attempts(2);
    warm.lb.backends.iter().for_each(|backend| backend.cut());
    warm.lb.hall.cut();
    client.answer().is_own(503, "drained");
    warm.lb.comes_to_rest();
    assert_eq!((warm.hedges(), warm.errors("drained")), ([0.0, 1.0, 0.0], 2.0));
}

#[test]
fn an_ejection_does_not_end_a_first_attempt_whose_hedge_has_failed() {
    let stand = Stand::<2>::new(|is_first, wire, events| {
        if !is_first {
            return wire.reset();
        }
        events.await_gate();
        wire.write(OK);
    });
    let setup = stand.setup();
    let pool = setup.pools[0].clone();
    let warm = stand.warm_up(setup);
    let mut client = warm.client("GET");
    wait_until("the hedge to fail", || warm.errors("reset") == 1.0);
    change(&warm, &pool, || {
        warm.lb.backends[0].set_eligibility(DOWN);
        warm.lb.backends[0].set_loss(Loss::Ejected);
    });
    assert_eq!(warm.lb.client().get("/").status(), 200, "the worker has polled the first attempt");
    stand.events.open();
    assert_eq!(client.answer().text(), "ok");
    warm.lb.comes_to_rest();
}

#[test]
fn a_backend_at_its_limit_gets_no_hedge() {
    let stand = Stand::<2>::new(|_, wire, events| match events.asked() {
        1 | 2 => wire.hold(),
        _ => wire.write(OK),
    });
    let limited = stand.setup().retry(limited);
    let full = limited.limits(|limits| limits.requests_in_flight_per_backend = Some(1)).queue(1);
    let warm = stand.warm_up(full);
    // A POST is not hedged, and the GET finds b1 full. The GET is retried there when the POST has timed out.
    let mut post = warm.client("POST");
    stand.events.await_attempts(1);
    let mut get = warm.client("GET");
    stand.events.await_attempts(2);
    assert_eq!([post.answer().status(), get.answer().status()], [504, 200]);
    warm.lb.comes_to_rest();
    assert_eq!((warm.hedges(), stand.tries()), ([0.0; 3], [2, 1]));
}

#[test]
fn a_request_without_another_backend_asks_for_no_budget() {
    let stand = Stand::<1>::new(hold_first);
    let none = |retry: &mut RetryPolicy| (retry.budget.percent, retry.budget.reserve_per_s) = (0, 0);
    let warm = stand.warm_up(stand.setup().retry(limited).retry(none));
    warm.client("GET").answer().is_own(504, "timeout");
    warm.lb.comes_to_rest();
    assert_eq!((warm.hedges(), stand.tries()), ([0.0; 3], [1]));
}

#[test]
fn after_an_interim_response_the_hedge_ends_and_the_first_attempt_responds() {
    let stand = Stand::<2>::new(|is_first, wire, events| {
        events.await_attempts(2);
        match is_first {
            true => {
                wire.write(HINTS);
                events.await_gate();
                wire.write(OK);
            }
            false => wire.hold(),
        }
    });
    let warm = stand.warm_up(stand.setup());
    let mut client = warm.client("GET");
    assert_eq!(client.raw_head(), HINTS);
    wait_until("the hedge to end", || warm.lb.backends[1].in_flight() == 0);
    stand.events.open();
    assert_eq!(client.answer().text(), "ok");
    warm.lb.comes_to_rest();
    assert_eq!(warm.since(), [0.0, 1.0, 0.0, 0.0]);
}

#[test]
fn an_interim_response_of_a_hedge_is_not_passed_on() {
    let stand = Stand::<2>::new(|is_first, wire, _| match is_first {
        true => wire.hold(),
        false => wire.write(&[HINTS, OK].concat()),
    });
    let warm = stand.warm_up(stand.setup());
    let mut client = warm.client("GET");
    assert!(client.raw_head().starts_with(b"HTTP/1.1 200 OK\r\n"));
    drop(client);
    warm.lb.comes_to_rest();
    assert_eq!(warm.since(), [1.0, 0.0, 0.0, 0.0]);
}

#[test]
fn a_new_session_belongs_to_the_backend_that_responded_and_a_known_one_stays() {
    // Before the gate opens b1 is slow, and then b2.
    let stand = Stand::<2>::new(|is_first, wire, events| match is_first != events.is_open() {
        true => wire.hold(),
        false => wire.write(OK),
    });
    let warm = stand.warm_up(stand.setup().with(|setup| {
        let secret = Secret::new("b9c1f6b2d34f0a7e5c8890712de4ab63".to_owned());
        let rules = StickySessions { cookie: "lb".to_owned(), secret, max_age_s: 0, secure: false };
        let (sticky, retry) = (Some(Arc::new(rules)), setup.pools[0].retry);
        setup.policies = vec![Policy { sticky, retry, ..policy(&setup.settings) }];
    }));
    let count = |result: &str| warm.lb.metric("lb_sessions_total", &[&format!("result={result:?}")]);
    let sessions = || ["new", "kept", "moved"].map(count);
    let before = sessions();
    let answer = warm.client("GET").answer();
    let cookie = format!("cookie: {}", answer.field("set-cookie").unwrap().split(';').next().unwrap());
    stand.events.open();
    let answer = warm.lb.client().ask("GET", "/slow", &[&warm.key, &cookie]);
    assert_eq!((answer.text(), answer.field("set-cookie")), ("ok", None), "it does not move");
    warm.lb.comes_to_rest();
    assert_eq!((warm.hedges(), stand.tries()), ([2.0, 0.0, 0.0], [2, 2]));
    let after = sessions();
    assert_eq!(std::array::from_fn(|at| after[at] - before[at]), [1.0, 1.0, 0.0], "the second one began on b2");
}

#[test]
fn the_log_and_the_explanation_show_a_hedge() {
    let log = Log::new(|_| {});
    let stand = Stand::<2>::new(|is_first, wire, events| match (is_first, events.is_open()) {
        (true, false) | (false, true) => wire.hold(),
        (false, false) => wire.write(OK),
        (true, true) => {
            events.await_attempts(4);
            wire.write(OK);
        }
    });
    let warm = stand.warm_up(stand.setup().with(|setup| {
        setup.settings.explain_header = true;
        setup.settings.access_log = Some(log.log.clone());
    }));
    // So that no line of the warm-up takes the place of a later one.
    log.objects(&warm.lb);
    for (result, backend) in [("won", "b2"), ("lost", "b1")] {
        let answer = warm.lb.client().ask("GET", "/slow", &[&warm.key, "x-lb-explain: 1"]);
        let said = answer.field("x-lb-explain").unwrap().to_owned();
        assert!(
            said.contains(&format!("; backend={backend}; generation=1; attempt=2; hedge={result}; key=")),
            "{said}"
        );
        let line = log.objects(&warm.lb).pop().unwrap();
        let found = ["hedge", "backend", "attempts", "path"].map(|key| line[key].clone());
        assert_eq!(found, [json!(result), json!(backend), json!(2), json!("/slow")]);
        assert!(line["head_ms"].as_f64().unwrap() <= line["total_ms"].as_f64().unwrap(), "{line}");
        stand.events.open();
    }
}

//! The whole table of retry decisions, and what follows from it for a POST.

use super::*;

const CAUSES: [FailureCause; 8] = [
    FailureCause::Connect,
    FailureCause::Reset,
    FailureCause::Timeout,
    FailureCause::Status(429),
    FailureCause::Status(500),
    FailureCause::Status(502),
    FailureCause::Status(503),
    FailureCause::Status(504),
];
const FLAGS: [bool; 2] = [false, true];
const BODIES: [BodyState; 3] = [BodyState::Absent, BodyState::Replayable, BodyState::Lost];
const IDEMPOTENCIES: [Idempotency; 3] = [Idempotency::No, Idempotency::ByKey, Idempotency::ByMethod];

/// Every combination of failures, with two status codes.
fn every_on() -> Vec<RetryOn> {
    let of = |bits: u32| {
        let statuses = [(8, 429), (16, 503)].into_iter().filter(|(bit, _)| bits & bit != 0).map(|(_, status)| status);
        let [connect, reset, timeout] = [1, 2, 4].map(|bit| bits & bit != 0);
        RetryOn { connect, reset, timeout, statuses: statuses.collect() }
    };
    (0..32).map(of).collect()
}

/// Every state of a request at attempt 0 or 1.
fn every_progress() -> Vec<RequestProgress> {
    let mut all = Vec::new();
    for attempt in [0, 1] {
        for was_sent in FLAGS {
            for idempotency in IDEMPOTENCIES {
                for body in BODIES {
                    for has_response_begun in FLAGS {
                        all.push(RequestProgress { attempt, was_sent, idempotency, body, has_response_begun });
                    }
                }
            }
        }
    }
    all
}

#[test]
fn a_retry_needs_a_listed_cause_an_attempt_a_body_and_a_safe_request() {
    for on in every_on() {
        for cause in CAUSES {
            for progress in every_progress() {
                let rules = RetryRules { on, ..RetryRules::default() };
                let listed = match cause {
                    FailureCause::Connect => on.connect,
                    FailureCause::Reset => on.reset,
                    FailureCause::Timeout => on.timeout,
                    FailureCause::Status(status @ (429 | 503)) => on.statuses.contains(status),
                    FailureCause::Status(_) => false,
                };
                let safe =
                    !progress.was_sent || cause == FailureCause::Connect || progress.idempotency != Idempotency::No;
                let again = progress.attempt == 0 && !progress.has_response_begun && progress.body != BodyState::Lost;
                assert_eq!(rules.may_retry(cause, progress), listed && safe && again, "{on:?} {cause:?} {progress:?}");
                let hedge = again && progress.idempotency == Idempotency::ByMethod;
                assert!(!rules.may_hedge(progress), "off by default");
                let hedges = RetryRules { hedge: true, ..rules };
                assert_eq!(hedges.may_hedge(progress), hedge, "{progress:?}");
            }
        }
    }
}

#[test]
fn a_closed_keep_alive_connection_is_a_reset_if_the_request_was_sent_and_else_needs_no_cause() {
    for on in every_on() {
        for progress in every_progress() {
            let rules = RetryRules { on, ..RetryRules::default() };
            let all = RetryRules { on: RetryOn { reset: true, ..on }, ..rules };
            let wanted = if progress.was_sent { rules } else { all }.may_retry(FailureCause::Reset, progress);
            assert_eq!(rules.may_retry_closed(progress), wanted, "{on:?} {progress:?}");
        }
    }
}

/// The most backends that get a byte of the request, over all ways in which its attempts can fail.
fn most_reached(rules: &RetryRules, idempotency: Idempotency, attempt: u32) -> u32 {
    let mut most = 0;
    for cause in CAUSES {
        for was_sent in FLAGS {
            if was_sent && cause == FailureCause::Connect {
                continue; // without a connection nothing is sent
            }
            for body in BODIES {
                let progress = RequestProgress { attempt, was_sent, idempotency, body, has_response_begun: false };
                let next = match rules.may_retry(cause, progress) {
                    true => most_reached(rules, idempotency, attempt + 1),
                    false => 0,
                };
                most = most.max(u32::from(was_sent) + next);
            }
        }
    }
    most
}

#[test]
fn a_post_never_reaches_two_backends_unless_its_key_is_trusted() {
    for on in every_on() {
        for idempotency_key in FLAGS {
            let rules = RetryRules { attempts: 3, on, idempotency_key, ..RetryRules::default() };
            for has_key in FLAGS {
                for method in [Method::POST, Method::PATCH] {
                    let idempotency = rules.idempotency(&method, has_key);
                    let most = most_reached(&rules, idempotency, 0);
                    assert!(most == 1 || (idempotency_key && has_key), "{rules:?} {method} {has_key}: {most}");
                }
            }
            let most = most_reached(&rules, rules.idempotency(&Method::GET, false), 0);
            assert!(most <= rules.attempts, "{most}");
            assert_eq!(most > 1, on.reset || on.timeout || on.statuses != StatusSet::default(), "{rules:?}");
        }
    }
}

#[test]
fn idempotent_are_the_methods_of_rfc_9110_and_trusted_keys() {
    let rules = |idempotency_key| RetryRules { idempotency_key, ..RetryRules::default() };
    for name in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
        let method = Method::from_bytes(name.as_bytes()).unwrap();
        assert_eq!(rules(false).idempotency(&method, false), Idempotency::ByMethod, "{name}");
    }
    for name in ["POST", "PATCH", "CONNECT", "PURGE", "get"] {
        let method = Method::from_bytes(name.as_bytes()).unwrap();
        assert_eq!(rules(false).idempotency(&method, true), Idempotency::No, "{name}");
        assert_eq!(rules(true).idempotency(&method, false), Idempotency::No, "{name}");
        assert_eq!(rules(true).idempotency(&method, true), Idempotency::ByKey, "{name}");
    }
}

#[test]
fn a_set_of_statuses_holds_exactly_the_inserted_ones() {
    assert!(RetryOn::default().contains(FailureCause::Status(503)));
    for one in 0..=1_000 {
        let mut set = StatusSet::default();
        assert_eq!(set.insert(one), (400..600).contains(&one), "{one}");
        for other in 0..=1_000 {
            assert_eq!(set.contains(other), one == other && (400..600).contains(&one), "{one} {other}");
        }
    }
}

#[test]
fn a_body_is_replayable_up_to_the_limit() {
    let rules = RetryRules::default();
    assert_eq!(rules.body(false, 0), BodyState::Absent);
    assert_eq!([0, 65_536].map(|taken| rules.body(true, taken)), [BodyState::Replayable; 2]);
    assert_eq!(rules.body(true, 65_537), BodyState::Lost);
}

#[test]
fn back_off_is_even_from_zero_to_its_limit_and_never_above() {
    let back_off = RetryRules::default().back_off;
    let mut random = fastrand::Rng::with_seed(16);
    for (round, limit_ms) in [(0, 25), (1, 50), (3, 200), (4, 250), (63, 250), (64, 250), (u32::MAX, 250)] {
        let limit = limit_ms * 1_000_000;
        assert_eq!((back_off.wait_ns(round, 0), back_off.wait_ns(round, u64::MAX)), (0, limit));
        let mean = (0..10_000).map(|_| back_off.wait_ns(round, random.u64(..)) as f64).sum::<f64>() / 10_000.0;
        assert!((mean / limit as f64 - 0.5).abs() < 0.02, "round {round}: {mean} of {limit}");
    }
    let none = BackOff { base_ns: 0, cap_ns: 0 };
    assert_eq!(none.wait_ns(7, u64::MAX), 0);
    assert_eq!(BackOff { base_ns: u64::MAX, cap_ns: u64::MAX }.wait_ns(9, u64::MAX), u64::MAX);
}

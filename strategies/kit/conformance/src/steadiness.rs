//! No backend starves and none is flooded: the changes of a pool in which load-aware strategies go wrong.
//!
//! | change | what goes wrong |
//! |---|---|
//! | a cold start of identical backends | the first response makes one backend the favourite, the others stay unknown |
//! | a backend fails at once | it always has the fewest requests in flight and the shortest times |
//! | a backend joins | it has nothing in flight and no history, so it gets every request |
//! | a slow or failing backend recovers | it gets no request that would show it |
//!
//! All run in a closed loop ([`ClosedLoop`]) with 5 backends, 20 clients and 50 ms for a request. Each returns a
//! sentence if a strategy goes wrong. Invariant: everything comes from one seed.

use serde_json::Value;

use crate::ClosedLoop;
use crate::properties::Verdict;
use crate::world::{Subject, World, strategy};

const SEED: u64 = 0x57EA_D1E5;
const BACKENDS: usize = 5;
const CLIENTS: usize = 20;
/// The backend that changes.
const CHANGED: usize = 4;
const NORMAL_MS: u64 = 50;
const SLOW_MS: u64 = 2_000;

/// Each backend gets at least this part of an even share.
const LEAST_OF_MEAN: f64 = 0.1;
/// The first requests after a backend joined, and how many of them it may get.
const FIRST: usize = 100;
const FIRST_MAX: u64 = 50;
/// Requests in which a strategy may notice a recovery: 75 s or more.
const RECOVERY: usize = 30_000;

/// Checks all changes. `failing_share_max` is the largest share of the requests for a backend that always fails.
pub fn check(subject: impl Subject, options: &Value, failing_share_max: f64) -> Verdict {
    cold_start(subject, options)?;
    failing_at_once(subject, options, failing_share_max)?;
    joining(subject, options)?;
    recovering(subject, options)
}

/// Of the first 1,500 requests, each of five identical backends gets at least a tenth of an even share.
pub fn cold_start(subject: impl Subject, options: &Value) -> Verdict {
    let counts = pool(subject, options)?.run(1_500)?;
    none_starves(&counts, "in a cold start")
}

/// A backend that fails at once gets at most this share. When it works again, it gets requests again.
pub fn failing_at_once(subject: impl Subject, options: &Value, share_max: f64) -> Verdict {
    let mut pool = pool(subject, options)?;
    pool.run(2_000)?;
    pool.set_failing(&only_changed());
    let counts = pool.run(10_000)?;
    let share = counts[CHANGED] as f64 / 10_000.0;
    if share > share_max {
        return Err(format!("the backend that fails at once got {share:.3} of the requests: at most {share_max}"));
    }
    pool.set_failing(&[false; BACKENDS]);
    pool.run(RECOVERY)?;
    none_starves(&pool.run(5_000)?, "after its failures")
}

/// A backend that joins gets at most half of the next 100 requests, and later its share.
pub fn joining(subject: impl Subject, options: &Value) -> Verdict {
    let mut pool = pool(subject, options)?;
    pool.set_up(&only_changed().map(|is_changed| !is_changed))?;
    pool.run(2_000)?;
    pool.set_up(&[true; BACKENDS])?;
    let first = pool.run(FIRST)?[CHANGED];
    if first > FIRST_MAX {
        return Err(format!("a backend that joined got {first} of the next {FIRST} requests: at most {FIRST_MAX}"));
    }
    none_starves(&pool.run(5_000)?, "after it joined")
}

/// For a strategy by time: a backend without any response gets one request until the first one. Not in [`check`].
pub fn an_unknown_backend_gets_one_request(subject: impl Subject, options: &Value) -> Verdict {
    let mut pool = pool(subject, options)?;
    pool.set_up(&only_changed().map(|is_changed| !is_changed))?;
    pool.run(2_000)?;
    pool.set_up(&[true; BACKENDS])?;
    // No request takes less than half of the mean. In this time 10 of the 20 clients send their next one.
    match pool.run(8)?[CHANGED] {
        0 | 1 => Ok(()),
        got => Err(format!("a backend without a response got {got} of 8 requests")),
    }
}

/// A backend that was 40 times as slow gets requests again when it is as fast as the others.
pub fn recovering(subject: impl Subject, options: &Value) -> Verdict {
    let mut pool = pool(subject, options)?;
    pool.set_service_ms(&only_changed().map(|is_changed| if is_changed { SLOW_MS } else { NORMAL_MS }));
    pool.run(5_000)?;
    pool.set_service_ms(&[NORMAL_MS; BACKENDS]);
    pool.run(RECOVERY)?;
    none_starves(&pool.run(5_000)?, "after it was slow")
}

fn pool(subject: impl Subject, options: &Value) -> Result<ClosedLoop, String> {
    Ok(ClosedLoop::new(&strategy(subject, options)?, World::of(BACKENDS), SEED)?
        .clients(CLIENTS)
        .service_ms(&[NORMAL_MS; BACKENDS]))
}

fn only_changed() -> [bool; BACKENDS] {
    std::array::from_fn(|index| index == CHANGED)
}

fn none_starves(counts: &[u64], when: &str) -> Verdict {
    let mean = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
    match counts.iter().position(|count| (*count as f64) < mean * LEAST_OF_MEAN) {
        None => Ok(()),
        Some(index) => Err(format!("backend {index} got less than a tenth of an even share {when}: {counts:?}")),
    }
}

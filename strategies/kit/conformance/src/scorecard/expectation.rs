//! The expectation that a strategy declares, and the check of it.
//!
//! Why each law has its own test here: `fairness` looks at sums, and even sums do not prove the law.
//!
//! - exact: counts are even in every stretch of picks.
//! - multinomial: a pick does not depend on the one before.
//! - a ring, or by options: a key keeps its backend.
//! - by options without a key: the shares are those of another instance with other random bits.
//! - by load, by latency: in a closed loop a slow backend gets few requests.
//!
//! The closed loop ([`ClosedLoop`](crate::ClosedLoop)) has 5 backends and 20 clients in virtual time. Four backends
//! need 50 ms for a request on average, the fifth 250 ms. After 2,000 requests, in which the strategy may learn, 20,000
//! count. The slow one may get half of an even share: 10 %. If it gets none, a strategy by latency will not notice that
//! it has recovered, which is a warning.

use std::collections::HashMap;

use serde::Deserialize;

use super::subject::Subject;
use super::{Finding, Found};
use crate::World;
use crate::statistics::{chi_square_p, counts, same_law_p, spread};

/// The law of a strategy's shares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// Counts differ by at most 1.
    Exact,
    /// Independent draws.
    Multinomial,
    /// A ring with this number of points for each unit of weight.
    Ring(u32),
    /// Busy backends get fewer requests: the strategy counts requests in flight.
    ByLoad,
    /// Slow backends get fewer requests: the strategy measures times, perhaps besides requests in flight.
    ByLatency,
    /// The options determine the shares. If the strategy asks for a key or a body, each keeps its backend.
    ByOptions,
    #[default]
    Undeclared,
}

/// Which changes of the backends move only the keys that must move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistent {
    #[default]
    Undeclared,
    /// Outages and slow starts. If a backend leaves or comes, more keys may move.
    Outages,
    /// All changes. The backend of a key also depends on the changes before, so two processes may differ.
    History,
    /// All changes, and two processes agree.
    Always,
}

/// The parsed JSON of [`Strategy::EXPECTATION`](lb_strategy::Strategy::EXPECTATION).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expectation {
    pub balance: Balance,
    pub weights: bool,
    pub consistent: Consistent,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Declared {
    balance: Option<String>,
    #[serde(default)]
    weights: bool,
    #[serde(default)]
    consistent: DeclaredConsistent,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum DeclaredConsistent {
    Always(bool),
    Partly(String),
}

const PICKS: usize = 20_000;
const KEYS: usize = 5_000;
const CLIENTS: usize = 20;
const SERVICE_MS: [u64; 5] = [50, 50, 50, 50, 250];
/// Requests of a closed loop that do not count, so that the strategy can learn.
pub(super) const LEARNING: usize = 2_000;
/// The largest share of the slow backend.
const SLOW_SHARE_MAX: f64 = 0.1;
/// The significance level of each test of a distribution.
pub(super) const P_MIN: f64 = 0.0001;

pub(super) fn check(subject: &Subject) -> Found {
    let declared = subject.plugin().expectation();
    let expectation = match Expectation::parse(declared) {
        Ok(expectation) => expectation,
        Err(reason) => return Ok(Finding::fail(declared, "the keys of the contract", reason)),
    };
    let wants = subject.plugin().wants();
    if expectation.consistent != Consistent::Undeclared && !wants.hash && wants.body == 0 {
        let reason = "it declares consistent, but asks neither for the key (WANTS_HASH) nor for the body (BODY_BYTES)";
        return Ok(Finding::fail("consistent, no key", "consistent needs a key or a body", reason));
    }
    match expectation.balance {
        Balance::Undeclared => Ok(Finding::warn(
            "no balance declared",
            "a declared balance",
            "declare the expected balance in EXPECTATION, so that the picks can be tested",
        )),
        Balance::Exact => exact(subject),
        Balance::Multinomial => independent(subject),
        Balance::Ring(_) => keys_stay(subject, "ring"),
        Balance::ByOptions if wants.hash || wants.body > 0 => keys_stay(subject, "by options"),
        Balance::ByOptions => shares_stay(subject),
        Balance::ByLoad => spares_the_slow(subject, "by load"),
        Balance::ByLatency => spares_the_slow(subject, "by latency"),
    }
}

fn exact(subject: &Subject) -> Found {
    let world = World::labelled(5);
    let mut running = vec![0_u64; world.len()];
    let mut worst = 0;
    for pick in subject.picks(&world, 10, PICKS)? {
        running[pick] += 1;
        worst = worst.max(spread(&running));
    }
    let (good, bad) =
        ("counts are even in every stretch of picks", "declared exact, but counts in some stretch are uneven");
    Ok(Finding::judged(worst <= 1, format!("exact: spread {worst}"), "at most 1, always", good, bad))
}

fn independent(subject: &Subject) -> Found {
    const N: usize = 4;
    let picks = subject.picks(&World::labelled(N), 11, PICKS)?;
    let pairs = counts(N * N, picks.chunks_exact(2).map(|pair| pair[0] * N + pair[1]));
    let p = chi_square_p(&pairs, &[1.0; N * N]);
    // Counts that are too even are as suspicious as uneven ones, because random draws have noise.
    let holds = (P_MIN..1.0 - P_MIN).contains(&p);
    let (good, bad) =
        ("a pick does not depend on the one before", "declared multinomial, but pairs of picks are not independent");
    Ok(Finding::judged(holds, format!("multinomial: p {p:.3}"), format!("p in {P_MIN} to {}", 1.0 - P_MIN), good, bad))
}

fn keys_stay(subject: &Subject, law: &str) -> Found {
    let picker = subject.picker(&World::labelled(5))?;
    let mut homes = HashMap::new();
    let mut moved = 0;
    for round in 0..2 {
        // Other random bits, another time, another order.
        let mut requests = subject.requests(12 + round);
        for number in 0..KEYS {
            let number = if round == 0 { number } else { KEYS - 1 - number };
            let pick = requests.ask().key(format!("key {number}")).pick(&picker);
            moved += usize::from(*homes.entry(number).or_insert(pick) != pick);
        }
    }
    let (good, bad) = ("the same key goes to the same backend", "the same key went to different backends");
    Ok(Finding::judged(moved == 0, format!("{law}: {moved} of {KEYS} moved"), "0 keys move", good, bad))
}

/// The law of a strategy that draws by its options, or takes turns by them.
fn shares_stay(subject: &Subject) -> Found {
    let world = World::labelled(5);
    let of = |salt| subject.picks(&world, salt, PICKS).map(|picks| counts(world.len(), picks));
    let p = same_law_p(&of(15)?, &of(16)?);
    let (good, bad) = ("another instance has the same shares", "two instances with the same options have other shares");
    Ok(Finding::judged(p >= P_MIN, format!("by options: p {p:.3}"), format!("p ≥ {P_MIN}"), good, bad))
}

fn spares_the_slow(subject: &Subject, law: &str) -> Found {
    let mut pool = subject.pool(World::labelled(5), 14)?.clients(CLIENTS).service_ms(&SERVICE_MS);
    pool.run(LEARNING)?;
    let counts = pool.run(PICKS)?;
    let share = counts[4] as f64 / counts.iter().sum::<u64>() as f64;
    let (figure, bar) = (format!("{law}: slow one got {:.1} %", share * 100.0), "at most 10 %");
    if counts[4] == 0 && subject.expectation.balance == Balance::ByLatency {
        let sentence = "a slow backend gets no request at all, so a recovery is not noticed: send it a few";
        return Ok(Finding::warn(figure, bar, sentence));
    }
    let (good, bad) = ("a slow backend gets few requests", "a slow backend gets too many requests");
    Ok(Finding::judged(share <= SLOW_SHARE_MAX, figure, bar, good, bad))
}

// === impl Expectation ===

impl Expectation {
    /// Parses a declaration; "" declares nothing.
    pub fn parse(json: &str) -> Result<Self, String> {
        if json.is_empty() {
            return Ok(Self::default());
        }
        let declared: Declared =
            serde_json::from_str(json).map_err(|error| format!("its expectation is wrong: {error}"))?;
        let balance = match declared.balance.as_deref() {
            None => Balance::Undeclared,
            Some("exact") => Balance::Exact,
            Some("multinomial") => Balance::Multinomial,
            Some("by_load") => Balance::ByLoad,
            Some("by_latency") => Balance::ByLatency,
            Some("by_options") => Balance::ByOptions,
            Some(other) => match other.strip_prefix("ring:").and_then(|points| points.parse().ok()) {
                Some(points) if points > 0 => Balance::Ring(points),
                _ => {
                    return Err(format!(
                        "balance {other:?} is none of exact, multinomial, ring:K, by_load, by_latency, by_options"
                    ));
                }
            },
        };
        let consistent = match declared.consistent {
            DeclaredConsistent::Always(false) => Consistent::Undeclared,
            DeclaredConsistent::Always(true) => Consistent::Always,
            DeclaredConsistent::Partly(word) => match word.as_str() {
                "outages" => Consistent::Outages,
                "history" => Consistent::History,
                _ => return Err(format!("consistent {word:?} is none of true, false, \"outages\", \"history\"")),
            },
        };
        Ok(Self { balance, weights: declared.weights, consistent })
    }
}

// === impl DeclaredConsistent ===

impl Default for DeclaredConsistent {
    fn default() -> Self {
        Self::Always(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_laws_of_the_contract_are_accepted() {
        let balance = |text: &str| Expectation::parse(&format!(r#"{{"balance":"{text}"}}"#)).map(|it| it.balance);
        for (text, law) in [
            ("exact", Balance::Exact),
            ("multinomial", Balance::Multinomial),
            ("ring:160", Balance::Ring(160)),
            ("by_load", Balance::ByLoad),
            ("by_latency", Balance::ByLatency),
            ("by_options", Balance::ByOptions),
        ] {
            assert_eq!(balance(text), Ok(law));
        }
        for wrong in ["Exact", "ring", "ring:", "ring:0", "ring:x", ""] {
            assert!(balance(wrong).is_err(), "{wrong}");
        }
        let consistent =
            |word: &str| Expectation::parse(&format!(r#"{{"consistent":{word}}}"#)).map(|it| it.consistent);
        for (word, meant) in [
            ("true", Consistent::Always),
            ("false", Consistent::Undeclared),
            (r#""outages""#, Consistent::Outages),
            (r#""history""#, Consistent::History),
        ] {
            assert_eq!(consistent(word), Ok(meant));
        }
        for wrong in [r#""true""#, r#""removal""#, "1", "null"] {
            assert!(consistent(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Expectation::parse(""), Ok(Expectation::default()));
        assert!(Expectation::parse(r#"{"wieghts":true}"#).is_err());
    }
}

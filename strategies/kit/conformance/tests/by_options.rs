//! The law `by_options` of a strategy without a key: two instances with the same options must have the same shares.
//!
//! Invariant: every check has a fixed seed.

use std::sync::OnceLock;

use lb_strategy::abi::LbStrategyTable;
use lb_strategy::ffi::hooks::table;
use lb_strategy::{Backends, Error, Host, Pick, Request, Strategy};
use lb_strategy_conformance::scorecard::{Check, Verdict, row};
use lb_strategy_conformance::{Value, World, json};
use serde::Deserialize;

const SEEDS: [u64; 3] = [1, 2, 11];

/// The part of the requests that the first candidate gets.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    percent: u64,
}

/// Draws the first candidate with the given probability, else the last one. `FICKLE`: its first request decides which
/// of both is favoured.
struct Biased<const FICKLE: bool> {
    percent: u64,
    is_reversed: OnceLock<bool>,
}

impl<const FICKLE: bool> Strategy for Biased<FICKLE> {
    const NAME: &'static str = "biased";
    const EXPECTATION: &'static str = r#"{"balance":"by_options"}"#;
    type Config = Part;
    type Picker = ();

    fn new(part: Part, _: Host) -> Result<Self, Error> {
        Ok(Self { percent: part.percent, is_reversed: OnceLock::new() })
    }

    fn picker(&self, _: &Backends<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn pick(&self, _: &(), backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        let is_reversed = FICKLE && *self.is_reversed.get_or_init(|| request.random().is_multiple_of(2));
        let mut candidates = backends.candidates(request);
        let drawn =
            if (request.random() % 100 < self.percent) == is_reversed { candidates.last() } else { candidates.next() };
        drawn.map_or(Pick::NoBackend, |(index, _)| Pick::Backend(index))
    }
}

static STEADY: LbStrategyTable = table::<Biased<false>>("0", "test");
static FICKLE: LbStrategyTable = table::<Biased<true>>("0", "test");

fn verdicts(strategy: &'static LbStrategyTable) -> [Verdict; SEEDS.len()] {
    SEEDS.map(|seed| {
        let row = row(Check::Expectation, strategy, &json!({ "percent": 80 }), seed);
        println!("{row:?}");
        row.verdict
    })
}

#[test]
fn a_strategy_that_draws_by_its_options_needs_no_key() {
    assert_eq!(verdicts(&STEADY), [Verdict::Pass; 3]);
}

#[test]
fn shares_that_depend_on_more_than_the_options_fail() {
    assert!(verdicts(&FICKLE).contains(&Verdict::Fail));
}

#[test]
fn labelled_worlds_have_two_zones_and_a_number() {
    let list = World::labelled(6).list();
    let labels: Vec<Value> = list.specs().iter().map(|spec| serde_json::from_str(&spec.labels).unwrap()).collect();
    assert_eq!(labels[3], json!({ "rank": 0, "zone": "b" }));
    let of = |name: &str| labels.iter().map(|labels| labels[name].clone()).collect::<Vec<_>>();
    assert_eq!(of("zone"), ["a", "b", "a", "b", "a", "b"].map(Value::from));
    assert_eq!(of("rank"), [0, 1, 2, 0, 1, 2].map(Value::from));
    assert_eq!(&*World::labelled(2).without(0).list().specs()[0].labels, r#"{"rank":1,"zone":"b"}"#);
}

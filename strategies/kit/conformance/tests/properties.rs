//! Tests of the properties: each property finds the strategy that does not have it, and a right strategy passes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use lb_strategy::abi::LbStrategyTable;
use lb_strategy::ffi::hooks::table;
use lb_strategy::{Backends, Error, Host, NoOptions, Pick, Request, StateSchema, Strategy};
use lb_strategy_conformance::properties::{self, Verdict};
use serde_json::{Value, json};

type Property = fn(&'static LbStrategyTable, &Value) -> Verdict;

const RIGHT: u8 = 0;
const IGNORES_HEALTH: u8 = 1;
const IGNORES_TRIED: u8 = 2;
const GIVES_UP_AFTER_TWO: u8 = 3;
const PANICS_ON_EMPTY: u8 = 4;
const DRY_TAKES_A_TURN: u8 = 5;
const COUNTS_PER_WORKER: u8 = 6;
const CHOKES_ON_STATE: u8 = 7;
const NEEDS_A_KEY: u8 = 8;
const NEVER_RETURNS_NO_BACKEND: u8 = 9;

/// A round robin that breaks one rule.
struct Wrong<const WAY: u8>([AtomicU64; 4]);

impl<const WAY: u8> Strategy for Wrong<WAY> {
    const NAME: &'static str = "wrong";
    const STATE: Option<StateSchema> = Some(StateSchema { schema: "wrong", version: 1 });
    const EXPECTATION: &'static str = r#"{"balance":"exact"}"#;
    type Config = NoOptions;
    type Picker = ();

    fn new(_: NoOptions, _: Host) -> Result<Self, Error> {
        Ok(Self(Default::default()))
    }

    fn picker(&self, backends: &Backends<'_>) -> Result<(), Error> {
        assert!(WAY != PANICS_ON_EMPTY || !backends.is_empty(), "no backends");
        Ok(())
    }

    fn pick(&self, _: &(), backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        let may_serve = |index: &usize| {
            let backend = backends.get(*index).expect("below len");
            (WAY == IGNORES_HEALTH || backend.is_eligible()) && (WAY == IGNORES_TRIED || !request.is_tried(*index))
        };
        let candidates: Vec<usize> = (0..backends.len()).filter(may_serve).collect();
        let gives_up = WAY == GIVES_UP_AFTER_TWO && request.tried().len() >= 2;
        if candidates.is_empty() && WAY == NEVER_RETURNS_NO_BACKEND {
            return Pick::Backend(0);
        }
        if candidates.is_empty() || gives_up {
            return Pick::NoBackend;
        }
        if WAY == NEEDS_A_KEY && request.key().is_none() {
            return Pick::Fallback;
        }
        let counter = if WAY == COUNTS_PER_WORKER { request.worker().unwrap_or(0) } else { 0 };
        let turn = if request.is_dry() && WAY != DRY_TAKES_A_TURN {
            self.0[counter].load(Relaxed)
        } else {
            self.0[counter].fetch_add(1, Relaxed)
        };
        Pick::Backend(candidates[turn as usize % candidates.len()])
    }

    fn export(&self) -> Vec<u8> {
        vec![1, 2, 3]
    }

    fn import(&self, _: u32, bytes: &[u8]) -> Result<(), Error> {
        assert!(WAY != CHOKES_ON_STATE || bytes.len() == 3, "state of {} bytes", bytes.len());
        Ok(())
    }
}

static TABLES: [LbStrategyTable; 10] = [
    table::<Wrong<RIGHT>>("0", "test"),
    table::<Wrong<IGNORES_HEALTH>>("0", "test"),
    table::<Wrong<IGNORES_TRIED>>("0", "test"),
    table::<Wrong<GIVES_UP_AFTER_TWO>>("0", "test"),
    table::<Wrong<PANICS_ON_EMPTY>>("0", "test"),
    table::<Wrong<DRY_TAKES_A_TURN>>("0", "test"),
    table::<Wrong<COUNTS_PER_WORKER>>("0", "test"),
    table::<Wrong<CHOKES_ON_STATE>>("0", "test"),
    table::<Wrong<NEEDS_A_KEY>>("0", "test"),
    table::<Wrong<NEVER_RETURNS_NO_BACKEND>>("0", "test"),
];

#[test]
fn a_right_strategy_has_all_properties() {
    properties::check_all(&TABLES[RIGHT as usize], &json!({})).unwrap();
}

#[test]
fn each_broken_rule_is_found_and_named() {
    let cases: [(u8, Property, &str); 9] = [
        (IGNORES_HEALTH, properties::check_all_small_worlds, "NotEligible"),
        (IGNORES_TRIED, properties::check_all_small_worlds, "AlreadyTried"),
        (GIVES_UP_AFTER_TWO, properties::check_all_small_worlds, "Declined) where"),
        (PANICS_ON_EMPTY, properties::check_all_small_worlds, "it panicked"),
        (NEEDS_A_KEY, properties::check_all_small_worlds, "Undecided"),
        (NEVER_RETURNS_NO_BACKEND, properties::check_all_small_worlds, "BadIndex"),
        (DRY_TAKES_A_TURN, properties::dry_picks_change_nothing, "a dry pick changed"),
        (COUNTS_PER_WORKER, properties::threads_lose_nothing, "declares exact balance"),
        (CHOKES_ON_STATE, properties::state_is_handed_over, "it panicked"),
    ];
    for (way, property, word) in cases {
        let Err(sentence) = property(&TABLES[way as usize], &json!({})) else { panic!("way {way} was not found") };
        assert!(sentence.contains(word), "way {way}: {sentence}");
    }
}

//! Wrong results of a plugin: each becomes the documented decision or error, never an index out of bounds.

use std::sync::Arc;

use lb_strategy_host::{Decision, HookError, Picker, Refusal, Strategy};
use serde_json::json;

use crate::fixture::{Bench, HeaderList, list, request};

/// Options of `hostile_hooks.c`.
fn misbehaving(bench: &Bench, way: u32) -> Result<Arc<Strategy>, HookError> {
    Strategy::new(bench.load_fixture("broken/hostile_hooks"), &json!({ "way": way }))
}

#[test]
fn every_answer_of_a_pick_becomes_its_documented_decision() {
    let bench = Bench::new();
    let strategy = Strategy::new(bench.load_fixture("broken/hostile_picks"), &json!({})).unwrap();
    let picker = Picker::new(strategy, list(4, &[0, 1, 3])).unwrap();
    for (answer, decision) in [
        ("0 0", Decision::Backend { index: 0, token: 7 }),
        ("0 3", Decision::Backend { index: 3, token: 7 }),
        ("0 1", Decision::Refused(Refusal::AlreadyTried)),
        ("0 2", Decision::Refused(Refusal::NotEligible)),
        ("0 4", Decision::Refused(Refusal::BadIndex)),
        ("0 4294967295", Decision::Refused(Refusal::BadIndex)),
        ("1 0", Decision::Refused(Refusal::Declined)),
        ("2 0", Decision::Refused(Refusal::Undecided)),
        ("3 0", Decision::Refused(Refusal::Undecided)),
        ("4 0", Decision::Wait),
        ("5 0", Decision::Refused(Refusal::Undecided)),
        ("77 0", Decision::Refused(Refusal::Undecided)),
        ("2147483647 0", Decision::Refused(Refusal::Undecided)),
        ("-1 0", Decision::Refused(Refusal::Error)),
        ("-77 0", Decision::Refused(Refusal::Error)),
        ("-100 0", Decision::Refused(Refusal::Panic)),
        ("-2147483648 0", Decision::Refused(Refusal::Error)),
    ] {
        let headers = HeaderList(&[("Answer", answer)]);
        assert_eq!(picker.pick(&request(&[1], &headers)), decision, "status and index {answer}");
    }
    assert_eq!(picker.pick(&request(&[], &HeaderList(&[]))), Decision::Refused(Refusal::Error), "no header");
}

#[test]
fn no_backend_is_right_only_if_the_list_has_no_eligible_untried_one() {
    let bench = Bench::new();
    let strategy = Strategy::new(bench.load_fixture("broken/hostile_picks"), &json!({})).unwrap();
    let none = HeaderList(&[("answer", "1 0")]);
    let decision = |len, eligible: &[u32], tried: &[u32]| {
        Picker::new(strategy.clone(), list(len, eligible)).unwrap().pick(&request(tried, &none))
    };
    let declined = Decision::Refused(Refusal::Declined);
    assert_eq!([decision(0, &[], &[]), decision(3, &[], &[])], [Decision::NoBackend; 2], "none is eligible");
    assert_eq!(decision(3, &[0, 2], &[2, 0]), Decision::NoBackend, "all eligible ones were tried");
    assert_eq!([decision(3, &[0, 2], &[2]), decision(3, &[1], &[])], [declined; 2], "one is left");
}

#[test]
fn any_index_into_an_empty_list_is_a_bad_one() {
    let bench = Bench::new();
    let strategy = Strategy::new(bench.load_fixture("broken/hostile_picks"), &json!({})).unwrap();
    let picker = Picker::new(strategy, list(0, &[])).unwrap();
    assert_eq!(picker.pick(&request(&[], &HeaderList(&[("answer", "0 0")]))), Decision::Refused(Refusal::BadIndex));
}

#[test]
fn a_failed_strategy_new_is_an_error_of_bounded_length() {
    let bench = Bench::new();
    let words = |way: u32| match misbehaving(&bench, way) {
        Ok(_) => panic!("way {way} was taken"),
        Err(error) => error.to_string(),
    };
    assert!(words(1).contains("failed in strategy_new: it returned success without a result"), "{}", words(1));
    assert!(words(2).contains("status -77"), "{}", words(2));
    assert!(words(3).len() < 5000, "{} bytes", words(3).len());
    assert!(words(4).contains("refuses its options"), "{}", words(4));
}

#[test]
fn a_failed_picker_new_is_an_error_with_its_reason() {
    let bench = Bench::new();
    for (way, word) in
        [(5, "failed in picker_new: it returned success without a result"), (6, "not today (status -42)")]
    {
        let Err(error) = Picker::new(misbehaving(&bench, way).unwrap(), list(1, &[0])) else { panic!("it was taken") };
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn failing_state_and_tick_hooks_are_errors_and_a_rebuild_is_reported() {
    let bench = Bench::new();
    let strategy = misbehaving(&bench, 7).unwrap();
    assert_eq!(strategy.plugin().tick_ms(), 5);
    let error = strategy.export_state().expect("it exports").unwrap_err();
    assert!(matches!(error, HookError::Failed { hook: "state_export", .. }), "{error}");
    let error = strategy.import_state(0, b"x").unwrap_err();
    assert!(error.to_string().contains("status -9"), "{error}");
    assert!(strategy.tick(1).unwrap());
    assert!(matches!(strategy.tick(2), Err(HookError::Failed { hook: "tick", .. })));
}

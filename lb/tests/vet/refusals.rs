//! Every way in which a plugin can break the process that it runs in, told with stage and reason.

use std::time::Duration;

use lb::control::vet::{VetError, VetStage, Vetter};
use lb_test_support::{PATIENCE, wait_until};
use serde_json::json;

use crate::harness::{Bench, lb};

/// Long enough to get to where it hangs, also behind everything else on a busy machine.
const SHORT: Duration = Duration::from_secs(2);

async fn refusal(way: &str) -> VetError {
    Bench::new().vet_way(way, PATIENCE).await.expect_err(way)
}

#[tokio::test]
async fn a_plugin_that_kills_its_process_is_told_with_signal_and_place() {
    for (way, reason) in [
        ("abort", "died with signal 6 (SIGABRT) while making an instance"),
        ("crash", "died with signal 11 (SIGSEGV) while making an instance"),
        ("exit", "ended its process with status 0 while making an instance"),
    ] {
        let error = refusal(way).await;
        assert_eq!((error.stage, &*error.reason), (VetStage::New, reason));
    }
}

#[tokio::test]
async fn code_that_runs_when_a_plugin_is_opened_ends_a_child_and_is_told() {
    for place in [&["-DIN_CONSTRUCTOR"][..], &["-DIN_INIT", "-Wl,-init,at_init"]] {
        for (way, time_max, reason) in [
            ("abort", PATIENCE, "died with signal 6 (SIGABRT) while being opened"),
            ("crash", PATIENCE, "died with signal 11 (SIGSEGV) while being opened"),
            ("exit", PATIENCE, "ended its process with status 0 while being opened"),
            ("spin", SHORT, "did not finish within 2 s while being opened"),
        ] {
            let bench = Bench::new();
            let way = format!("{}=\"{way}\"", place[0]);
            let plugin = bench.compile(&[&[&*way], &place[1..]].concat());
            let request = bench.request(&plugin, json!({}));
            let error = Vetter::new(lb(), None).with_time_max(time_max).vet(&request).await.unwrap_err();
            assert_eq!((error.stage, &*error.reason), (VetStage::Open, reason), "{way}");
            assert_eq!(error.path, plugin);
        }
    }
}

#[tokio::test]
async fn a_plugin_that_never_comes_back_is_ended_when_its_time_is_over() {
    for (way, stage, doing) in [("spin", VetStage::New, "making an instance"), ("pick_spin", VetStage::Pick, "picking")]
    {
        let error = Bench::new().vet_way(way, SHORT).await.unwrap_err();
        assert_eq!((error.stage, error.reason), (stage, format!("did not finish within 2 s while {doing}")));
    }
}

#[tokio::test]
async fn what_a_plugin_started_ends_with_its_trial() {
    let bench = Bench::new();
    let error = bench.vet_way("fork", SHORT).await.unwrap_err();
    assert_eq!(error.stage, VetStage::New);
    let pid = std::fs::read_to_string(bench.open.path().join("pid")).unwrap();
    // SIGKILL acts at once, the process is removed soon; a zombie waits for its new parent.
    let state = || std::fs::read_to_string(format!("/proc/{pid}/stat"));
    let lives = || {
        state().is_ok_and(|stat| !matches!(stat.rsplit(") ").next().map(|rest| rest.as_bytes()[0]), Some(b'Z' | b'X')))
    };
    wait_until("the end of the process", || !lives());
}

#[tokio::test]
async fn what_a_plugin_leaves_behind_is_told() {
    let error = refusal("thread").await;
    assert_eq!(error.stage, VetStage::Leak);
    // The instance and the one that inherits its state.
    assert!(error.reason.starts_with("leaves 2 threads running"), "{error}");
    let error = refusal("descriptor").await;
    assert_eq!(error.stage, VetStage::Leak);
    assert!(error.reason.starts_with("leaves descriptor ") && error.reason.ends_with(" (/dev/null) open"), "{error}");
}

#[tokio::test]
async fn a_plugin_that_says_no_is_quoted() {
    let error = refusal("refuse").await;
    assert_eq!(error.stage, VetStage::Options);
    assert_eq!(error.reason, "strategy broken refuses its options: way: \"refuse\" is none");
    assert!(
        error.to_string().ends_with(
            "libbroken.so: strategy broken refuses its options: way: \"refuse\" is none [stage vet, options]"
        ),
        "{error}"
    );
    assert_eq!(refusal("state").await.stage, VetStage::State);
}

#[tokio::test]
async fn picks_that_panic_or_answer_wrongly_are_counted() {
    let error = refusal("pick_panic").await;
    assert!(error.stage == VetStage::Pick && error.reason.starts_with("panicked in "), "{error}");
    let error = refusal("pick_index").await;
    assert!(
        error.reason.starts_with("returned a wrong result in ") && error.reason.ends_with("an index outside the list"),
        "{error}"
    );
    let error = refusal("pick_eligible").await;
    assert!(error.reason.ends_with("first a backend that is not eligible"), "{error}");
}

#[tokio::test]
async fn an_lb_that_is_not_there_is_told_as_such() {
    let bench = Bench::new();
    let request = bench.request(&bench.compile(&[]), json!({}));
    let error = Vetter::new(bench.folder.path().join("no-lb"), None).vet(&request).await.unwrap_err();
    assert!(error.stage == VetStage::Start && error.reason.contains("no-lb does not start"), "{error}");
}

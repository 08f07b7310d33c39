//! Plugins that break the process in which they run. Each error names the stage and the reason.

use std::time::Duration;

use lb::control::vet::{VetError, VetStage, Vetter};
use lb_test_support::{PATIENCE, wait_until};
use serde_json::json;

use crate::harness::{Bench, lb};

/// Long enough for a plugin to reach the place where it hangs, also on a busy machine.
const SHORT: Duration = Duration::from_secs(2);

async fn refusal(way: &str) -> VetError {
    Bench::new().vet_way(way, PATIENCE).await.expect_err(way)
}

#[tokio::test]
async fn the_error_of_a_plugin_that_kills_its_process_names_the_signal_and_the_step() {
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
async fn a_plugin_that_breaks_while_being_opened_ends_only_the_child() {
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
async fn a_plugin_that_never_returns_is_killed_after_the_time_limit() {
    for (way, stage, doing) in [("spin", VetStage::New, "making an instance"), ("pick_spin", VetStage::Pick, "picking")]
    {
        let error = Bench::new().vet_way(way, SHORT).await.unwrap_err();
        assert_eq!((error.stage, error.reason), (stage, format!("did not finish within 2 s while {doing}")));
    }
}

#[tokio::test]
async fn a_process_that_a_plugin_starts_ends_with_the_trial() {
    let bench = Bench::new();
    let error = bench.vet_way("fork", SHORT).await.unwrap_err();
    assert_eq!(error.stage, VetStage::New);
    let pid = std::fs::read_to_string(bench.open.path().join("pid")).unwrap();
    // SIGKILL stops the process at once, but it may stay a zombie until its new parent waits for it.
    let state = || std::fs::read_to_string(format!("/proc/{pid}/stat"));
    let lives = || {
        state().is_ok_and(|stat| !matches!(stat.rsplit(") ").next().map(|rest| rest.as_bytes()[0]), Some(b'Z' | b'X')))
    };
    wait_until("the end of the process", || !lives());
}

#[tokio::test]
async fn threads_and_descriptors_that_a_plugin_leaves_are_refused() {
    let error = refusal("thread").await;
    assert_eq!(error.stage, VetStage::Leak);
    // One thread of the instance, and one of the instance that takes over its state.
    assert!(error.reason.starts_with("leaves 2 threads running"), "{error}");
    let error = refusal("descriptor").await;
    assert_eq!(error.stage, VetStage::Leak);
    assert!(error.reason.starts_with("leaves descriptor ") && error.reason.ends_with(" (/dev/null) open"), "{error}");
}

#[tokio::test]
async fn the_text_of_a_plugin_that_refuses_its_options_is_in_the_error() {
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
async fn picks_that_panic_or_return_a_wrong_result_are_counted() {
    let error = refusal("pick_panic").await;
    assert!(error.stage == VetStage::Pick && error.reason.starts_with("panicked in "), "{error}");
    let error = refusal("pick_index").await;
    assert!(
        error.reason.starts_with("returned a wrong result in ") && error.reason.ends_with("an index outside the list"),
        "{error}"
    );
    let error = refusal("pick_eligible").await;
    assert!(error.reason.ends_with("first a backend that is not eligible"), "{error}");
    let error = refusal("pick_none").await;
    assert!(
        error.reason.ends_with("first no backend, although the list has an eligible one that was not tried"),
        "{error}"
    );
}

#[tokio::test]
async fn panics_in_on_finish_are_refused() {
    let error = refusal("finish").await;
    assert_eq!(error.stage, VetStage::Finish);
    assert!(error.reason.starts_with("panicked in on_finish, "), "{error}");
}

#[tokio::test]
async fn panics_in_on_probe_are_refused() {
    let error = refusal("probe").await;
    assert_eq!(error.stage, VetStage::Probe);
    assert!(error.reason.starts_with("panicked in on_probe, "), "{error}");
}

#[tokio::test]
async fn an_explanation_that_fails_is_refused() {
    let error = refusal("explain").await;
    let reason = "strategy broken failed in explain: it panicked";
    assert_eq!((error.stage, &*error.reason), (VetStage::Explain, reason));
}

#[tokio::test]
async fn an_lb_executable_that_does_not_exist_is_reported_as_such() {
    let bench = Bench::new();
    let request = bench.request(&bench.compile(&[]), json!({}));
    let error = Vetter::new(bench.folder.path().join("no-lb"), None).vet(&request).await.unwrap_err();
    assert!(error.stage == VetStage::Start && error.reason.contains("no-lb does not start"), "{error}");
}

#[tokio::test]
async fn begins_ticks_and_metrics_are_tried_and_a_fault_there_is_named() {
    let bench = Bench::new();
    let plugin = bench.folder.path().join("libduties.so");
    lb_test_support::compile("examples/broken/duties.c", &[], &plugin);
    let vet = async |way: &str| {
        let request = bench.request(&plugin, json!({ "way": way }));
        Vetter::new(lb(), None).with_time_max(PATIENCE).vet(&request).await
    };
    assert!(vet("rebuild").await.is_ok());
    for (way, stage, reason) in [
        ("crash_begin", VetStage::Begin, "died with signal 6 (SIGABRT) while taking begins of requests"),
        ("crash_metrics", VetStage::Metrics, "died with signal 6 (SIGABRT) while writing its metrics"),
        (
            "bad_at_once",
            VetStage::Metrics,
            "line 4 of its metrics is not valid: the name \"Bad\" is not 1 to 64 bytes of [a-z0-9_] that begin with a letter",
        ),
    ] {
        let error = vet(way).await.unwrap_err();
        assert_eq!((error.stage, &*error.reason), (stage, reason), "{way}");
    }
}

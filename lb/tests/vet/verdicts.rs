//! Good plugins pass, and lb does not try them twice.

use std::io::Write;
use std::process::{Command, Stdio};

use lb::control::vet::{Answer, VetBackend, VetRequest, VetStage, Vetter};
use lb_strategy_host::{Copies, Loader, Wanted};
use lb_test_support::PATIENCE;
use serde_json::{Value, json};

use crate::harness::{Bench, backend, lb};

#[tokio::test]
async fn every_shipped_strategy_passes() {
    let bench = Bench::new();
    for name in lb_strategy_built::shipped() {
        for backends in 0..=4 {
            let request = bench.request(&lb_strategy_built::library(name), json!({}));
            let request = VetRequest { backends: request.backends[..backends].to_vec(), ..request };
            let verdict = Vetter::new(lb(), None).with_time_max(PATIENCE).vet(&request).await;
            let verdict = verdict.unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((verdict.verdict, verdict.stage, verdict.bad_answers), (Answer::Ok, VetStage::End, 0));
            assert!(verdict.pick_ns_p50 > 0);
        }
    }
}

#[tokio::test]
async fn stand_in_backends_do_not_push_a_list_over_a_limit_of_the_strategy() {
    let bench = Bench::new();
    // The largest ring that the strategy accepts has 256 × 4,096 points.
    let request = bench.request(&lb_strategy_built::library("consistent_hash"), json!({ "virtual_nodes": 4096 }));
    let heavy = VetBackend { weight: 256, ..backend(0) };
    let one = VetRequest { backends: vec![heavy.clone()], ..request.clone() };
    let two = VetRequest { backends: vec![heavy, backend(1)], ..request };
    let vetter = || Vetter::new(lb(), None).with_time_max(PATIENCE);
    vetter().vet(&one).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(vetter().vet(&two).await.unwrap_err().stage, VetStage::Picker);
}

#[tokio::test]
async fn a_plugin_on_trial_sees_the_labels_of_its_backends() {
    let bench = Bench::new();
    let library = bench.folder.path().join("librefuses.so");
    lb_test_support::compile("examples/broken/refuses_labels.c", &[], &library);
    let plain = bench.request(&library, json!({}));
    let labelled = VetBackend { labels: r#"{"zone":"a"}"#.to_owned(), ..backend(0) };
    let labelled = VetRequest { backends: vec![labelled], ..plain.clone() };
    let vetter = || Vetter::new(lb(), None).with_time_max(PATIENCE);
    assert_eq!(vetter().vet(&labelled).await.unwrap_err().stage, VetStage::Picker);
    assert_ne!(vetter().vet(&plain).await.map_err(|error| error.stage).err(), Some(VetStage::Picker));
}

#[tokio::test]
async fn a_copy_in_memory_is_tried_in_the_same_way_as_a_file() {
    let bench = Bench::new();
    let loader = Loader::new(bench.folder.path().join("private"), 2).with_copies(Copies::Memory);
    for (way, verdict) in [("none", Ok(Answer::Ok)), ("crash", Err(VetStage::New))] {
        let plugin = bench.compile(&[]);
        let staged = loader.stage(&Wanted { path: &plugin, name: Some("broken"), sha256: None }).unwrap();
        let request = VetRequest::new(&staged, json!({ "way": way }), 2, (0..4).map(backend).collect());
        let answer = Vetter::new(lb(), None).with_time_max(PATIENCE).vet(&request).await;
        assert_eq!(answer.map(|answer| answer.verdict).map_err(|error| error.stage), verdict);
    }
    assert!(!bench.folder.path().join("private").exists());
}

#[tokio::test]
async fn a_plugin_that_prints_does_not_spoil_its_verdict() {
    assert_eq!(Bench::new().vet_way("chatty", PATIENCE).await.unwrap().verdict, Answer::Ok);
}

#[tokio::test]
async fn a_good_verdict_is_remembered_over_restarts_and_a_bad_one_is_not() {
    let bench = Bench::new();
    let state = tempfile::tempdir().unwrap();
    let plugin = bench.compile(&[]);
    let (good, bad) = (bench.request(&plugin, json!({})), bench.request(&plugin, json!({ "way": "refuse" })));
    let first = Vetter::new(lb(), Some(state.path())).with_time_max(PATIENCE);
    let verdict = first.vet(&good).await.unwrap();
    assert_eq!(first.vet(&bad).await.unwrap_err().stage, VetStage::Options);
    // This vetter cannot start a child, so a verdict can only come from the stored ones.
    let second = Vetter::new("/nonexistent/lb".into(), Some(state.path()));
    assert_eq!(second.vet(&good).await.unwrap(), verdict);
    assert_eq!(second.vet(&bad).await.unwrap_err().stage, VetStage::Start);
    let other = bench.request(&plugin, json!({ "way": "none" }));
    assert_eq!(second.vet(&other).await.unwrap_err().stage, VetStage::Start, "other options need another trial");
}

#[test]
fn the_vet_command_prints_its_steps_and_then_one_verdict() {
    let bench = Bench::new();
    let ask = |text: String| {
        let mut command = Command::new(lb());
        command.arg("vet-plugin").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let request = bench.request(&bench.compile(&[]), json!({ "way": "chatty" }));
    let output = ask(serde_json::to_string(&request).unwrap());
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["at"], &lines.last().unwrap()["verdict"]), (&json!("open"), &json!("ok")));
    assert_eq!(lines.iter().filter(|line| line.get("verdict").is_some()).count(), 1);
    let output = ask("nonsense".to_owned());
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
}

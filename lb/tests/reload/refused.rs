//! Refused reloads: the error names stage and reason, and the running state does not change.

use lb_test_support::{get, metrics};
use serde_json::Value;

use crate::bench::{Bench, bytes, compiled, filed, fingerprint, named, post};

/// Sends a reload that must be refused. Returns its stage and reason.
fn refused(bench: &Bench) -> (String, String) {
    let before = fingerprint(bench);
    let answer = bench.reload();
    assert_eq!(answer.status, 422, "{}", answer.body);
    let body = answer.json();
    let text = |key: &str| body[key].as_str().unwrap().to_owned();
    assert_eq!((text("status"), text("message")), ("failure".to_owned(), format!("<Error> {}", text("reason"))));
    assert_eq!(fingerprint(bench), before, "the running state is unchanged");
    assert_eq!(bench.status()["reload"]["last"]["stage"], body["stage"]);
    bench.server();
    (text("stage"), text("reason"))
}

#[test]
fn a_broken_library_is_refused_and_the_running_strategy_stays() {
    let good = bytes("round_robin", "");
    let bench = Bench::start_with(&filed("libround_robin.so"), &[("libround_robin.so", &good)]);
    let file = bench.lb.path("libround_robin.so");
    for bytes in [&b"just text\n"[..], &good[..good.len() / 2], &good[..good.len() - 1], b""] {
        std::fs::write(&file, bytes).unwrap();
        assert_eq!(refused(&bench).0, "elf");
    }
    std::fs::remove_file(&file).unwrap();
    assert_eq!(refused(&bench).0, "read");
    std::fs::write(&file, &good).unwrap();
    assert_eq!(bench.reloaded()["result"], "no_change", "the file has the old bytes again");
}

#[test]
fn a_library_with_another_name_or_hash_is_refused() {
    let bench = Bench::start_with(&named("round_robin"), &[("mine.so", &bytes("least_connections", ""))]);
    bench.write("[strategy]\nname = \"round_robin\"\npath = \"mine.so\"\n");
    let (stage, reason) = refused(&bench);
    assert!(stage == "vet" && reason.contains("calls itself \"least_connections\""), "{stage}: {reason}");
    bench.write(&format!("[strategy]\nname = \"round_robin\"\nsha256 = \"{}\"\n", "0".repeat(64)));
    assert_eq!(refused(&bench).0, "pin");
    bench.write(&named("nobody_has_this"));
    assert_eq!(refused(&bench).0, "find");
}

#[test]
fn a_plugin_that_ends_its_process_is_refused_after_a_trial_in_a_child() {
    let bench = Bench::start_with(&named("round_robin"), &[("hostile.so", &compiled("hostile_process.c", &[]))]);
    for (way, says) in [("abort", "signal 6 (SIGABRT)"), ("crash", "signal 11 (SIGSEGV)"), ("exit", "status 0")] {
        bench.write(&format!("{}[strategy.config.hostile]\nway = {way:?}\n", filed("hostile.so")));
        let (stage, reason) = refused(&bench);
        assert!(stage == "vet" && reason.contains(says), "{stage}: {reason}");
    }
    assert_eq!(bench.status()["images"], 1, "lb itself did not open the plugin");
}

#[test]
fn a_wrong_configuration_is_refused_with_its_line_or_key() {
    let bench = Bench::start(&named("round_robin"));
    for (text, stage, says) in [
        ("[strategy\n", "config", "lb.toml:1"),
        ("[strategy]\nnmae = \"round_robin\"\n", "config", "did you mean `name`"),
        ("[proxy]\nworkers = \"many\"\n", "config", "workers"),
        ("[strategy]\nname = \"round_robin\"\n[strategy.config.round_robin]\nsticky = true\n", "new", "sticky"),
    ] {
        bench.write(text);
        let (at, reason) = refused(&bench);
        assert!(at == stage && reason.contains(says), "{at}: {reason}");
    }
    std::fs::remove_file(bench.lb.path("lb.toml")).unwrap();
    assert_eq!(refused(&bench).0, "config");
}

#[test]
fn one_refused_pool_leaves_all_pools_unchanged() {
    let bench = Bench::start(&format!("{}[pools.other.strategy]\nname = \"round_robin\"\n", named("round_robin")));
    let other = |options: &str| {
        format!("{}[pools.other.strategy]\nname = \"consistent_hash\"\n{options}", named("least_connections"))
    };
    bench.write(&other("[pools.other.strategy.config.consistent_hash]\nvirtual_nodes = -1\n"));
    let (stage, reason) = refused(&bench);
    assert!(stage == "new" && reason.contains("other"), "{reason}");
    let report = bench.change(&other(""));
    let changes: Vec<&Value> = report["pools"].as_array().unwrap().iter().map(|pool| &pool["change"]).collect();
    assert_eq!(changes, ["strategy", "strategy"]);
    assert_eq!(report["generation"], 2, "one publish for all pools");
}

#[test]
fn an_invalid_reload_request_changes_nothing() {
    let bench = Bench::start(&named("round_robin"));
    for (path, body) in [("/reload?dry=1", ""), ("/reload", "[1]"), ("/reload", "{\"strategy\":{\"nmae\":\"x\"}}")] {
        assert_eq!(post(bench.lb.admin, path, body).status, 400);
    }
    assert_eq!(get(bench.lb.admin, "/reload").status, 405);
    let nowhere = post(bench.lb.admin, "/reload", r#"{"pool":"nobody","strategy":{"name":"round_robin"}}"#);
    assert_eq!((nowhere.status, nowhere.json()["stage"].clone()), (422, "config".into()));
    assert_eq!(bench.status()["generation"], 1);
}

#[test]
fn a_library_over_the_limit_of_images_is_refused_until_a_restart() {
    let limited = |images: u32, strategy: &str| format!("{}[reload]\nmax_images = {images}\n", named(strategy));
    let bench = Bench::start(&limited(2, "round_robin"));
    bench.change(&limited(2, "least_connections"));
    bench.write(&limited(2, "consistent_hash"));
    let (stage, reason) = refused(&bench);
    assert!(stage == "images" && reason.contains("2 is the limit: restart lb"), "{stage}: {reason}");
    assert_eq!(bench.change(&limited(2, "round_robin"))["result"], "done", "a resident image can be used again");
    let report = bench.change(&limited(3, "round_robin"));
    assert_eq!(report["needs_restart"], serde_json::json!(["reload.max_images"]));
}

/// `lb_reload_last_successful` of the kinds config and strategy.
fn last_successful(bench: &Bench) -> [bool; 2] {
    let page = get(bench.lb.admin, "/metrics").body;
    ["config", "strategy"].map(|kind| {
        let series = format!("lb_reload_last_successful{{kind=\"{kind}\"}}");
        metrics::value(&page, &series).unwrap_or_else(|| panic!("no {series} in\n{page}")) == 1.0
    })
}

#[test]
fn last_successful_is_1_again_after_any_reload_that_uses_the_corrected_file() {
    let bench = Bench::start(&named("round_robin"));
    bench.write(&named("nosuch"));
    assert_eq!((refused(&bench).0.as_str(), last_successful(&bench)), ("find", [true, false]));
    assert_eq!(bench.change(&named("round_robin"))["result"], "no_change", "the file was put back");
    assert_eq!(last_successful(&bench), [true, true]);
    bench.write("[strategy\n");
    assert_eq!((refused(&bench).0.as_str(), last_successful(&bench)), ("config", [false, true]));
    assert_eq!(
        bench.change(&named("least_connections"))["pools"][0]["change"],
        "strategy",
        "the file is corrected, and has another strategy"
    );
    assert_eq!(last_successful(&bench), [true, true]);
    bench
        .write(&format!("{}[access_log]\nenabled = true\npath = \"nowhere/access.log\"\n", named("least_connections")));
    assert_eq!((refused(&bench).0.as_str(), last_successful(&bench)), ("access_log", [false, true]));
    let override_with =
        |name: &str| post(bench.lb.admin, "/reload", &format!("{{\"strategy\":{{\"name\":{name:?}}}}}")).status;
    assert_eq!(
        (override_with("round_robin"), last_successful(&bench)),
        (422, [false, true]),
        "the file is still wrong"
    );
    bench.change(&named("least_connections"));
    assert_eq!((override_with("nosuch"), last_successful(&bench)), (422, [true, true]), "the files are in force");
    bench.write(&named("nosuch"));
    refused(&bench);
    assert_eq!((override_with("round_robin"), last_successful(&bench)), (200, [true, false]), "a restart would fail");
    assert_eq!(post(bench.lb.admin, "/rollback", "").status, 200);
    assert_eq!(last_successful(&bench), [true, false], "a restart would still fail");
}

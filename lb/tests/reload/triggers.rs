//! The triggers of a reload: the admin port with and without an override, SIGHUP, `lb reload`, and several at once.

use lb::config::{self, Source};
use lb::control::{self, Control, Options, ReloadError, ReloadRequest, ReloadResult, Trigger};
use lb::telemetry::Metrics;
use lb_test_support::{Balancer, TOKEN, finish, folder, get, send, wait_for};
use serde_json::json;
use tempfile::TempDir;

use crate::bench::{Bench, bare_admin_command, bytes, named, post};

#[test]
fn a_dry_run_reports_and_changes_nothing() {
    let bench = Bench::start(&named("round_robin"));
    bench.write(&named("least_connections"));
    let answer = post(bench.lb.admin, "/reload?dry_run=1", "");
    let report = answer.json();
    assert_eq!((answer.status, &report["result"], &report["dry_run"]), (200, &json!("would_work"), &json!(true)));
    assert_eq!(report["pools"][0]["strategy"], "least_connections");
    assert_eq!((bench.strategy(), bench.status()["generation"].clone()), (json!("round_robin"), json!(1)));
    bench.write(&named("nobody_has_this"));
    assert_eq!(post(bench.lb.admin, "/reload?dry_run=1", "").status, 422);
}

#[test]
fn an_override_is_in_force_until_the_next_plain_reload() {
    let bench = Bench::start(&named("round_robin"));
    let ring = json!({ "strategy": { "name": "consistent_hash", "config": { "virtual_nodes": 7 } } });
    let answer = post(bench.lb.admin, "/reload", &ring.to_string());
    assert_eq!((answer.status, bench.strategy()), (200, json!("consistent_hash")), "{}", answer.body);
    let overrides = &bench.status()["reload"]["overrides"];
    assert_eq!(overrides[0], json!({ "pool": "default", "strategy": ring["strategy"] }));
    let refused = post(bench.lb.admin, "/reload", r#"{"strategy":{"config":{"virtual_nodes":-7}}}"#);
    assert_eq!((refused.status, bench.strategy()), (422, json!("consistent_hash")), "{}", refused.body);
    assert!(!std::fs::read_to_string(bench.lb.path("lb.toml")).unwrap().contains("consistent_hash"));
    let by_name = json!({ "pool": "default", "strategy": { "name": "least_connections" } }).to_string();
    assert_eq!(post(bench.lb.admin, "/reload", &by_name).status, 200);
    assert_eq!(bench.strategy(), "least_connections");
    assert_eq!(bench.reloaded()["result"], "done");
    assert_eq!((bench.strategy(), bench.status()["reload"]["overrides"].clone()), (json!("round_robin"), json!([])));
    let page = get(bench.lb.admin, "/metrics").body;
    for series in [
        "lb_strategy_swaps_total{pool=\"default\",kind=\"strategy\"} 3",
        "lb_strategy_swaps_total{pool=\"default\",kind=\"options\"} 0",
        "lb_reloads_total{kind=\"strategy\",result=\"success\"} 3",
        "lb_reloads_total{kind=\"strategy\",result=\"failure\"} 1",
        "lb_reloads_total{kind=\"config\",result=\"success\"} 0",
        "lb_reloads_total{kind=\"config\",result=\"failure\"} 0",
    ] {
        assert!(page.lines().any(|line| line == series), "{series} is not in\n{page}");
    }
}

#[test]
fn a_library_at_any_path_is_loaded_only_with_the_token() {
    let elsewhere = tempfile::tempdir().unwrap();
    let plugin = elsewhere.path().join("liballien.so");
    std::fs::write(&plugin, bytes("least_connections", "")).unwrap();
    let by_path = json!({ "strategy": { "path": plugin } }).to_string();
    let bench = Bench::start(&named("round_robin"));
    for path in ["/reload", "/reload?dry_run=1"] {
        let refused = post(bench.lb.admin, path, &by_path);
        assert!(refused.status == 403 && refused.body.contains("admin.token_file"), "{}", refused.body);
    }
    assert_eq!(bench.strategy(), "round_robin");
    drop(bench);

    let folder = folder(&named("round_robin"));
    std::fs::write(folder.path().join("token"), TOKEN).unwrap();
    let lb = Balancer::start_in(folder, &["--set", "admin.token_file=token"]);
    let bearer = format!("authorization: Bearer {TOKEN}");
    assert_eq!(send(lb.admin, "POST", "/reload", &[], &by_path).status, 401);
    let done = send(lb.admin, "POST", "/reload", &[&bearer], &by_path);
    assert_eq!(
        (done.status, &done.json()["pools"][0]["strategy"]),
        (200, &json!("least_connections")),
        "{}",
        done.body
    );
}

#[test]
fn a_strategy_pinned_by_a_flag_is_told_once_for_each_edit_and_stays_in_the_status() {
    let least = ["--strategy", "least_connections", "--set", "reload.watch=false"];
    let lb = Balancer::start_in(folder(&named("least_connections")), &least);
    let differs = || get(lb.admin, "/status").json()["reload"]["differs"].to_string();
    assert_eq!(differs(), "[]");
    let note = "pool default: --strategy pins the strategy least_connections; the file names ";
    for (times, name) in [(1, "round_robin"), (2, "consistent_hash")] {
        std::fs::write(lb.path("lb.toml"), named(name)).unwrap();
        let report = post(lb.admin, "/reload", "").json();
        assert!(report["warnings"].to_string().contains(&format!("{note}{name}")), "{report}");
        let again = post(lb.admin, "/reload", "").json();
        assert!(!again["warnings"].to_string().contains(note), "{again}");
        assert_eq!(lb.printed("stderr").matches(note).count(), times);
        assert!(differs().contains(&format!("{note}{name}")), "{}", differs());
    }
    std::fs::write(lb.path("lb.toml"), named("least_connections")).unwrap();
    assert_eq!((post(lb.admin, "/reload", "").status, differs()), (200, "[]".to_owned()));
}

#[test]
fn sighup_reloads_and_logs_the_result() {
    let bench = Bench::start(&named("round_robin"));
    bench.write(&named("least_connections"));
    bench.lb.signal("HUP");
    wait_for("the swap", || (bench.strategy() == "least_connections").then_some(()));
    bench.write("[strategy\n");
    bench.lb.signal("HUP");
    let last = wait_for("the refusal", || {
        let last = bench.status()["reload"]["last"].clone();
        (last["stage"] == "config").then_some(last)
    });
    assert_eq!((&last["by"], bench.strategy()), (&json!("signal"), json!("least_connections")));
    let log = bench.lb.printed("stderr");
    assert!(log.contains("reload: done") && log.contains("reload refused: the running state stays"), "{log}");
    bench.server();
}

#[test]
fn lb_reload_reloads_and_its_exit_code_is_the_result() {
    let bench = Bench::start(&named("round_robin"));
    let admin = bench.lb.admin.to_string();
    let lb = |arguments: &[&str]| {
        // The folder of the command has a valid configuration. The reload uses the file of the running lb.
        let own = folder("");
        let output = finish(bare_admin_command(&own, &[&["--admin-listen", &admin, "reload"], arguments].concat()));
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    assert_eq!(lb(&[]), (Some(0), "nothing has changed: generation 1 stays\n".into(), String::new()));
    bench.write(&named("least_connections"));
    let (code, said, _) = lb(&["--dry-run"]);
    assert!(code == Some(0) && said.starts_with("ok: a reload would work; generation 1 stays"), "{said}");
    let (code, said, _) = lb(&[]);
    assert!(code == Some(0) && said.starts_with("reloaded: generation 2 after "), "{said}");
    assert!(said.contains("pool default: strategy least_connections"), "{said}");
    let (code, said, _) = lb(&["--strategy", "consistent_hash", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &report["generation"], bench.strategy()), (Some(0), &json!(3), json!("consistent_hash")));
    let (code, said, complaint) = lb(&["--strategy", "nobody_has_this"]);
    assert_eq!((code, said), (Some(1), String::new()));
    assert!(complaint.starts_with("lb: not reloaded, the running state stays [find]: "), "{complaint}");
    drop(bench);
    let (code, _, complaint) = lb(&[]);
    assert!(code == Some(2) && complaint.starts_with("lb: no lb responds at admin address "), "{complaint}");
}

#[test]
fn status_backends_and_rollback_work_with_an_invalid_strategy_in_the_file() {
    let bench = Bench::start(&named("round_robin"));
    let address = bench.lb.admin.to_string();
    let lb = |arguments: &[&str]| {
        let own = folder(&format!("[admin]\nlisten = {address:?}\n[strategy]\nnam = \"a typing error\"\n"));
        let output = finish(bare_admin_command(&own, arguments));
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    bench.change(&named("least_connections"));
    let (code, page, _) = lb(&["status"]);
    assert!(code == Some(0) && page.contains("pool default        least_connections "), "{page}");
    assert!(page.contains("lb rollback restores round_robin") && page.contains("3 of 3 backends eligible"), "{page}");
    let (code, page, _) = lb(&["backends"]);
    assert_eq!((code, page.lines().count()), (Some(0), 4), "{page}");
    let (_, json, _) = lb(&["backends", "--json"]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()[2]["id"], "b3");
    assert_eq!(lb(&["rollback", "--pool", "x"]).0, Some(1));
    let (code, page, _) = lb(&["rollback"]);
    assert!(code == Some(0) && page.starts_with("pool default: the rollback restores round_robin "), "{page}");
    assert!(page.contains("\nrolled back: generation 3 after "), "{page}");
    assert_eq!(bench.strategy(), "round_robin");
    let (code, _, complaint) = lb(&["rollback"]);
    assert!(
        code == Some(1) && complaint.starts_with("lb: not rolled back, the running state stays [rollback]: "),
        "{complaint}"
    );
    let nobody = folder("broken = = [");
    let complaints = [["--config", "lb.toml"], ["--config", "missing.toml"]].map(|config| {
        let output = finish(bare_admin_command(&nobody, &[&config[..], &["status"]].concat()));
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    });
    let [broken, missing] = &complaints;
    assert!(
        broken.0 == Some(2) && broken.1.contains("lb.toml:1:"),
        "lb sends no request to a guessed address: {broken:?}"
    );
    assert!(missing.0 == Some(2) && missing.1.contains("missing.toml"), "{missing:?}");
    let (code, _, complaint) = lb(&["reload", "--workers", "2"]);
    assert!(code == Some(2) && complaint.contains("--workers has no effect on a running lb"), "{complaint}");
}

/// Control on the configuration in `folder`, in this process and without a worker.
async fn control_of(folder: &TempDir) -> Control {
    let plugins = lb_strategy_built::folder();
    let keys = [
        ("plugin_dirs", format!("[{plugins:?}]")),
        ("state.dir", folder.path().join("state").display().to_string()),
        ("proxy.listen", "127.0.0.1:0".to_owned()),
        ("admin.listen", "127.0.0.1:0".to_owned()),
    ];
    let source = Source {
        path: folder.path().join("lb.toml"),
        command_line: keys.map(|(key, value)| (key.to_owned(), value)).to_vec(),
        ..Source::default()
    };
    let config = config::load(&source).unwrap().config;
    let options = Options { fresh: true, source: Some(source), ..Options::new(config, Metrics::new()) };
    control::start(options).await.unwrap()
}

#[tokio::test]
async fn one_reload_runs_at_a_time_and_waiting_reloads_share_one_run() {
    let folder = folder(&named("round_robin"));
    let control = control_of(&folder).await;
    std::fs::write(folder.path().join("lb.toml"), named("least_connections")).unwrap();
    let handle = &control.handle;
    // All four start before the first can end.
    let (first, second, third, fourth) = tokio::join!(
        handle.reload(ReloadRequest::default()),
        handle.reload(ReloadRequest::default()),
        handle.reload_when_free(Trigger::Signal),
        handle.reload_when_free(Trigger::Signal),
    );
    assert_eq!(first.unwrap().result, ReloadResult::Done);
    assert_eq!(second, Err(ReloadError::Busy));
    let (third, fourth) = (third.unwrap(), fourth.unwrap());
    assert_eq!((third.result, &third), (ReloadResult::NoChange, &fourth), "both waiting reloads get the same report");
    handle.stop().await;
    control.task.await.unwrap();
}

#[tokio::test]
async fn a_rollback_that_waited_for_a_reload_is_refused_only_if_the_reload_changed_something() {
    let folder = folder(&named("round_robin"));
    let control = control_of(&folder).await;
    let handle = &control.handle;
    let write = |name: &str| std::fs::write(folder.path().join("lb.toml"), named(name)).unwrap();
    write("least_connections");
    assert_eq!(handle.reload(ReloadRequest::default()).await.unwrap().result, ReloadResult::Done);
    // The rollback is requested before the reload can have ended.
    let (reload, rollback) = tokio::join!(handle.reload(ReloadRequest::default()), handle.roll_back(None, false));
    assert_eq!(reload.unwrap().result, ReloadResult::NoChange);
    assert_eq!(rollback.map(|report| report.result), Ok(ReloadResult::RolledBack));
    let (reload, rollback) = tokio::join!(handle.reload(ReloadRequest::default()), handle.roll_back(None, false));
    assert_eq!(reload.unwrap().result, ReloadResult::Done, "the file names least_connections");
    assert_eq!(rollback.map(|report| report.result), Err(ReloadError::Busy));
    handle.stop().await;
    control.task.await.unwrap();
}

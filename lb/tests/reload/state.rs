//! Effects of a reload: the settings that it applies, the state that it keeps, and the keys that need a restart.

use lb_test_support::{get, mock, wait_for};
use serde_json::json;

use crate::bench::{Bench, bytes, compiled, filed, named, post};

#[test]
fn a_reload_without_a_change_publishes_nothing() {
    let bench = Bench::start(&named("round_robin"));
    let report = bench.reloaded();
    assert_eq!((&report["result"], &report["generation"]), (&json!("no_change"), &json!(1)));
    assert_eq!((&report["pools"][0]["change"], &report["pools"][0]["state"]), (&json!("unchanged"), &json!("kept")));
    bench.write(&format!("# a comment\n{}", named("round_robin")));
    assert_eq!(bench.reloaded()["result"], "no_change");
}

#[test]
fn changed_options_make_a_new_instance_of_the_same_plugin() {
    let ring = |nodes: u32| {
        format!(
            "[strategy]\nname = \"consistent_hash\"\nhash_on = [\"path\"]\n[strategy.config.consistent_hash]\nvirtual_nodes = {nodes}\n"
        )
    };
    let bench = Bench::start(&ring(9));
    let report = bench.change(&ring(100));
    assert_eq!((&report["pools"][0]["change"], &report["generation"]), (&json!("options"), &json!(2)));
    assert_eq!(bench.status()["images"], 1);
    bench.server();
}

#[test]
fn round_robin_keeps_its_position_over_new_settings_and_new_bytes() {
    let file = "libround_robin.so";
    let bench = Bench::start_with(&filed(file), &[(file, &bytes("round_robin", ""))]);
    assert_eq!([bench.server(), bench.server()], ["1", "2"]);
    let report = bench.change(&format!("{}[timeouts]\nconnect_ms = 700\n", filed(file)));
    assert_eq!((&report["applied"], &report["pools"][0]["state"]), (&json!(["timeouts"]), &json!("kept")));
    assert_eq!([bench.server(), bench.server()], ["3", "1"]);
    let before = bench.status()["pools"][0]["strategy_sha256"].clone();
    // Writes over the loaded file, as a compiler may do.
    std::fs::write(bench.lb.path(file), bytes("round_robin", "other bytes")).unwrap();
    let report = bench.reloaded();
    let pool = &report["pools"][0];
    assert_eq!((&pool["change"], &pool["state"]), (&json!("plugin"), &json!("imported")));
    assert_ne!(bench.status()["pools"][0]["strategy_sha256"], before);
    assert_eq!([bench.server(), bench.server()], ["2", "3"]);
    let report = bench.change(&named("least_connections"));
    assert_eq!(report["pools"][0]["state"], "fresh");
}

#[test]
fn backends_and_weights_of_the_file_are_applied() {
    let bench = Bench::start(&named("round_robin"));
    let extra = mock("4");
    let (first, fourth) = (bench.servers[0].addr, extra.addr);
    let text = format!(
        "{}[health]\ninterval_ms = 86400000\n[[backends]]\nid = \"b1\"\naddress = \"{first}\"\nweight = 0\n\
         [[backends]]\nid = \"b4\"\naddress = \"{fourth}\"\n",
        named("round_robin")
    );
    std::fs::write(bench.lb.path("lb.toml"), text).unwrap();
    let report = bench.reloaded();
    assert_eq!((&report["applied"], &report["result"]), (&json!(["backends"]), &json!("done")));
    assert_eq!([bench.server(), bench.server()], ["4", "4"]);
    let backends = get(bench.lb.admin, "/backends").json();
    let told: Vec<_> =
        backends.as_array().unwrap().iter().map(|b| json!([b["id"], b["weight"], b["origin"]])).collect();
    assert_eq!(told, [json!(["b1", 0, "file"]), json!(["b4", 1, "file"])]);
    assert_eq!(bench.reloaded()["result"], "no_change");
}

#[test]
fn routes_limits_and_health_of_the_file_are_applied() {
    let fourth = mock("4");
    let other = format!("[[pools.other.backends]]\nid = \"b4\"\naddress = \"{}\"\n", fourth.addr);
    let bench = Bench::start(&format!("{}{other}", named("round_robin")));
    let at = |path: &str| get(bench.lb.proxy, path).header("x-server-id").map(str::to_owned);
    assert_ne!(at("/four").as_deref(), Some("4"));
    let text = format!(
        "{}{other}[[routes]]\npath = \"/four\"\npool = \"other\"\n[limits]\nbody_bytes = 3\n",
        named("round_robin")
    );
    let report = bench.change(&text);
    assert_eq!(report["applied"], json!(["routes", "limits"]));
    assert_eq!(at("/four").as_deref(), Some("4"));
    assert_eq!(post(bench.lb.proxy, "/echo", "four").status, 413);
    // With the new health settings, a failed check makes the backend ineligible.
    let text = std::fs::read_to_string(bench.lb.path("lb.toml")).unwrap();
    let strict = "interval_ms = 10\ndown_after = 1\ntimeout_ms = 1000\npath = \"/heartbeat\"";
    std::fs::write(bench.lb.path("lb.toml"), text.replace("interval_ms = 86400000", strict)).unwrap();
    assert_eq!(bench.reloaded()["applied"], json!(["health"]));
    drop(fourth);
    wait_for("the backend to be ineligible", || (get(bench.lb.proxy, "/four").status == 503).then_some(()));
    std::fs::write(bench.lb.path("lb.toml"), text.replace("interval_ms = 86400000", "enabled = false")).unwrap();
    assert_eq!(bench.reloaded()["applied"], json!(["health"]));
    wait_for("the backend to be eligible without checks", || {
        (get(bench.lb.proxy, "/four").status == 502).then_some(())
    });
}

#[test]
fn changes_made_at_run_time_survive_a_reload_until_the_file_changes_the_same_backend() {
    let bench = Bench::start(&named("round_robin"));
    let admin = bench.lb.admin;
    let extra = mock("4");
    let attach = json!({ "backends": [{ "id": "a1", "address": extra.addr.to_string() }] }).to_string();
    assert_eq!(post(admin, "/add", &attach).status, 200);
    assert_eq!(post(admin, "/backends/b1/weight", "{\"weight\":7}").status, 200);
    bench.change(&named("least_connections"));
    let told = || {
        let backends = get(admin, "/backends").json();
        let told: Vec<_> = backends.as_array().unwrap().iter().map(|b| json!([b["id"], b["weight"]])).collect();
        told
    };
    assert_eq!(told(), [json!(["b1", 7]), json!(["b2", 1]), json!(["b3", 1]), json!(["a1", 1])]);
    let text = std::fs::read_to_string(bench.lb.path("lb.toml")).unwrap();
    std::fs::write(bench.lb.path("lb.toml"), text.replacen("id = \"b1\"", "weight = 3\nid = \"b1\"", 1)).unwrap();
    let report = bench.reloaded();
    assert_eq!(told()[0], json!(["b1", 3]));
    assert!(report["warnings"][0].as_str().unwrap().contains("lapsed"), "{report}");
}

#[test]
fn keys_that_need_a_restart_are_named_at_every_reload() {
    let bench = Bench::start(&named("round_robin"));
    let after = format!("{}[launcher]\nkind = \"process\"\n[state]\nkeep = false\n", named("least_connections"));
    let report = bench.change(&after);
    let named = json!(["launcher", "state.keep"]);
    assert_eq!((&report["needs_restart"], &report["result"]), (&named, &json!("done")));
    assert_eq!(bench.strategy(), "least_connections", "other changes are in force");
    let report = bench.reloaded();
    assert_eq!((&report["needs_restart"], &report["result"]), (&named, &json!("no_change")));
    assert_eq!(bench.status()["reload"]["last"]["needs_restart"], named);
}

#[test]
fn the_log_level_and_the_course_settings_of_the_file_are_applied() {
    let bench = Bench::start(&named("round_robin"));
    let settings = |level: &str, on: bool| {
        format!("{}[log]\nlevel = {level:?}\n[course]\non_proxy_port = {on}\nseed = 7\n", named("round_robin"))
    };
    let own = || post(bench.lb.proxy, "/add", "{}").header("x-server-id").is_none();
    assert!(!own(), "the path goes to a backend");
    let report = bench.change(&settings("error", true));
    assert_eq!(report["applied"], json!(["course.on_proxy_port", "course.seed", "log.level"]));
    let said = bench.lb.printed("stderr").matches("reload: ").count();
    assert!(own(), "the path is a course route");
    // lb logs a reload at level info, so the lines come back only with that level.
    bench.reloaded();
    bench.change(&settings("info", false));
    let told = || bench.lb.printed("stderr").matches("reload: ").count();
    wait_for("only the line of the last reload", || (told() == said + 1).then_some(()));
    assert!(!own());
}

#[test]
fn a_refused_state_starts_fresh_with_a_warning_and_never_fails_a_reload() {
    let file = "libbroken.so";
    let heir = |flags: &[&str]| compiled("proud_heir.c", flags);
    let bench = Bench::start_with(&filed(file), &[(file, &heir(&[]))]);
    // The last column is the text of the warning, if there is one. Each row takes over from the strategy of the row
    // before.
    for (flags, state, warns) in [
        (&["-DWORD=\"mine\"", "-O2"][..], "imported", None),
        (&["-DWORD=\"yours\""], "fresh", Some("this is not yours")),
        (&["-DWORD=\"yours\"", "-DVERSION=2"], "fresh", Some("this is not yours")),
        (&["-DWORD=\"yours\"", "-DVERSION=2", "-O2"], "imported", None),
        (&["-DWORD=\"\"", "-DVERSION=2"], "fresh", Some("this is not")),
        // No state was exported. The slots hold all of it, if both versions give them the same meaning.
        (&["-DWORD=\"\"", "-DVERSION=2", "-O2"], "kept", None),
        (&["-DWORD=\"\"", "-DVERSION=3"], "fresh", None),
    ] {
        std::fs::write(bench.lb.path(file), heir(flags)).unwrap();
        let report = bench.reloaded();
        let pool = &report["pools"][0];
        assert_eq!((&pool["change"], &pool["state"]), (&json!("plugin"), &json!(state)), "{flags:?}: {report}");
        let warning = report["warnings"][0].as_str().unwrap_or_default();
        assert_eq!(warning.contains("begins anew"), warns.is_some(), "{flags:?}: {report}");
        assert!(warning.contains(warns.unwrap_or_default()), "{flags:?}: {warning}");
        assert_eq!(bench.server(), "1");
    }
}

#[test]
fn state_is_exported_when_the_pickers_of_all_other_pools_are_made() {
    let (file, other) = ("libround_robin.so", mock("4"));
    let pools = |strategy: &str| {
        format!(
            "{}[pools.other.strategy]\n{strategy}[[pools.other.backends]]\nid = \"b4\"\naddress = \"{}\"\n",
            filed(file),
            other.addr
        )
    };
    let bench = Bench::start_with(&pools("name = \"round_robin\"\n"), &[(file, &bytes("round_robin", ""))]);
    let gate = bench.lb.path("gate");
    let waits = format!("{{ every = 9, does = \"panic\", waits_for = [\"picker\", {gate:?}] }}");
    bench.write(&pools(&format!("name = \"moody\"\nconfig.moody = {waits}\n")));
    std::fs::write(bench.lb.path(file), bytes("round_robin", "other bytes")).unwrap();
    // The verdicts of the trials are kept, so the reload below calls no plugin before its pickers.
    std::fs::write(&gate, "").unwrap();
    let dry = post(bench.lb.admin, "/reload?dry_run=1", "");
    assert_eq!(dry.status, 200, "{}", dry.body);
    std::fs::remove_file(&gate).unwrap();
    std::thread::scope(|scope| {
        let reload = scope.spawn(|| bench.reloaded());
        wait_for("the picker to wait", || (bench.status()["builder_stuck"] == true).then_some(()));
        assert_eq!([bench.server(), bench.server()], ["1", "2"], "the old instance picks");
        std::fs::write(&gate, "").unwrap();
        let report = reload.join().unwrap();
        assert_eq!(report["pools"][0]["state"], "imported", "{report}");
    });
    assert_eq!(bench.server(), "3", "the new instance knows the picks that were made meanwhile");
}

//! Crashes of plugins in a running balancer: real processes and real signals.
//!
//! Invariants: a crash in a plugin is blamed by name, and the exit status is that of the crash. A plugin that crashed
//! on probation is not loaded by the next start. An end that no handler sees blames no plugin.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;

use lb_test_support::{Balancer, backends, finish, get, mock, send, wait_for};
use mock_server::Running;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bench::{bare_admin_command, compiled, named, post};

/// No probation ends by itself.
const LONG: &str = "[reload]\nwatch = false\nprobation_ms = 600000\n";
/// Every strategy is proven at once.
const NONE: &str = "[reload]\nwatch = false\nprobation_ms = 0\n";

/// What outlives a balancer: the state directory, the plugin and the server.
struct Home {
    folder: TempDir,
    server: Running,
}

// === impl Home ===

impl Home {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let plugin = compiled("crashes_late.c", &["-Wno-infinite-recursion"]);
        std::fs::write(folder.path().join("late.so"), plugin).unwrap();
        Self { folder, server: mock("1") }
    }

    fn start(&self, strategy: &str, reload: &str) -> Balancer {
        let state = format!("state.dir={:?}", self.folder.path().join("state"));
        let config = format!("{strategy}\n{reload}[health]\ninterval_ms = 86400000\n");
        Balancer::start_with(&(config + &backends(&[("b1", self.server.addr)])), &["--set", &state])
    }

    /// What the command `lb` prints.
    fn said(&self, arguments: &[&str]) -> String {
        let output = finish(bare_admin_command(&self.folder, arguments));
        let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(output.status.code(), Some(0), "{out}{err}");
        out
    }

    /// The strategy that crashes in this way at the request of this number.
    fn late(&self, way: &str, at: u32) -> String {
        let path = self.folder.path().join("late.so");
        format!("[strategy]\npath = {path:?}\n[strategy.config.late]\nway = {way:?}\nat = \"{at}\"\n")
    }

    /// The lines of the blame file.
    fn blame(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("state/blame")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Runs the strategy until it crashes at its `at`th request. Returns the signal that ended lb, and its stderr.
    fn crashed(&self, way: &str, at: u32, reload: &str) -> (i32, String) {
        let mut lb = self.start(&self.late(way, at), reload);
        serve(&lb, at - 1);
        let mut last = TcpStream::connect(lb.proxy).unwrap();
        last.write_all(b"GET /home HTTP/1.1\r\nhost: a\r\nx-real: 1\r\n\r\n").unwrap();
        let status = lb.end();
        let mut answer = Vec::new();
        let _ = last.read_to_end(&mut answer);
        assert_eq!(String::from_utf8_lossy(&answer), "", "the request that crashes lb has no response");
        (status.signal().unwrap_or_else(|| panic!("{status}")), lb.printed("stderr"))
    }
}

/// Sends requests that the strategy counts.
fn serve(lb: &Balancer, count: u32) {
    for _ in 0..count {
        let answer = send(lb.proxy, "GET", "/home", &["x-real: 1"], "");
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}

fn pool(lb: &Balancer) -> Value {
    get(lb.admin, "/status").json()["pools"][0].clone()
}

fn stop(mut lb: Balancer) -> String {
    lb.signal("TERM");
    assert_eq!(lb.end().code(), Some(0));
    lb.printed("stderr")
}

#[test]
fn a_plugin_that_crashes_at_its_1000th_request_is_blamed_and_not_loaded_until_a_reload() {
    let home = Home::new();
    stop(home.start(&named("round_robin"), NONE));
    let (signal, said) = home.crashed("null", 1_000, LONG);
    let blamed = format!(
        "lb: SIGSEGV in plugin late (pool default, hook pick, file {}, sha256 ",
        home.folder.path().join("late.so").display()
    );
    assert_eq!(signal, 11, "the exit status is that of the crash");
    assert!(said.lines().any(|line| line.starts_with(&blamed)), "{blamed} is not in {said}");
    let blame = home.blame();
    let told = json!([blame[0]["strategy"], blame[0]["signal"], blame[0]["hook"], blame[0]["proven"]]);
    assert_eq!((blame.len(), told), (1, json!(["late", "SIGSEGV", "pick", false])));

    for _ in 0..2 {
        let lb = home.start(&home.late("null", 1_000), LONG);
        let pool = pool(&lb);
        assert_eq!((&pool["strategy"], &pool["crash"]["is_loaded"]), (&json!("round_robin"), &json!(false)), "{pool}");
        let message = pool["crash"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("so it is not loaded: round_robin "), "{message}");
        serve(&lb, 3);
        let said = stop(lb);
        assert!(
            said.lines().any(|line| line.contains("ERROR") && line.contains(&message)),
            "{message} is not in {said}"
        );
    }

    let lb = home.start(&home.late("null", 1_000), LONG);
    let report = post(lb.admin, "/reload", "").json();
    assert!(report["warnings"][0].as_str().unwrap().contains("SIGSEGV in its hook pick ended lb"), "{report}");
    let status = pool(&lb);
    assert_eq!((&status["strategy"], &status["crash"]), (&json!("late"), &Value::Null), "{status}");
    wait_for("the file of crashes to be empty", || home.blame().is_empty().then_some(()));
    stop(lb);
    assert_eq!(pool(&home.start(&home.late("null", 1_000), LONG))["strategy"], "late");
}

#[test]
fn without_a_proven_strategy_the_built_in_fallback_picks_instead_of_a_crashed_one() {
    let home = Home::new();
    let (signal, said) = home.crashed("abort", 3, LONG);
    assert_eq!(signal, 6);
    assert!(said.contains("lb: SIGABRT in plugin late (pool default, hook pick, "), "{said}");
    let lb = home.start(&home.late("abort", 3), LONG);
    assert_eq!(pool(&lb)["strategy"], "built_in_fallback");
    serve(&lb, 6);
    let page = get(lb.admin, "/metrics").body;
    assert!(page.contains("lb_reload_last_successful{kind=\"strategy\"} 0"), "{page}");
    let differs = get(lb.admin, "/status").json()["reload"]["differs"].to_string();
    assert!(differs.contains("strategy late"), "{differs}");
    // Other options are another matter.
    stop(lb);
    assert_eq!(pool(&home.start(&home.late("abort", 4), LONG))["strategy"], "late");
}

#[test]
fn a_plugin_that_crashes_after_it_was_proven_is_loaded_again_with_one_warning() {
    let home = Home::new();
    home.crashed("null", 3, NONE);
    assert_eq!(home.blame()[0]["proven"], true);
    let lb = home.start(&home.late("null", 3), NONE);
    let status = pool(&lb);
    assert_eq!((&status["strategy"], &status["crash"]["is_loaded"]), (&json!("late"), &json!(true)), "{status}");
    let warning = status["crash"]["message"].as_str().unwrap().to_owned();
    let said = stop(lb);
    assert!(said.lines().any(|line| line.contains("WARN") && line.contains(&warning)), "{warning} is not in {said}");
    assert_eq!(pool(&home.start(&home.late("null", 3), NONE))["crash"], Value::Null, "it is reported once");
}

#[test]
fn a_report_ends_with_the_next_strategy_and_a_crash_of_one_that_the_file_does_not_name_is_told() {
    let home = Home::new();
    home.crashed("null", 3, LONG);
    let lb = home.start(&home.late("null", 3), LONG);
    assert_eq!(pool(&lb)["crash"]["is_loaded"], false);
    let reply = post(lb.admin, "/reload", r#"{"strategy":{"name":"least_connections"}}"#);
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(pool(&lb)["crash"], Value::Null, "the strategy in charge is another one");
    stop(lb);
    // As after an override that crashed.
    let said = stop(home.start(&named("round_robin"), LONG));
    let told = "pool default: strategy late crashed in an earlier run (SIGSEGV in its hook pick ended lb)";
    assert!(said.lines().any(|line| line.contains("WARN") && line.contains(told)), "{told} is not in {said}");
}

#[test]
fn a_strategy_that_an_earlier_run_has_proven_is_blamed_as_proven() {
    let home = Home::new();
    stop(home.start(&home.late("null", 3), NONE));
    home.crashed("null", 3, LONG);
    assert_eq!(home.blame()[0]["proven"], true);
}

#[test]
fn a_proven_build_replaces_the_build_that_overwrote_its_file_and_crashed() {
    let home = Home::new();
    let first = home.start(&home.late("null", 3), NONE);
    let digest = pool(&first)["strategy_sha256"].clone();
    stop(first);
    let file = home.folder.path().join("late.so");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.extend_from_slice(b"another build");
    std::fs::write(&file, bytes).unwrap();
    home.crashed("null", 3, LONG);
    assert_eq!(home.blame()[0]["proven"], false);
    let lb = home.start(&home.late("null", 3), LONG);
    let status = pool(&lb);
    assert_eq!((&status["strategy_sha256"], &status["crash"]["is_loaded"]), (&digest, &json!(false)), "{status}");
    let report = post(lb.admin, "/reload", "").json();
    assert_eq!((&report["pools"][0]["change"], &report["applied"]), (&json!("plugin"), &json!([])), "{report}");
}

#[test]
fn the_watcher_does_not_load_a_strategy_that_crashed() {
    let home = Home::new();
    home.crashed("abort", 2, LONG);
    let lb = home.start(&home.late("abort", 2), &LONG.replace("watch = false", "watch = true\nsettle_ms = 20"));
    let config = std::fs::read_to_string(lb.path("lb.toml")).unwrap();
    std::fs::write(lb.path("lb.toml"), config + "[timeouts]\nconnect_ms = 777\n").unwrap();
    let last = wait_for("a reload by the watcher", || {
        let last = get(lb.admin, "/status").json()["reload"]["last"].clone();
        (last["by"] == "watcher").then_some(last)
    });
    assert_eq!((&last["stage"], &pool(&lb)["strategy"]), (&json!("probation"), &json!("built_in_fallback")), "{last}");
    assert!(last["reason"].as_str().unwrap().contains("SIGABRT in its hook pick ended lb"), "{last}");
    assert_eq!(home.blame().len(), 1);
    lb.signal("HUP");
    wait_for("a reload by an operator's signal", || (pool(&lb)["strategy"] == "late").then_some(()));
    wait_for("the file of crashes to be empty", || home.blame().is_empty().then_some(()));
}

#[test]
fn a_stack_overflow_in_a_plugin_is_blamed_and_ends_lb_as_before() {
    let home = Home::new();
    let (signal, said) = home.crashed("overflow", 3, LONG);
    assert_eq!(signal, 6, "Rust's runtime aborts after a stack overflow");
    let lines = ["lb: SIGSEGV in plugin late (pool default, hook pick, ", "has overflowed its stack"];
    assert!(lines.iter().all(|line| said.contains(line)), "{said}");
    assert_eq!(home.blame().len(), 1);
}

#[test]
fn a_plugin_that_does_not_return_is_blamed_and_not_loaded_at_the_next_start() {
    let home = Home::new();
    let mut lb = home.start(&home.late("spin", 1), LONG);
    let mut client = TcpStream::connect(lb.proxy).unwrap();
    client.write_all(b"GET /home HTTP/1.1\r\nhost: a\r\nx-real: 1\r\n\r\n").unwrap();
    let line = "lb: hang in plugin late (pool default, hook pick, ";
    wait_for("the hang to be reported", || lb.printed("stderr").contains(line).then_some(()));
    lb.signal("KILL");
    lb.end();
    assert_eq!(home.blame().len(), 1);
    let status = pool(&home.start(&home.late("spin", 1), LONG));
    assert_eq!(status["strategy"], "built_in_fallback");
    let message = status["crash"]["message"].as_str().unwrap();
    assert!(message.contains("its hook pick did not return"), "{message}");
}

#[test]
fn a_proven_plugin_that_ends_three_runs_soon_after_their_start_is_not_loaded_by_the_next_one() {
    let home = Home::new();
    for runs in 0..3 {
        assert_eq!(home.blame().len(), runs);
        home.crashed("null", 2, NONE);
    }
    for _ in 0..2 {
        let lb = home.start(&home.late("null", 2), NONE);
        let status = pool(&lb);
        assert_eq!((&status["strategy"], &status["crash"]["is_loaded"]), (&json!("built_in_fallback"), &json!(false)));
        serve(&lb, 3);
        let page = home.said(&["--admin-listen", &lb.admin.to_string(), "status"]);
        let line = page.lines().find(|line| line.starts_with("crash ")).unwrap_or_else(|| panic!("{page}"));
        let parts = ["strategy late 1 crashed at ", "ended 3 runs in a row within 60 s of their start, so it is not "];
        let ways_out = ["`lb reload` loads it again", "`lb reload --strategy NAME`"];
        assert!(parts.iter().chain(&ways_out).all(|part| line.contains(part)), "{line}");
        stop(lb);
    }
    let lb = home.start(&home.late("null", 2), NONE);
    post(lb.admin, "/reload", "");
    assert_eq!((&pool(&lb)["strategy"], &pool(&lb)["crash"]), (&json!("late"), &Value::Null));
    stop(lb);
    assert_eq!(home.blame(), Vec::<Value>::new());
}

#[test]
fn a_check_warns_of_a_strategy_that_a_start_would_not_load() {
    let home = Home::new();
    stop(home.start(&named("round_robin"), NONE));
    home.crashed("null", 3, LONG);
    std::fs::write(home.folder.path().join("lb.toml"), home.late("null", 3)).unwrap();
    let state = format!("state.dir={:?}", home.folder.path().join("state"));
    let free = ["--set", "proxy.listen=[\"127.0.0.1:0\"]", "--set", "admin.listen=\"127.0.0.1:0\""];
    let check = || home.said(&[&["check", "--set", &state], &free[..]].concat());
    let blame = home.blame();
    let told = "warning: a start does not load a strategy of the file: pool default: strategy late 1 crashed at ";
    let page = check();
    let line = page.lines().find(|line| line.starts_with(told)).unwrap_or_else(|| panic!("{page}"));
    assert!(
        line.contains("so it is not loaded: round_robin 0.1.0, the last proven one, decides. `lb reload`"),
        "{line}"
    );
    assert_eq!(home.blame(), blame, "a check changes nothing");
    std::fs::write(home.folder.path().join("lb.toml"), home.late("null", 4)).unwrap();
    assert!(!check().contains("crashed"), "other options are another matter");
}

#[test]
fn a_crash_in_a_thread_that_a_plugin_started_blames_no_plugin_and_names_those_that_are_loaded() {
    let home = Home::new();
    let (signal, said) = home.crashed("thread", 2, LONG);
    assert_eq!(signal, 11);
    let file = home.folder.path().join("late.so");
    let line = format!(
        "lb: SIGSEGV in no call of a plugin: a fault of lb, or of a thread that a plugin started; loaded plugins: {}\n",
        file.display()
    );
    assert!(said.contains(&line), "{line} is not in {said}");
    assert_eq!(home.blame(), Vec::<Value>::new());
}

#[test]
fn a_tick_that_does_not_return_is_blamed_and_its_strategy_not_loaded_at_the_next_start() {
    let home = Home::new();
    let file = home.folder.path().join("duties.so");
    std::fs::write(&file, compiled("duties.c", &[])).unwrap();
    let strategy = format!("[strategy]\npath = {file:?}\n[strategy.config.duties]\nway = \"spin\"\n");
    let mut lb = home.start(&strategy, LONG);
    let line = "lb: hang in plugin duties (pool default, hook tick, ";
    wait_for("the hang to be reported", || lb.printed("stderr").contains(line).then_some(()));
    assert_eq!(get(lb.proxy, "/home").status, 200, "workers go on");
    lb.signal("KILL");
    lb.end();
    let blame = home.blame();
    assert_eq!((blame.len(), &blame[0]["hook"]), (1, &json!("tick")));
    assert_eq!(pool(&home.start(&strategy, LONG))["strategy"], "built_in_fallback");
}

#[test]
fn kill_9_blames_no_plugin() {
    let home = Home::new();
    let mut lb = home.start(&home.late("null", 1_000), LONG);
    serve(&lb, 3);
    lb.signal("KILL");
    assert_eq!(lb.end().signal(), Some(9));
    assert_eq!(home.blame(), Vec::<Value>::new());
    let again = pool(&home.start(&home.late("null", 1_000), LONG));
    assert_eq!((&again["strategy"], &again["crash"]), (&json!("late"), &Value::Null));
}

#[test]
fn a_signal_from_another_process_ends_lb_and_blames_no_plugin() {
    let home = Home::new();
    for (name, number) in [("SEGV", 11), ("ABRT", 6)] {
        let mut lb = home.start(&home.late("null", 1_000), LONG);
        serve(&lb, 3);
        lb.signal(name);
        assert_eq!(lb.end().signal(), Some(number));
        let said = lb.printed("stderr");
        let line = format!("lb: SIG{name} was sent by process ");
        assert!(said.contains(&line) && said.contains(": no plugin is blamed\n"), "{said}");
        assert_eq!(home.blame(), Vec::<Value>::new());
    }
}

//! Crashes and hangs in a shadow: the shadow is blamed, and never the strategy in charge.

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;

use lb_test_support::{Balancer, backends, get, mock, send, wait_for};
use mock_server::Running;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bench::{compiled, post};

/// No probation ends by itself.
const RELOAD: &str = "[reload]\nwatch = false\nprobation_ms = 600000\n";

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

    /// This strategy, with a shadow that crashes in this way at the third request with the header `x-real`.
    fn text(&self, in_charge: &str, way: &str) -> String {
        let path = self.folder.path().join("late.so");
        let shadow =
            format!("[[strategy.shadow]]\nid = \"late\"\npath = {path:?}\nconfig = {{ way = {way:?}, at = \"3\" }}\n");
        let server = backends(&[("b1", self.server.addr)]);
        format!("[strategy]\nname = {in_charge:?}\n{shadow}{RELOAD}[health]\ninterval_ms = 86400000\n{server}")
    }

    fn start(&self, text: &str) -> Balancer {
        let state = format!("state.dir={:?}", self.folder.path().join("state"));
        Balancer::start_with(text, &["--set", &state, "--set", "proxy.workers=2"])
    }
}

/// Sends a request that the shadow counts.
fn serve(lb: &Balancer) {
    assert_eq!(send(lb.proxy, "GET", "/home", &["x-real: 1"], "").status, 200);
}

/// Sends one, and does not wait for the response.
fn begin(lb: &Balancer) -> TcpStream {
    let mut stream = TcpStream::connect(lb.proxy).unwrap();
    stream.write_all(b"GET /home HTTP/1.1\r\nhost: a\r\nx-real: 1\r\n\r\n").unwrap();
    stream
}

fn pool(lb: &Balancer) -> Value {
    get(lb.admin, "/status").json()["pools"][0].clone()
}

#[test]
fn a_shadow_that_crashed_is_off_at_the_next_start_and_the_strategy_in_charge_is_not_blamed() {
    let home = Home::new();
    let text = home.text("round_robin", "null");
    let mut lb = home.start(&text);
    (0..2).for_each(|_| serve(&lb));
    let _last = begin(&lb);
    assert_eq!(lb.end().signal(), Some(11));
    let said = lb.printed("stderr");
    assert!(said.contains("lb: SIGSEGV in plugin late (pool default (shadow late), hook pick, "), "{said}");

    let lb = home.start(&text);
    let now = pool(&lb);
    assert_eq!((&now["strategy"], &now["crash"]), (&json!("round_robin"), &Value::Null), "{now}");
    let off = now["shadows"][0]["off"].as_str().unwrap_or_default();
    assert!(off.starts_with("it crashed in an earlier run: SIGSEGV in its hook pick"), "{now}");
    (0..6).for_each(|_| serve(&lb));
    assert_eq!(pool(&lb)["shadows"][0]["picks"], 0);
    let page = get(lb.admin, "/metrics").body;
    assert!(page.contains("lb_shadow_off{pool=\"default\",shadow=\"late\"} 1"), "{page}");
    assert_eq!(post(lb.admin, "/reload", "").status, 200);
    assert_eq!(pool(&lb)["shadows"][0]["off"], Value::Null, "an operator's reload begins it anew");
}

#[test]
fn a_worker_that_hangs_in_a_shadow_causes_no_rollback_of_the_strategy_in_charge() {
    for way in ["spin", "start", "finish"] {
        hang(way);
    }
}

/// A worker hangs in a hook of the shadow: in its pick, or in the begin or the end of an attempt.
fn hang(way: &str) {
    let home = Home::new();
    let lb =
        home.start(&home.text("round_robin", way).replace("[[strategy.shadow]]", "[[pools.other.strategy.shadow]]"));
    std::fs::write(lb.path("lb.toml"), home.text("least_connections", way)).unwrap();
    let reload = post(lb.admin, "/reload", "");
    assert_eq!(reload.status, 200, "{}", reload.body);
    let before = pool(&lb);
    assert_eq!(before["strategy_standing"], "on_probation", "a failure would put round robin back");
    wait_for("the shadow to begin", || {
        assert_eq!(get(lb.proxy, "/home").status, 200);
        (pool(&lb)["shadows"][0]["picks"].as_u64() > Some(0)).then_some(())
    });
    (0..2).for_each(|_| serve(&lb));
    let _hangs = begin(&lb);
    let off = wait_for("the shadow to be switched off", || pool(&lb)["shadows"][0]["off"].as_str().map(str::to_owned));
    assert!(off.contains("workers hang in it, "), "{way}: {off}");
    let status = get(lb.admin, "/status").json();
    let now = &status["pools"][0];
    assert_eq!(
        (&now["strategy"], &now["strategy_standing"]),
        (&json!("least_connections"), &json!("on_probation")),
        "{way}"
    );
    assert_eq!((&status["stuck_workers"], &status["reload"]["rolled_back"]), (&json!(1), &json!([])), "{way}");
}

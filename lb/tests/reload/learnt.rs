//! What a strategy has learnt comes back: after other strategies, and after a restart.
//!
//! `remembers.c` keeps 16,000 sessions on random backends, so a session that is lost moves in two of three cases.

use std::collections::HashMap;

use lb_test_support::{Balancer, Client, backends, get, mock, wait_for};
use mock_server::Running;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bench::{compiled, named, post};

const SESSIONS: usize = 16_000;
const CLIENTS: usize = 4;

/// What outlives a balancer: its folder with the plugin and the state, and the servers.
struct Home {
    folder: TempDir,
    servers: Vec<Running>,
}

// === impl Home ===

impl Home {
    fn new() -> Self {
        let home = Self { folder: tempfile::tempdir().unwrap(), servers: ["1", "2", "3"].map(mock).into() };
        home.build(&[]);
        home
    }

    /// Builds the plugin with these flags.
    fn build(&self, flags: &[&str]) {
        std::fs::write(self.folder.path().join("remembers.so"), compiled("remembers.c", flags)).unwrap();
    }

    fn sessions(&self) -> String {
        format!("[strategy]\npath = {:?}\n", self.folder.path().join("remembers.so"))
    }

    fn start(&self, strategy: &str, more: &str) -> Balancer {
        let state = format!("state.dir={:?}", self.folder.path().join("state"));
        Balancer::start_with(&self.text(&format!("{strategy}{more}")), &["--set", &state])
    }

    fn text(&self, strategy: &str) -> String {
        let servers: Vec<_> = ["b1", "b2", "b3"].into_iter().zip(self.servers.iter().map(|one| one.addr)).collect();
        format!(
            "{strategy}\n[reload]\nwatch = false\nprobation_ms = 0\n[health]\ninterval_ms = 86400000\n{}",
            backends(&servers)
        )
    }

    fn reload(&self, lb: &Balancer, strategy: &str) -> Value {
        std::fs::write(lb.path("lb.toml"), self.text(strategy)).unwrap();
        let reply = post(lb.admin, "/reload", "");
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.json()
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("state/learnt.json")
    }
}

/// The server of each session.
fn places(lb: &Balancer) -> HashMap<usize, String> {
    let ask = |client: usize| {
        let mut connection = Client::connect(lb.proxy);
        let own = (client..SESSIONS).step_by(CLIENTS);
        own.map(|session| {
            let answer = connection.ask("GET", "/home", &[&format!("x-key: session {session}")]);
            assert_eq!(answer.status(), 200);
            (session, answer.header("x-server-id").unwrap().to_owned())
        })
        .collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|client| scope.spawn(move || ask(client))).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    })
}

fn moved(before: &HashMap<usize, String>, after: &HashMap<usize, String>) -> usize {
    assert_eq!((before.len(), after.len()), (SESSIONS, SESSIONS));
    before.iter().filter(|(session, server)| after[session] != **server).count()
}

/// Word 0 of each slot.
fn counts(lb: &Balancer) -> Vec<u64> {
    let says = get(lb.admin, "/explain").json()["strategy_says"]["sessions"].clone();
    serde_json::from_value(says).unwrap()
}

fn stop(mut lb: Balancer) {
    lb.signal("TERM");
    assert_eq!(lb.end().code(), Some(0));
}

#[test]
fn sessions_come_back_after_other_strategies() {
    let home = Home::new();
    let lb = home.start(&home.sessions(), "");
    let before = places(&lb);
    let counted = counts(&lb);
    assert_eq!(counted.iter().sum::<u64>(), SESSIONS as u64);
    for between in ["round_robin", "least_connections"] {
        home.reload(&lb, &named(between));
        assert!(moved(&before, &places(&lb)) > SESSIONS / 2, "{between} knows no sessions");
        let report = home.reload(&lb, &home.sessions());
        assert_eq!(report["pools"][0]["state"], "imported", "{report}");
        assert_eq!((moved(&before, &places(&lb)), counts(&lb)), (0, counted.clone()), "after {between}");
    }
    // Round robin was away, too, and goes on with its own state.
    let report = home.reload(&lb, &named("round_robin"));
    assert_eq!(report["pools"][0]["state"], "imported", "{report}");
}

#[test]
fn sessions_come_back_after_a_restart_also_those_of_a_strategy_that_was_not_in_charge() {
    let home = Home::new();
    let lb = home.start(&home.sessions(), "");
    let before = places(&lb);
    let counted = counts(&lb);
    stop(lb);

    let lb = home.start(&home.sessions(), "");
    assert_eq!((moved(&before, &places(&lb)), counts(&lb)), (0, counted.clone()));
    home.reload(&lb, &named("round_robin"));
    stop(lb);

    let lb = home.start(&named("round_robin"), "");
    home.reload(&lb, &home.sessions());
    assert_eq!((moved(&before, &places(&lb)), counts(&lb)), (0, counted));
    stop(lb);

    // Another version of the state: the bytes are imported, and the words of slots have another meaning.
    home.build(&["-DVERSION=2"]);
    let lb = home.start(&home.sessions(), "");
    assert_eq!((moved(&before, &places(&lb)), counts(&lb)), (0, vec![0, 0, 0]));
}

#[test]
fn sessions_come_back_after_a_kill_except_those_of_the_time_since_the_last_write() {
    let home = Home::new();
    let mut lb = home.start(&home.sessions(), "[state]\nsave_every_ms = 100\n");
    let before = places(&lb);
    let counted = counts(&lb);
    let saved = || {
        let file: Value = serde_json::from_str(&std::fs::read_to_string(home.file()).ok()?).ok()?;
        let slots = file["pools"]["default"][0]["slots"].as_object()?.values().map(|words| words[0].as_u64().unwrap());
        Some(slots.sum::<u64>())
    };
    wait_for("all sessions to be written", || (saved()? == SESSIONS as u64).then_some(()));
    lb.signal("KILL");
    lb.end();
    let lb = home.start(&home.sessions(), "");
    assert_eq!((moved(&before, &places(&lb)), counts(&lb)), (0, counted));
}

#[test]
fn without_keep_after_a_kill_or_with_a_damaged_file_a_strategy_begins_anew() {
    let home = Home::new();
    let mode = |path| std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions()) & 0o777;
    let lb = home.start(&home.sessions(), "[state]\nkeep = false\n");
    let before = places(&lb);
    stop(lb);
    assert!(!home.file().exists());

    let mut lb = home.start(&home.sessions(), "");
    assert!(moved(&before, &places(&lb)) > SESSIONS / 2);
    lb.signal("KILL");
    lb.end();
    assert!(!home.file().exists(), "a kill leaves no time to write");

    let lb = home.start(&home.sessions(), "");
    let kept = places(&lb);
    stop(lb);
    assert_eq!(mode(home.file()), 0o600);
    let text = std::fs::read_to_string(home.file()).unwrap();

    std::fs::write(home.file(), &text[..text.len() / 2]).unwrap();
    let lb = home.start(&home.sessions(), "");
    assert!(moved(&kept, &places(&lb)) > SESSIONS / 2);
    wait_for("the warning", || lb.printed("stderr").contains("learnt state of strategies in").then_some(()));
    assert!(home.folder.path().join("state/learnt.json.bad").exists());
    stop(lb);

    // Bytes that the strategy refuses: the instance is made anew, and the start succeeds.
    let mut saved: Value = serde_json::from_str(&text).unwrap();
    saved["pools"]["default"][0]["bytes"] = json!("AAAA");
    std::fs::write(home.file(), saved.to_string()).unwrap();
    let lb = home.start(&home.sessions(), "");
    wait_for("the warning", || lb.printed("stderr").contains("this is no list of pairs").then_some(()));
    assert_eq!(counts(&lb), [0, 0, 0]);
}

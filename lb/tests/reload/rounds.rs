//! Periodic probes in a running lb: their rhythm, their ends, and what ends them.
//!
//! The strategy is the example `probed_latency`, in C and in Rust. It tells by `explain` what its probes told. A second
//! pool `clock` with a server of its own shows that time for probes has passed. Invariant: no test expects a probe
//! before some time, only that none comes too early.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lb_test_support::{
    Balancer, Hostile, backends, closed_address, folder, get, metrics, mock_with, send, wait_for, wait_until,
};
use mock_server::{Change, Running};
use serde_json::{Value, json};

use crate::bench::{compiled, compiled_from, filed, named, post};

/// Of the example.
const EVERY: Duration = Duration::from_millis(100);
/// Nothing else is sent to the servers, and nothing happens by itself.
const QUIET: &str = "[health]\nenabled = false\n[reload]\nwatch = false\n";
const PROBE: &str = "[strategy.probe]\npath = \"/probe\"\n";

/// A running lb, and servers that have a path for probes.
struct Stand {
    lb: Balancer,
    servers: Vec<Running>,
    clock: Running,
}

/// The strategy in this language.
fn example(language: &str) -> String {
    match language {
        "C" => filed("c.so") + "name = \"probed_latency\"\n",
        _ => named("probed_latency"),
    }
}

fn server(id: &str) -> Running {
    mock_with(id, |options| options.probe_path = Some("/probe".to_owned()))
}

fn stall(server: &Running, is_stalled: bool) {
    server.change(&Change { stall: Some(is_stalled), ..Change::default() }).unwrap();
}

fn probes_at(server: &Running) -> u64 {
    server.stats().by_path["probe"]
}

/// The configuration with the pool `clock` in it.
fn text(strategy: &str, list: &str, clock: SocketAddr) -> String {
    let pool = format!(
        "[pools.clock.strategy]\nname = \"probed_latency\"\nprobe.path = \"/probe\"\n\
         [[pools.clock.backends]]\nid = \"t1\"\naddress = \"{clock}\"\n"
    );
    format!("{strategy}{QUIET}{list}{pool}")
}

/// What the example tells of its probes.
fn told(lb: &Balancer) -> Vec<Value> {
    let answer = get(lb.admin, "/explain");
    answer.json()["strategy_says"]["probes"].as_array().unwrap_or_else(|| panic!("{}", answer.body)).clone()
}

fn count(told: &Value, field: &str) -> u64 {
    told[field].as_u64().unwrap_or_else(|| panic!("no number {field} in {told}"))
}

/// The ended probes of the pool `default` with this outcome.
fn counted(lb: &Balancer, outcome: &str) -> f64 {
    let labels = ["pool=\"default\"".to_owned(), "kind=\"periodic\"".to_owned(), format!("outcome={outcome:?}")];
    let page = get(lb.admin, "/metrics").body;
    metrics::sum(&page, "lb_probes_total", &labels.each_ref().map(String::as_str))
}

// === impl Stand ===

impl Stand {
    /// Three servers, `b1` to `b3`.
    fn start(strategy: &str) -> Self {
        Self::start_stalled(strategy, false)
    }

    /// The same; the servers may be stalled.
    fn start_stalled(strategy: &str, are_stalled: bool) -> Self {
        let (servers, clock) = (["1", "2", "3"].map(server), server("t"));
        servers.iter().for_each(|server| stall(server, are_stalled));
        let [one, two, three] = servers.each_ref().map(|server| server.addr);
        let list = backends(&[("b1", one), ("b2", two), ("b3", three)]);
        let lb = Self::lb(&text(strategy, &list, clock.addr));
        Self { lb, servers: servers.into(), clock }
    }

    /// With the example in C and the fixture of duties beside the configuration.
    fn lb(text: &str) -> Balancer {
        let folder = folder(text);
        std::fs::write(folder.path().join("c.so"), compiled_from("examples/probed_latency.c", &[])).unwrap();
        std::fs::write(folder.path().join("libduties.so"), compiled("duties.c", &[])).unwrap();
        Balancer::start_in(folder, &[])
    }

    /// Waits until the clock has had some more probes.
    fn wait_some_rounds(&self) {
        let until = probes_at(&self.clock) + 5;
        wait_until("the clock", || probes_at(&self.clock) >= until);
    }

    /// Runs `wait`, and checks that no server has more probes in that time than one for each interval.
    fn in_rhythm<T>(&self, every: Duration, wait: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let before: Vec<u64> = self.servers.iter().map(probes_at).collect();
        let waited = wait();
        let arrived: Vec<u64> = self.servers.iter().zip(before).map(|(one, before)| probes_at(one) - before).collect();
        // One more may have been late, and one on its way.
        let most = began.elapsed().as_millis() / every.as_millis() + 2;
        assert!(arrived.iter().all(|arrived| u128::from(*arrived) <= most), "{arrived:?} of at most {most}");
        waited
    }

    /// That no probe begins at this server from now on. One may be on its way.
    #[track_caller]
    fn assert_not_probed(&self, server: usize) {
        let before = probes_at(&self.servers[server]);
        self.wait_some_rounds();
        let after = probes_at(&self.servers[server]);
        assert!(after <= before + 1, "{before} probes, and later {after}");
    }

    fn wait_for_probes(&self, server: usize) {
        let before = probes_at(&self.servers[server]);
        wait_until("probes", || probes_at(&self.servers[server]) >= before + 2);
    }

    /// Replaces a part of the configuration and reloads it.
    fn change(&self, from: &str, to: &str) {
        let file = self.lb.path("lb.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "no {from:?} in {text}");
        std::fs::write(&file, text.replacen(from, to, 1)).unwrap();
        let report = post(self.lb.admin, "/reload", "");
        assert_eq!(report.status, 200, "{}", report.body);
    }

    fn operate(&self, backend: &str, change: &str) {
        let report = post(self.lb.admin, &format!("/backends/{backend}/{change}"), "");
        assert_eq!(report.status, 200, "{}", report.body);
    }
}

fn every_eligible_backend_is_probed_in_its_rhythm_and_no_count_moves(language: &str) {
    let stand = Stand::start(&(example(language) + PROBE));
    let told = stand.in_rhythm(EVERY, || {
        wait_for("five probes of each", || {
            let told = told(&stand.lb);
            told.iter().all(|one| count(one, "good") >= 5).then_some(told)
        })
    });
    for (one, server) in told.iter().zip(&stand.servers) {
        assert!(count(one, "good") <= probes_at(server), "{one}");
        assert!(count(one, "latency_us") > 0 && count(one, "failed") == 0, "{one}");
    }
    wait_until("all of them to be counted", || counted(&stand.lb, "ok") >= 15.0);
    let page = get(stand.lb.admin, "/metrics").body;
    let requests = ["lb_requests_total", "lb_backend_requests_total", "lb_backend_connections_opened_total"];
    assert_eq!(requests.map(|name| metrics::sum(&page, name, &[])), [0.0; 3], "{language}");
    assert!(stand.servers.iter().all(|server| server.stats().requests == 0));
    assert_eq!(get(stand.lb.proxy, "/home").status, 200);
}

#[test]
fn every_eligible_backend_is_probed_in_its_rhythm_and_no_count_moves_in_c() {
    every_eligible_backend_is_probed_in_its_rhythm_and_no_count_moves("C");
}

#[test]
fn every_eligible_backend_is_probed_in_its_rhythm_and_no_count_moves_in_rust() {
    every_eligible_backend_is_probed_in_its_rhythm_and_no_count_moves("Rust");
}

#[test]
fn a_backend_is_probed_while_it_is_in_the_list_and_eligible() {
    let stand = Stand::start(&(example("Rust") + PROBE));
    stand.wait_for_probes(0);
    stand.operate("b1", "drain");
    stand.assert_not_probed(0);
    stand.operate("b1", "ready");
    stand.wait_for_probes(0);
    // One that is added, and removed again.
    let late = server("4");
    let attach = json!({ "backends": [{ "id": "b4", "address": late.addr.to_string() }] }).to_string();
    assert_eq!(post(stand.lb.admin, "/add", &attach).status, 200);
    wait_until("a probe", || probes_at(&late) > 1);
    let removed = send(stand.lb.admin, "DELETE", "/rm", &[], r#"{"n":1,"hostnames":["b4"]}"#);
    assert_eq!(removed.status, 200, "{}", removed.body);
    let before = probes_at(&late);
    stand.wait_some_rounds();
    assert!(probes_at(&late) <= before + 1);
}

#[test]
fn probes_follow_the_strategy_in_charge_and_the_settings_of_the_pool() {
    let stand = Stand::start(&(example("Rust") + PROBE));
    stand.wait_for_probes(1);
    stand.change("name = \"probed_latency\"", "name = \"round_robin\"");
    stand.assert_not_probed(1);
    stand.change("name = \"round_robin\"", "name = \"probed_latency\"");
    stand.wait_for_probes(1);
    // A strategy that is put in charge at run time, and the reload that takes it back.
    let swapped = post(stand.lb.admin, "/reload", r#"{"strategy":{"name":"round_robin"}}"#);
    assert_eq!(swapped.status, 200, "{}", swapped.body);
    stand.assert_not_probed(2);
    assert_eq!(post(stand.lb.admin, "/reload", "").status, 200);
    stand.wait_for_probes(2);
    stand.change("path = \"/probe\"\n", "path = \"/other\"\n");
    wait_until("a probe of the other path", || stand.servers[0].stats().by_path["other"] > 1);
    stand.assert_not_probed(0);
    stand.change("path = \"/other\"\n", "\n");
    let others = || stand.servers[0].stats().by_path["other"];
    let before = others();
    stand.wait_some_rounds();
    assert!(others() <= before + 1, "without a path there are no probes");
}

fn probes_that_fail_tell_how(language: &str) {
    let (stalled, clock) = (server("1"), server("t"));
    stall(&stalled, true);
    let silent = Hostile::closing_after(b"");
    let list = backends(&[("b1", stalled.addr), ("b2", closed_address()), ("b3", silent.addr)]);
    let strategy = format!("{}{PROBE}timeout_ms = 50\n", example(language));
    let lb = Stand::lb(&text(&strategy, &list, clock.addr));
    let told = wait_for("three failures of each", || {
        let told = told(&lb);
        told.iter().all(|one| count(one, "failed") >= 3).then_some(told)
    });
    for one in &told {
        assert!(count(one, "good") == 0 && count(one, "latency_us") >= 1_000_000, "{one}");
    }
    for outcome in ["timeout", "connect_error", "reset"] {
        assert!(counted(&lb, outcome) >= 3.0, "{outcome}");
    }
    assert_eq!(counted(&lb, "ok"), 0.0);
    let listed = get(lb.admin, "/backends").json();
    let states = |one: &Value| [&one["eligible"], &one["healthy"], &one["consecutive_errors"]].map(Value::clone);
    let expected = [json!(true), json!(true), json!(0)];
    assert!(listed.as_array().unwrap().iter().all(|one| states(one) == expected), "probes are no checks: {listed}");
    stall(&stalled, false);
    wait_until("a good probe", || counted(&lb, "ok") > 0.0);
}

#[test]
fn probes_that_fail_tell_how_in_c() {
    probes_that_fail_tell_how("C");
}

#[test]
fn probes_that_fail_tell_how_in_rust() {
    probes_that_fail_tell_how("Rust");
}

#[test]
fn a_backend_that_does_not_respond_has_one_probe_on_its_way() {
    let stand = Stand::start(&format!("{}{PROBE}timeout_ms = 60000\n", example("Rust")));
    stand.wait_for_probes(0);
    stall(&stand.servers[0], true);
    // One may have been answered before the stall, and one waits.
    let before = probes_at(&stand.servers[0]);
    stand.wait_some_rounds();
    stand.wait_some_rounds();
    assert!(probes_at(&stand.servers[0]) <= before + 1);
    stand.wait_for_probes(1);
}

/// The fixture of duties, which behaves in this way, and the path of its probes.
fn duties(way: &str, path: &str) -> String {
    let probe = format!("[strategy.probe]\npath = {path:?}\n");
    format!("{}{probe}[strategy.config.duties]\nway = \"{way}\"\n", filed("libduties.so"))
}

#[test]
fn probes_that_a_strategy_asks_for_too_often_come_every_10_ms_on_the_builder() {
    let stand = Stand::start(&duties("count", "/probe"));
    let told = stand.in_rhythm(Duration::from_millis(10), || {
        wait_for("probes", || {
            let page = get(stand.lb.admin, "/metrics").body;
            let told = metrics::value(&page, "lb_plugin_probes_total{pool=\"default\",strategy=\"duties\"}")?;
            (told >= 200.0).then_some(told)
        })
    });
    assert!(stand.servers.iter().map(probes_at).sum::<u64>() as f64 >= told);
}

#[test]
fn panics_in_on_probe_are_counted_and_cause_a_rollback() {
    let stand = Stand::start(&(named("round_robin") + PROBE));
    stand.change(&(named("round_robin") + PROBE), &duties("probe_panics", "/status/418"));
    let status = wait_for("the rollback", || {
        let status = get(stand.lb.admin, "/status").json();
        (status["pools"][0]["strategy"] == "round_robin").then_some(status)
    });
    let reason = status["reload"]["rolled_back"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("times outside of picks, most often in on_probe"), "{reason}");
    let page = get(stand.lb.admin, "/metrics").body;
    let panics = metrics::sum(&page, "lb_strategy_hook_panics_total", &["hook=\"on_probe\"", "strategy=\"duties\""]);
    assert!(panics > 3.0, "{panics}");
}

#[test]
fn a_crash_in_on_probe_is_blamed_by_name() {
    let mut stand = Stand::start_stalled(&duties("probe_crashes", "/status/418"), true);
    // Not before lb is ready.
    stand.servers.iter().for_each(|server| stall(server, false));
    assert!(!stand.lb.end().success());
    let said = stand.lb.printed("stderr");
    assert!(said.contains("lb: SIGABRT in plugin duties (pool default, hook on_probe, file "), "{said}");
}

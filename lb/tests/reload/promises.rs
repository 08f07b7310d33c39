//! What the header promises, in a running lb: every field, hook, flag and status reaches a strategy in C and the same
//! one in Rust.
//!
//! Both strategies are called `reporter`, and tell in `explain` what they got. The table in docs/writing-a-strategy.md
//! names the tests of each promise. Invariant: every scenario runs once for each language.

mod hooks;
mod probes;

use std::collections::BTreeMap;

use lb_strategy_host::backend_id;
use lb_test_support::{Balancer, Client, Reply, folder, get, metrics, send, wait_for, wait_until};
use mock_server::Change;
use serde_json::{Value, json};

use crate::bench::{Bench, compiled, filed, named, post};

/// Fields of the backends' entries: b1 to b3.
const ENTRIES: [(&str, &str); 3] =
    [("b1", "weight = 2\nlabels = { zone = \"a\", priority = 1 }\n"), ("b2", ""), ("b3", "weight = 0\n")];

/// A running lb whose strategy is the reporter.
struct Stand {
    bench: Bench,
    language: &'static str,
}

// === impl Stand ===

impl Stand {
    fn start(language: &'static str) -> Self {
        Self::start_with(language, 1)
    }

    fn start_with(language: &'static str, workers: usize) -> Self {
        let bench = Bench::start_by("", &named("round_robin"), |text| {
            let folder = folder(text);
            std::fs::write(folder.path().join("c.so"), compiled("reporter.c", &[])).unwrap();
            let workers = format!("proxy.workers={workers}");
            Balancer::start_in(folder, &["--set", "reload.watch=false", "--set", &workers])
        });
        let stand = Self { bench, language };
        stand.change(language, "");
        stand
    }

    /// Puts the reporter in this language, or the strategy of this name, in charge.
    fn change(&self, strategy: &str, options: &str) -> Value {
        let report = self.try_change(strategy, options);
        assert_eq!(report.status, 200, "{}", report.body);
        report.json()
    }

    fn try_change(&self, strategy: &str, options: &str) -> Reply {
        let strategy = match strategy {
            "C" => filed("c.so") + "name = \"reporter\"\n",
            "Rust" => named("reporter"),
            other => named(other),
        };
        let servers = ENTRIES.iter().zip(&self.bench.servers);
        let entry = |((id, fields), server): (&(&str, &str), &mock_server::Running)| {
            format!("[[backends]]\nid = \"{id}\"\naddress = \"{}\"\n{fields}", server.addr)
        };
        // Without idle connections, an attempt at a server that is gone is a connect error in any case.
        let rest = "[limits]\nupstream_idle_connections = 0\n[reload]\nprobation_ms = 0\n\
                    [queue]\nwait_ms = 50\n[retry]\nattempts = 3\n\
                    [health]\ninterval_ms = 86400000\n[proxy]\nupgrades = [\"echo\"]\n";
        let entries: String = servers.map(entry).collect();
        let text = format!("{strategy}hash_on = [\"header:x-key\"]\n{options}{rest}{entries}");
        std::fs::write(self.bench.lb.path("lb.toml"), text).unwrap();
        self.bench.reload()
    }

    /// What the reporter tells now.
    fn told(&self) -> Value {
        let answer = get(self.bench.lb.admin, "/explain?key=k1");
        let mut explanation = answer.json();
        assert!(explanation["strategy_says"].is_object(), "{}: {}", self.language, answer.body);
        let mut says = explanation["strategy_says"].take();
        says["lb_hash"] = explanation["hash"].take();
        says
    }

    /// The same, when so many attempts have ended.
    fn told_after(&self, finishes: u64) -> Value {
        wait_for("the attempts to end", || {
            let told = self.told();
            (told["counts"]["finishes"].as_u64() >= Some(finishes)).then_some(told)
        })
    }

    fn send(&self, method: &str, fields: &[&str], body: &str) -> Reply {
        send(self.bench.lb.proxy, method, "/upload?x=1", &[&["host: shop.example:80"], fields].concat(), body)
    }

    fn fallbacks(&self) -> BTreeMap<&'static str, u64> {
        let page = get(self.bench.lb.admin, "/metrics").body;
        let count = |reason: &str| {
            let labels = ["strategy=\"reporter\"".to_owned(), format!("reason={reason:?}")];
            metrics::sum(&page, "lb_strategy_fallbacks_total", &labels.each_ref().map(String::as_str)) as u64
        };
        let reasons = ["declined", "undecided", "panic", "error", "bad_index", "no_queue"];
        reasons.into_iter().map(|reason| (reason, count(reason))).filter(|(_, count)| *count > 0).collect()
    }

    fn says_in_the_log(&self, line: &str) {
        wait_until(line, || self.bench.lb.printed("stderr").contains(line));
    }
}

/// Takes a number out of a report.
fn taken(report: &mut Value, field: &str) -> u64 {
    let value = report[field].as_u64().unwrap_or_else(|| panic!("no number {field} in {report}"));
    report.as_object_mut().unwrap().remove(field);
    value
}

fn a_request_its_begin_and_its_end_arrive_whole(language: &'static str) {
    let stand = Stand::start(language);
    let told = stand.told();
    assert_eq!([&told["picked"], &told["started"], &told["finished"]], [&Value::Null; 3], "dry picks are not requests");
    assert_eq!(told["asked"], json!([1, 1]), "an explanation is a dry pick without a worker");
    assert_eq!(told["host"]["is_right"], 1);
    let fields = ["x-key: k1", "x-two: one", "X-TWO: two"];
    assert_eq!(stand.send("POST", &fields, "hello, server").status, 200);
    let told = stand.told_after(1);

    let mut picked = told["picked"].clone();
    let [rand, picked_ns] = ["rand", "now_ns"].map(|field| taken(&mut picked, field));
    let hash = taken(&mut picked, "hash");
    assert_eq!(told["lb_hash"], format!("{hash:016x}"));
    let expected = json!({
        "dry": 0, "is_worker": 1, "attempt": 0, "tried": [], "key": "k1", "headers": ["one", "two", null],
        "method": "POST", "path": "/upload?x=1", "host": "shop.example", "client": "00000000000000000000ffff7f000001",
        "body": "hello, s", "body_length": 13,
    });
    assert_eq!(picked, expected, "{language}");

    let b1 = backend_id("b1");
    let mut started = told["started"].clone();
    let started_ns = taken(&mut started, "now_ns");
    // The SDK does not show the worker of a begin or an end.
    let is_worker = if language == "C" { json!({ "is_worker": 1 }) } else { json!({}) };
    let with_worker = |mut report: Value| {
        report.as_object_mut().unwrap().extend(is_worker.as_object().unwrap().clone());
        report
    };
    let own = json!({ "backend_id": b1, "has_slot": 1, "attempt": 0, "own": 1, "token": rand, "body_length": 13 });
    assert_eq!(started, with_worker(own), "{language}");

    let mut finished = told["finished"].clone();
    let [head_ns, total_ns, ended_ns] = ["ttfb_ns", "total_ns", "now_ns"].map(|field| taken(&mut finished, field));
    let [bytes_out, first_body_ns] = ["bytes_out", "first_body_ns"].map(|field| taken(&mut finished, field));
    let own = json!({
        "backend_id": b1, "has_slot": 1, "outcome": 0, "http_status": 200, "attempt": 0, "own": 1, "upgraded": 0,
        "token": rand, "bytes_in": 13, "headers": ["1", null],
    });
    assert_eq!(finished, with_worker(own), "{language}");
    assert!(0 < head_ns && head_ns <= first_body_ns && first_body_ns <= total_ns && bytes_out > 0, "{told}");
    assert!(0 < picked_ns && picked_ns <= started_ns && started_ns <= ended_ns, "one clock: {told}");
    assert_eq!(told["outcomes"], json!([1, 0, 0, 0, 0, 0]));

    // Without a key and a body; other random bits; a tunnel.
    let mut client = Client::connect(stand.bench.lb.proxy);
    client.send(b"GET /echo HTTP/1.1\r\nhost: lb\r\nconnection: Upgrade\r\nupgrade: echo\r\n\r\n");
    assert_eq!(client.answer().status(), 101);
    drop(client);
    let told = stand.told_after(2);
    let (picked, finished) = (&told["picked"], &told["finished"]);
    let absent = json!([picked["key"], picked["hash"], picked["body"], picked["body_length"], picked["headers"]]);
    assert_eq!(absent, json!([null, null, null, 0, [null, null, null]]), "{language}");
    assert_ne!(picked["rand"], rand);
    assert_eq!((&finished["upgraded"], &finished["bytes_out"]), (&json!(1), &json!(0)), "{language}");
}

#[test]
fn a_request_its_begin_and_its_end_arrive_whole_in_c() {
    a_request_its_begin_and_its_end_arrive_whole("C");
}

#[test]
fn a_request_its_begin_and_its_end_arrive_whole_in_rust() {
    a_request_its_begin_and_its_end_arrive_whole("Rust");
}

fn a_list_and_its_live_numbers_arrive_whole(language: &'static str) {
    let mut stand = Stand::start(language);
    assert_eq!(stand.send("GET", &[], "").status, 200);
    stand.told_after(1);
    // A second request is at its backend.
    let stall = |stand: &Stand, on: bool| {
        stand.bench.servers[0].change(&Change { stall: Some(on), ..Change::default() }).unwrap();
    };
    stall(&stand, true);
    let mut client = Client::connect(stand.bench.lb.proxy);
    client.send(b"GET /home HTTP/1.1\r\nhost: lb\r\n\r\n");
    wait_until("the request to be at the backend", || stand.bench.servers[0].stats().in_progress == 1);
    let told = stand.told();
    let list = &told["list"];
    assert!(list["epoch"].as_u64() >= list["members_epoch"].as_u64(), "{list}");
    assert_eq!((&list["eligible"], &told["backend"]), (&json!([0, 1]), &json!(0)));
    let fields = |index: usize, fields: &[&str]| -> Vec<Value> {
        fields.iter().map(|field| list["backends"][index][field].clone()).collect()
    };
    let addresses: Vec<_> = stand.bench.servers.iter().map(|server| json!(server.addr.to_string())).collect();
    let fixed = ["id", "name", "addr", "weight", "effective", "is", "labels"];
    let labels = json!({ "priority": 1, "zone": "a" });
    let id = |name: &str| json!(backend_id(name));
    let rows = [
        [id("b1"), json!("b1"), addresses[0].clone(), json!(2), json!(2000), json!([1, 1, 0]), labels],
        [id("b2"), json!("b2"), addresses[1].clone(), json!(1), json!(1000), json!([1, 1, 0]), Value::Null],
        [id("b3"), json!("b3"), addresses[2].clone(), json!(0), json!(0), json!([0, 1, 0]), Value::Null],
    ];
    for (index, row) in rows.iter().enumerate() {
        assert_eq!(fields(index, &fixed), row, "{language}");
    }
    let live = ["in_flight", "errors", "word"];
    assert_eq!([fields(0, &live), fields(1, &live)], [[json!(1), json!(0), json!(1)], [(); 3].map(|()| json!(0))]);
    let ewma_ns = |index: usize| list["backends"][index]["ewma_ns"].as_u64();
    assert!(ewma_ns(0) > Some(0) && ewma_ns(1) == Some(0), "{list}");
    // The SDK does not show the time of the last sample.
    if language == "C" {
        let [at, started] = [&list["backends"][0]["ewma_at_ns"], &told["started"]["now_ns"]].map(|ns| ns.as_u64());
        assert!(at > Some(0) && at <= started, "one clock: {told}");
    }
    stall(&stand, false);
    assert_eq!(client.answer().status(), 200);
    stand.told_after(2);

    // A drain makes a list of the same members. A failed attempt is counted, and its backend is tried no more.
    assert_eq!(post(stand.bench.lb.admin, "/backends/b3/drain", "").status, 200);
    let after = stand.told();
    assert_eq!(after["list"]["members_epoch"], list["members_epoch"], "{language}");
    assert!(after["list"]["epoch"].as_u64() > list["epoch"].as_u64(), "{language}");
    assert_eq!(after["list"]["backends"][2]["is"], json!([0, 1, 1]), "{language}");
    drop(stand.bench.servers.remove(0));
    assert_eq!(stand.send("GET", &[], "").header("x-server-id"), Some("2"));
    let told = wait_for("the retry to end", || {
        let told = stand.told();
        (told["finished"]["outcome"] == 0 && told["finished"]["backend_id"] == backend_id("b2")).then_some(told)
    });
    assert_eq!(told["picked"]["tried"], json!([0]), "{language}");
    let attempts = [&told["picked"], &told["started"], &told["finished"]].map(|report| report["attempt"].as_u64());
    assert!(attempts[0] >= Some(1) && attempts == [attempts[0]; 3], "{told}");
    assert!(told["outcomes"][1].as_u64() >= Some(1), "{told}");
    assert!(told["list"]["backends"][0]["errors"].as_u64() >= Some(1), "{told}");
    assert_eq!(told["counts"]["starts"], told["counts"]["finishes"], "{language}");
}

#[test]
fn a_list_and_its_live_numbers_arrive_whole_in_c() {
    a_list_and_its_live_numbers_arrive_whole("C");
}

#[test]
fn a_list_and_its_live_numbers_arrive_whole_in_rust() {
    a_list_and_its_live_numbers_arrive_whole("Rust");
}

/// For each status of a pick: its count by the reason of the fallback. The client gets its response in any case.
fn each_status_of_a_pick_has_its_effect(language: &'static str, statuses: &[i32], fallbacks: &[(&'static str, u64)]) {
    let stand = Stand::start(language);
    for status in statuses {
        let answer = stand.send("GET", &["x-key: k1", &format!("x-status: {status}")], "");
        assert_eq!(answer.status, 200, "{status}: {}", answer.body);
    }
    let told = stand.told_after(statuses.len() as u64);
    assert_eq!(stand.fallbacks(), fallbacks.iter().copied().collect(), "{language}");
    assert_eq!([&told["started"]["own"], &told["started"]["token"]], [&json!(0); 2], "the fallback picked");
    assert_eq!([&told["finished"]["own"], &told["finished"]["token"]], [&json!(0); 2], "the fallback picked");

    let answer = stand.send("GET", &["x-status: 4"], "");
    assert_eq!((answer.status, answer.header("x-lb-error")), (503, Some("overload")), "it waited in vain");
    assert!(stand.told()["counts"]["waits"].as_u64() >= Some(1));
    for backend in ["b1", "b2"] {
        assert_eq!(post(stand.bench.lb.admin, &format!("/backends/{backend}/drain"), "").status, 200);
    }
    let answer = stand.send("GET", &[], "");
    assert_eq!((answer.status, answer.header("x-lb-error")), (503, Some("no_backend")), "LB_NONE is right now");
    assert_eq!(stand.fallbacks(), fallbacks.iter().copied().collect(), "{language}");
}

#[test]
fn each_status_of_a_pick_has_its_effect_in_c() {
    let failures = [-1, -2, -3, -4, -77];
    let statuses = [&[1, -100, 2, 3, 77][..], &failures].concat();
    let fallbacks = [("declined", 1), ("panic", 1), ("undecided", 3), ("error", failures.len() as u64)];
    each_status_of_a_pick_has_its_effect("C", &statuses, &fallbacks);
}

/// The SDK has no way to return the others.
#[test]
fn each_status_of_a_pick_has_its_effect_in_rust() {
    let fallbacks = [("declined", 1), ("panic", 1), ("undecided", 1)];
    each_status_of_a_pick_has_its_effect("Rust", &[1, -100, 2], &fallbacks);
}

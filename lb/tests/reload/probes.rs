//! Probes with a pick, on a running lb: where they go, what they do not move, and how they end.
//!
//! The strategy is `reporter` where a test decides about each probe: the header `x-probe` of a request has the indexes.
//! Invariant: no health check comes after the first.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use lb_test_support::{Balancer, Client, Hostile, backends, compile, get, metrics, mock_with, send, wait_until};
use mock_server::Running;
use serde_json::Value;

use crate::bench::{Bench, filed, named, post};

const QUIET: &str = "[health]\ninterval_ms = 86400000\n[reload]\nwatch = false\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// One worker, so that each probe is beside the one before.
fn start(strategy: &str, probe: &str, servers: &[(&str, SocketAddr)]) -> Balancer {
    let strategy = format!("{strategy}[strategy.probe]\npath = \"/load?x=1\"\n{probe}\n");
    Balancer::start_with(&format!("{strategy}{QUIET}{}", backends(servers)), &["--set", "proxy.workers=1"])
}

/// A server that stalls on the path of probes, and tells other requests that all is well.
fn stalling() -> Hostile {
    Hostile::start(|_, wire| {
        while let Some(head) = wire.head() {
            match head.starts_with("GET /load") {
                true => wire.hold(),
                false => wire.write(OK),
            }
        }
    })
}

fn ask(lb: &Balancer, probes: &str) {
    assert_eq!(send(lb.proxy, "GET", "/home", &[&format!("x-probe: {probes}")], "").status, 200);
}

fn says(lb: &Balancer) -> Value {
    get(lb.admin, "/explain").json()["strategy_says"].clone()
}

fn told(lb: &Balancer) -> u64 {
    says(lb)["counts"]["probes"].as_u64().unwrap()
}

fn sum(lb: &Balancer, metric: &str, label: &str) -> f64 {
    metrics::sum(&get(lb.admin, "/metrics").body, metric, &[label])
}

fn ended(lb: &Balancer, outcome: &str) -> f64 {
    sum(lb, "lb_probes_total", &format!("outcome={outcome:?}"))
}

fn skipped(lb: &Balancer, reason: &str) -> f64 {
    sum(lb, "lb_probes_skipped_total", &format!("reason={reason:?}"))
}

fn probes_at(server: &Running) -> u64 {
    server.stats().by_path["probe"]
}

fn probes_seen(server: &Hostile) -> usize {
    server.heads().iter().filter(|head| head.starts_with("GET /load")).count()
}

/// The example in C and in Rust, and the folder of the first one.
fn examples() -> (tempfile::TempDir, [PathBuf; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let c = folder.path().join("libleast_loaded_probed.so");
    compile("examples/least_loaded_probed.c", &[], &c);
    (folder, [c, lb_strategy_built::library("least_loaded_probed")])
}

#[test]
fn probes_arrive_only_at_their_path_and_move_no_count_of_requests() {
    const REQUESTS: u64 = 300;
    let (_folder, files) = examples();
    for file in files {
        let servers = ["1", "2", "3"].map(|id| mock_with(id, |options| options.probe_path = Some("/load".to_owned())));
        let addresses = [("b1", servers[0].addr), ("b2", servers[1].addr), ("b3", servers[2].addr)];
        let lb = start(&format!("[strategy]\npath = {file:?}\n"), "", &addresses);
        let mut client = Client::connect(lb.proxy);
        (0..REQUESTS).for_each(|_| assert_eq!(client.get("/home").status(), 200));
        let probes = || servers.iter().map(probes_at).sum::<u64>();
        wait_until("each pick to have its probes", || {
            ended(&lb, "ok") + skipped(&lb, "outstanding") == 2.0 * REQUESTS as f64
        });
        assert!(servers.iter().all(|server| probes_at(server) > 0), "{file:?}");
        assert_eq!(ended(&lb, "ok"), probes() as f64, "{file:?}");
        let requests: Vec<_> = servers.iter().map(|server| server.stats().requests).collect();
        assert_eq!(requests.iter().sum::<u64>(), REQUESTS, "{requests:?}");
        assert!(servers.iter().all(|server| server.stats().by_path["other"] == 0));
        for metric in ["lb_requests_total", "lb_backend_requests_total"] {
            assert_eq!(sum(&lb, metric, ""), REQUESTS as f64, "{metric}");
        }
        // One client: a connection of requests to each backend that got one, and one connection of probes.
        let used = requests.iter().filter(|count| **count > 0).count() as f64;
        assert_eq!(sum(&lb, "lb_backend_connections_opened_total", ""), used);
        let open: u64 = servers.iter().map(|server| server.stats().open_connections).sum();
        assert_eq!(open as f64, used + 3.0);
        for name in ["lb_backend_requests_in_flight", "lb_backend_errors_total"] {
            assert_eq!(sum(&lb, name, ""), 0.0, "{name}");
        }
        let says = says(&lb)["probed"].clone();
        assert!(says.as_array().unwrap().iter().all(|one| one["in_flight"].is_u64()), "{says}");
    }
}

#[test]
fn a_probe_names_its_host_and_path_and_follows_the_head_of_its_request() {
    let (first, probed) = (Arc::new(Mutex::new(None::<TcpStream>)), Arc::new(AtomicBool::new(false)));
    let requests_before = Arc::new(AtomicUsize::new(0));
    let (own, gate, seen) = (first.clone(), probed.clone(), requests_before.clone());
    // The connection of requests reads its second one only after the probe has arrived.
    let server = Hostile::start(move |_, wire| match wire.head() {
        Some(head) if head.starts_with("GET /load") => {
            let first = own.lock().unwrap();
            let stream = first.as_ref().unwrap();
            stream.set_nonblocking(true).unwrap();
            seen.store(stream.peek(&mut [0; 4_096]).unwrap_or_default(), SeqCst);
            stream.set_nonblocking(false).unwrap();
            gate.store(true, SeqCst);
            wire.write(b"HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\nno");
        }
        Some(head) if head.starts_with("GET /first") => {
            *own.lock().unwrap() = Some(wire.clone_stream());
            wire.write(OK);
            wait_until("the probe to arrive", || gate.load(SeqCst));
            while wire.head().is_some() {
                wire.write(OK);
            }
        }
        _ => wire.write(OK),
    });
    let lb = start(&named("reporter"), "", &[("b1", server.addr)]);
    let mut client = Client::connect(lb.proxy);
    assert_eq!(client.get("/first").status(), 200);
    assert_eq!(client.ask("GET", "/with", &["x-probe: 0"]).status(), 200);
    assert!(requests_before.load(SeqCst) > "GET /with".len(), "the request was there before its probe");
    wait_until("the end of the probe", || told(&lb) == 1);
    let heads = server.heads();
    let head = heads.iter().find(|head| head.starts_with("GET /load")).unwrap();
    let lines = ["GET /load?x=1 HTTP/1.1".to_owned(), format!("host: {}", server.addr), "user-agent: lb-probe".into()];
    assert_eq!(head.lines().collect::<Vec<_>>(), lines);
    let probed = says(&lb)["probed"].clone();
    assert_eq!((&probed["outcome"], &probed["http_status"], &probed["body"]), (&0.into(), &503.into(), &"no".into()));
}

#[test]
fn one_probe_is_on_its_way_to_a_backend_at_a_time() {
    let (slow, fast) = (stalling(), mock_with("2", |options| options.probe_path = Some("/load".to_owned())));
    let lb = start(&named("reporter"), "timeout_ms = 60000", &[("b1", slow.addr), ("b2", fast.addr)]);
    ask(&lb, "0");
    wait_until("the probe to arrive", || probes_seen(&slow) == 1);
    for turn in 1..=20 {
        ask(&lb, "01");
        wait_until("the other probe", || told(&lb) == turn);
    }
    assert_eq!((probes_seen(&slow), probes_at(&fast), skipped(&lb, "outstanding")), (1, 20, 20.0));
    assert_eq!(ended(&lb, "ok"), 20.0);
}

#[test]
fn probes_that_stall_or_break_off_end_with_their_outcome_and_others_follow() {
    let server = Hostile::start(|_, wire| {
        let mut turn = 0;
        while let Some(head) = wire.head() {
            match head.split(' ').nth(1) {
                Some("/load?x=1") => {}
                _ => {
                    wire.write(OK);
                    continue;
                }
            }
            turn += 1;
            match turn {
                1 => wire.hold(),
                _ => return,
            }
        }
    });
    let lb = start(&named("reporter"), "timeout_ms = 50", &[("b1", server.addr)]);
    ask(&lb, "0");
    wait_until("the time-out", || told(&lb) == 1);
    let probed = says(&lb)["probed"].clone();
    assert_eq!((&probed["outcome"], &probed["http_status"], &probed["latency_ns"]), (&2.into(), &0.into(), &0.into()));
    ask(&lb, "0");
    wait_until("the next one", || told(&lb) == 2);
    assert_eq!((ended(&lb, "timeout"), skipped(&lb, "outstanding")), (2.0, 0.0));

    // More than a worker reads at one time.
    let many = [b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100), b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()].concat();
    for (answer, outcome, status) in [
        (many.leak() as &[u8], 0, 204),
        (b"", 3, 0),
        // The probe did not ask for it.
        (b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", 3, 0),
        (b"SSH-2.0-x\r\n\r\n", 3, 0),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", 3, 200),
        (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", 0, 204),
    ] {
        let server = Hostile::start(move |_, wire| {
            while let Some(head) = wire.head() {
                if head.starts_with("GET /load") {
                    wire.write(answer);
                    return;
                }
                wire.write(OK);
            }
        });
        let lb = start(&named("reporter"), "", &[("b1", server.addr)]);
        ask(&lb, "0");
        wait_until("the end", || told(&lb) == 1);
        let probed = says(&lb)["probed"].clone();
        assert_eq!((&probed["outcome"], &probed["http_status"]), (&outcome.into(), &status.into()), "{answer:?}");
    }
}

#[test]
fn probes_keep_a_connection_and_replace_one_that_the_backend_has_closed() {
    // Each connection ends with its third request, as if the server had closed it a moment before.
    let server = Hostile::start(|_, wire| {
        for _ in 0..2 {
            match wire.head() {
                Some(head) if head.starts_with("GET /load") => wire.write(OK),
                _ => return,
            }
        }
        wire.head();
    });
    let requests = mock_with("2", |_| {});
    let lb = start(&named("reporter"), "", &[("b1", requests.addr), ("b2", server.addr)]);
    wait_until("the health check", || server.closed() == 1);
    for turn in 1..=6 {
        ask(&lb, "1");
        wait_until("the probe to end", || told(&lb) == turn);
        assert_eq!(says(&lb)["probed"]["outcome"], 0, "turn {turn}");
    }
    assert_eq!((probes_seen(&server), server.accepted()), (6 + 2, 1 + 3));
}

#[test]
fn a_drained_backend_gets_no_probe() {
    let servers = ["1", "2"].map(|id| mock_with(id, |options| options.probe_path = Some("/load".to_owned())));
    let lb = start(&named("reporter"), "", &[("b1", servers[0].addr), ("b2", servers[1].addr)]);
    ask(&lb, "1");
    wait_until("the probe to end", || told(&lb) == 1);
    assert_eq!(post(lb.admin, "/backends/b2/drain", "").status, 200);
    ask(&lb, "01");
    wait_until("the probe of the other one", || told(&lb) == 2);
    assert_eq!((probes_at(&servers[0]), probes_at(&servers[1]), skipped(&lb, "refused")), (1, 1, 1.0));
}

/// The example in Rust and the one in C share their name, so each change is a swap.
#[test]
fn swaps_of_strategies_with_probes_lose_no_request() {
    let (_folder, files) = examples();
    let probed = files.map(|file| format!("{}[strategy.probe]\npath = \"/stats\"\n", filed(file.to_str().unwrap())));
    let bench = Bench::start(&probed[0]);
    let answered = bench.under_load(4, |more| {
        for strategy in [&probed[1], &named("round_robin"), &probed[0], &named("least_connections"), &probed[1]] {
            bench.change(strategy);
            more();
        }
    });
    assert_eq!(bench.seen(), answered);
    assert!(ended(&bench.lb, "ok") > 0.0);
    wait_until("old generations to be freed", || bench.status()["retired_generations"] == 0);
}

#[test]
fn the_end_of_a_probe_does_not_come_to_another_instance() {
    let go_on = Arc::new(AtomicBool::new(false));
    let gate = go_on.clone();
    let server = Hostile::start(move |_, wire| {
        while let Some(head) = wire.head() {
            if head.starts_with("GET /load") {
                wait_until("the swap", || gate.load(SeqCst));
            }
            wire.write(OK);
        }
    });
    let lb = start(&named("reporter"), "timeout_ms = 60000", &[("b1", server.addr)]);
    ask(&lb, "0");
    wait_until("the probe to arrive", || probes_seen(&server) == 1);
    let file = lb.path("lb.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    for name in ["round_robin", "reporter"] {
        std::fs::write(&file, text.replace("reporter", name)).unwrap();
        assert_eq!(post(lb.admin, "/reload", "").status, 200);
    }
    // Another instance may have its own probe on its way.
    ask(&lb, "0");
    wait_until("its probe to arrive", || probes_seen(&server) == 2);
    go_on.store(true, SeqCst);
    wait_until("both ends", || ended(&lb, "ok") == 2.0);
    assert_eq!((told(&lb), skipped(&lb, "outstanding")), (1, 0.0));
}

#[test]
fn a_probe_does_not_hold_up_the_end_of_lb() {
    let server = stalling();
    let mut lb = start(&named("reporter"), "timeout_ms = 60000", &[("b1", server.addr)]);
    ask(&lb, "0");
    wait_until("the probe to arrive", || probes_seen(&server) == 1);
    lb.signal("TERM");
    assert!(lb.end().success());
}

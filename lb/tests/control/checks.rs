//! Health checks by the rules of each pool: the request, its place, and the good outcomes. And the state of a backend
//! before its first check.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use lb::config::Labels;
use lb::control::{Add, AttachedBackend, BackendStatus, Change};
use lb_test_support::{Hostile, closed_address, mock, wait_until};

use crate::harness::{Rig, backend, bounded, folder, listed};

/// Checks in short intervals, which no busy machine makes bad. In panic a pool's only backend would stay in use.
const PATIENT_HEALTH: &str = "[panic]\nbelow_percent = 0\n[health]\ninterval_ms = 10\ntimeout_ms = 60000\n";

/// A pool with one backend `b1` and its own `[health]`.
fn pool(name: &str, address: SocketAddr, health: &str) -> String {
    let backend = format!("[[pools.{name}.backends]]\nid = \"b1\"\naddress = \"{address}\"\n");
    format!("{backend}[pools.{name}.health]\n{health}\n")
}

async fn status(rig: &Rig, pool: &str) -> BackendStatus {
    let all = rig.handle().backends().await.unwrap();
    all.into_iter().find(|backend| backend.pool == pool).unwrap()
}

/// Waits until the backend of `pool` is down; returns the reason.
async fn down(rig: &mut Rig, pool: &str) -> String {
    let is_down = |generation: &lb::generation::Generation| {
        let pool = generation.pools.iter().find(|one| &*one.name == pool).unwrap();
        (listed(pool) == [("b1", false)]).then_some(())
    };
    rig.until(&format!("{pool} to be down"), is_down).await;
    status(rig, pool).await.reason.unwrap()
}

/// Waits until three checks of the backend of `pool` were good; it must be eligible then.
async fn stays_up(rig: &Rig, pool: &str) {
    let series =
        |result: &str| format!(r#"lb_backend_health_checks_total{{pool="{pool}",backend="b1",result="{result}"}}"#);
    bounded(&format!("good checks of {pool}"), async {
        while rig.metric(&series("ok")).is_none_or(|count| count < 3.0) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(status(rig, pool).await.eligible, "{pool}");
}

/// A backend that responds to each request with 200 from the time when the gate opens.
fn gated() -> (Hostile, Arc<AtomicBool>) {
    let gate = Arc::new(AtomicBool::new(false));
    let own = gate.clone();
    let server = Hostile::start(move |_, wire| {
        while wire.head().is_some() {
            wait_until("the gate to open", || own.load(SeqCst));
            wire.try_write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    (server, gate)
}

#[tokio::test]
async fn each_pool_has_its_own_path_statuses_and_body() {
    let (folder, server) = (folder(), mock("b1"));
    let pool = |name: &str, health: &str| pool(name, server.addr, health);
    let text = backend("b1", server.addr)
        + PATIENT_HEALTH
        + &pool("lenient", "path = \"/status/404\"")
        + &pool("strict", "path = \"/status/404\"\nexpect_status = [\"200-399\"]")
        + &pool("listed", "path = \"/status/404\"\nexpect_status = [\"200\", \"404\"]")
        + &pool("found", "path = \"/home\"\nexpect_body = \"Hello from\"")
        + &pool("missed", "path = \"/home\"\nexpect_body = \"Goodbye\"");
    let mut rig = Rig::start(folder.path(), &text).await;
    assert_eq!(down(&mut rig, "strict").await, "/status/404 returned 404, not 200-399");
    assert_eq!(down(&mut rig, "missed").await, "the body of /home does not contain \"Goodbye\"");
    for pool in ["default", "lenient", "listed", "found"] {
        stays_up(&rig, pool).await;
    }
    assert!(server.stats().heartbeats > 2, "the pool default has the global path");
    rig.stop().await;
}

#[tokio::test]
async fn a_tcp_check_is_good_if_the_port_accepts_a_connection() {
    let folder = folder();
    // The kernel accepts connections, and no one responds.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let text = PATIENT_HEALTH.to_owned()
        + &pool("tcp", address, "kind = \"tcp\"")
        + &pool("http", address, "timeout_ms = 50\ndown_after = 1");
    let mut rig = Rig::start(folder.path(), &text).await;
    assert_eq!(down(&mut rig, "http").await, "no response within 50ms");
    stays_up(&rig, "tcp").await;
    drop(silent);
    assert_eq!(down(&mut rig, "tcp").await, "connection refused");
    rig.stop().await;
}

#[tokio::test]
async fn checks_may_go_to_another_port_and_name_another_host() {
    let (folder, server) = (folder(), Hostile::answering(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
    let (port, closed) = (server.addr.port(), closed_address());
    let text = PATIENT_HEALTH.to_owned()
        + &pool("other", closed, &format!("port = {port}\nhost = \"api.example.org\"\npath = \"/o\""))
        + &pool("same", server.addr, "path = \"/s\"")
        + &pool("none", closed, "");
    let mut rig = Rig::start(folder.path(), &text).await;
    assert_eq!(down(&mut rig, "none").await, "connection refused");
    for pool in ["other", "same"] {
        stays_up(&rig, pool).await;
    }
    let heads = server.heads();
    let host_of = |path: &str| {
        let head = heads.iter().find(|head| head.starts_with(&format!("GET {path} "))).unwrap().to_lowercase();
        head.lines().find_map(|line| line.strip_prefix("host: ").map(str::to_owned)).unwrap()
    };
    assert_eq!(host_of("/o"), "api.example.org");
    assert_eq!(host_of("/s"), server.addr.to_string());
    rig.stop().await;
}

#[tokio::test]
async fn a_backend_that_begins_down_gets_requests_after_its_first_good_check() {
    let folder = folder();
    let (server, gate) = gated();
    let health = "[health]\ninterval_ms = 10\ntimeout_ms = 60000\nup_after = 1000\ninitial = \"down\"\n";
    let mut rig = Rig::start(folder.path(), &(backend("b1", server.addr) + health)).await;
    let first = rig.control.hall.current();
    assert_eq!((listed(&first.pools[0]), first.awaited), (vec![("b1", false)], 0));
    assert!(!rig.backend("b1").is_eligible());
    assert_eq!(status(&rig, "default").await.reason.as_deref(), Some("has not passed a check yet"));
    gate.store(true, SeqCst);
    rig.until_pool(&[("b1", true)]).await;
    rig.stop().await;
}

#[tokio::test]
async fn the_first_check_of_backends_that_wait_decides_and_the_start_waits_for_all() {
    let folder = folder();
    let (server, gate) = gated();
    let health = "[health]\ninterval_ms = 86400000\ntimeout_ms = 60000\ndown_after = 1000\ninitial = \"wait\"\n";
    let text = backend("b1", server.addr) + &backend("b2", closed_address()) + health;
    let mut rig = Rig::start(folder.path(), &text).await;
    let first = rig.control.hall.current();
    assert_eq!((listed(&first.pools[0]), first.awaited), (vec![("b1", false), ("b2", false)], 2));
    rig.until("the check of b2", |generation| (generation.awaited == 1).then_some(())).await;
    let told = rig.handle().backends().await.unwrap();
    let reasons: Vec<_> = told.iter().map(|backend| (backend.checked, backend.reason.as_deref().unwrap())).collect();
    assert_eq!(reasons, [(false, "its first check has not ended yet"), (true, "connection refused")]);
    gate.store(true, SeqCst);
    rig.until("the check of b1", |generation| (generation.awaited == 0).then_some(())).await;
    rig.until_pool(&[("b1", true), ("b2", false)]).await;

    // A backend that comes later waits, and lb stays ready.
    gate.store(false, SeqCst);
    let later = AttachedBackend {
        id: "b3".into(),
        address: server.addr.to_string(),
        weight: 1,
        backup: false,
        labels: Labels::default(),
    };
    bounded("the attach", rig.handle().add(Add::Attach(vec![later]))).await.unwrap();
    let (pool, awaited) = (rig.pool(), rig.control.hall.current().awaited);
    assert_eq!((listed(&pool), awaited), (vec![("b1", true), ("b2", false), ("b3", false)], 0));
    gate.store(true, SeqCst);
    rig.until_pool(&[("b1", true), ("b2", false), ("b3", true)]).await;
    rig.stop().await;
}

#[tokio::test]
async fn bad_checks_of_a_backend_that_begins_down_are_not_repeated_sooner() {
    let (folder, server) = (folder(), Hostile::answering(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"));
    let pool = |initial: &str| pool(initial, server.addr, &format!("path = \"/{initial}\"\ninitial = {initial:?}"));
    let health = "[health]\ninterval_ms = 86400000\nfast_interval_ms = 10\ntimeout_ms = 60000\ndown_after = 1000\n";
    let text = backend("b1", server.addr) + health + &pool("up") + &pool("down") + &pool("wait");
    let rig = Rig::start(folder.path(), &text).await;
    let checks = |initial: &str| {
        let line = format!("GET /{initial} ");
        server.heads().iter().filter(|head| head.starts_with(&line)).count()
    };
    // Only a backend that counts as up is in doubt.
    bounded("some checks of the one that begins up", async {
        while checks("up") <= 5 || checks("down") + checks("wait") <= 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!((checks("down"), checks("wait")), (1, 1));
    rig.stop().await;
}

#[tokio::test]
async fn an_operators_ready_ends_the_wait_for_a_backend() {
    let folder = folder();
    let (server, gate) = gated();
    let health = "[health]\ninterval_ms = 86400000\ntimeout_ms = 60000\ninitial = \"wait\"\n";
    let mut rig = Rig::start(folder.path(), &(backend("b1", server.addr) + health)).await;
    assert_eq!(rig.control.hall.current().awaited, 1);
    bounded("ready", rig.handle().change("default", "b1", Change::Ready)).await.unwrap();
    rig.until_pool(&[("b1", true)]).await;
    assert_eq!(rig.control.hall.current().awaited, 0);
    gate.store(true, SeqCst);
    rig.stop().await;
}

#[tokio::test]
async fn without_checks_no_backend_waits_for_one() {
    let folder = folder();
    let text = "[health]\ninitial = \"wait\"\n".to_owned()
        + &pool("off", closed_address(), "enabled = false")
        + &pool("on", closed_address(), "interval_ms = 86400000");
    let mut rig = Rig::start(folder.path(), &text).await;
    assert!(status(&rig, "off").await.eligible);
    rig.until("the check of the other", |generation| (generation.awaited == 0).then_some(())).await;
    assert_eq!(down(&mut rig, "on").await, "connection refused");
    rig.stop().await;
}

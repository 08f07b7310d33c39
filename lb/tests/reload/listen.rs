//! `proxy.listen` in a reload: addresses are added and removed under load, and no client connection is lost.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use lb_test_support::{Balancer, backends, closed_address, folder, get, mock, wait_for};
use mock_server::Running;
use serde_json::{Value, json};

use crate::bench::{named, post};
use crate::kept::{Ends, Kept};

/// A balancer that takes its addresses from the file.
struct Listening {
    lb: Balancer,
    servers: Vec<Running>,
}

fn config(listen: &[String], more: &str, servers: &[Running]) -> String {
    let named: Vec<_> = ["b1", "b2"].into_iter().zip(servers.iter().map(|server| server.addr)).collect();
    format!(
        "[proxy]\nlisten = {listen:?}\nupgrades = [\"echo\"]\n{more}\n[health]\ninterval_ms = 86400000\n{}",
        backends(&named)
    )
}

fn any() -> String {
    "127.0.0.1:0".to_owned()
}

/// The inode of the socket that listens on this port.
fn socket_of(address: SocketAddr) -> String {
    let (port, table) = (format!(":{:04X}", address.port()), std::fs::read_to_string("/proc/net/tcp").unwrap());
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let listening = rows.into_iter().find(|row| row[1].ends_with(&port) && row[3] == "0A");
    listening.unwrap_or_else(|| panic!("no socket listens on {address}"))[9].to_owned()
}

// === impl Listening ===

impl Listening {
    fn start() -> Self {
        let servers: Vec<Running> = ["1", "2"].map(mock).into_iter().collect();
        let folder = folder(&config(&[any()], &named("round_robin"), &servers));
        Self { lb: Balancer::start_where_the_file_says(folder), servers }
    }

    fn write(&self, listen: &[String], more: &str) {
        std::fs::write(self.lb.path("lb.toml"), config(listen, more, &self.servers)).unwrap();
    }

    /// Rewrites the file and reloads, which must succeed. Returns the addresses of lb.
    fn listen(&self, listen: &[String]) -> Vec<SocketAddr> {
        self.write(listen, &named("round_robin"));
        let answer = post(self.lb.admin, "/reload", "");
        assert_eq!(answer.status, 200, "{}", answer.body);
        self.addresses()
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        let listeners = self.status()["listeners"].clone();
        listeners.as_array().unwrap().iter().map(|address| address.as_str().unwrap().parse().unwrap()).collect()
    }

    fn status(&self) -> Value {
        get(self.lb.admin, "/status").json()
    }

    fn seen(&self) -> u64 {
        self.servers.iter().map(|server| server.stats().requests).sum()
    }

    /// Accepted connections by listener.
    fn accepted(&self) -> HashMap<String, u64> {
        let page = get(self.lb.admin, "/metrics").body;
        let series = page.lines().filter_map(|line| line.strip_prefix("lb_client_connections_accepted_total"));
        let parts = series.filter_map(|rest| rest.strip_prefix("{listener=\"")?.split_once("\"} "));
        parts.map(|(listener, count)| (listener.to_owned(), count.parse().unwrap())).collect()
    }
}

#[test]
fn addresses_are_added_and_removed_under_load_and_no_connection_is_lost() {
    const CLIENTS: usize = 4;
    let bench = Listening::start();
    let first = bench.lb.proxy;
    let (answered, moved, stop) = (AtomicU64::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let second = std::sync::OnceLock::new();
    std::thread::scope(|scope| {
        let ends = Ends(&stop);
        for _ in 0..CLIENTS {
            // One connection for the whole time, although its listener is removed.
            scope.spawn(|| {
                let mut kept = Kept::connect(first).unwrap();
                while !stop.load(Relaxed) {
                    kept.get();
                    answered.fetch_add(1, Relaxed);
                }
            });
            // A connection for each request, to the first address as long as it exists.
            scope.spawn(|| {
                let mut address = first;
                while !stop.load(Relaxed) {
                    match Kept::connect(address) {
                        Ok(mut fresh) => {
                            fresh.get();
                            answered.fetch_add(1, Relaxed);
                        }
                        Err(error) if error.kind() == ErrorKind::ConnectionRefused && address == first => {
                            address = *second.get().expect("the first address closes only after the second is open");
                            moved.fetch_add(1, Relaxed);
                        }
                        Err(error) => panic!("{address}: {error}"),
                    }
                }
            });
        }
        let more = || {
            let enough = answered.load(Relaxed) + 500;
            wait_for("more requests", || (answered.load(Relaxed) >= enough).then_some(()));
        };
        more();
        let socket = socket_of(first);
        let both = bench.listen(&[any(), any()]);
        assert_eq!((both.len(), both[0]), (2, first), "port 0 keeps the current port");
        assert_eq!(socket_of(first), socket, "the socket is the same");
        second.set(both[1]).unwrap();
        Kept::connect(both[1]).unwrap().get();
        answered.fetch_add(1, Relaxed);
        more();
        assert_eq!(bench.listen(&[both[1].to_string()]), [both[1]]);
        wait_for("all clients to use the second address", || (moved.load(Relaxed) == CLIENTS).then_some(()));
        more();
        drop(ends);
    });
    assert_eq!(bench.seen(), answered.load(Relaxed));
    assert_eq!(TcpStream::connect(first).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(bench.status()["generation"], 3);
    let accepted = bench.accepted();
    assert_eq!(accepted.len(), 2, "the series of a removed listener stay for a while: {accepted:?}");
    assert!(accepted.values().sum::<u64>() > 2 * CLIENTS as u64, "{accepted:?}");
    wait_for("old generations to be freed", || (bench.status()["retired_generations"] == 0).then_some(()));
}

#[test]
fn connections_in_the_accept_queue_of_a_removed_address_are_served() {
    const WAITING: usize = 300;
    let bench = Listening::start();
    let mut listen = vec![any(), any()];
    for round in 1..=3_usize {
        let addresses = bench.listen(&listen);
        let leaving = addresses[1];
        bench.write(&[addresses[0].to_string()], &named("round_robin"));
        // The process is stopped while clients connect. Then lb must reload and accept at the same time.
        bench.lb.signal("STOP");
        let mut waiting: Vec<Kept> = (0..WAITING).map(|_| Kept::connect(leaving).unwrap()).collect();
        waiting.iter_mut().for_each(|client| client.send("/home", ""));
        bench.lb.signal("HUP");
        bench.lb.signal("CONT");
        for client in &mut waiting {
            assert_eq!(client.head().0, 200);
        }
        let generation = 1 + 2 * round;
        wait_for("the reload", || (bench.status()["generation"] == generation).then_some(()));
        wait_for("the listener to be closed", || TcpStream::connect(leaving).is_err().then_some(()));
        listen = vec![addresses[0].to_string(), any()];
    }
    assert_eq!(bench.seen(), 3 * WAITING as u64);
}

#[test]
fn a_tunnel_and_a_slow_reader_outlive_their_listener() {
    const BYTES: usize = 30_000_000;
    let bench = Listening::start();
    let first = bench.lb.proxy;
    let (mut tunnel, mut reader) = (Kept::connect(first).unwrap(), Kept::connect(first).unwrap());
    tunnel.send("/echo", "connection: upgrade\r\nupgrade: echo\r\n");
    assert_eq!(tunnel.head().0, 101);
    // More than all buffers on the way can hold.
    reader.send(&format!("/stream?bytes={BYTES}&length=1"), "");
    assert_eq!(reader.head(), (200, BYTES));
    let both = bench.listen(&[any(), any()]);
    bench.listen(&[both[1].to_string()]);
    wait_for("the listener to be closed", || TcpStream::connect(first).is_err().then_some(()));
    tunnel.write(b"still here");
    assert_eq!(tunnel.body(10), b"still here");
    assert_eq!(reader.body(BYTES).len(), BYTES);
    reader.get();
    let page = get(bench.lb.admin, "/metrics").body;
    let open = format!("lb_client_connections{{listener=\"{first}\"}} 2");
    assert!(page.lines().any(|line| line == open), "{open} is not in\n{page}");
}

#[test]
fn an_address_that_cannot_be_bound_refuses_the_whole_reload() {
    let bench = Listening::start();
    let first = bench.lb.proxy;
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let (taken, free) = (busy.local_addr().unwrap().to_string(), closed_address());
    let wide = format!("0.0.0.0:{}", first.port());
    let foreign = "192.0.2.1:80".to_owned();
    for (bad, says) in
        [(taken, "in use by another process"), (wide, "overlaps with"), (foreign, "cannot be listened on")]
    {
        bench.write(&[free.to_string(), bad.clone()], &named("least_connections"));
        for path in ["/reload", "/reload?dry_run=1"] {
            let answer = post(bench.lb.admin, path, "");
            assert_eq!((answer.status, answer.json()["stage"].clone()), (422, json!("listen")), "{}", answer.body);
            let reason = answer.json()["reason"].as_str().unwrap().to_owned();
            assert!(reason.contains(&bad) && reason.contains(says), "{reason}");
        }
        assert_eq!(
            TcpStream::connect(free).unwrap_err().kind(),
            ErrorKind::ConnectionRefused,
            "no address of the refused reload is open"
        );
        let status = bench.status();
        assert_eq!((&status["generation"], &status["pools"][0]["strategy"]), (&json!(1), &json!("round_robin")));
        assert_eq!(bench.addresses(), [first]);
        Kept::connect(first).unwrap().get();
    }
    bench.write(&[any(), free.to_string()], &named("least_connections"));
    let answer = post(bench.lb.admin, "/reload?dry_run=1", "");
    assert_eq!((answer.status, answer.json()["applied"].clone()), (200, json!(["proxy.listen"])), "{}", answer.body);
    assert_eq!(bench.addresses(), [first]);
    assert!(TcpStream::connect(free).is_err(), "a dry run opens nothing");
}

#[test]
fn a_removed_address_can_come_back_at_once() {
    let bench = Listening::start();
    let first = bench.lb.proxy;
    let other = bench.listen(&[any(), any()])[1];
    for _ in 0..3 {
        for address in [other, first] {
            assert_eq!(bench.listen(&[address.to_string()]), [address]);
            Kept::connect(address).unwrap().get();
        }
    }
    assert_eq!(bench.accepted()[&first.to_string()], 3, "the counter belongs to the address, so it continues");
}

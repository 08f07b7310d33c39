//! The limit of open files. Idle clients may use most of it. If requests use up the rest, lb returns 503 and counts no
//! failure against a backend.
//!
//! Each lb runs under its own limit (`ulimit -n`) with one worker, and the numbers follow from the limit. Of 768
//! descriptors, 132 are reserved and 128 are kept for backends. Of 256, a quarter is reserved and half of the rest
//! kept.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use lb_test_support::{Balancer, PATIENCE, backends, command, folder, get, metrics, mock, wait_for};
use mock_server::{Change, Running};

const LIMIT: u32 = 768;
const CLIENTS: usize = 508;
const BACKENDS: usize = 128;

const SMALL_LIMIT: u32 = 256;
const SMALL_CLIENTS: usize = 96;

/// A client with a keep-alive connection.
struct Client(TcpStream);

/// `lb` under this limit. Its health checks request a path to which a stalled mock still responds. Idle connections
/// stay open for longer than any test.
fn limited(limit: u32, servers: &[&Running], more: &str) -> Balancer {
    // This process holds the sockets of all clients and servers.
    rlimit::increase_nofile_limit(u64::MAX).unwrap();
    let ids: Vec<String> = (1..=servers.len()).map(|n| format!("b{n}")).collect();
    let named: Vec<_> = ids.iter().map(String::as_str).zip(servers.iter().map(|server| server.addr)).collect();
    let folder = folder(&format!(
        "[strategy]\nname = \"round_robin\"\n{}[health]\npath = \"/stats\"\ninterval_ms = 50\nfast_interval_ms = 50\n\
         timeout_ms = 30000\n[timeouts]\nupstream_idle_ms = 600000\n{more}",
        backends(&named)
    ));
    let lb = command(&folder, &[]);
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -n {limit} && exec \"$0\" \"$@\"")]).arg(lb.get_program()).args(lb.get_args());
    shell.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", folder.path());
    shell.current_dir(folder.path());
    let stderr = std::fs::File::create(folder.path().join("stderr")).unwrap();
    Balancer::start_command(shell, stderr, folder)
}

fn stall(servers: &[&Running], stall: bool) {
    let change = Change { stall: Some(stall), ..Change::default() };
    servers.iter().for_each(|server| server.change(&change).unwrap());
}

/// The sum of the series of `name` that have this label.
fn metric(lb: &Balancer, name: &str, label: &str) -> usize {
    metrics::sum(&get(lb.admin, "/metrics").body, name, &[label]) as usize
}

fn wait_for_metric(lb: &Balancer, name: &str, label: &str, value: usize) {
    wait_for(&format!("{name} {label} to be {value}"), || (metric(lb, name, label) == value).then_some(()));
}

/// Connects `count` clients that each send one request and stay connected. A refused client connects again.
fn crowd(lb: &Balancer, count: usize) -> Vec<Client> {
    (1..=count).map(|n| wait_for(&format!("client {n} to be served"), || Client::served(lb.proxy))).collect()
}

fn all_are_served(clients: &mut [Client]) {
    for client in clients {
        client.ask("/home");
        assert_eq!(client.answer().unwrap().0, 200);
    }
}

#[test]
fn idle_clients_may_use_more_than_half_of_the_limit_and_each_is_served() {
    let server = mock("1");
    let lb = limited(LIMIT, &[&server], "");
    let line = format!("allows {CLIENTS} client connections");
    wait_for("the line about the limit", || lb.printed("stderr").contains(&line).then_some(()));
    let mut clients = crowd(&lb, CLIENTS);
    assert!(clients.len() > LIMIT as usize / 2);
    assert!(Client::served(lb.proxy).is_none(), "one more client would use a descriptor kept for backends");
    assert_eq!(metric(&lb, "lb_client_connections_rejected_total", ""), 1);
    all_are_served(&mut clients);
}

#[test]
fn requests_without_a_descriptor_are_503_and_count_against_no_backend() {
    let servers = [mock("1"), mock("2")];
    let servers = servers.each_ref();
    let lb = limited(LIMIT, &servers, "");
    let mut clients = crowd(&lb, CLIENTS);
    stall(&servers, true);
    clients.iter_mut().for_each(|client| client.ask("/home"));
    let refused = CLIENTS - BACKENDS;
    wait_for_metric(&lb, "lb_requests_total", "code=\"503\"", refused);
    wait_for_metric(&lb, "lb_backend_connections", "state=\"active\"", BACKENDS);

    // Meanwhile the admin port responds and health checks run.
    assert_eq!(get(lb.admin, "/readyz").status, 200);
    let status = get(lb.admin, "/status").json();
    for backend in status["pools"][0]["backends"].as_array().unwrap() {
        assert!(backend["healthy"] == true && backend["consecutive_errors"] == 0, "{backend}");
    }
    let checks = || metric(&lb, "lb_backend_health_checks_total", "");
    let before = checks();
    wait_for("ten more checks", || (checks() >= before + 10).then_some(()));
    stall(&servers, false);

    let answers: Vec<_> = clients.iter_mut().map(|client| client.answer().unwrap()).collect();
    assert_eq!(answers.iter().filter(|(status, _)| *status == 200).count(), BACKENDS);
    for (status, head) in answers.iter().filter(|(status, _)| *status != 200) {
        assert!(*status == 503 && head.contains("x-lb-error: overload") && head.contains("retry-after: 1"), "{head}");
    }
    assert_eq!(metric(&lb, "lb_proxy_errors_total", ""), refused);
    assert_eq!(metric(&lb, "lb_backend_errors_total", ""), refused, "there is no retry");
    assert_eq!(metric(&lb, "lb_backend_health_checks_total", "result=\"failed\""), 0);
    assert_eq!(metric(&lb, "lb_backend_health_transitions_total", ""), 0);

    // Each client is served when they send one after the other. After they disconnect, all descriptors are free again.
    all_are_served(&mut clients);
    drop(clients);
    wait_for_metric(&lb, "lb_client_connections", "", 0);
    all_are_served(&mut crowd(&lb, CLIENTS));
}

#[test]
fn a_new_backend_connection_closes_the_longest_idle_one() {
    let (server, other) = (mock("1"), mock("2"));
    let more = format!(
        "[pools.other.strategy]\nname = \"round_robin\"\n[[pools.other.backends]]\nid = \"o1\"\naddress = \"{}\"\n\
         [[routes]]\npath = \"/other\"\npool = \"other\"\n",
        other.addr
    );
    let lb = limited(SMALL_LIMIT, &[&server], &more);
    let mut clients = crowd(&lb, SMALL_CLIENTS);
    fill(&lb, &server, &mut clients);
    clients[0].ask("/other");
    assert_eq!(clients[0].answer().unwrap().0, 404, "the server of the other pool sent this");
    assert_eq!(metric(&lb, "lb_backend_connections_opened_total", "o1"), 1);
    assert_eq!(metric(&lb, "lb_requests_total", "code=\"503\""), 0);
}

#[test]
fn new_clients_close_idle_connections_to_backends() {
    const FEWER: usize = 250;
    let server = mock("1");
    let lb = limited(LIMIT, &[&server], "");
    let mut clients = crowd(&lb, FEWER);
    fill(&lb, &server, &mut clients);
    drop(clients);
    wait_for_metric(&lb, "lb_client_connections", "", 0);
    all_are_served(&mut crowd(&lb, CLIENTS));
}

/// Sends a request from every client at once, so that each uses its own connection to `server`.
fn fill(lb: &Balancer, server: &Running, clients: &mut [Client]) {
    stall(&[server], true);
    clients.iter_mut().for_each(|client| client.ask("/home"));
    wait_for_metric(lb, "lb_backend_connections", "state=\"active\"", clients.len());
    stall(&[server], false);
    clients.iter_mut().for_each(|client| assert_eq!(client.answer().unwrap().0, 200));
}

// === impl Client ===

impl Client {
    /// Connects and sends one request. Returns `None` if the connection was refused.
    fn served(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Self(stream);
        client.ask("/home");
        let (status, head) = client.answer()?;
        assert_eq!(status, 200, "{head}");
        Some(client)
    }

    fn ask(&mut self, path: &str) {
        // A refused connection may be closed already.
        let _ = self.0.write_all(format!("GET {path} HTTP/1.1\r\nhost: lb.test\r\n\r\n").as_bytes());
    }

    /// Status and head of the response; `None` if the connection ended instead.
    fn answer(&mut self) -> Option<(u16, String)> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match self.0.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                Ok(_) => return None,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}, after {} bytes", head.len()),
            }
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        self.0.read_exact(&mut vec![0; length.parse().unwrap()]).unwrap();
        Some((head.split(' ').nth(1).unwrap().parse().unwrap(), head))
    }
}

//! The start and the end of a server inside tests of another program.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use lb_test_support::{Client, PATIENCE, wait_until};
use mock_server::{MockServer, Options, Running, StartError};

use crate::client::{get, send_get_for, start};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_running_server_can_be_shared_between_threads() {
    fn is_shareable<T: Send + Sync + 'static>() {}
    is_shareable::<Running>();
}

#[test]
fn a_dropped_server_ends_with_requests_in_progress_and_its_port_is_free() {
    let server = start(Options::default());
    let addr = server.addr;
    let mut client = Client::connect(addr);
    send_get_for(&mut client, HOUR);
    wait_until("in service", || server.stats().in_service == 1);
    drop(server);
    assert_eq!(client.rest_until_end(), b"");
    let again = start(Options { port: addr.port(), ..Options::default() });
    assert_eq!((again.addr, get(addr, "/home").status()), (addr, 200));
}

#[tokio::test]
async fn a_graceful_end_finishes_requests_in_progress_and_takes_no_new_ones() {
    let server = start(Options { grace: HOUR, ..Options::default() });
    let addr = server.addr;
    let mut idle = Client::connect(addr);
    let mut busy = Client::connect(addr);
    send_get_for(&mut busy, Duration::from_millis(100));
    wait_until("in service, and the idle one accepted", || {
        let stats = server.stats();
        stats.in_service == 1 && stats.open_connections == 2
    });
    // It waits only for the busy connection: the idle one is closed at once.
    tokio::time::timeout(PATIENCE, server.shutdown()).await.expect("an end");
    assert_eq!(busy.answer().status(), 200);
    assert_eq!((idle.rest_until_end(), busy.rest_until_end()), (vec![], vec![]));
    assert!(std::net::TcpStream::connect(addr).is_err());
}

#[tokio::test]
async fn a_graceful_end_does_not_wait_longer_than_its_grace() {
    let grace = Duration::from_millis(50);
    let server = start(Options { grace, ..Options::default() });
    let mut client = Client::connect(server.addr);
    send_get_for(&mut client, HOUR);
    wait_until("in service", || server.stats().in_service == 1);
    let start_time = Instant::now();
    server.shutdown().await;
    assert!(start_time.elapsed() >= grace);
    assert_eq!(client.rest_until_end(), b"");
}

#[test]
fn a_port_in_use_and_a_bad_option_are_errors_of_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let in_use = MockServer::start(Options { port, ..Options::default() }).err().expect("an error");
    assert!(matches!(in_use, StartError::Listen { addr, .. } if addr.port() == port), "{in_use}");
    let bad = MockServer::start(Options { id: String::new(), ..Options::default() }).err();
    assert!(matches!(bad, Some(StartError::Option(_))));
}

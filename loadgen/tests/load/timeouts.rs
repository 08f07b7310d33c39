//! A request that times out is counted with the phase in which it waited.

use std::net::TcpListener;
use std::time::Duration;

use lb_test_support::Hostile;
use loadgen::load::{ErrorKind, Phase, Plan, Request, Segment};
use socket2::{Domain, Socket, Type};

use crate::support::{closed, one, run};

const SHORT: Duration = Duration::from_millis(200);
/// Enough for a head to arrive on a busy machine.
const LONG: Duration = Duration::from_secs(5);

/// Runs a load of eight requests over eight connections, all of which must time out.
fn timed_out(plan: Plan) -> Segment {
    timed_out_after(SHORT, plan)
}

fn timed_out_after(timeout: Duration, plan: Plan) -> Segment {
    let segment = one(run(Plan { timeout, ..plan }));
    assert_eq!((segment.errors.of(ErrorKind::Timeout), segment.errors.total()), (8, 8), "{segment:?}");
    assert_eq!(segment.timeouts.iter().map(|(_, count)| count).sum::<u64>(), 8);
    segment
}

/// A server that writes `begin` to every connection and keeps it open until the server is dropped.
fn keeping(begin: &'static [u8]) -> Hostile {
    Hostile::start(move |_, wire| {
        if wire.head().is_some() {
            wire.write(begin);
        }
        wire.ignore();
    })
}

#[test]
fn a_stalled_server_is_a_timeout_in_the_head() {
    for begin in [&b""[..], b"HTTP/1.1 200 OK\r\ncontent-"] {
        let server = keeping(begin);
        assert_eq!(timed_out(closed(server.addr, 8, 8, "/")).timeouts.of(Phase::Head), 8);
    }
}

#[test]
fn a_server_that_does_not_end_its_response_is_a_timeout_in_the_body() {
    let server = keeping(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly a part");
    assert_eq!(timed_out_after(LONG, closed(server.addr, 8, 8, "/")).timeouts.of(Phase::Body), 8);
}

#[test]
fn a_server_that_accepts_or_reads_nothing_is_a_timeout_of_connect_or_send() {
    // The kernel completes one or two connections for a listener that does not accept, and drops later ones.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().expect("an address").into()).expect("a free port");
    socket.listen(0).expect("it listens");
    let listener = TcpListener::from(socket);
    let request = Request { body: vec![b'x'; 16 << 20], ..Request::get("/") };
    let plan = closed(listener.local_addr().expect("it is bound"), 8, 8, "/");
    let timeouts = timed_out(Plan { requests: vec![request], ..plan }).timeouts;
    assert!(timeouts.of(Phase::Connect) > 0 && timeouts.of(Phase::Send) > 0, "{timeouts:?}");
    assert_eq!(timeouts.of(Phase::Connect) + timeouts.of(Phase::Send), 8, "{timeouts:?}");
}

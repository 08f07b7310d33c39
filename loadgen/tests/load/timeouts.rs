//! A request that times out is counted with what it was waiting for.

use std::net::TcpListener;
use std::time::Duration;

use lb_test_support::Hostile;
use loadgen::load::{ErrorKind, Phase, Plan, Request, Segment};
use socket2::{Domain, Socket, Type};

use crate::support::{closed, one, run};

const SHORT: Duration = Duration::from_millis(200);

/// What a load of eight requests over eight connections gives, none of which is answered in time.
fn timed_out(plan: Plan) -> Segment {
    let segment = one(run(Plan { timeout: SHORT, ..plan }));
    assert_eq!((segment.errors.of(ErrorKind::Timeout), segment.errors.total()), (8, 8), "{segment:?}");
    assert_eq!(segment.timeouts.iter().map(|(_, count)| count).sum::<u64>(), 8);
    segment
}

/// A server that keeps every connection open until it is dropped, after `begin` was written to it.
fn keeping(begin: &'static [u8]) -> Hostile {
    Hostile::start(move |_, wire| {
        if wire.head().is_some() {
            wire.write(begin);
        }
        wire.ignore();
    })
}

#[test]
fn a_server_that_stands_still_is_waited_for_at_the_head() {
    for begin in [&b""[..], b"HTTP/1.1 200 OK\r\ncontent-"] {
        let server = keeping(begin);
        assert_eq!(timed_out(closed(server.addr, 8, 8, "/")).timeouts.of(Phase::Head), 8);
    }
}

#[test]
fn a_server_that_does_not_end_its_response_is_waited_for_within_the_body() {
    let server = keeping(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly a part");
    assert_eq!(timed_out(closed(server.addr, 8, 8, "/")).timeouts.of(Phase::Body), 8);
}

#[test]
fn a_server_that_takes_no_connection_or_reads_nothing_is_told_from_one_that_is_slow() {
    // The kernel takes one or two connections for a listener that does not accept, and drops what comes then.
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

//! One periodic probe: a GET request for a strategy, and what came of it.
//!
//! Invariants: a probe changes nothing in lb, only its end goes to the strategy. At most [`VALUES_MAX_BYTES`] of header
//! values and [`BODY_MAX_BYTES`] of a body are kept.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http::HeaderMap;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use lb_strategy_host::Outcome;
use tokio::net::TcpStream;
use tokio::time::timeout_at;

use super::client::{Connection, request};
use crate::config::ProbePolicy;

/// The end of one probe.
#[derive(Debug)]
pub(in crate::control) struct ProbeEnd {
    pub(in crate::control) outcome: Outcome,
    pub(in crate::control) status: Option<u16>,
    /// Until the response head; zero without one.
    pub(in crate::control) latency: Duration,
    pub(in crate::control) ended: Instant,
    /// The values of the named headers in the order of the names. One that does not fit is left out.
    pub(in crate::control) headers: Vec<Option<Vec<u8>>>,
    /// The first bytes of the body.
    pub(in crate::control) body: Vec<u8>,
}

/// The values of all named headers together.
const VALUES_MAX_BYTES: usize = 512;
const BODY_MAX_BYTES: usize = 1_024;

/// Probes the backend at `socket` once. The end has the values of the headers with these names. `address` is for the
/// header Host, unless the policy names another.
pub(in crate::control) async fn probe(
    socket: SocketAddr,
    address: &str,
    policy: &ProbePolicy,
    names: &[Box<[u8]>],
) -> ProbeEnd {
    let began = Instant::now();
    let until = (began + policy.timeout).into();
    let mut end = ProbeEnd {
        outcome: Outcome::ConnectError,
        status: None,
        latency: Duration::ZERO,
        ended: began,
        headers: vec![None; names.len()],
        body: Vec::new(),
    };
    if let Ok(Ok(stream)) = timeout_at(until, TcpStream::connect(socket)).await {
        let asked = timeout_at(until, end.ask(stream, address, policy, names, began)).await;
        end.outcome = match asked {
            Ok(Some(())) => Outcome::Ok,
            Ok(None) => Outcome::Reset,
            Err(_) => Outcome::Timeout,
        };
    }
    end.ended = Instant::now();
    end
}

// === impl ProbeEnd ===

impl ProbeEnd {
    /// Sends the request and reads the response. `None`: it broke off or was no response.
    async fn ask(
        &mut self,
        stream: TcpStream,
        address: &str,
        policy: &ProbePolicy,
        names: &[Box<[u8]>],
        began: Instant,
    ) -> Option<()> {
        let mut connection = Connection::open(stream).await.ok()?;
        let host = policy.host.as_deref().unwrap_or(address);
        let request = request(&policy.path, host, "lb-probe").body(Empty::new()).ok()?;
        let (head, body) = connection.send(request).await.ok()?.into_parts();
        self.latency = began.elapsed();
        self.status = Some(head.status.as_u16());
        self.take(&head.headers, names);
        self.read(body, names).await
    }

    /// Takes the named values of a head or of trailers. A value that is there already stays.
    fn take(&mut self, fields: &HeaderMap, names: &[Box<[u8]>]) {
        let mut left = VALUES_MAX_BYTES - self.headers.iter().flatten().map(Vec::len).sum::<usize>();
        for (name, value) in names.iter().zip(&mut self.headers).filter(|(_, value)| value.is_none()) {
            let found = std::str::from_utf8(name).ok().and_then(|name| fields.get(name));
            if let Some(found) = found.filter(|found| found.len() <= left) {
                left -= found.len();
                *value = Some(found.as_bytes().to_vec());
            }
        }
    }

    /// Reads the body to its end, or as much of it as a strategy gets.
    async fn read(&mut self, mut body: Incoming, names: &[Box<[u8]>]) -> Option<()> {
        while self.body.len() < BODY_MAX_BYTES
            && let Some(frame) = body.frame().await
        {
            match frame.ok()?.into_data() {
                Ok(data) => {
                    let room = BODY_MAX_BYTES - self.body.len();
                    self.body.extend_from_slice(&data[..data.len().min(room)]);
                }
                Err(frame) => frame.trailers_ref().into_iter().for_each(|trailers| self.take(trailers, names)),
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// The end of a probe of a server that sends `response`, then closes the connection or holds it.
    async fn probed(response: String, is_held: bool, timeout: Duration) -> ProbeEnd {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let served = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1_024];
            let read = stream.read(&mut request).await.unwrap();
            assert!(request[..read].starts_with(b"GET /load?x=1 HTTP/1.1\r\nhost: a\r\nuser-agent: lb-probe\r\n"));
            stream.write_all(response.as_bytes()).await.unwrap();
            if is_held {
                std::future::pending::<()>().await;
            }
            drop(stream);
            std::future::pending::<()>().await;
        };
        let names = [&b"x-load"[..], b"x-none", b"x-long"].map(Box::from);
        let policy = ProbePolicy { path: "/load?x=1".into(), host: Some("a".into()), timeout };
        let address = listener.local_addr().unwrap();
        tokio::select! {
            end = probe(address, "b", &policy, &names) => end,
            () = served => unreachable!(),
        }
    }

    const PATIENT: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_response_of_any_status_is_ok_with_its_named_headers_and_the_first_kilobyte() {
        let head = format!("HTTP/1.1 503 No\r\nX-Load: 7\r\nx-long: {}\r\n", "v".repeat(VALUES_MAX_BYTES));
        for (length, kept) in [(0, 0), (3, 3), (5_000, BODY_MAX_BYTES)] {
            let response = format!("{head}content-length: {length}\r\n\r\n{}", "b".repeat(length));
            let end = probed(response, true, PATIENT).await;
            assert_eq!((end.outcome, end.status), (Outcome::Ok, Some(503)));
            assert_eq!(end.headers, [Some(b"7".to_vec()), None, None], "the last one does not fit");
            assert_eq!(end.body, vec![b'b'; kept]);
            assert!(!end.latency.is_zero());
        }
    }

    #[tokio::test]
    async fn a_trailer_counts_where_the_head_has_no_such_header() {
        let head = "HTTP/1.1 200 OK\r\nx-load: 7\r\ntransfer-encoding: chunked\r\n\r\n";
        let response = format!("{head}2\r\nhi\r\n0\r\nx-load: 8\r\nx-none: 9\r\n\r\n");
        let end = probed(response, true, PATIENT).await;
        assert_eq!((end.outcome, end.body.as_slice()), (Outcome::Ok, &b"hi"[..]));
        assert_eq!(end.headers, [Some(b"7".to_vec()), Some(b"9".to_vec()), None]);
    }

    #[tokio::test]
    async fn what_is_no_whole_response_is_a_reset_and_silence_a_timeout() {
        let short = Duration::from_millis(50);
        let half = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf";
        for (response, is_held, timeout, outcome, status) in [
            ("", false, PATIENT, Outcome::Reset, None),
            ("nonsense\r\n\r\n", true, PATIENT, Outcome::Reset, None),
            (half, false, PATIENT, Outcome::Reset, Some(200)),
            ("HTTP/1.1 200 OK\r\n", true, short, Outcome::Timeout, None),
            (half, true, short, Outcome::Timeout, Some(200)),
        ] {
            let end = probed(response.to_owned(), is_held, timeout).await;
            assert_eq!((end.outcome, end.status), (outcome, status), "{response:?}");
            assert_eq!(end.latency.is_zero(), status.is_none(), "{response:?}");
        }
    }

    #[tokio::test]
    async fn a_backend_that_is_not_there_is_a_connect_error() {
        let unused = TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap();
        let policy = ProbePolicy { path: "/".into(), host: None, timeout: PATIENT };
        let end = probe(unused, "a", &policy, &[]).await;
        assert_eq!((end.outcome, end.status, end.latency), (Outcome::ConnectError, None, Duration::ZERO));
    }
}

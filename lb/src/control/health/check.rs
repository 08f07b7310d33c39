//! One health check: a connection of its own, and a GET request if the rules ask for one.
//!
//! Why own connections: a check tests whether a client could connect now, and it must not count as a client's request.

use std::net::SocketAddr;
use std::pin::pin;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{CheckFailure, Sign};
use crate::config::{CheckKind, Health};

/// At most this much of a check's response is read.
const BODY_MAX_BYTES: usize = 64 << 10;

/// Checks the backend at `socket` once. The error is the reason why it is not healthy.
pub(super) async fn check(socket: SocketAddr, address: &str, rules: &Health) -> Result<(), CheckFailure> {
    let socket = rules.target(socket);
    let checked = async {
        let stream = connect(socket).await?;
        match rules.kind {
            CheckKind::Tcp => Ok(()),
            CheckKind::Http => ask(stream, rules.host.as_deref().unwrap_or(address), rules).await,
        }
    };
    match (timeout(rules.timeout, checked).await, rules.kind) {
        (Ok(checked), _) => checked,
        (Err(_), CheckKind::Http) => Err(silent(format!("no response within {:?}", rules.timeout))),
        (Err(_), CheckKind::Tcp) => Err(silent(format!("no connection within {:?}", rules.timeout))),
    }
}

/// It did something, if only to close the connection.
fn broken(reason: String) -> CheckFailure {
    CheckFailure { reason, sign: Sign::Responds }
}

fn silent(reason: String) -> CheckFailure {
    CheckFailure { reason, sign: Sign::Silent }
}

async fn connect(socket: SocketAddr) -> Result<TcpStream, CheckFailure> {
    TcpStream::connect(socket).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::ConnectionRefused => {
            CheckFailure { reason: "connection refused".to_owned(), sign: Sign::Absent }
        }
        _ => silent(format!("cannot connect: {error}")),
    })
}

/// Sends the request and judges the response.
async fn ask(stream: TcpStream, host: &str, rules: &Health) -> Result<(), CheckFailure> {
    let path = &rules.path;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| silent(format!("cannot connect: {error}")))?;
    let request = http::Request::get(path)
        .header(HOST, host)
        .header(USER_AGENT, "lb-health")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| silent(format!("{path}: {error}")))?;
    let exchange = async {
        let answer =
            sender.send_request(request).await.map_err(|error| broken(format!("no valid response: {error}")))?;
        let status = answer.status().as_u16();
        // A short body is read to its end in any case, so that the server does not see a broken connection.
        let body = first_bytes(answer.into_body()).await;
        judge(rules, status, &body).map_err(broken)
    };
    let driver = pin!(async {
        // The exchange returns an error of the connection.
        let _ = connection.await;
        std::future::pending::<()>().await;
    });
    tokio::select! {
        judged = exchange => judged,
        () = driver => Err(broken("the connection was closed".to_owned())),
    }
}

/// The first 64 KiB of `body`, or the part that arrived.
async fn first_bytes(mut body: Incoming) -> Vec<u8> {
    let mut read = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        if let Ok(data) = frame.into_data() {
            read.extend_from_slice(&data);
        }
        if read.len() >= BODY_MAX_BYTES {
            break;
        }
    }
    read.truncate(BODY_MAX_BYTES);
    read
}

/// Whether a response with this status and the beginning of its body is that of a healthy backend.
fn judge(rules: &Health, status: u16, body: &[u8]) -> Result<(), String> {
    let (path, expected) = (&rules.path, &rules.expect_status);
    if !expected.iter().any(|range| range.contains(&status)) {
        // A status of 500 and above needs no explanation.
        let ranges: Vec<String> = expected.iter().filter(|_| status < 500).map(spelled).collect();
        let expected = if ranges.is_empty() { String::new() } else { format!(", not {}", ranges.join(", ")) };
        return Err(format!("{path} returned {status}{expected}"));
    }
    match &rules.expect_body {
        Some(text) if !body.windows(text.len()).any(|part| part == text.as_bytes()) => {
            Err(format!("the body of {path} does not contain {text:?}"))
        }
        _ => Ok(()),
    }
}

fn spelled(range: &std::ops::RangeInclusive<u16>) -> String {
    match (range.start(), range.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::health::samples::rules;

    #[test]
    fn another_port_leaves_the_rest_of_the_address() {
        let rules = Health { port: Some(2), ..rules() };
        for (backend, target) in [("10.0.0.1:1", "10.0.0.1:2"), ("[fe80::1%3]:1", "[fe80::1%3]:2")] {
            assert_eq!(rules.target(backend.parse().unwrap()), target.parse().unwrap());
        }
    }

    #[test]
    fn a_response_is_judged_by_its_status_and_its_body() {
        let mut rules = rules();
        for (status, said) in [(200, None), (499, None), (500, Some("/heartbeat returned 500"))] {
            assert_eq!(judge(&rules, status, b"").err().as_deref(), said);
        }
        rules.expect_status = vec![200..=399, 404..=404];
        for (status, said) in [
            (200, None),
            (399, None),
            (404, None),
            (403, Some("/heartbeat returned 403, not 200-399, 404")),
            (503, Some("/heartbeat returned 503")),
        ] {
            assert_eq!(judge(&rules, status, b"").err().as_deref(), said);
        }
        rules.expect_body = Some("\"ok\"".into());
        assert_eq!(judge(&rules, 200, br#"{"status": "ok"}"#), Ok(()));
        for body in [&b"ok"[..], b"", b"\"o"] {
            let said = judge(&rules, 200, body).unwrap_err();
            assert_eq!(said, r#"the body of /heartbeat does not contain "\"ok\"""#);
        }
    }
}

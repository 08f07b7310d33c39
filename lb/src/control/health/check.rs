//! One health check: a connection of its own, and a GET request if the rules ask for one.
//!
//! Why a new connection: a check tests whether a client could connect now.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::client::{Connection, request};
use super::{CheckFailure, Sign};
use crate::config::{CheckKind, Health};

/// At most this much of a check's response is read.
const BODY_MAX_BYTES: usize = 64 << 10;

/// Checks the backend at `socket` once. The error is the reason why it is not healthy.
pub(super) async fn check(socket: SocketAddr, address: &str, rules: &Health) -> Result<(), CheckFailure> {
    let end = Instant::now() + rules.timeout;
    let connection = timeout_at(end, connect(rules.target(socket))).await;
    match (connection, rules.kind) {
        (Err(_), CheckKind::Tcp) => Err(silent(format!("no connection within {:?}", rules.timeout))),
        (Err(_), CheckKind::Http) => Err(no_response(rules)),
        (Ok(Err(failure)), _) => Err(failure),
        (Ok(Ok(_)), CheckKind::Tcp) => Ok(()),
        (Ok(Ok(stream)), CheckKind::Http) => ask(stream, rules.host.as_deref().unwrap_or(address), rules, end).await,
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

/// Sends the request and judges the response, which must arrive until `end`.
async fn ask(stream: TcpStream, host: &str, rules: &Health, end: Instant) -> Result<(), CheckFailure> {
    let path = &rules.path;
    let mut connection = Connection::open(stream).await.map_err(|error| silent(format!("cannot connect: {error}")))?;
    let request = request(path, host, "lb-health").body(Empty::new());
    let request = request.map_err(|error| silent(format!("{path}: {error}")))?;
    let answer = timeout_at(end, connection.send(request)).await.map_err(|_| no_response(rules))?;
    let answer = answer.map_err(|error| broken(format!("no valid response: {error}")))?;
    let judged = judge_status(rules, answer.status().as_u16());
    // A short body is read to its end in any case, so that the server does not see a broken connection.
    let body = timeout_at(end, first_bytes(answer.into_body())).await;
    judged.map_err(broken)?;
    let body = body.map_err(|_| broken(format!("the body of {path} did not arrive within {:?}", rules.timeout)))?;
    judge_body(rules, body.as_deref()).map_err(broken)
}

fn no_response(rules: &Health) -> CheckFailure {
    silent(format!("no response within {:?}", rules.timeout))
}

/// The first 64 KiB of `body`; `None` if it breaks off before.
async fn first_bytes(mut body: Incoming) -> Option<Vec<u8>> {
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.ok()?.into_data() {
            read.extend_from_slice(&data);
        }
        if read.len() >= BODY_MAX_BYTES {
            break;
        }
    }
    read.truncate(BODY_MAX_BYTES);
    Some(read)
}

/// Whether a healthy backend sends this status.
fn judge_status(rules: &Health, status: u16) -> Result<(), String> {
    let (path, expected) = (&rules.path, &rules.expect_status);
    if !expected.iter().any(|range| range.contains(&status)) {
        // A status of 500 and above needs no explanation.
        let ranges: Vec<String> = expected.iter().filter(|_| status < 500).map(spelled).collect();
        let expected = if ranges.is_empty() { String::new() } else { format!(", not {}", ranges.join(", ")) };
        return Err(format!("{path} returned {status}{expected}"));
    }
    Ok(())
}

/// Whether a healthy backend sends this beginning of a body; `None`: it broke off.
fn judge_body(rules: &Health, body: Option<&[u8]>) -> Result<(), String> {
    let (path, Some(text)) = (&rules.path, &rules.expect_body) else { return Ok(()) };
    match body {
        None => Err(format!("the body of {path} broke off")),
        Some(body) if !body.windows(text.len()).any(|part| part == text.as_bytes()) => {
            Err(format!("the body of {path} does not contain {text:?}"))
        }
        Some(_) => Ok(()),
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
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

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
            assert_eq!(judge_status(&rules, status).err().as_deref(), said);
        }
        rules.expect_status = vec![200..=399, 404..=404];
        for (status, said) in [
            (200, None),
            (399, None),
            (404, None),
            (403, Some("/heartbeat returned 403, not 200-399, 404")),
            (503, Some("/heartbeat returned 503")),
        ] {
            assert_eq!(judge_status(&rules, status).err().as_deref(), said);
        }
        assert_eq!(judge_body(&rules, None), Ok(()));
        rules.expect_body = Some("\"ok\"".into());
        assert_eq!(judge_body(&rules, Some(br#"{"status": "ok"}"#)), Ok(()));
        assert_eq!(judge_body(&rules, None).unwrap_err(), "the body of /heartbeat broke off");
        for body in [&b"ok"[..], b"", b"\"o"] {
            let said = judge_body(&rules, Some(body)).unwrap_err();
            assert_eq!(said, r#"the body of /heartbeat does not contain "\"ok\"""#);
        }
    }

    /// The check of a server that sends `response`, then closes the connection or holds it.
    async fn checked(rules: &Health, response: &str, is_held: bool) -> Result<(), CheckFailure> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let served = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1_024];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            stream.write_all(response.as_bytes()).await.unwrap();
            if is_held {
                std::future::pending::<()>().await;
            }
            drop(stream);
            std::future::pending::<()>().await;
        };
        let address = listener.local_addr().unwrap();
        tokio::select! {
            checked = check(address, "a", rules) => checked,
            () = served => unreachable!(),
        }
    }

    #[tokio::test]
    async fn a_backend_that_sends_a_head_responds_and_its_status_comes_first() {
        let rules = Health { timeout: Duration::from_millis(100), expect_body: Some("ok".into()), ..rules() };
        let patient = Health { timeout: Duration::from_secs(60), ..rules.clone() };
        let stalled = "the body of /heartbeat did not arrive within 100ms";
        let cut = "the body of /heartbeat broke off";
        for (rules, response, is_held, reason, sign) in [
            (&rules, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok", true, stalled, Sign::Responds),
            (&rules, "HTTP/1.1 500 No\r\ncontent-length: 3\r\n\r\nok", true, "/heartbeat returned 500", Sign::Responds),
            (&rules, "HTTP/1.1 200 OK\r\n", true, "no response within 100ms", Sign::Silent),
            (&patient, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok", false, cut, Sign::Responds),
        ] {
            let failure = checked(rules, response, is_held).await.unwrap_err();
            assert_eq!(failure, CheckFailure { reason: reason.into(), sign }, "{response}");
        }
        let any = Health { expect_body: None, ..patient };
        assert_eq!(checked(&any, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok", false).await, Ok(()));
    }

    #[tokio::test]
    async fn the_expected_text_may_begin_in_one_chunk_and_end_in_the_next() {
        let patient = Health { timeout: Duration::from_secs(60), expect_body: Some("all is well".into()), ..rules() };
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let split = format!("{head}9\r\n-- all is\r\n6\r\n well.\r\n0\r\n\r\n");
        assert_eq!(checked(&patient, &split, false).await, Ok(()));
    }
}

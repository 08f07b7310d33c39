//! A client of the admin port of a running lb: one request, one response, blocking.
//!
//! It uses hyper, as the health checks do. Invariants: the request goes only to the address of the configuration.
//! Redirects are not followed, and proxies in the environment are ignored. Every wait has a bound. No error contains
//! the token.

use std::error::Error as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::Admin;

const CONNECT_MAX: Duration = Duration::from_secs(5);
/// The time limit for the head of a response, and again for its body. A reload loads and tries plugins, which can take
/// seconds.
const RESPONSE_MAX: Duration = Duration::from_secs(60);
/// The same for a probe, whose response lb gives within about a second.
const PROBE_MAX: Duration = Duration::from_secs(5);
const BODY_BYTES_MAX: usize = 16 << 20;

/// Why there is no usable response from an lb.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("the request cannot be sent: {0}")]
    Invalid(#[from] http::Error),
    #[error("no lb responds at admin address {address}: {source}; start one, or name its address with --admin-listen")]
    Unreachable { address: SocketAddr, source: io::Error },
    #[error("the lb at admin address {address} did not respond within {} s: see its log", within.as_secs())]
    Silent { address: SocketAddr, within: Duration },
    #[error("the program at admin address {0} is not lb: its response is not HTTP")]
    Foreign(SocketAddr),
    #[error("the response of the lb at admin address {address} cannot be read: {source}")]
    Unreadable { address: SocketAddr, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the lb at admin address {address} requires its token: {said}")]
    Shut { address: SocketAddr, said: String },
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

pub(super) fn get(admin: &Admin, path: &str) -> Result<Answer, ClientError> {
    exchange(admin, Method::GET, path, "", RESPONSE_MAX)
}

/// Sends a request that has a quick response.
pub(super) fn probe(admin: &Admin, path: &str) -> Result<Answer, ClientError> {
    exchange(admin, Method::GET, path, "", PROBE_MAX)
}

/// Sends `body`, which is JSON or empty, to `path`.
pub(super) fn post(admin: &Admin, path: &str, body: &str) -> Result<Answer, ClientError> {
    exchange(admin, Method::POST, path, body, RESPONSE_MAX)
}

fn exchange(admin: &Admin, method: Method, path: &str, body: &str, within: Duration) -> Result<Answer, ClientError> {
    let address = reachable(admin.listen);
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, address.to_string())
        .header(CONTENT_TYPE, "application/json");
    if let Some(token) = &admin.token {
        request = request.header(AUTHORIZATION, format!("Bearer {}", token.expose()));
    }
    let request = request.body(Full::from(body.to_owned()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (status, body) = runtime
        .map_err(|source| ClientError::Unreachable { address, source })?
        .block_on(send(address, request, within))?;
    if status == 401 {
        let said = message(&body).unwrap_or_else(|| "it returned 401".to_owned());
        return Err(ClientError::Shut { address, said });
    }
    Ok(Answer { status, body })
}

async fn send(
    address: SocketAddr,
    request: Request<Full<Bytes>>,
    within: Duration,
) -> Result<(u16, String), ClientError> {
    let stream = timeout(CONNECT_MAX, TcpStream::connect(address)).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()));
    let stream = stream.map_err(|source| ClientError::Unreachable { address, source })?;
    let no_response = |error| no_response(address, &error);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(no_response)?;
    tokio::spawn(connection);
    let response =
        timeout(within, sender.send_request(request)).await.map_err(|_| ClientError::Silent { address, within })?;
    let response = response.map_err(no_response)?;
    let status = response.status().as_u16();
    let body = timeout(within, Limited::new(response.into_body(), BODY_BYTES_MAX).collect());
    let body = body.await.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()));
    let body = body.map_err(|source| ClientError::Unreadable { address, source })?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

fn no_response(address: SocketAddr, error: &hyper::Error) -> ClientError {
    match error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
        Some(source) => ClientError::Unreachable { address, source: io::Error::new(source.kind(), source.to_string()) },
        None => ClientError::Foreign(address),
    }
}

/// The sentence of a failure.
pub(super) fn message(body: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(body).ok()?;
    Some(value["message"].as_str()?.trim_start_matches("<Error> ").to_owned())
}

/// The address to connect to for a socket that listens on `listen`.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::config::Secret;

    const TOKEN: &str = "b9c1f6b2d34f0a7e5c8890712de4ab63";

    /// The outcome of a request to a server that sends `reply` and closes.
    fn outcome(reply: &str) -> Result<Answer, ClientError> {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = Admin { listen: server.local_addr().unwrap(), token: Some(Secret::new(TOKEN.to_owned())) };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = server.accept().unwrap();
                let head: Vec<_> =
                    BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
                assert!(head.contains(&format!("authorization: Bearer {TOKEN}")), "{head:?}");
                stream.write_all(reply.as_bytes()).unwrap();
            });
            get(&admin, "/status")
        })
    }

    #[test]
    fn a_response_is_read_by_its_framing() {
        for (reply, status, body) in [
            ("HTTP/1.1 422 Unprocessable Entity\r\ncontent-length: 2\r\n\r\n{}", 422, "{}"),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", 200, "{}"),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n{}", 200, "{}"),
            ("HTTP/1.1 303 See Other\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", 303, ""),
        ] {
            let answer = outcome(reply).unwrap_or_else(|error| panic!("{reply:?}: {error}"));
            assert_eq!((answer.status, &*answer.body), (status, body), "{reply:?}");
        }
    }

    #[test]
    fn a_reply_that_is_not_http_comes_from_another_program() {
        for reply in ["", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 \r\n\r\n", "HTTP/1.1 2é0\r\n\r\n", "HTTP/1.1 200 OK\r\n"] {
            assert!(matches!(outcome(reply), Err(ClientError::Foreign(_))), "{reply:?}: {:?}", outcome(reply));
        }
    }

    #[test]
    fn a_path_that_is_too_long_is_an_error() {
        let admin = Admin { listen: "127.0.0.1:1".parse().unwrap(), token: None };
        let error = get(&admin, &format!("/explain?path=/{}", "x".repeat(70_000))).unwrap_err();
        assert!(matches!(error, ClientError::Invalid(_)), "{error}");
    }

    #[test]
    fn a_body_that_is_cut_short_or_too_long_is_not_used() {
        let long = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(BODY_BYTES_MAX + 1));
        for reply in ["HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{}", &long] {
            assert!(matches!(outcome(reply), Err(ClientError::Unreadable { .. })), "{:?}", &reply[..30]);
        }
    }

    #[test]
    fn no_error_contains_the_token() {
        for reply in ["", "HTTP/1.1 401 Unauthorized\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{}"] {
            let error = outcome(reply).unwrap_err();
            assert!(!format!("{error} {error:?}").contains(TOKEN), "{error:?}");
        }
    }

    #[test]
    fn a_socket_on_all_addresses_is_reached_by_loopback() {
        let asked = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(asked("0.0.0.0:81"), "127.0.0.1:81");
        assert_eq!(asked("[::]:81"), "[::1]:81");
        assert_eq!(asked("10.1.2.3:81"), "10.1.2.3:81");
    }
}

//! A client of a running balancer's admin port: one request, one answer, blocking.
//!
//! Why by hand: one POST to one address, after which the process ends. Invariants: it asks the address that the configuration names
//! and no other; it gives up after a bound; the token never shows in an error.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::config::Admin;

const CONNECT_MAX: Duration = Duration::from_secs(5);
/// A reload loads and vets plugins, which may take a while.
const ANSWER_MAX: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// Nobody there, or nobody who speaks as lb does.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("no lb answers at admin address {address}: {source}; start one, or name its address with --admin-listen")]
    Unreachable { address: SocketAddr, source: std::io::Error },
    #[error("what answers at {0} is no lb: its answer is not HTTP")]
    Foreign(SocketAddr),
    #[error("the lb at admin address {address} lets nobody in without its token: {said}")]
    Shut { address: SocketAddr, said: String },
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

pub(super) fn get(admin: &Admin, path: &str) -> Result<Answer, ClientError> {
    ask(admin, "GET", path, "")
}

/// Sends `body` (JSON, or nothing) to `path`.
pub(super) fn post(admin: &Admin, path: &str, body: &str) -> Result<Answer, ClientError> {
    ask(admin, "POST", path, body)
}

fn ask(admin: &Admin, method: &str, path: &str, body: &str) -> Result<Answer, ClientError> {
    let address = reachable(admin.listen);
    let unreachable = |source| ClientError::Unreachable { address, source };
    let mut stream = TcpStream::connect_timeout(&address, CONNECT_MAX).map_err(unreachable)?;
    stream.set_read_timeout(Some(ANSWER_MAX)).map_err(unreachable)?;
    let token = admin.token.as_ref().map(|token| format!("authorization: Bearer {}\r\n", token.expose()));
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\n{}content-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        token.unwrap_or_default(),
        body.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).map_err(unreachable)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).map_err(unreachable)?;
    match parse(&answer).ok_or(ClientError::Foreign(address))? {
        Answer { status: 401, body } => {
            let said = message(&body).unwrap_or_else(|| "it answered 401".to_owned());
            Err(ClientError::Shut { address, said })
        }
        answer => Ok(answer),
    }
}

/// The sentence of a failure.
pub(super) fn message(body: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(body).ok()?;
    Some(value["message"].as_str()?.trim_start_matches("<Error> ").to_owned())
}

/// Where one connects to what listens there.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// The admin port answers with a length and closes, so what follows the head is the body.
fn parse(answer: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some(Answer { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_status_and_body_and_anything_else_is_none() {
        let answer = parse(b"HTTP/1.1 422 Unprocessable Entity\r\ncontent-length: 2\r\n\r\n{}").unwrap();
        assert_eq!(answer, Answer { status: 422, body: "{}".to_owned() });
        for foreign in ["", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 \r\n\r\n", "HTTP/1.1 2é0\r\n\r\n", "HTTP/1.1 200 OK\r\n"] {
            assert_eq!(parse(foreign.as_bytes()), None, "{foreign:?}");
        }
    }

    #[test]
    fn what_listens_everywhere_is_asked_here() {
        let asked = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(asked("0.0.0.0:81"), "127.0.0.1:81");
        assert_eq!(asked("[::]:81"), "[::1]:81");
        assert_eq!(asked("10.1.2.3:81"), "10.1.2.3:81");
    }
}

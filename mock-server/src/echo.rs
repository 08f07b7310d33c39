//! `/echo`: a protocol that is not HTTP, started by `Upgrade: echo`. Every byte comes back.
//!
//! It tests that a proxy forwards upgrades and closes each direction separately. A client that has closed its sending
//! half still gets the rest of its echo, and then the end.

use std::rc::Rc;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::answer::{Answer, empty};
use crate::counters::add;
use crate::shared::Session;

const BUFFER_BYTES: usize = 16 * 1024;

/// Whether the headers request this protocol in the correct form.
pub(crate) fn is_asked_for(headers: &HeaderMap) -> bool {
    has_token(headers, UPGRADE, "echo") && has_token(headers, CONNECTION, "upgrade")
}

/// The 101; the tunnel begins when it is sent.
pub(crate) fn switch(session: Rc<Session>, upgrade: OnUpgrade) -> Answer {
    tokio::task::spawn_local(async move {
        // Errors are ignored: the client went away.
        if let Ok(upgraded) = upgrade.await {
            let _ = echo(&session, TokioIo::new(upgraded)).await;
        }
    });
    let mut answer = empty(StatusCode::SWITCHING_PROTOCOLS);
    answer.headers_mut().insert(UPGRADE, HeaderValue::from_static("echo"));
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    answer
}

async fn echo(session: &Session, mut io: TokioIo<hyper::upgrade::Upgraded>) -> std::io::Result<()> {
    let shared = &session.local.shared;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let len = io.read(&mut buffer).await?;
        shared.switches.until_not_stalled().await;
        if len == 0 {
            return io.shutdown().await;
        }
        add(&shared.counters.body_bytes_received, len as u64);
        io.write_all(&buffer[..len]).await?;
        add(&shared.counters.body_bytes_sent, len as u64);
    }
}

fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_needs_both_headers_as_tokens_in_any_case() {
        let asks = |pairs: &[(HeaderName, &'static str)]| {
            let headers = pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
            is_asked_for(&HeaderMap::from_iter(headers))
        };
        assert!(asks(&[(UPGRADE, "echo"), (CONNECTION, "upgrade")]));
        assert!(asks(&[(UPGRADE, "h2c, Echo"), (CONNECTION, "keep-alive, Upgrade")]));
        assert!(!asks(&[(UPGRADE, "echo")]));
        assert!(!asks(&[(UPGRADE, "websocket"), (CONNECTION, "upgrade")]));
        assert!(!asks(&[(UPGRADE, "echoes"), (CONNECTION, "upgrade")]));
    }
}

//! GET requests of control to backends: for checks, polls and periodic probes.
//!
//! Why own connections: none of these requests may count as a client's, and a check tests whether a client could
//! connect now. Invariant: a connection ends when its [`Connection`] is dropped.

use bytes::Bytes;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::request::Builder;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

/// A connection for one request.
pub(super) struct Connection {
    sender: http1::SendRequest<Empty<Bytes>>,
    driver: AbortHandle,
}

/// The head of a request that closes its connection.
pub(super) fn request(path: &str, host: &str, agent: &str) -> Builder {
    Request::get(path).header(HOST, host).header(USER_AGENT, agent).header(CONNECTION, "close")
}

// === impl Connection ===

impl Connection {
    pub(super) async fn open(stream: TcpStream) -> hyper::Result<Self> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // The request returns an error of the connection.
        let driver = tokio::spawn(async { drop(connection.await) }).abort_handle();
        Ok(Self { sender, driver })
    }

    /// Sends the request and waits for the head of its response. The body comes while the connection is there.
    pub(super) async fn send(&mut self, request: Request<Empty<Bytes>>) -> hyper::Result<Response<Incoming>> {
        self.sender.send_request(request).await
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

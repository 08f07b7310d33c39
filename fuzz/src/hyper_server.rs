//! hyper's HTTP/1 server over an in-memory connection, as the oracle for whole requests.

use std::cell::RefCell;
use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

/// A request that hyper accepted and whose body it decoded to the end.
#[derive(Debug)]
pub struct Accepted {
    pub method: Method,
    pub uri: Uri,
    pub fields: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().build().expect("a runtime without drivers always builds");
}

/// Sends `data` and the end of the connection, and returns the accepted requests.
pub fn serve(data: &[u8]) -> Vec<Accepted> {
    let accepted = RefCell::new(Vec::new());
    let service = service_fn(|request| async {
        if let Some(request) = read(request).await {
            accepted.borrow_mut().push(request);
        }
        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
    });
    // Room for all bytes of both directions, so that neither side waits for the other.
    let (mut client, server) = tokio::io::duplex(data.len() + (1 << 20));
    let server = http1::Builder::new()
        .half_close(true)
        .header_read_timeout(None)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(server), service);
    let client = async {
        // The server may close before it has read everything.
        let _ = client.write_all(data).await;
        let _ = client.shutdown().await;
        let _ = client.read_to_end(&mut Vec::new()).await;
    };
    RUNTIME.with(|runtime| runtime.block_on(async { drop(tokio::join!(server, client)) }));
    accepted.into_inner()
}

/// `None` if the body is malformed or incomplete.
async fn read(request: Request<Incoming>) -> Option<Accepted> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.ok()?;
    let trailers = body.trailers().cloned();
    let body = body.to_bytes().to_vec();
    Some(Accepted { method: parts.method, uri: parts.uri, fields: parts.headers, body, trailers })
}

//! One connection: hyper's HTTP/1 over a wrapper of the socket that can end the connection.
//!
//! hyper alone cannot make two faults that proxies meet. One is an idle connection that closes without a
//! `connection: close`, the other a body cut off after an exact number of bytes. Both mean "close as soon as all is
//! flushed", so the wrapper waits for the flush.
//!
//! Invariant: bytes that hyper had buffered when the end was requested reach the client.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::answer::{Answer, X_SERVER_ID};
use crate::endpoint::Endpoint;
use crate::shared::Session;
use crate::{control, report, work};

/// Whether and when a connection ends. It is atomic only because hyper requires its IO to be `Send`.
#[derive(Debug, Default)]
pub(crate) struct ConnectionEnd(AtomicU8);

const OPEN: u8 = 0;
const CLOSE_AFTER_FLUSH: u8 = 1;
const CLOSED: u8 = 2;

/// The socket that hyper reads and writes.
struct Wire {
    stream: TcpStream,
    end: Arc<ConnectionEnd>,
}

/// Serves one connection to its end. When `stopping` is ready, it finishes the request in progress and takes no more.
pub(crate) async fn serve(stream: TcpStream, session: Rc<Session>, stopping: impl Future<Output = ()>) {
    let wire = Wire { stream, end: session.end.clone() };
    let service = service_fn(move |request| answer(session.clone(), request));
    // No time limit for heads: it would also close idle connections, and tests need the proxy's own idle time-out.
    let connection = http1::Builder::new().serve_connection(TokioIo::new(wire), service).with_upgrades();
    let (mut connection, stopping) = (pin!(connection), pin!(stopping));
    // Errors are ignored: the client left or sent no valid HTTP, or this server ended the connection.
    tokio::select! {
        biased;
        _ = connection.as_mut() => {}
        () = stopping => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

async fn answer(session: Rc<Session>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let shared = &session.local.shared;
    let endpoint = Endpoint::of(request.uri().path(), shared.options.probe_path.as_deref());
    shared.counters.saw(endpoint);
    let mut answer = match endpoint {
        Endpoint::Heartbeat | Endpoint::Stats | Endpoint::Metrics | Endpoint::Control | Endpoint::Probe => {
            control::serve(&session, endpoint, request).await
        }
        _ => measured(&session, endpoint, request).await,
    };
    if endpoint == Endpoint::Probe
        && let Some(form) = shared.options.load_report
    {
        report::add(&session, form, &mut answer);
    }
    answer.headers_mut().insert(X_SERVER_ID, session.local.server_id.clone());
    let answers = session.answers.get() + 1;
    session.answers.set(answers);
    let is_last = answers == shared.options.keep_alive_requests;
    if is_last && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        answer.body_mut().end_connection(session);
    }
    Ok(answer)
}

/// Work, which counts for the load and whose response reports it.
async fn measured(session: &Rc<Session>, endpoint: Endpoint, request: Request<Incoming>) -> Answer {
    let (local, began) = (&session.local, Instant::now());
    local.meter.borrow_mut().arrives(began);
    let mut answer = work::serve(session, endpoint, request).await;
    local.meter.borrow_mut().ends(began, Instant::now(), answer.status().is_server_error());
    if let Some(form) = local.shared.options.load_report {
        report::add(session, form, &mut answer);
    }
    answer
}

// === impl ConnectionEnd ===

impl ConnectionEnd {
    /// Requests the end. It takes effect at the next complete flush.
    pub(crate) fn close_after_flush(&self) {
        if self.0.load(Relaxed) == OPEN {
            self.0.store(CLOSE_AFTER_FLUSH, Relaxed);
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.load(Relaxed) == CLOSED
    }

    fn flushed(&self, cx: &Context<'_>) {
        if self.0.load(Relaxed) == CLOSE_AFTER_FLUSH {
            self.0.store(CLOSED, Relaxed);
            // Nothing else may wake the connection's task: the client may be idle, or a body may wait for this.
            cx.waker().wake_by_ref();
        }
    }

    fn check(&self) -> io::Result<()> {
        if self.is_closed() { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}

// === impl Wire ===

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.end.check()?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.end.check()?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.end.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper calls this when it has written all that it had.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.end.flushed(cx);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

//! The server of the admin port: bound before replicas are launched, served on the control runtime, closed last.
//!
//! Invariants: every connection has a [`Place`]; a connection without a whole request in time is closed; a failed
//! `accept` never ends the server.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::api;
use super::brake::Brake;
use super::events::{self, Feed};
use super::guard::Guard;
use super::places::{Place, Places};
use crate::config::Secret;
use crate::control::Handle;
use crate::generation::Hall;
use crate::telemetry::Metrics;

/// The time limit for the first request's head.
const HEAD_TIME_MAX: Duration = Duration::from_secs(5);
/// The time limit from one request to the whole head of the next; hyper has one timer for both. Longer than the usual
/// scrape interval.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// The time limit for sent bytes to be acknowledged by the peer.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// The time limit for open responses when lb ends.
const STOP_TIME_MAX: Duration = Duration::from_secs(1);

/// The state that the routes share.
pub struct Shared {
    pub(super) hall: Arc<Hall>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) handle: Handle,
    pub(super) guard: Guard,
    pub(super) brake: Brake,
    pub(super) feed: Feed,
    stopping: AtomicBool,
}

/// A bound socket.
#[derive(Debug)]
pub struct Listener {
    socket: std::net::TcpListener,
    address: SocketAddr,
}

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(
        "admin.listen {address} is in use by another process: stop it or choose another port (admin.listen, --admin-listen)"
    )]
    InUse { address: SocketAddr },
    #[error("admin.listen {address} cannot be used: {source} (admin.listen, --admin-listen)")]
    Other { address: SocketAddr, source: std::io::Error },
}

/// The running server.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    close: watch::Sender<bool>,
    accepting: tokio::task::JoinHandle<()>,
}

/// Opens the port. Connections wait in the kernel until [`Server::start`].
pub fn bind(address: SocketAddr) -> Result<Listener, BindError> {
    let other = |source| BindError::Other { address, source };
    let socket = std::net::TcpListener::bind(address).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => BindError::InUse { address },
        _ => other(error),
    })?;
    socket.set_nonblocking(true).map_err(other)?;
    let address = socket.local_addr().map_err(other)?;
    Ok(Listener { socket, address })
}

// === impl Shared ===

impl Shared {
    pub fn new(
        hall: Arc<Hall>,
        metrics: Arc<Metrics>,
        handle: Handle,
        token: Option<&Secret>,
        listener: &Listener,
    ) -> Arc<Self> {
        let guard = Guard::new(token, listener.address.port());
        let (brake, feed) = (Brake::default(), Feed::default());
        Arc::new(Self { hall, metrics, handle, guard, brake, feed, stopping: AtomicBool::new(false) })
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }
}

// === impl Listener ===

impl Listener {
    /// The address, with the port that the system chose if the configured one is 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

// === impl Server ===

impl Server {
    /// Serves on the caller's runtime.
    pub fn start(listener: Listener, shared: Arc<Shared>) -> std::io::Result<Self> {
        let socket = TcpListener::from_std(listener.socket)?;
        let (close, closing) = watch::channel(false);
        tokio::spawn(events::tell(shared.clone(), closing.clone()));
        let accepting = tokio::spawn(accept(socket, shared.clone(), closing));
        Ok(Self { address: listener.address, shared, close, accepting })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on `/readyz` returns 503, so that traffic goes elsewhere while lb drains.
    pub fn announce_stop(&self) {
        self.shared.stopping.store(true, Relaxed);
    }

    /// Closes the port. Open responses get a second to end.
    pub async fn stop(mut self) {
        let _ = self.close.send(true);
        if tokio::time::timeout(STOP_TIME_MAX, &mut self.accepting).await.is_err() {
            self.accepting.abort();
        }
    }
}

async fn accept(socket: TcpListener, shared: Arc<Shared>, mut closing: watch::Receiver<bool>) {
    let places = Places::default();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = closing.changed() => break,
            Some(_) = connections.join_next() => continue,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(place) = places.take(peer.ip()) else { continue };
                // Without this, a browser that vanished would keep its place for a quarter of an hour.
                let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(SILENCE_MAX));
                connections.spawn(serve(stream, peer.ip(), Arc::new(place), shared.clone(), closing.clone()));
                // Lets the new task read its request before further connections could take its place as idle.
                tokio::task::yield_now().await;
            }
            Err(error) => {
                tracing::warn!(%error, "admin: accept failed");
                // The likely cause is a lack of file descriptors. Waits, so that connections can close some.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(socket);
    while connections.join_next().await.is_some() {}
}

async fn serve(
    stream: TcpStream,
    peer: IpAddr,
    place: Arc<Place>,
    shared: Arc<Shared>,
    mut closing: watch::Receiver<bool>,
) {
    let first = Arc::new(Notify::new());
    let (has_come, seat) = (first.clone(), place.clone());
    let service = service_fn(move |request| {
        has_come.notify_one();
        let (shared, place) = (shared.clone(), seat.clone());
        async move { Ok::<_, Infallible>(api::respond(&shared, peer, &place, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(KEEP_ALIVE)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let no_head = async {
        if tokio::time::timeout(HEAD_TIME_MAX, first.notified()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    // Errors are ignored: the client left, or sent no valid HTTP.
    tokio::select! {
        _ = &mut connection => return,
        () = no_head => return,
        () = place.lost() => return,
        _ = closing.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

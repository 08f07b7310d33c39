//! Listening sockets and the thread that accepts: one socket per address, each connection to the worker with the fewest.
//!
//! Why one socket and not SO_REUSEPORT: that hides "port in use", resets queued connections on close and splits few connections
//! badly. Invariant: what the kernel accepted is handed to a worker or counted as rejected.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::worker::Door;
use crate::generation::Hall;
use crate::telemetry::{ConnectionShard, Metrics};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// After an error such as "too many open files": long enough for some to be closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Open files that are not for clients and their backends.
const RESERVED_DESCRIPTORS: u64 = 128;

/// A bound socket that does not accept yet.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

/// Why an address could not be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(
        "proxy.listen {0} is in use by another process: stop it or choose another port (proxy.listen in the file, or --listen)"
    )]
    InUse(SocketAddr),
    #[error("proxy.listen {0} cannot be listened on: {1}")]
    Other(SocketAddr, io::Error),
}

/// The running acceptor.
pub(super) struct Acceptor {
    stop: watch::Sender<bool>,
    done: oneshot::Receiver<()>,
    thread: JoinHandle<()>,
}

/// Binds every address, or none.
pub fn bind(addresses: &[SocketAddr]) -> Result<Vec<Listener>, BindError> {
    addresses
        .iter()
        .map(|address| {
            let socket = listen(*address).map_err(|error| match error.kind() {
                io::ErrorKind::AddrInUse => BindError::InUse(*address),
                _ => BindError::Other(*address, error),
            })?;
            let address = socket.local_addr().map_err(|error| BindError::Other(*address, error))?;
            Ok(Listener { socket, address })
        })
        .collect()
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for old connections in TIME_WAIT; a port that somebody listens on is still refused.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

pub(super) fn start(
    listeners: Vec<Listener>,
    doors: Vec<Door>,
    hall: &Arc<Hall>,
    metrics: &Arc<Metrics>,
) -> io::Result<Acceptor> {
    let (stop, stopping) = watch::channel(false);
    let (finished, done) = oneshot::channel();
    // The acceptor is a writer of its own, so its shard comes after the workers'.
    let counted: Vec<_> = listeners
        .into_iter()
        .map(|listener| {
            let shard = metrics.connections(doors.len(), &listener.address.to_string());
            (listener.socket, shard)
        })
        .collect();
    let most = most_connections();
    if most < hall.current().settings.limits.connections {
        tracing::info!("the limit of open files allows {most} client connections: raise it (ulimit -n) for more");
    }
    let hall = hall.clone();
    let doors: Arc<[Door]> = doors.into();
    let thread = std::thread::Builder::new().name("lb-acceptor".into()).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build() {
            Ok(runtime) => runtime,
            Err(error) => return tracing::error!("the acceptor cannot start: {error}"),
        };
        runtime.block_on(async {
            let mut accepting = JoinSet::new();
            for (number, (socket, shard)) in counted.into_iter().enumerate() {
                accepting.spawn(accept(number, socket, shard, most, doors.clone(), hall.clone(), stopping.clone()));
            }
            while accepting.join_next().await.is_some() {}
        });
        let _ = finished.send(());
    })?;
    Ok(Acceptor { stop, done, thread })
}

/// How many client connections the limit of open files allows: each may need another one to a backend, and health checks, admin and
/// plugins need some as well. Without this, a crowd of clients would look like the illness of all backends.
fn most_connections() -> usize {
    let limit = rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    let reserved = (limit / 4).min(RESERVED_DESCRIPTORS);
    usize::try_from((limit - reserved) / 2).unwrap_or(usize::MAX)
}

/// Accepts until told to stop, then takes what still waits in the queue.
async fn accept(
    number: usize,
    socket: TcpListener,
    shard: Arc<ConnectionShard>,
    most: usize,
    doors: Arc<[Door]>,
    hall: Arc<Hall>,
    mut stopping: watch::Receiver<bool>,
) {
    let listener = match tokio::net::TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!("a listener cannot be watched: {error}"),
    };
    let admit = |stream: TcpStream, peer| {
        let open: usize = doors.iter().map(Door::open).sum();
        if open >= most.min(hall.current().settings.limits.connections) {
            shard.rejected.inc();
            return;
        }
        let door = doors.iter().min_by_key(|door| door.open()).expect("there is at least one worker");
        door.hand_over(stream, peer, number);
    };
    let mut complained = false;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted.and_then(|(stream, peer)| Ok((stream.into_std()?, peer))) {
            Ok((stream, peer)) => {
                admit(stream, peer);
                complained = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut complained, true) {
                    tracing::warn!("connections cannot be accepted at the moment: {error}");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // The kernel is asked itself, as the runtime may not have heard of the last ones; and no more than the queue could hold: clients
    // that keep coming must not keep us.
    let Ok(socket) = listener.into_std() else { return };
    for _ in 0..BACKLOG {
        match socket.accept() {
            Ok((stream, peer)) => admit(stream, peer),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => return,
        }
    }
}

// === impl Listener ===

impl Listener {
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

// === impl Acceptor ===

impl Acceptor {
    pub(super) fn is_alive(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Closes the sockets once their queues are empty.
    pub(super) async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.done.await;
        let _ = self.thread.join();
    }
}

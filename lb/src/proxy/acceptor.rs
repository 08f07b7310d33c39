//! The thread that accepts: on the sockets that the generation names, each connection to the worker with the fewest.
//!
//! It has a seat in the hall as workers have: a new generation may bring listeners, which it takes and accepts on, and lack others, which
//! it closes when nobody waits there any more. Invariants: what the kernel accepted is handed to a worker or counted as rejected, also
//! of a socket that is closing; a listener that is in both generations does not notice the change.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::worker::Door;
use crate::generation::{Hall, Seat};
use crate::listener::{BACKLOG, Listener, turn_away};
use crate::net::Descriptors;
use crate::telemetry::{ConnectionShard, Metrics};

/// After an error such as "too many open files": long enough for some to be closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often a sign of life is given.
const ALIVE_EVERY: Duration = Duration::from_secs(1);
/// A connection whose client has not heard our answer yet when its listener goes has so long to come into the queue. Less than the
/// second after which a client that was turned away knocks again.
const HANDSHAKE_MAX: Duration = Duration::from_millis(500);

/// The running acceptor.
pub(super) struct Acceptor {
    stop: oneshot::Sender<()>,
    done: oneshot::Receiver<()>,
    thread: JoinHandle<()>,
}

/// What all listeners share: the ways to the workers.
struct Gate {
    doors: Vec<Door>,
    hall: Arc<Hall>,
    metrics: Arc<Metrics>,
    descriptors: Arc<Descriptors>,
}

/// A listener that is accepted on, until this is dropped.
struct Accepting {
    listener: Arc<Listener>,
    /// Told how long connections that have begun are waited for.
    close: oneshot::Sender<Duration>,
}

pub(super) fn start(
    doors: Vec<Door>,
    hall: &Arc<Hall>,
    metrics: &Arc<Metrics>,
    descriptors: Arc<Descriptors>,
) -> io::Result<Acceptor> {
    let (stop, stopped) = oneshot::channel();
    let (finished, done) = oneshot::channel();
    let (most, wanted) = (descriptors.most_clients(), hall.current().settings.limits.connections);
    if most < wanted {
        tracing::info!(
            limit = descriptors.limit(),
            wanted,
            "the limit of open files allows {most} client connections, and fewer while they have requests: raise it (ulimit -n) for more"
        );
    }
    let seat = hall.seat();
    let gate = Arc::new(Gate { doors, hall: hall.clone(), metrics: metrics.clone(), descriptors });
    let thread = std::thread::Builder::new().name("lb-acceptor".into()).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build() {
            Ok(runtime) => runtime,
            Err(error) => return tracing::error!("the acceptor cannot start: {error}"),
        };
        runtime.block_on(run(&gate, seat, stopped));
        let _ = finished.send(());
    })?;
    Ok(Acceptor { stop, done, thread })
}

/// Accepts where the newest generation says, until told to stop.
async fn run(gate: &Arc<Gate>, mut seat: Seat, mut stopped: oneshot::Receiver<()>) {
    let mut alive = tokio::time::interval(ALIVE_EVERY);
    let mut open: Vec<Accepting> = Vec::new();
    let mut tasks = JoinSet::new();
    follow(gate, &mut seat, &mut open, &mut tasks);
    loop {
        tokio::select! {
            biased;
            _ = &mut stopped => break,
            changed = seat.changed() => match changed {
                true => follow(gate, &mut seat, &mut open, &mut tasks),
                false => break,
            },
            _ = alive.tick() => seat.show_alive(),
            // Closed ones; never waited for where there are none.
            Some(_) = tasks.join_next() => {}
        }
    }
    // Clients that come now are told at once that nobody is here.
    for accepting in open {
        let _ = accepting.close.send(Duration::ZERO);
    }
    while tasks.join_next().await.is_some() {}
}

/// Takes up the newest generation's listeners and lets go of those that it lacks.
fn follow(gate: &Arc<Gate>, seat: &mut Seat, open: &mut Vec<Accepting>, tasks: &mut JoinSet<()>) {
    let generation = seat.take();
    let number = generation.number;
    let listeners = generation.listeners.clone();
    // Held by nobody here, so that it is free when its time is over.
    drop(generation);
    let is_named = |accepting: &mut Accepting| listeners.iter().any(|one| Arc::ptr_eq(one, &accepting.listener));
    for gone in open.extract_if(.., |accepting| !is_named(accepting)) {
        let _ = gone.close.send(HANDSHAKE_MAX);
    }
    for listener in listeners {
        // Taken already: by us, at an earlier generation.
        let Some(socket) = listener.take() else { continue };
        let (close, closing) = oneshot::channel();
        tasks.spawn(accept(socket, listener.clone(), gate.clone(), closing));
        open.push(Accepting { listener, close });
    }
    seat.acknowledge(number);
}

/// Accepts until told to close; then turns newcomers away, takes those that have begun to connect, and closes.
async fn accept(socket: TcpListener, listener: Arc<Listener>, gate: Arc<Gate>, closing: oneshot::Receiver<Duration>) {
    // The acceptor is a writer of its own, so its shard comes after the workers'.
    let shard = gate.metrics.connections(gate.doors.len(), listener.name());
    let admit = |stream, peer| gate.admit(stream, peer, &listener, &shard);
    match tokio::net::TcpListener::from_std(socket) {
        Ok(socket) => accept_until_closed(socket, admit, closing).await,
        Err(error) => tracing::error!("{} cannot be watched: {error}", listener.name()),
    }
    listener.set_closed();
}

async fn accept_until_closed(
    socket: tokio::net::TcpListener,
    admit: impl Fn(TcpStream, SocketAddr),
    closing: oneshot::Receiver<Duration>,
) {
    let handshake_max = tokio::select! {
        biased;
        handshake_max = closing => handshake_max.unwrap_or_default(),
        never = accept_for_ever(&socket, &admit) => match never {},
    };
    let Ok(socket) = socket.into_std() else { return };
    if let Err(error) = turn_away(&socket) {
        tracing::debug!("newcomers to a listener that closes cannot be turned away: {error}");
    }
    let Ok(socket) = tokio::net::TcpListener::from_std(socket) else { return };
    if !handshake_max.is_zero() {
        let _ = timeout(handshake_max, accept_for_ever(&socket, &admit)).await;
    }
    // The kernel is asked itself, as the runtime may not have heard of the last ones; and no more than the queue could hold: clients
    // that keep coming must not keep us.
    let Ok(socket) = socket.into_std() else { return };
    for _ in 0..BACKLOG {
        match socket.accept() {
            Ok((stream, peer)) => admit(stream, peer),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => return,
        }
    }
}

async fn accept_for_ever(socket: &tokio::net::TcpListener, admit: &impl Fn(TcpStream, SocketAddr)) -> Infallible {
    let mut complained = false;
    loop {
        match socket.accept().await.and_then(|(stream, peer)| Ok((stream.into_std()?, peer))) {
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
}

// === impl Gate ===

impl Gate {
    /// To the worker with the fewest, unless there are too many of all.
    fn admit(&self, stream: TcpStream, peer: SocketAddr, listener: &Listener, shard: &ConnectionShard) {
        let open: usize = self.doors.iter().map(Door::open).sum();
        let most = self.descriptors.most_clients().min(self.hall.current().settings.limits.connections);
        let descriptor = if open < most { self.descriptors.take() } else { None };
        let Some(descriptor) = descriptor else {
            shard.rejected.inc();
            return;
        };
        let door = self.doors.iter().min_by_key(|door| door.open()).expect("there is at least one worker");
        door.hand_over(stream, descriptor, peer, listener.name());
    }
}

// === impl Acceptor ===

impl Acceptor {
    pub(super) fn is_alive(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Closes the sockets once their queues are empty.
    pub(super) async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.done.await;
        let _ = self.thread.join();
    }
}

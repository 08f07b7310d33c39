//! The thread that accepts on the generation's sockets and hands each connection to the worker with the fewest.
//!
//! It has a seat in the hall like a worker. A new generation may add listeners, which it takes and accepts on, and
//! remove others, which it closes when their queues are empty. Invariants: every accepted connection is handed to a
//! worker or counted as rejected, also on a closing socket. A listener that is in both generations is not affected by
//! the change.

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

/// After an error such as "too many open files": long enough for some connections to be closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// The interval at which it shows that it is alive.
const ALIVE_EVERY: Duration = Duration::from_secs(1);
/// The time for connections whose handshake is incomplete when their listener is removed. Shorter than the second after
/// which a client retransmits a dropped SYN.
const HANDSHAKE_MAX: Duration = Duration::from_millis(500);

/// The running acceptor.
pub(super) struct Acceptor {
    stop: oneshot::Sender<()>,
    done: oneshot::Receiver<()>,
    thread: JoinHandle<()>,
}

/// Shared by all listeners: the senders to the workers.
struct Gate {
    doors: Vec<Door>,
    hall: Arc<Hall>,
    metrics: Arc<Metrics>,
    descriptors: Arc<Descriptors>,
}

/// A listener that is accepted on, until this is dropped.
struct Accepting {
    listener: Arc<Listener>,
    /// Receives the time to wait for connections whose handshake has begun.
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
            "the limit of open files (ulimit -n) allows {most} client connections, and fewer while they have requests"
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

/// Accepts on the newest generation's listeners, until told to stop.
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
            // Removes ended tasks; never ready if there are none.
            Some(_) = tasks.join_next() => {}
        }
    }
    // Clients that connect now are refused at once.
    for accepting in open {
        let _ = accepting.close.send(Duration::ZERO);
    }
    while tasks.join_next().await.is_some() {}
}

/// Takes the newest generation's listeners and closes those that it lacks.
fn follow(gate: &Arc<Gate>, seat: &mut Seat, open: &mut Vec<Accepting>, tasks: &mut JoinSet<()>) {
    let generation = seat.take();
    let number = generation.number;
    let listeners = generation.listeners.clone();
    // Dropped here, so that it can be freed.
    drop(generation);
    let is_named = |accepting: &mut Accepting| listeners.iter().any(|one| Arc::ptr_eq(one, &accepting.listener));
    for gone in open.extract_if(.., |accepting| !is_named(accepting)) {
        let _ = gone.close.send(HANDSHAKE_MAX);
    }
    for listener in listeners {
        // Taken already, by us, at an earlier generation.
        let Some(socket) = listener.take() else { continue };
        let (close, closing) = oneshot::channel();
        tasks.spawn(accept(socket, listener.clone(), gate.clone(), closing));
        open.push(Accepting { listener, close });
    }
    seat.acknowledge(number);
}

/// Accepts until told to close. Then drops new SYNs, takes the connections that have begun, and closes.
async fn accept(socket: TcpListener, listener: Arc<Listener>, gate: Arc<Gate>, closing: oneshot::Receiver<Duration>) {
    // The acceptor writes its own shard, whose number comes after the workers'.
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
    // Asks the kernel, because the runtime may not have an event for the last connections. At most as many as the queue
    // can hold: a steady stream of clients must not delay the close.
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
    /// Hands it to the worker with the fewest connections, unless there are too many in all.
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

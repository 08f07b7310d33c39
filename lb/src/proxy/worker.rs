//! A worker: one thread with a runtime of its own, the data that its connections share, and the connections.
//!
//! Invariants: a connection never leaves its worker. The view is replaced between two polls, so no request sees half of
//! one. The worker acknowledges after it has dropped everything old.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use lb_strategy_host::crash;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

use super::downstream::{self, Responders, Signal};
use super::listeners::Listeners;
use super::local::Local;
use super::owner::Owner;
use super::peer::Peer;
use super::queue::{Lines, Lobbies};
use super::view::View;
use crate::generation::{Hall, Seat};
use crate::net::{Descriptor, Descriptors, Stream};
use crate::telemetry::{Metrics, WorkerShard};

/// The interval of looks at idle upstream connections, and of showing that the worker is alive.
const PURGE_EVERY: Duration = Duration::from_secs(1);
/// After this many task polls the worker asks the kernel for events, even if tasks are ready. Tokio's default of 61 is
/// 20 requests; at full load it caused a third of the waits.
const POLLS_PER_WAIT: u32 = 256;

struct Worker {
    local: Rc<Local>,
    responders: Rc<Responders>,
    shard: Arc<WorkerShard>,
    metrics: Arc<Metrics>,
    connections: RefCell<HashMap<u64, Rc<Signal>>>,
    next_connection: Cell<u64>,
    open: Arc<AtomicUsize>,
    empty: Notify,
}

/// Removes a connection from its worker's count at every end of its task.
struct Farewell {
    worker: Rc<Worker>,
    id: u64,
    listener: usize,
}

/// The acceptor's sender.
#[derive(Clone)]
pub(super) struct Door {
    sender: mpsc::UnboundedSender<Message>,
    open: Arc<AtomicUsize>,
}

/// A started worker.
pub(super) struct Running {
    door: Door,
    thread: JoinHandle<()>,
}

enum Message {
    Connection {
        stream: TcpStream,
        peer: SocketAddr,
        listener: Arc<str>,
        descriptor: Descriptor,
    },
    /// Lets requests finish until the deadline, returns how many connections were cut off, and ends.
    Drain {
        deadline: Instant,
        answer: oneshot::Sender<usize>,
    },
}

/// Starts a worker; returns when it has taken up the hall's generation.
pub(super) fn start(
    owner: Owner,
    hall: &Arc<Hall>,
    metrics: &Arc<Metrics>,
    descriptors: &Arc<Descriptors>,
    lobbies: &Arc<Lobbies>,
) -> io::Result<Running> {
    let number = owner.number;
    #[expect(clippy::disallowed_methods, reason = "bounded by the limit of client connections")]
    let (sender, receiver) = mpsc::unbounded_channel();
    let open = Arc::new(AtomicUsize::new(0));
    let door = Door { sender, open: open.clone() };
    let (seat, metrics, descriptors, lobbies) = (hall.seat(), metrics.clone(), descriptors.clone(), lobbies.clone());
    let (started, waiting) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new().name(format!("lb-worker-{number}")).spawn(move || {
        crash::cover_thread();
        let mut builder = Builder::new_current_thread();
        builder.enable_io().enable_time().event_interval(POLLS_PER_WAIT);
        let runtime = match builder.build_local(LocalOptions::default()) {
            Ok(runtime) => runtime,
            Err(error) => return drop(started.send(Err(error))),
        };
        metrics.runtime(number, runtime.handle().metrics());
        runtime.block_on(async move {
            let mut seat = seat;
            seat.sits_in(crash::this_thread());
            let generation = seat.take();
            let first = generation.number;
            let mut listeners = Listeners::default();
            listeners.follow(&generation.listeners, &metrics, number);
            let lines = Lines::new(owner, lobbies.clone());
            let view = View::new(generation, None, &metrics, &lines, &listeners);
            let worker = Rc::new(Worker {
                local: Local::new(lines, view, listeners, descriptors, seat.alarm()),
                responders: Rc::default(),
                shard: metrics.worker(number),
                metrics,
                connections: RefCell::default(),
                next_connection: Cell::new(0),
                open,
                empty: Notify::new(),
            });
            seat.acknowledge(first);
            let _ = started.send(Ok(()));
            run(&worker, seat, receiver, &lobbies).await;
        });
    })?;
    match waiting.recv() {
        Ok(Ok(())) => Ok(Running { door, thread }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::Error::other(format!("worker {number} died while starting"))),
    }
}

async fn run(worker: &Rc<Worker>, mut seat: Seat, mut messages: mpsc::UnboundedReceiver<Message>, lobbies: &Lobbies) {
    let mut purge = tokio::time::interval(PURGE_EVERY);
    purge.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let drained = Rc::new(Notify::new());
    loop {
        tokio::select! {
            changed = seat.changed() => {
                if !changed {
                    return;
                }
                worker.follow(&mut seat);
            }
            message = messages.recv() => match message {
                Some(Message::Connection { stream, peer, listener, descriptor }) => {
                    worker.welcome(stream, descriptor, peer, &listener);
                }
                // Runs beside this loop, which goes on following the hall.
                Some(Message::Drain { deadline, answer }) => {
                    let (worker, drained) = (worker.clone(), drained.clone());
                    tokio::task::spawn_local(async move {
                        let _ = answer.send(worker.drain(deadline).await);
                        drained.notify_one();
                    });
                }
                None => return,
            },
            () = lobbies.rung(worker.local.number as usize) => worker.local.view.borrow().answer_bell(),
            () = drained.notified() => return,
            _ = purge.tick() => {
                seat.show_alive();
                worker.local.set_date();
                worker.local.shrink();
                worker.responders.shrink();
                worker.purge();
                worker.forget_listeners();
            }
        }
    }
}

// === impl Worker ===

impl Worker {
    /// Takes up the newest generation, drops the old one and acknowledges. Until it returns, this worker serves no
    /// request. Wakes all connections if the requests of a backend were cut: only they know their backends. A cut alone
    /// comes without a new generation.
    fn follow(&self, seat: &mut Seat) {
        let began = std::time::Instant::now();
        let generation = seat.take();
        if seat.take_cuts() {
            self.connections.borrow().values().for_each(|signal| signal.wake());
        }
        let number = generation.number;
        if self.local.view.borrow().generation.number == number {
            return;
        }
        let (local, owner) = (&self.local, self.local.owner());
        let has_new = local.listeners.borrow_mut().follow(&generation.listeners, &self.metrics, owner.number);
        let listeners = local.listeners.borrow();
        let next = View::new(generation, Some(&local.view.borrow()), &self.metrics, &local.lines, &listeners);
        if has_new {
            next.hear(&listeners, &self.metrics, owner.number);
        }
        drop(listeners);
        let old = local.view.replace(next);
        drop(old);
        self.shard.taken_up(began.elapsed());
        seat.acknowledge(number);
    }

    fn welcome(self: &Rc<Self>, stream: TcpStream, descriptor: Descriptor, peer: SocketAddr, listener: &Arc<str>) {
        let stream = match stream.set_nonblocking(true).and_then(|()| tokio::net::TcpStream::from_std(stream)) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!("a connection from {peer} cannot be watched: {error}");
                self.open.fetch_sub(1, Relaxed);
                return;
            }
        };
        let _ = stream.set_nodelay(true);
        let id = self.next_connection.get();
        self.next_connection.set(id + 1);
        let listener = self.place_of(listener);
        self.local.listeners.borrow_mut().came(listener);
        let signal = Rc::new(Signal::default());
        self.connections.borrow_mut().insert(id, signal.clone());
        let farewell = Farewell { worker: self.clone(), id, listener };
        let (local, responders, peer) = (self.local.clone(), self.responders.clone(), Peer::new(peer, listener));
        let connection = downstream::serve(local, responders, peer, Stream::Plain(stream, descriptor), signal);
        tokio::task::spawn_local(async move {
            let _farewell = farewell;
            connection.await;
        });
    }

    fn place_of(&self, listener: &Arc<str>) -> usize {
        let (local, worker) = (&self.local, self.local.number as usize);
        let (place, is_new) = local.listeners.borrow_mut().place(listener, &self.metrics, worker);
        if is_new {
            local.view.borrow().hear(&local.listeners.borrow(), &self.metrics, worker);
        }
        place
    }

    fn purge(&self) {
        // Otherwise idle connections of one worker would take descriptors from requests of the others and from new
        // clients.
        let most = if self.local.descriptors.is_scarce() { PURGE_EVERY } else { Duration::MAX };
        let view = self.local.view.borrow();
        view.purge(Instant::now(), most);
        // A backend may be lost without a new generation.
        view.look();
    }

    /// Drops the counters of listeners that are gone with their last connection.
    fn forget_listeners(&self) {
        let mut listeners = self.local.listeners.borrow_mut();
        if listeners.forget_gone() {
            self.local.view.borrow().hear(&listeners, &self.metrics, self.local.number as usize);
        }
    }

    async fn drain(&self, deadline: Instant) -> usize {
        self.local.is_draining.set(true);
        self.connections.borrow().values().for_each(|signal| signal.wake());
        while !self.connections.borrow().is_empty() {
            if tokio::time::timeout_at(deadline, self.empty.notified()).await.is_err() {
                break;
            }
        }
        self.connections.borrow().len()
    }
}

// === impl Farewell ===

impl Drop for Farewell {
    fn drop(&mut self) {
        let worker = &self.worker;
        if worker.connections.borrow_mut().remove(&self.id).is_some() {
            worker.local.listeners.borrow_mut().went(self.listener);
            worker.open.fetch_sub(1, Relaxed);
            if worker.local.is_draining.get() && worker.connections.borrow().is_empty() {
                worker.empty.notify_one();
            }
        }
    }
}

// === impl Door ===

impl Door {
    /// Connections open at this worker or on the way to it.
    pub(super) fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    pub(super) fn hand_over(&self, stream: TcpStream, descriptor: Descriptor, peer: SocketAddr, listener: &Arc<str>) {
        self.open.fetch_add(1, Relaxed);
        let _ = self.sender.send(Message::Connection { stream, peer, listener: listener.clone(), descriptor });
    }
}

// === impl Running ===

impl Running {
    pub(super) fn door(&self) -> Door {
        self.door.clone()
    }

    pub(super) fn is_alive(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Begins to drain at once; the future returns how many connections were cut off.
    pub(super) fn drain(self, deadline: Instant) -> impl Future<Output = usize> {
        let (answer, waiting) = oneshot::channel();
        let Self { door, thread } = self;
        let _ = door.sender.send(Message::Drain { deadline, answer });
        async move {
            let cut = waiting.await.unwrap_or(0);
            // Kept until here: a worker without a sender ends at once.
            drop(door);
            let _ = thread.join();
            cut
        }
    }
}

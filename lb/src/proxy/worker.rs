//! A worker: one thread with a runtime of its own, its view of the generation and its client connections.
//!
//! Invariants: a connection never leaves its worker; the view is replaced between two polls, so no request sees half of one;
//! acknowledging comes after everything old was dropped.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

use super::client::{self, Client};
use super::listeners::Listeners;
use super::request_id::RequestIds;
use super::view::View;
use crate::generation::{Hall, Seat};
use crate::telemetry::{Metrics, WorkerShard};

/// How often idle upstream connections are looked through, and a sign of life is given.
const PURGE_EVERY: Duration = Duration::from_secs(1);

/// What one worker's connections share.
pub(super) struct Worker {
    pub(super) number: u32,
    pub(super) view: RefCell<View>,
    /// Clock zero, the same for all workers.
    pub(super) epoch: Instant,
    pub(super) random: RefCell<fastrand::Rng>,
    request_ids: RefCell<RequestIds>,
    shard: Arc<WorkerShard>,
    listeners: RefCell<Listeners>,
    metrics: Arc<Metrics>,
    pub(super) draining: Cell<bool>,
    clients: RefCell<HashMap<u64, Rc<Client>>>,
    next_client: Cell<u64>,
    open: Arc<AtomicUsize>,
    empty: Notify,
}

/// The way in for the acceptor.
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
    },
    /// Let requests finish until the deadline, answer how many connections were cut, end.
    Drain {
        deadline: Instant,
        answer: oneshot::Sender<usize>,
    },
}

/// Starts worker `number`; answers when it has taken up the hall's generation.
pub(super) fn start(number: usize, hall: &Arc<Hall>, metrics: &Arc<Metrics>, epoch: Instant) -> io::Result<Running> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let open = Arc::new(AtomicUsize::new(0));
    let door = Door { sender, open: open.clone() };
    let (seat, metrics) = (hall.seat(), metrics.clone());
    let (started, waiting) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new().name(format!("lb-worker-{number}")).spawn(move || {
        let runtime = match Builder::new_current_thread().enable_io().enable_time().build_local(LocalOptions::default())
        {
            Ok(runtime) => runtime,
            Err(error) => return drop(started.send(Err(error))),
        };
        metrics.runtime(number, runtime.handle().metrics());
        runtime.block_on(async move {
            let mut seat = seat;
            let generation = seat.take();
            let first = generation.number;
            let mut listeners = Listeners::default();
            listeners.follow(&generation.listeners, &metrics, number);
            let view = View::new(generation, None, &metrics, number, &listeners);
            let worker = Rc::new(Worker {
                number: number as u32,
                view: RefCell::new(view),
                epoch,
                random: RefCell::new(fastrand::Rng::new()),
                request_ids: RefCell::default(),
                shard: metrics.worker(number),
                listeners: RefCell::new(listeners),
                metrics,
                draining: Cell::new(false),
                clients: RefCell::default(),
                next_client: Cell::new(0),
                open,
                empty: Notify::new(),
            });
            seat.acknowledge(first);
            let _ = started.send(Ok(()));
            run(&worker, seat, receiver).await;
        });
    })?;
    match waiting.recv() {
        Ok(Ok(())) => Ok(Running { door, thread }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::Error::other(format!("worker {number} died while starting"))),
    }
}

async fn run(worker: &Rc<Worker>, mut seat: Seat, mut messages: mpsc::UnboundedReceiver<Message>) {
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
                Some(Message::Connection { stream, peer, listener }) => worker.welcome(stream, peer, &listener),
                // Beside this loop, which goes on following the hall meanwhile.
                Some(Message::Drain { deadline, answer }) => {
                    let (worker, drained) = (worker.clone(), drained.clone());
                    tokio::task::spawn_local(async move {
                        let _ = answer.send(worker.drain(deadline).await);
                        drained.notify_one();
                    });
                }
                None => return,
            },
            () = drained.notified() => return,
            _ = purge.tick() => {
                seat.is_alive();
                worker.purge();
                worker.forget_listeners();
            }
        }
    }
}

// === impl Worker ===

impl Worker {
    /// Nanoseconds on the clock that strategies see.
    pub(super) fn clock_ns(&self, now: Instant) -> u64 {
        (now - self.epoch).as_nanos() as u64
    }

    /// Sees to it that the request has exactly one `x-request-id`, and answers it.
    pub(super) fn settle_request_id(&self, headers: &mut HeaderMap) -> HeaderValue {
        self.request_ids.borrow_mut().settle(headers, &mut self.random.borrow_mut())
    }

    /// Tells the name of the listener at this place.
    pub(super) fn with_listener(&self, place: usize, tell: impl FnOnce(&str)) {
        if let Some(Some(name)) = self.listeners.borrow().names().nth(place) {
            tell(name);
        }
    }

    /// Takes up the newest generation, lets go of the old one, says so; until it returns this worker serves nobody.
    fn follow(&self, seat: &mut Seat) {
        let began = std::time::Instant::now();
        let generation = seat.take();
        let number = generation.number;
        let worker = self.number as usize;
        let has_new = self.listeners.borrow_mut().follow(&generation.listeners, &self.metrics, worker);
        let listeners = self.listeners.borrow();
        let next = View::new(generation, Some(&self.view.borrow()), &self.metrics, worker, &listeners);
        if has_new {
            next.hear(&listeners, &self.metrics, worker);
        }
        drop(listeners);
        let old = self.view.replace(next);
        drop(old);
        seat.acknowledge(number);
        self.shard.taken_up(began.elapsed());
    }

    fn welcome(self: &Rc<Self>, stream: TcpStream, peer: SocketAddr, listener: &Arc<str>) {
        let stream = match stream.set_nonblocking(true).and_then(|()| tokio::net::TcpStream::from_std(stream)) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!("a connection from {peer} cannot be watched: {error}");
                self.open.fetch_sub(1, Relaxed);
                return;
            }
        };
        let _ = stream.set_nodelay(true);
        let id = self.next_client.get();
        self.next_client.set(id + 1);
        let listener = self.place_of(listener);
        self.listeners.borrow_mut().came(listener);
        let client = Rc::new(Client::new(self.clone(), id, peer, listener));
        self.clients.borrow_mut().insert(id, client.clone());
        tokio::task::spawn_local(client::serve(client, stream));
    }

    fn place_of(&self, listener: &Arc<str>) -> usize {
        let worker = self.number as usize;
        let (place, is_new) = self.listeners.borrow_mut().place(listener, &self.metrics, worker);
        if is_new {
            self.view.borrow().hear(&self.listeners.borrow(), &self.metrics, worker);
        }
        place
    }

    /// The connection is over.
    pub(super) fn farewell(&self, id: u64, listener: usize) {
        if self.clients.borrow_mut().remove(&id).is_some() {
            self.listeners.borrow_mut().went(listener);
            self.open.fetch_sub(1, Relaxed);
            if self.draining.get() && self.clients.borrow().is_empty() {
                self.empty.notify_one();
            }
        }
    }

    fn purge(&self) {
        let view = self.view.borrow();
        let Some(oldest) = Instant::now().checked_sub(view.settings.timeouts.upstream_idle) else { return };
        view.each_member(|member| member.purge_idle(oldest));
    }

    /// Lets go of the counters of listeners that are gone with their last connection.
    fn forget_listeners(&self) {
        let mut listeners = self.listeners.borrow_mut();
        if listeners.forget_gone() {
            self.view.borrow().hear(&listeners, &self.metrics, self.number as usize);
        }
    }

    async fn drain(&self, deadline: Instant) -> usize {
        self.draining.set(true);
        // Waking may end a connection, which takes it out of the map.
        let clients: Vec<_> = self.clients.borrow().values().cloned().collect();
        clients.iter().for_each(|client| client.wake());
        drop(clients);
        while !self.clients.borrow().is_empty() {
            if tokio::time::timeout_at(deadline, self.empty.notified()).await.is_err() {
                break;
            }
        }
        self.clients.borrow().len()
    }
}

// === impl Door ===

impl Door {
    /// Connections open at this worker or on the way to it.
    pub(super) fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    pub(super) fn hand_over(&self, stream: TcpStream, peer: SocketAddr, listener: &Arc<str>) {
        self.open.fetch_add(1, Relaxed);
        let _ = self.sender.send(Message::Connection { stream, peer, listener: listener.clone() });
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

    /// Begins to drain at once; the future answers how many connections were cut off.
    pub(super) fn drain(self, deadline: Instant) -> impl Future<Output = usize> {
        let (answer, waiting) = oneshot::channel();
        let Self { door, thread } = self;
        let _ = door.sender.send(Message::Drain { deadline, answer });
        async move {
            let cut = waiting.await.unwrap_or(0);
            // Kept until here: a worker without a door ends at once.
            drop(door);
            let _ = thread.join();
            cut
        }
    }
}

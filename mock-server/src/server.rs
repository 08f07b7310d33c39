//! A running server: its thread, its accept loop, and its end.
//!
//! It has its own thread and runtime. So any test can start a server, on any runtime or none, and other work on that
//! runtime does not change the service times.
//!
//! Invariant: after [`Running::shutdown`] or the drop of [`Running`], the port is free and the thread has ended.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::sync::{Arc, mpsc as std_mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use http::HeaderValue;
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::connection::{self, ConnectionEnd};
use crate::counters::add;
use crate::options::{BadOption, Options};
use crate::service_time::ServiceTime;
use crate::shared::{Local, Session, Shared};
use crate::stats::Stats;
use crate::switches::{BadChange, Change};
use crate::timer::Timer;

/// Starts servers.
#[derive(Debug)]
pub struct MockServer;

/// A running server. Its drop stops it at once and cuts its connections; [`Running::shutdown`] lets requests finish.
pub struct Running {
    /// The address, with the real port.
    pub addr: SocketAddr,
    /// The id in `x-server-id`.
    pub id: String,
    shared: Arc<Shared>,
    stop: watch::Sender<Stop>,
    thread: Option<JoinHandle<()>>,
    ended: oneshot::Receiver<()>,
}

/// Why a server did not start.
#[derive(Debug, Error)]
pub enum StartError {
    #[error(transparent)]
    Option(#[from] BadOption),
    #[error("cannot listen on {addr}: {source}")]
    Listen { addr: SocketAddr, source: io::Error },
    #[error("cannot start the server's thread: {0}")]
    Thread(io::Error),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stop {
    No,
    /// Finish requests in progress, within the grace.
    Gracefully,
    AtOnce,
}

/// Connections that wait in the kernel while the server is busy.
const BACKLOG: i32 = 4096;
/// The number of tasks that run between two looks at sockets and timer. With tokio's 61, a sleep can wait for 60 tasks.
const EVENT_INTERVAL: u32 = 16;
/// The pause after a failed accept. The likely cause is a lack of descriptors, and connections need time to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

// === impl MockServer ===

impl MockServer {
    /// Starts a server and returns when it accepts connections. With a service time configured, this blocks for the
    /// calibration, about 20 ms.
    pub fn start(options: Options) -> Result<Running, StartError> {
        options.check()?;
        let wanted = SocketAddr::new(options.host, options.port);
        let failed = |source| StartError::Listen { addr: wanted, source };
        let listener = listen(wanted).map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;

        let shared = Arc::new(Shared::new(options));
        let (stop, stopped) = watch::channel(Stop::No);
        let (ready_sender, ready) = std_mpsc::sync_channel(1);
        let (ended_sender, ended) = oneshot::channel();
        let for_thread = shared.clone();
        let thread = std::thread::Builder::new()
            .name(format!("mock-server {}", shared.options.id))
            .spawn(move || {
                run(listener, for_thread, stopped, ready_sender);
                let _ = ended_sender.send(()); // The receiver may be gone.
            })
            .map_err(StartError::Thread)?;
        match ready.recv() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(StartError::Thread(error)),
            Err(_) => return Err(StartError::Thread(io::Error::other("it ended before it was ready"))),
        }
        Ok(Running { addr, id: shared.options.id.clone(), shared, stop, thread: Some(thread), ended })
    }
}

// === impl Running ===

impl Running {
    /// The counts so far; the same numbers as `/stats`.
    pub fn stats(&self) -> Stats {
        Stats::of(&self.shared)
    }

    /// Sets switches, like `POST /control`.
    pub fn change(&self, change: &Change) -> Result<(), BadChange> {
        change.check()?;
        self.shared.apply(change);
        Ok(())
    }

    /// Stops accepting connections, lets requests in progress finish within [`Options::grace`], then cuts the rest.
    /// Works on any runtime.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(Stop::Gracefully);
        let _ = (&mut self.ended).await; // An error also means that the thread has ended.
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.send_replace(Stop::AtOnce);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // A panic there was already printed.
        }
    }
}

/// The listening socket. Made on the caller's thread, so that a port in use is the caller's error.
fn listen(addr: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // A restart need not wait for old connections to time out. Two listeners still cannot share a port.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The server's thread.
fn run(
    listener: StdListener,
    shared: Arc<Shared>,
    stopped: watch::Receiver<Stop>,
    ready: std_mpsc::SyncSender<io::Result<()>>,
) {
    let runtime =
        Builder::new_current_thread().enable_io().event_interval(EVENT_INTERVAL).build_local(LocalOptions::default());
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(error))),
    };
    runtime.block_on(async {
        match prepare(listener, shared).await {
            Ok((listener, local)) => {
                let _ = ready.send(Ok(())); // `MockServer::start` waits for it.
                live(listener, local, stopped).await;
            }
            Err(error) => drop(ready.send(Err(error))),
        }
    });
    // The runtime's drop ends all remaining tasks.
}

async fn prepare(listener: StdListener, shared: Arc<Shared>) -> io::Result<(TcpListener, Rc<Local>)> {
    let listener = TcpListener::from_std(listener)?;
    let timer = Timer::start()?;
    if shared.options.service_time != ServiceTime::None {
        let _ = shared.calibration.set(timer.calibrate().await); // Set only here.
    }
    let server_id = HeaderValue::from_str(&shared.options.id).map_err(io::Error::other)?;
    Ok((listener, Rc::new(Local::new(shared, timer, server_id))))
}

/// Accepts connections until the stop, then waits for them within the grace.
async fn live(listener: TcpListener, local: Rc<Local>, mut stopped: watch::Receiver<Stop>) {
    let stopping = Arc::new(Notify::new());
    let (alive, mut all_closed) = mpsc::channel::<Infallible>(1);
    loop {
        tokio::select! {
            biased;
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => open(stream, &local, &stopping, &alive),
                Err(_) => local.timer.sleep_until(Instant::now() + ACCEPT_PAUSE).await,
            },
            _ = stopped.wait_for(|stop| *stop != Stop::No) => break,
        }
    }
    drop(listener);
    drop(alive);
    stopping.notify_waiters();
    let grace = local.shared.options.grace;
    tokio::select! {
        biased;
        _ = stopped.wait_for(|stop| *stop == Stop::AtOnce) => {}
        _ = all_closed.recv() => {}
        () = local.timer.sleep_until(Instant::now() + grace) => {}
    }
}

fn open(stream: TcpStream, local: &Rc<Local>, stopping: &Arc<Notify>, alive: &mpsc::Sender<Infallible>) {
    let counters = &local.shared.counters;
    add(&counters.connections, 1);
    let _ = stream.set_nodelay(true); // Fails only for a socket that is already closed.
    let session = Rc::new(Session {
        local: local.clone(),
        end: Arc::new(ConnectionEnd::default()),
        answers: std::cell::Cell::new(0),
        _open: counters.gauge(|counters| &counters.open_connections),
        _alive: alive.clone(),
    });
    // Made here and not in the task, so that the task does not miss a stop before its first step.
    let stopping = stopping.clone().notified_owned();
    tokio::task::spawn_local(connection::serve(stream, session, stopping));
}

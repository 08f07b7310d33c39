//! The state that parts of a server share: among all threads, on the server's thread, and for one connection.
//!
//! Tests read counters and set switches from their own threads, so those are atomics behind an `Arc` ([`Shared`]). All
//! else stays on the server's one thread ([`Local`], [`Session`]) and needs no lock.

use std::cell::{Cell, OnceCell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderValue;
use tokio::sync::mpsc;

use crate::connection::ConnectionEnd;
use crate::counters::{Counters, Gauge};
use crate::gate::Gate;
use crate::load::{Load, Meter};
use crate::options::Options;
use crate::service_time::Generator;
use crate::stream::filler;
use crate::switches::{Change, Switches};
use crate::timer::Timer;

/// Shared by all threads.
pub(crate) struct Shared {
    /// As given; the seed in force is in `seed`.
    pub(crate) options: Options,
    pub(crate) seed: u64,
    pub(crate) started: Instant,
    pub(crate) counters: Arc<Counters>,
    pub(crate) switches: Switches,
    /// The timer's median error, measured before the first request; empty if no service time was configured.
    pub(crate) calibration: OnceLock<Duration>,
}

/// Used only on the server's thread.
pub(crate) struct Local {
    pub(crate) shared: Arc<Shared>,
    pub(crate) timer: Timer,
    pub(crate) gate: Gate,
    pub(crate) generator: RefCell<Generator>,
    pub(crate) server_id: HeaderValue,
    pub(crate) meter: RefCell<Meter>,
    pub(crate) home: Bytes,
    filler: OnceCell<Bytes>,
}

/// One connection, and the tunnel that may outlive its HTTP part.
pub(crate) struct Session {
    pub(crate) local: Rc<Local>,
    pub(crate) end: Arc<ConnectionEnd>,
    pub(crate) answers: Cell<u64>,
    pub(crate) _open: Gauge,
    /// Nothing is sent. When the last sender is dropped, the server knows that all connections are closed.
    pub(crate) _alive: mpsc::Sender<Infallible>,
}

// === impl Shared ===

impl Shared {
    pub(crate) fn new(options: Options) -> Self {
        // A new seed has 32 bits: easy to type, and exact in JSON readers that know only doubles.
        let seed = options.seed.unwrap_or_else(|| fastrand::u32(..).into());
        Self {
            seed,
            started: Instant::now(),
            counters: Arc::new(Counters::new()),
            switches: Switches::new(options.failure_rate),
            calibration: OnceLock::new(),
            options,
        }
    }

    /// Applies a checked change, switches and counters.
    pub(crate) fn apply(&self, change: &Change) {
        self.switches.apply(change);
        if change.reset_counters == Some(true) {
            self.counters.reset();
        }
    }
}

// === impl Local ===

impl Local {
    /// `server_id` is the id as a header's value.
    pub(crate) fn new(shared: Arc<Shared>, timer: Timer, server_id: HeaderValue) -> Self {
        let Options { id, home_id, concurrency, queue, .. } = &shared.options;
        let id = home_id.as_ref().unwrap_or(id);
        // Byte for byte as in the course's sheet. The id needs no escapes; `Options::check` ensures it.
        let home = format!(r#"{{"message":"Hello from Server: {id}","status":"successful"}}"#);
        Self {
            gate: Gate::new(*concurrency, *queue, shared.counters.clone()),
            generator: RefCell::new(Generator::new(shared.seed)),
            server_id,
            meter: RefCell::new(Meter::new(Instant::now())),
            home: home.into(),
            filler: OnceCell::new(),
            timer,
            shared,
        }
    }

    /// The load now.
    pub(crate) fn load(&self) -> Load {
        self.meter.borrow_mut().load(&self.shared.counters, self.shared.options.concurrency, Instant::now())
    }

    /// The bytes from which streams are cut, made at the first stream.
    pub(crate) fn filler(&self) -> Bytes {
        self.filler.get_or_init(filler).clone()
    }
}

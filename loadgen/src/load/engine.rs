//! Starts a load, and the caller's handles of a running load.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use thiserror::Error;

use super::arrivals::Arrivals;
use super::batches::Batches;
use super::clock::Clock;
use super::collector::{Collector, Snapshot};
use super::orders::Orders;
use super::outcome::{Outcome, Segment, Window};
use super::plan::{BadPlan, Plan, check_arrivals};
use super::source::CutAt;
use super::validity::{Effort, Punctuality, doubts, punctuality};
use super::worker::{Finished, Seat, Worker};

/// A running load. Dropping it aborts the load.
#[derive(Debug)]
pub struct Running {
    handle: Handle,
    threads: Vec<JoinHandle<Finished>>,
}

/// Observes and controls a load, from any thread.
#[derive(Clone, Debug)]
pub struct Handle {
    plan: Arc<Plan>,
    orders: Arc<Orders>,
    collector: Arc<Collector>,
    bells: Arc<Vec<Arc<OwnedFd>>>,
    clock: Clock,
}

/// Begins a new segment at a moment, optionally with other arrivals, optionally with the sequence restarted.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Requests scheduled from here on belong to the new segment. It is exact if set some milliseconds ahead. Requests
    /// with responses before the threads know the cut stay in their segment.
    pub at: Instant,
    /// Restart the schedule, keys and costs from this seed. Two segments with the same seed get the same requests at
    /// the same distances from their beginnings.
    pub seed: Option<u64>,
    /// Another law of arrival from here on; open loops only.
    pub arrivals: Option<Arrivals>,
}

/// Why a cut was refused.
#[derive(Debug, Error)]
pub enum BadCut {
    #[error("a cut must be later than the one before, which is {behind_ms:.3} ms after it")]
    Order { behind_ms: f64 },
    #[error("a closed loop has no arrivals that could change, and an open loop cannot become a closed one")]
    Loop,
    #[error(transparent)]
    Arrivals(#[from] BadPlan),
}

/// Why a load did not start.
#[derive(Debug, Error)]
pub enum StartError {
    #[error(transparent)]
    Plan(#[from] BadPlan),
    #[error("cannot create the resources of a sending thread: {0}")]
    Resources(#[from] io::Error),
}

/// Starts a load on threads of its own.
pub fn start(mut plan: Plan) -> Result<Running, StartError> {
    plan.check()?;
    // each thread has a share of them, at least one
    plan.threads = match plan.arrivals {
        Arrivals::Closed { connections } => plan.threads.min(connections),
        _ => plan.threads.min(plan.connections).min(plan.outstanding),
    };
    let plan = Arc::new(plan);
    let (orders, collector) = (Arc::new(Orders::default()), Arc::new(Collector::new(plan.threads)));
    let bells = (0..plan.threads)
        .map(|_| Ok(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
        .collect::<io::Result<Vec<_>>>()?;
    let clock = Clock::start();
    let seat = |(thread, bell): (usize, &Arc<OwnedFd>)| Seat {
        thread,
        plan: plan.clone(),
        orders: orders.clone(),
        collector: collector.clone(),
        bell: bell.clone(),
        clock,
    };
    // All workers are created before the first thread starts: either all run or none.
    let workers = bells.iter().enumerate().map(|place| Worker::new(seat(place))).collect::<io::Result<Vec<_>>>()?;
    let handle = Handle { plan, orders, collector, bells: Arc::new(bells), clock };
    let mut running = Running { handle, threads: Vec::new() };
    for (number, worker) in workers.into_iter().enumerate() {
        let builder = std::thread::Builder::new().name(format!("loadgen-{number}"));
        running.threads.push(builder.spawn(move || worker.run())?);
    }
    Ok(running)
}

// === impl Running ===

impl Running {
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Waits for the end of the load. Blocks.
    pub fn wait(mut self) -> Outcome {
        let mut finished = Vec::new();
        for thread in std::mem::take(&mut self.threads) {
            match thread.join() {
                Ok(one) => finished.push(one),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        outcome(&self.handle, finished)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.abort();
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // a panic there was already printed
        }
    }
}

fn outcome(handle: &Handle, finished: Vec<Finished>) -> Outcome {
    let (windows, backends) = handle.collector.take();
    let wall_ns = finished.iter().map(|one| one.ended_ns).max().unwrap_or(0);
    let sending_s = finished.iter().map(|one| one.sending_s).fold(0.0, f64::max);
    let waited: Option<Duration> = finished.iter().map(|one| one.waited).sum();
    let cpu_s: Vec<f64> = finished.iter().map(|one| one.cpu_s).collect();
    let aborted = finished.iter().any(|one| one.aborted);
    let mut segments: Vec<Segment> = Vec::new();
    let mut batches: Option<Batches> = None;
    let mut first_errors = BTreeMap::new();
    for one in finished {
        for (number, segment) in one.recorded.segments.into_iter().enumerate() {
            match segments.get_mut(number) {
                Some(known) => known.add(&segment),
                None => segments.push(segment),
            }
        }
        match &mut batches {
            Some(known) => known.add(one.recorded.batches),
            None => batches = Some(one.recorded.batches),
        }
        for (kind, message) in one.recorded.first_errors {
            first_errors.entry(kind).or_insert(message);
        }
    }
    let begun = segments.iter().map(|segment| segment.due).sum();
    let warm_up = (!handle.plan.warm_up.is_zero()).then(|| segments.remove(0));
    let batches = batches.unwrap_or_else(|| Batches::new(0));
    let wall_s = wall_ns as f64 / 1e9;
    let mut outcome = Outcome {
        warm_up,
        segments,
        batches,
        windows,
        backends,
        cpu_s,
        wall_s,
        aborted,
        punctuality: Punctuality::OnTime,
        doubts: Vec::new(),
        first_errors,
    };
    let (total, is_closed_loop) = (outcome.total(), handle.plan.arrivals.is_closed());
    let effort = Effort { cpu_s: &outcome.cpu_s, sending_s, waited, requests: begun };
    outcome.punctuality = punctuality(&total, &effort, is_closed_loop);
    outcome.doubts = doubts(&total, &effort, &outcome.punctuality, is_closed_loop);
    outcome
}

// === impl Handle ===

impl Handle {
    /// The state of the load, up to the last complete 100 ms.
    pub fn snapshot(&self) -> Snapshot {
        self.collector.snapshot()
    }

    /// The complete 100 ms windows from number `from` on.
    pub fn windows(&self, from: usize) -> Vec<Window> {
        self.collector.windows(from)
    }

    /// Begins a new segment; returns its number in [`Outcome::segments`].
    pub fn cut(&self, cut: Cut) -> Result<usize, BadCut> {
        if let Some(arrivals) = &cut.arrivals {
            if arrivals.is_closed() || self.plan.arrivals.is_closed() {
                return Err(BadCut::Loop);
            }
            check_arrivals(arrivals)?;
        }
        let at_ns = self.clock.at(cut.at);
        let cut = CutAt { at_ns, seed: cut.seed, arrivals: cut.arrivals };
        let number = self
            .orders
            .cut(cut)
            .map_err(|last_ns| BadCut::Order { behind_ms: last_ns.saturating_sub(at_ns) as f64 / 1e6 })?;
        self.ring();
        Ok(number)
    }

    /// Stops sending and waits for the requests in flight.
    pub fn finish(&self) {
        self.orders.finish();
        self.ring();
    }

    /// Ends at once; requests in flight are counted as unfinished.
    pub fn abort(&self) {
        self.orders.abort();
        self.ring();
    }

    /// A moment in the time of outcomes: nanoseconds from the start of the run.
    pub fn ns_at(&self, moment: Instant) -> u64 {
        self.clock.at(moment)
    }

    fn ring(&self) {
        for bell in self.bells.iter() {
            // Fails only after 2^64 rings that were not read.
            let _ = rustix::io::write(&**bell, &1_u64.to_ne_bytes());
        }
    }
}

//! The gate to the workers: at most N requests are in service; the others wait in one queue, first come first served.
//!
//! With a server that only sleeps, every policy looks the same. Policies differ when requests wait behind others.
//!
//! Invariants:
//! - At most N slots are taken. A freed slot goes to the request that waits longest; no request overtakes another.
//! - A request that stops waiting (its future is dropped) frees its place in the queue at once.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use crate::counters::{Counters, Gauge};

/// Where requests wait for a worker.
pub(crate) struct Gate {
    /// `None`: no bound. Tokio's semaphore is fair and hands a freed permit to its first waiter.
    workers: Option<Arc<Semaphore>>,
    queue_max: u64,
    counters: Arc<Counters>,
}

/// One busy worker. It is part of the response's body, because a worker that still sends is busy.
pub(crate) struct Slot {
    // Dropped in this order, so that a request is never counted in service after its permit is free.
    _in_service: Gauge,
    _permit: Option<OwnedSemaphorePermit>,
}

/// All workers are busy and the queue is full.
#[derive(Debug, PartialEq)]
pub(crate) struct QueueFull;

// === impl Gate ===

impl Gate {
    pub(crate) fn new(concurrency: usize, queue: usize, counters: Arc<Counters>) -> Self {
        let workers = (concurrency > 0).then(|| Arc::new(Semaphore::new(concurrency)));
        Self { workers, queue_max: queue as u64, counters }
    }

    /// Waits for a free worker and returns its slot.
    pub(crate) async fn enter(&self) -> Result<Slot, QueueFull> {
        let Some(workers) = &self.workers else { return Ok(self.slot(None)) };
        match workers.clone().try_acquire_owned() {
            Ok(permit) => Ok(self.slot(Some(permit))),
            Err(TryAcquireError::NoPermits) => self.wait(workers.clone()).await,
            Err(TryAcquireError::Closed) => unreachable!("the semaphore is never closed"),
        }
    }

    async fn wait(&self, workers: Arc<Semaphore>) -> Result<Slot, QueueFull> {
        if self.counters.queued.load(Relaxed) >= self.queue_max {
            return Err(QueueFull);
        }
        let queued = self.counters.gauge(|counters| &counters.queued);
        self.counters.max_queued.fetch_max(self.counters.queued.load(Relaxed), Relaxed);
        let permit = workers.acquire_owned().await.ok();
        drop(queued);
        Ok(self.slot(permit))
    }

    fn slot(&self, permit: Option<OwnedSemaphorePermit>) -> Slot {
        Slot { _in_service: self.counters.gauge(|counters| &counters.in_service), _permit: permit }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    type Entering<'a> = Pin<Box<dyn Future<Output = Result<Slot, QueueFull>> + 'a>>;

    fn poll(entering: &mut Entering<'_>) -> Poll<Result<Slot, QueueFull>> {
        entering.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    fn slot(entering: &mut Entering<'_>) -> Option<Slot> {
        match poll(entering) {
            Poll::Ready(slot) => Some(slot.unwrap_or_else(|_| panic!("the queue is full"))),
            Poll::Pending => None,
        }
    }

    fn gate(concurrency: usize, queue: usize) -> (Gate, Arc<Counters>) {
        let counters = Arc::new(Counters::new());
        (Gate::new(concurrency, queue, counters.clone()), counters)
    }

    #[test]
    fn waiting_requests_are_served_in_the_order_of_their_arrival() {
        let (gate, counters) = gate(1, 10);
        let busy = slot(&mut (Box::pin(gate.enter()) as Entering<'_>)).expect("a free worker");
        let mut waiting: Vec<Entering<'_>> = (0..4).map(|_| Box::pin(gate.enter()) as Entering<'_>).collect();
        assert!(waiting.iter_mut().all(|entering| slot(entering).is_none()));
        assert_eq!(counters.queued.load(Relaxed), 4);
        let mut held = busy;
        for first in 0..4 {
            drop(held);
            let newcomer = &mut (Box::pin(gate.enter()) as Entering<'_>);
            assert!(slot(newcomer).is_none(), "a new request overtook {first}");
            for later in &mut waiting[first + 1..] {
                assert!(slot(later).is_none(), "a later request overtook {first}");
            }
            held = slot(&mut waiting[first]).expect("its turn");
        }
        assert_eq!((counters.queued.load(Relaxed), counters.max_queued.load(Relaxed)), (0, 5));
    }

    #[test]
    fn a_request_that_stops_waiting_frees_its_place() {
        let (gate, counters) = gate(1, 2);
        let busy = slot(&mut (Box::pin(gate.enter()) as Entering<'_>)).expect("a free worker");
        let mut gone: Entering<'_> = Box::pin(gate.enter());
        let mut stays: Entering<'_> = Box::pin(gate.enter());
        assert!(slot(&mut gone).is_none() && slot(&mut stays).is_none());
        drop(gone);
        assert_eq!(counters.queued.load(Relaxed), 1);
        drop(busy);
        assert!(slot(&mut stays).is_some());
    }

    #[test]
    fn a_request_beyond_the_queue_is_refused_also_if_the_queue_has_length_0() {
        for queue in [0, 1, 3] {
            let (gate, counters) = gate(2, queue);
            let mut all: Vec<Entering<'_>> = (0..2 + queue).map(|_| Box::pin(gate.enter()) as Entering<'_>).collect();
            let _held: Vec<_> = all.iter_mut().map(slot).collect();
            assert_eq!(counters.in_service.load(Relaxed), 2);
            let mut one_more: Entering<'_> = Box::pin(gate.enter());
            assert!(matches!(poll(&mut one_more), Poll::Ready(Err(QueueFull))), "queue {queue}");
        }
    }

    #[test]
    fn without_a_bound_no_request_waits() {
        let (gate, counters) = gate(0, 0);
        let held: Vec<_> = (0..1000).map(|_| slot(&mut (Box::pin(gate.enter()) as Entering<'_>))).collect();
        assert!(held.iter().all(Option::is_some));
        assert_eq!(counters.in_service.load(Relaxed), 1000);
        drop(held);
        assert_eq!(counters.in_service.load(Relaxed), 0);
    }
}

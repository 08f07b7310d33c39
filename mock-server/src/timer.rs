//! A timer that is exact to some tens of microseconds, on the server's own thread.
//!
//! tokio's timer works in whole milliseconds, too coarse for a service time of 1.5 ms. A `timerfd` is as exact as the
//! kernel's high-resolution clock. It is one more descriptor in the epoll that the runtime waits on anyway. So there is
//! no second thread, no lock and no spinning, and one wake-up for all sleeps that are due.
//!
//! Invariants:
//! - The descriptor is armed for the earliest pending deadline whenever there is one.
//! - A dropped [`Sleep`] leaves no entry in the map.
//! - A sleep never ends before its deadline.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// The number of sleeps in the calibration, and the length of each.
const CALIBRATION_SLEEPS: usize = 20;
const CALIBRATION_SLEEP: Duration = Duration::from_millis(1);

/// The timer of one server. Clones are the same timer.
#[derive(Clone)]
pub(crate) struct Timer {
    core: Rc<Core>,
}

/// A future that is ready at its deadline.
pub(crate) struct Sleep {
    core: Rc<Core>,
    key: Key,
}

/// Deadlines may be equal, so a number distinguishes them and keeps their order.
type Key = (Instant, u64);

struct Core {
    descriptor: OwnedFd,
    pending: RefCell<BTreeMap<Key, Waker>>,
    next_number: Cell<u64>,
    armed_for: Cell<Option<Instant>>,
}

/// Wakes sleeps that are due; runs as long as the runtime.
async fn drive(core: Rc<Core>, mut expiries: pipe::Receiver) {
    // Twice the eight bytes that a read returns: a short read tells tokio that nothing is left, which saves a read.
    let mut buffer = [0; 16];
    // A read of a timerfd does not fail.
    while expiries.read(&mut buffer).await.is_ok() {
        core.armed_for.set(None);
        core.wake_due();
    }
}

// === impl Timer ===

impl Timer {
    /// Makes the timer and spawns the task that wakes its sleeps on the current local runtime.
    pub(crate) fn start() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let descriptor = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        // tokio reads any pollable descriptor in the same way as a pipe. This is its only way to take an owned
        // descriptor without `unsafe`. The clone is the same timer.
        let expiries = pipe::Receiver::from_owned_fd_unchecked(descriptor.try_clone()?)?;
        let core = Rc::new(Core {
            descriptor,
            pending: RefCell::default(),
            next_number: Cell::new(0),
            armed_for: Cell::new(None),
        });
        tokio::task::spawn_local(drive(core.clone(), expiries));
        Ok(Self { core })
    }

    pub(crate) fn sleep_until(&self, deadline: Instant) -> Sleep {
        let number = self.core.next_number.get();
        self.core.next_number.set(number + 1);
        Sleep { core: self.core.clone(), key: (deadline, number) }
    }

    /// Measures the median error of some short sleeps. Takes about 20 ms.
    pub(crate) async fn calibrate(&self) -> Duration {
        let mut errors = Vec::with_capacity(CALIBRATION_SLEEPS);
        for _ in 0..CALIBRATION_SLEEPS {
            let deadline = Instant::now() + CALIBRATION_SLEEP;
            self.sleep_until(deadline).await;
            errors.push(deadline.elapsed());
        }
        errors.sort();
        errors[CALIBRATION_SLEEPS / 2]
    }
}

// === impl Core ===

impl Core {
    /// Wakes all sleeps that are due and arms for the next. Under load, [`Sleep::poll`] also calls it, between two
    /// epoll calls of the runtime, so that sleeps do not wait for the next call.
    fn wake_due(&self) {
        let now = Instant::now();
        while let Some(waker) = self.take_due(now) {
            waker.wake();
        }
        if let Some(deadline) = self.earliest() {
            self.arm(deadline, now);
        }
    }

    fn earliest(&self) -> Option<Instant> {
        self.pending.borrow().first_key_value().map(|(&(deadline, _), _)| deadline)
    }

    /// Returns one waker at a time, so that nothing is borrowed while a waker runs or is dropped.
    fn take_due(&self, now: Instant) -> Option<Waker> {
        let mut pending = self.pending.borrow_mut();
        let entry = pending.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }

    fn arm(&self, deadline: Instant, now: Instant) {
        if self.armed_for.get().is_some_and(|armed| armed <= deadline) {
            return;
        }
        // Zero would disarm the timer, so at least one nanosecond.
        let wait = deadline.saturating_duration_since(now).max(Duration::from_nanos(1));
        let spec = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) },
        };
        let armed = timerfd_settime(&self.descriptor, TimerfdTimerFlags::empty(), &spec);
        // It fails only for a bad descriptor or a negative time; neither is possible.
        debug_assert!(armed.is_ok(), "timerfd_settime: {armed:?}");
        self.armed_for.set(Some(deadline));
    }
}

// === impl Sleep ===

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        if self.key.0 <= now {
            return Poll::Ready(()); // The drop removes it from the map.
        }
        let _previous = self.core.pending.borrow_mut().insert(self.key, cx.waker().clone());
        match self.core.earliest() {
            Some(earliest) if earliest <= now => self.core.wake_due(),
            Some(earliest) => self.core.arm(earliest, now),
            None => {}
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        // Bound to a name, so that the waker is dropped after the borrow has ended.
        let _waker = self.core.pending.borrow_mut().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::{Builder, LocalOptions};

    use super::*;

    /// Runs a test of a timer on a runtime like the server's.
    fn with_timer<F: Future<Output = ()>>(claim: impl FnOnce(Timer) -> F) {
        let runtime = Builder::new_current_thread().enable_io().build_local(LocalOptions::default()).unwrap();
        runtime.block_on(async {
            claim(Timer::start().unwrap()).await;
        });
    }

    #[test]
    fn a_sleep_never_ends_before_its_deadline() {
        with_timer(|timer| async move {
            for us in [0, 1, 50, 200, 1500, 2700] {
                let deadline = Instant::now() + Duration::from_micros(us);
                timer.sleep_until(deadline).await;
                assert!(Instant::now() >= deadline, "{us} µs");
            }
        });
    }

    #[test]
    fn sleeps_end_in_the_order_of_their_deadlines_not_of_their_start() {
        with_timer(|timer| async move {
            let start = Instant::now() + Duration::from_millis(1);
            let order = Rc::new(RefCell::new(Vec::new()));
            let tasks: Vec<_> = [3u64, 1, 2]
                .into_iter()
                .map(|ms| {
                    let (sleep, order) = (timer.sleep_until(start + Duration::from_millis(ms)), order.clone());
                    tokio::task::spawn_local(async move {
                        sleep.await;
                        order.borrow_mut().push(ms);
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            assert_eq!(*order.borrow(), [1, 2, 3]);
        });
    }

    #[test]
    fn a_dropped_sleep_leaves_no_entry_and_the_others_still_end() {
        with_timer(|timer| async move {
            let mut dropped = Box::pin(timer.sleep_until(Instant::now() + Duration::from_millis(1)));
            assert!(dropped.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            assert_eq!(timer.core.pending.borrow().len(), 1);
            drop(dropped);
            assert!(timer.core.pending.borrow().is_empty());
            timer.sleep_until(Instant::now() + Duration::from_millis(3)).await;
            assert!(timer.core.pending.borrow().is_empty());
        });
    }
}

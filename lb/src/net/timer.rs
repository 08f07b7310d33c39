//! One timer for all deadlines of a task.
//!
//! Why not a timer per wait: arming and disarming one for every request costs more than the waits that it guards. This
//! one is armed once and may ring early. A wait then compares the time, and the timer is armed again. Invariants: it
//! never rings later than the earliest watched deadline. A task without poll budget also notices its deadline;
//! otherwise a peer that always has bytes ready would have no time limit.

use std::cell::RefCell;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

/// The longest time between two looks at the clock, however far the deadline is. So a nearer deadline rarely needs a
/// new arming.
const RING_MAX: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(crate) struct Timer(RefCell<Option<Alarm>>);

struct Alarm {
    timer: Pin<Box<Sleep>>,
    /// When it last rang: no later deadline can have passed unnoticed.
    rang_at: Instant,
    /// The timer will wake the task; until then it need not be polled.
    is_armed: bool,
}

// === impl Timer ===

impl Timer {
    /// Ready when `deadline` has passed. Must be polled by one task alone.
    #[inline]
    pub(crate) fn poll(&self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let mut alarm = self.0.borrow_mut();
        let alarm = alarm.get_or_insert_with(|| Alarm::new(deadline));
        let is_quiet = alarm.is_armed && alarm.timer.deadline() <= deadline && !alarm.timer.is_elapsed();
        if is_quiet && alarm.rang_at < deadline { Poll::Pending } else { alarm.poll(cx, deadline) }
    }
}

// === impl Alarm ===

impl Alarm {
    fn new(deadline: Instant) -> Self {
        let now = Instant::now();
        Self { timer: Box::pin(sleep_until(deadline.min(now + RING_MAX))), rang_at: now, is_armed: false }
    }

    #[cold]
    fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        self.is_armed = false;
        if self.timer.deadline() > deadline {
            self.timer.as_mut().reset(deadline);
        }
        loop {
            if self.rang_at >= deadline {
                return Poll::Ready(());
            }
            if pin!(unconstrained(self.timer.as_mut())).poll(cx).is_pending() {
                self.is_armed = true;
                return Poll::Pending;
            }
            self.rang_at = Instant::now();
            self.timer.as_mut().reset(deadline.max(self.rang_at).min(self.rang_at + RING_MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::task::coop::consume_budget;

    use super::*;

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn a_deadline_is_met_after_any_earlier_deadline() {
        let timer = Timer::default();
        let start = Instant::now();
        for (from_now_ms, at_ms) in [(75_000, 75_000), (3, 75_003), (60_000, 135_003), (10_000, 145_003)] {
            let deadline = Instant::now() + Duration::from_millis(from_now_ms);
            poll_fn(|cx| timer.poll(cx, deadline)).await;
            assert_eq!(start.elapsed().as_millis() as u64 / 10, at_ms / 10, "timers have a millisecond");
        }
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn a_deadline_is_met_by_a_task_that_has_used_up_its_polls() {
        let timer = Timer::default();
        let deadline = Instant::now() + Duration::from_secs(3);
        poll_fn(|cx| {
            assert!(timer.poll(cx, deadline).is_pending());
            Poll::Ready(())
        })
        .await;
        tokio::time::advance(Duration::from_secs(4)).await;
        poll_fn(|cx| {
            while pin!(consume_budget()).poll(cx).is_ready() {}
            assert!(timer.poll(cx, deadline).is_ready());
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn two_deadlines_of_one_task_are_both_met() {
        let timer = Timer::default();
        let start = Instant::now();
        let (near, far) = (start + Duration::from_secs(4), start + Duration::from_secs(40));
        let mut met = Vec::new();
        poll_fn(|cx| {
            for (name, deadline) in [("far", far), ("near", near)] {
                if !met.contains(&name) && timer.poll(cx, deadline).is_ready() {
                    met.push(name);
                }
            }
            if met.len() == 2 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        assert_eq!(met, ["near", "far"]);
        assert!(start.elapsed() >= Duration::from_secs(40) && start.elapsed() < Duration::from_secs(41));
    }
}

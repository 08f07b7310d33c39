//! The processor time of a sending thread, and the time in which it waited for a processor.
//!
//! The second is the kernel's count (`/proc/thread-self/schedstat`). A thread cannot measure it, because it reads the
//! clock only while it runs.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// When sending ended, and the thread's processor time and waiting time until then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) at_ns: u64,
    pub(super) cpu: Duration,
    /// The time in which it was runnable without a processor; `None` if the kernel does not report it.
    pub(super) waited: Option<Duration>,
}

/// How long this thread has been runnable without a processor since its start; `None` if the kernel does not report it.
pub(super) fn waited() -> Option<Duration> {
    waited_of(&std::fs::read_to_string("/proc/thread-self/schedstat").ok()?)
}

/// The numbers are processor time, waiting time (both in nanoseconds) and time slices: `proc_pid_schedstat` of the
/// kernel's `fs/proc/base.c`.
fn waited_of(schedstat: &str) -> Option<Duration> {
    schedstat.split_ascii_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
}

// === impl Ended ===

impl Ended {
    pub(super) fn at(at_ns: u64) -> Self {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Self { at_ns, cpu: Duration::new(time.tv_sec as u64, time.tv_nsec as u32), waited: waited() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_the_second_number() {
        assert_eq!(waited_of("1234 5678 9\n"), Some(Duration::from_nanos(5678)));
        assert_eq!((waited_of(""), waited_of("0 x 0")), (None, None));
        assert!(waited().is_none_or(|waited| waited >= Duration::ZERO), "Linux may be built without it");
    }
}

//! Waits for a condition of another thread or process.
//!
//! Invariant: a wait ends when its condition holds. [`PATIENCE`] only ends a test that would wait for ever.

use std::time::{Duration, Instant};

/// No wait is longer.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Short beside everything that is waited for, and long enough to leave the CPU to it.
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// Calls `probe` until it returns something.
#[track_caller]
pub fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(BETWEEN_LOOKS);
    }
}

/// Calls `condition` until it holds.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

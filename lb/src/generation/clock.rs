//! The clock that strategies see, in nanoseconds.
//!
//! Why since 1970: a strategy may keep times in its learnt state. On a clock that begins anew with each lb, times of an
//! earlier run would lie in its future, for days after a long run. Invariant: within a run the clock never goes back.

use std::time::{Instant, UNIX_EPOCH};

/// The zero of the clock: the start of 1970, by the system's clock at the call.
pub(super) fn zero() -> Instant {
    UNIX_EPOCH.elapsed().ok().and_then(|since| Instant::now().checked_sub(since)).unwrap_or_else(Instant::now)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn the_clock_goes_on_from_the_systems_clock() {
        let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let shown = zero().elapsed();
        let after = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        // The system's clock may be corrected a little between two looks.
        let slack = Duration::from_secs(60);
        assert!(shown + slack > before && shown < after + slack, "{before:?} {shown:?} {after:?}");
    }
}

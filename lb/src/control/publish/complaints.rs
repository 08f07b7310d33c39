//! How often a fault that repeats is logged: the first at once, then one line in [`EVERY`] with the number in between.

use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(60);

/// The log lines of one source.
#[derive(Default)]
pub(super) struct Complaints {
    told: Option<Instant>,
    untold: u64,
}

// === impl Complaints ===

impl Complaints {
    /// Whether the fault at `now` is logged: the number of earlier ones that were not.
    pub(super) fn may_tell(&mut self, now: Instant) -> Option<u64> {
        if self.told.is_some_and(|told| now < told + EVERY) {
            self.untold += 1;
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_minute_says_how_many_were_left_out() {
        let (mut complaints, start) = (Complaints::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let told: Vec<_> = [0, 1, 59, 60, 61, 200].map(|second| complaints.may_tell(at(second))).into();
        assert_eq!(told, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}

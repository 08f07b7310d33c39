//! Failures in a row on one backend, counted where responses arrive and read by outlier detection.
//!
//! Why beside `consecutive_errors` of the strategy contract: there a response with status 500 is a success, and a
//! strategy may rely on that. Invariants: a good response costs one load, and it stores only if there is a count to
//! clear. One caller is told that a threshold is reached, until a good response or a return clears the count. If two
//! workers write at the same time, one failure may be lost, or a count may begin at 1.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// How many failures in a row are too many; 0 switches a rule off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Connect errors, resets, time-outs, invalid responses, and the statuses 502, 503 and 504.
    pub gateway: u32,
    /// All of these, and every other status for which [`is_server_error`] is true.
    pub errors: u32,
}

/// Failures in a row, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InRow {
    pub gateway: u32,
    pub errors: u32,
}

/// The live counts. A gateway failure is an error as well, so `gateway` is 0 if `errors` is.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    gateway: AtomicU32,
    errors: AtomicU32,
    /// Bodies that broke off, since one was complete. A good head clears the other counts, so these would never see two
    /// of them.
    broken: AtomicU32,
}

/// Whether a status says that the server failed: 5xx, except 501 and 505. A client can provoke these two with any
/// method or version, so HAProxy's `observe layer7` does not count them either.
#[inline]
pub const fn is_server_error(status: u16) -> bool {
    status >= 500 && status <= 599 && status != 501 && status != 505
}

// === impl Thresholds ===

impl Thresholds {
    pub const OFF: Self = Self { gateway: 0, errors: 0 };

    /// Whether `in_row` is at a threshold or beyond.
    pub const fn are_reached(self, in_row: InRow) -> bool {
        (self.gateway != 0 && in_row.gateway >= self.gateway) || (self.errors != 0 && in_row.errors >= self.errors)
    }
}

// === impl Signals ===

impl Signals {
    /// See [`crate::Backend::head_arrived`].
    #[inline]
    pub(crate) fn status(&self, status: u16, thresholds: Thresholds) -> bool {
        if !is_server_error(status) {
            self.clear_failures();
            return false;
        }
        if matches!(status, 502..=504) {
            return self.failure(thresholds);
        }
        if self.gateway.load(Relaxed) != 0 {
            self.gateway.store(0, Relaxed);
        }
        self.errors.fetch_add(1, Relaxed).wrapping_add(1) == thresholds.errors
    }

    /// See [`crate::Backend::attempt_failed`].
    pub(crate) fn failure(&self, thresholds: Thresholds) -> bool {
        // `gateway` first here and last in `clear`: so `errors` is not 0 while `gateway` has a count.
        let gateway = self.gateway.fetch_add(1, Relaxed).wrapping_add(1);
        let errors = self.errors.fetch_add(1, Relaxed).wrapping_add(1);
        gateway == thresholds.gateway || errors == thresholds.errors
    }

    /// See [`crate::Backend::body_broke_off`].
    pub(crate) fn broke_off(&self, thresholds: Thresholds) -> bool {
        let broken = self.broken.fetch_add(1, Relaxed).wrapping_add(1);
        self.failure(thresholds) || broken == thresholds.gateway || broken == thresholds.errors
    }

    /// See [`crate::Backend::body_is_complete`].
    #[inline]
    pub(crate) fn complete(&self) {
        if self.broken.load(Relaxed) != 0 {
            self.broken.store(0, Relaxed);
        }
    }

    pub(crate) fn clear(&self) {
        self.clear_failures();
        self.complete();
    }

    #[inline]
    fn clear_failures(&self) {
        if self.errors.load(Relaxed) != 0 {
            self.errors.store(0, Relaxed);
            self.gateway.store(0, Relaxed);
        }
    }

    pub(crate) fn in_row(&self) -> InRow {
        let broken = self.broken.load(Relaxed);
        InRow { gateway: self.gateway.load(Relaxed).max(broken), errors: self.errors.load(Relaxed).max(broken) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIVE: Thresholds = Thresholds { gateway: 5, errors: 5 };

    #[test]
    fn statuses_and_failures_count_as_their_kind_says() {
        let signals = Signals::default();
        let after = |status: Option<u16>| {
            match status {
                Some(status) => signals.status(status, Thresholds::OFF),
                None => signals.failure(Thresholds::OFF),
            };
            let in_row = signals.in_row();
            (in_row.gateway, in_row.errors)
        };
        assert_eq!(
            [after(Some(502)), after(Some(503)), after(Some(504)), after(None)],
            [(1, 1), (2, 2), (3, 3), (4, 4)]
        );
        assert_eq!([after(Some(500)), after(Some(599)), after(None)], [(0, 5), (0, 6), (1, 7)]);
        for good in [101, 200, 304, 404, 429, 499, 501, 505] {
            assert_eq!([after(None).1 > 0, after(Some(good)) == (0, 0)], [true; 2], "{good}");
        }
    }

    #[test]
    fn a_threshold_is_told_once_in_a_row() {
        let signals = Signals::default();
        let told = |failures: &str| -> String {
            let of = |kind| match kind {
                'g' => signals.failure(FIVE),
                'e' => signals.status(500, FIVE),
                _ => signals.status(200, FIVE),
            };
            failures.chars().map(|kind| if of(kind) { '!' } else { '.' }).collect()
        };
        assert_eq!(told("eeeeeeee"), "....!...");
        assert_eq!(told(".eeee.eeeee"), "..........!");
        assert_eq!(told(".ggggg"), ".....!", "both thresholds at once are one alert");
        assert_eq!(told(".eeegggggg"), ".....!..!.", "the errors, then the gateway failures");
    }

    #[test]
    fn bodies_that_break_off_are_failures_in_a_row_although_each_head_is_good() {
        let signals = Signals::default();
        let ask = |breaks: bool| {
            assert!(!signals.status(200, FIVE));
            match breaks {
                true => signals.broke_off(FIVE),
                false => {
                    signals.complete();
                    false
                }
            }
        };
        let told: Vec<bool> = [true, true, false, true, true, true, true, true, true].map(ask).into();
        assert_eq!(told, [false, false, false, false, false, false, false, true, false]);
        assert_eq!(signals.in_row(), InRow { gateway: 6, errors: 6 });
        ask(false);
        assert_eq!(signals.in_row(), InRow::default());
        ask(true);
        signals.clear();
        assert_eq!(signals.in_row(), InRow::default());
    }

    #[test]
    fn with_thresholds_of_zero_nothing_is_told() {
        let signals = Signals::default();
        assert!((0..100).all(|_| !signals.failure(Thresholds::OFF) && !signals.status(500, Thresholds::OFF)));
        assert!(!Thresholds::OFF.are_reached(signals.in_row()));
        assert!(Thresholds { gateway: 0, errors: 200 }.are_reached(signals.in_row()));
        assert!(!Thresholds { gateway: 1, errors: 0 }.are_reached(signals.in_row()), "the last one was a plain 500");
    }
}

//! The duration of a fault's effect: from the fault to the start of the first calm stretch.
//!
//! A window is calm if errors, tail latency and throughput are about as before the fault. The recovery is the first of
//! a number of calm windows in a row. A single calm window between others does not count. If no window is affected, the
//! time is 0. Windows are by scheduled send time, so a stall counts for the requests scheduled during it.

use serde::{Deserialize, Serialize};

use crate::model::Window;

/// The conditions of a calm window, relative to the windows before the fault.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calm {
    /// The highest share of errors, above that before the fault.
    pub errors_above: f64,
    /// The highest p99, over the median p99 before the fault.
    pub p99_factor: f64,
    /// The least share of scheduled requests with a response (in a closed loop: of the median before the fault).
    pub answered_share: f64,
    /// The number of calm windows in a row.
    pub windows: usize,
}

/// The effect of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    pub fault_at_ms: u64,
    /// From the fault to recovery; `None` if the load ended before it.
    pub recovery_ms: Option<u64>,
    /// Errors from the fault to recovery, or to the end.
    pub errors: u64,
    /// Windows in that time that were not calm.
    pub hurt_windows: usize,
}

/// The usual values before the fault.
struct Usual {
    errors: f64,
    p99_ns: Option<u64>,
    answered: u64,
}

/// The effect of a fault at `fault_at_ms`, on the clock of the windows. The windows are `window_ms` wide, in order and
/// without gaps. `None` if no window lies before the fault, or none after.
pub fn recovery(windows: &[Window], window_ms: u64, fault_at_ms: u64, calm: Calm) -> Option<Recovery> {
    let split = windows.partition_point(|window| window.at_ms + window_ms <= fault_at_ms);
    let (before, after) = windows.split_at(split);
    if after.is_empty() {
        return None;
    }
    let usual = Usual::of(before)?;
    let is_calm: Vec<bool> = after.iter().map(|window| usual.is_kept(window, calm)).collect();
    let recovered = is_calm.windows(calm.windows.max(1)).position(|row| row.iter().all(|calm| *calm));
    let hurt = ..recovered.unwrap_or(after.len());
    Some(Recovery {
        fault_at_ms,
        recovery_ms: recovered.map(|at| after[at].at_ms.saturating_sub(fault_at_ms)),
        errors: after[hurt].iter().map(|window| window.errors).sum(),
        hurt_windows: is_calm[hurt].iter().filter(|calm| !**calm).count(),
    })
}

// === impl Calm ===

impl Default for Calm {
    /// One percentage point more errors, twice the p99, responses to 90 % of requests, five windows in a row.
    fn default() -> Self {
        Self { errors_above: 0.01, p99_factor: 2.0, answered_share: 0.9, windows: 5 }
    }
}

// === impl Usual ===

impl Usual {
    fn of(before: &[Window]) -> Option<Self> {
        let answered: u64 = before.iter().map(|window| window.answered).sum();
        let errors: u64 = before.iter().map(|window| window.errors).sum();
        Some(Self {
            errors: errors as f64 / answered.max(1) as f64,
            p99_ns: median(before.iter().filter_map(|window| window.p99_ns).collect()),
            answered: median(before.iter().map(|window| window.answered).collect())?,
        })
    }

    fn is_kept(&self, window: &Window, calm: Calm) -> bool {
        let asked = window.asked.unwrap_or(self.answered) as f64;
        let errors = window.errors as f64 / window.answered.max(1) as f64;
        let is_slow = match (window.p99_ns, self.p99_ns) {
            (Some(now), Some(usual)) => now as f64 > calm.p99_factor * usual as f64,
            _ => false,
        };
        errors <= self.errors + calm.errors_above && !is_slow && window.answered as f64 >= calm.answered_share * asked
    }
}

fn median(mut numbers: Vec<u64>) -> Option<u64> {
    numbers.sort_unstable();
    numbers.get(numbers.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW_MS: u64 = 100;

    /// 3 s of calm windows, some of which `change` modifies.
    fn windows(change: impl Fn(usize, &mut Window)) -> Vec<Window> {
        let mut windows: Vec<Window> = (0..30)
            .map(|number| Window {
                at_ms: number * WINDOW_MS,
                asked: Some(100),
                answered: 100,
                p99_ns: Some(20_000_000),
                ..Window::default()
            })
            .collect();
        windows.iter_mut().enumerate().for_each(|(number, window)| change(number, window));
        windows
    }

    fn at_1050(windows: &[Window]) -> Recovery {
        recovery(windows, WINDOW_MS, 1050, Calm::default()).expect("windows on both sides")
    }

    #[test]
    fn it_takes_until_five_windows_are_calm_in_a_row() {
        let found = at_1050(&windows(|number, window| match number {
            10..=12 => window.errors = 20,
            // one calm window between others, at 13
            14 => window.p99_ns = Some(41_000_000),
            _ => {}
        }));
        let expected = Recovery { fault_at_ms: 1050, recovery_ms: Some(450), errors: 60, hurt_windows: 4 };
        assert_eq!(found, expected);
    }

    #[test]
    fn a_fault_without_effect_took_no_time() {
        let found = at_1050(&windows(|_, _| {}));
        assert_eq!((found.recovery_ms, found.errors, found.hurt_windows), (Some(0), 0, 0));
        let usual_errors = at_1050(&windows(|_, window| window.errors = 3));
        assert_eq!(usual_errors.recovery_ms, Some(0), "as many errors as before the fault");
    }

    #[test]
    fn each_sign_of_trouble_counts_alone() {
        for hurt in [
            (|window: &mut Window| window.errors = 2) as fn(&mut Window),
            |window| window.p99_ns = Some(41_000_000),
            |window| window.answered = 89,
            |window| (window.asked, window.answered) = (None, 80),
        ] {
            let found = at_1050(&windows(|number, window| {
                if (12..15).contains(&number) {
                    hurt(window);
                }
            }));
            assert_eq!((found.recovery_ms, found.hurt_windows), (Some(450), 3));
        }
    }

    #[test]
    fn a_fault_without_end_or_without_windows_on_both_sides_has_no_time() {
        let found = at_1050(&windows(|number, window| window.errors = if number > 10 { 50 } else { 0 }));
        assert_eq!((found.recovery_ms, found.errors, found.hurt_windows), (None, 19 * 50, 19));
        let all = windows(|_, _| {});
        assert_eq!(recovery(&all, WINDOW_MS, 50, Calm::default()), None);
        assert_eq!(recovery(&all, WINDOW_MS, 3000, Calm::default()), None);
    }
}

//! Windows of one second within one load. Some have an event, the others are quiet; their tail latencies are compared.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::load::Sample;
use super::statistics::quantile;

pub(crate) const WINDOW: Duration = Duration::from_secs(1);
/// The gap between two windows, so that work of one window does not fall into the next.
pub(crate) const GAP: Duration = Duration::from_millis(250);
/// The time from the start of a window to its event.
pub(crate) const HAPPENS_AFTER: Duration = Duration::from_millis(200);
pub(crate) const CALIBRATION: Duration = Duration::from_secs(3);
pub(crate) const WARM_UP: Duration = Duration::from_secs(2);

/// The p99 of the requests that were due in the window.
pub(crate) fn p99_us(samples: &[Sample], begin: Instant) -> Result<f64> {
    let latencies = latencies_ns(samples, begin, WINDOW);
    ensure!(latencies.len() >= 500, "{} requests in a window are too few for a p99: raise --rate", latencies.len());
    Ok(quantile(&latencies, 0.99) as f64 / 1e3)
}

/// The latencies, ascending, of the requests that were due from `begin` to `within` later.
pub(crate) fn latencies_ns(samples: &[Sample], begin: Instant, within: Duration) -> Vec<u64> {
    let from = samples.partition_point(|sample| sample.due < begin);
    let to = samples.partition_point(|sample| sample.due < begin + within);
    let mut latencies: Vec<u64> = samples[from..to].iter().map(|sample| sample.latency_ns).collect();
    latencies.sort_unstable();
    latencies
}

pub(crate) fn loadavg() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("?").to_owned()
}

pub(crate) fn sleep_until(when: Instant) {
    std::thread::sleep(when.saturating_duration_since(Instant::now()));
}

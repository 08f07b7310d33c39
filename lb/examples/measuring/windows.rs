//! Windows of a second, cut out of one load. An event happens in some of them, and their tails are compared.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::load::Sample;
use super::statistics::quantile;

pub(crate) const WINDOW: Duration = Duration::from_secs(1);
/// Between two windows, so that what one leaves undone is not the next one's.
pub(crate) const GAP: Duration = Duration::from_millis(250);
/// What happens in a window happens so long after its begin.
pub(crate) const HAPPENS_AFTER: Duration = Duration::from_millis(200);
pub(crate) const CALIBRATION: Duration = Duration::from_secs(3);
pub(crate) const WARM_UP: Duration = Duration::from_secs(2);

/// Of the requests that were due in the window.
pub(crate) fn p99_us(samples: &[Sample], begin: Instant) -> Result<f64> {
    let latencies = latencies_ns(samples, begin, WINDOW);
    ensure!(latencies.len() >= 500, "{} requests in a window are too few for a p99: raise --rate", latencies.len());
    Ok(quantile(&latencies, 0.99) as f64 / 1e3)
}

/// Of the requests that were due within so long, ascending.
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

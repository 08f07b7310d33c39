//! The load engine: sends requests and measures responses.
//!
//! A [`Plan`] has the requests, the target, the schedule and the end. [`start`] runs it on its own threads and returns
//! a [`Running`] load; its [`Handle`] observes, cuts and stops it. [`Running::wait`] returns the [`Outcome`].
//!
//! ```no_run
//! use std::time::Duration;
//! use loadgen::load::{self, Arrivals, Plan, Stop, Target};
//!
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let target = Target { addresses: vec!["127.0.0.1:8080".parse()?], host: "127.0.0.1:8080".into() };
//! let plan = Plan::new(target, Arrivals::Poisson { rps: 1000.0 }, Stop::AfterTime(Duration::from_secs(10)));
//! let outcome = load::start(plan)?.wait();
//! let segment = &outcome.segments[0];
//! println!("{} answered, p99 {} ns", segment.answered, segment.latency.value_at_quantile(0.99));
//! # Ok(())
//! # }
//! ```
//!
//! There are two clocks: **latency** is measured from the scheduled send time, **service time** from the actual send.
//! While a server stalls, scheduled requests are sent late, and only the first clock shows it (coordinated omission:
//! Tene, "How NOT to measure latency"). A closed loop has no schedule, so its latency is its service time.
//!
//! Each sending thread is one event loop on epoll. Its own timers wake it for the next scheduled request, and it checks
//! the clock between any two responses. So pacing and sending need no hand-over between threads. The schedule is
//! absolute and a pure function of (law, seed), so one late request delays no other.
//!
//! Arrows inside: `engine` → `worker` → {`pacing` → `source`, `alarm`, `pool` → `connection` → `wire`, `recorder` →
//! `collector`} → the plain data (`plan`, `outcome`, `arrivals`, `keys`, `cost`). Invariants:
//! - due = answered + errors + unsent + unfinished, in every segment.
//! - Memory does not grow with the number of requests: samples are not stored, and histograms have bounded size. The
//!   time series grows by about 100 bytes per 100 ms.
//! - In a steady state a request allocates nothing.

mod alarm;
mod arrivals;
mod batches;
mod calibrate;
mod clock;
mod collector;
mod connection;
mod cost;
mod draw;
mod engine;
mod keys;
mod orders;
mod outcome;
mod pacing;
mod plan;
mod pool;
mod recorder;
mod sequence;
mod source;
mod timeouts;
mod validity;
mod windows;
mod wire;
mod worker;

use std::time::Duration;

pub use arrivals::{Arrivals, Schedule};
pub use batches::{Batches, Stretch, Times};
pub use calibrate::{Calibration, CalibrationError, Goal, Search, Step, Verdict, calibrate};
pub use collector::{Live, Snapshot};
pub use cost::{BadCost, COST_HEADER, Cost};
pub use engine::{BadCut, Cut, Handle, Running, StartError, start};
pub use keys::{BadKeys, HotKey, Keys};
pub use outcome::{
    BackendTally, ErrorKind, Errors, Latencies, Outcome, RoughLatencies, Segment, Window, new_latencies,
};
pub use plan::{BadPlan, KEY_HEADER, OUTSTANDING, Plan, Request, Stop, Target};
pub use timeouts::{Phase, Timeouts};
pub use validity::{Doubt, DoubtAbout, Punctuality};
pub(crate) use worker::LEAD_NS;

/// Reads a duration written as a number and a unit: `250us`, `1.5ms`, `2s`, `3m`, `1h`; `0` needs no unit.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let number: f64 = number.trim().parse().ok()?;
    let seconds = match unit {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "" if number == 0.0 => 1.0,
        _ => return None,
    } * number;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        for (text, ms) in [("0", 0.0), ("250us", 0.25), ("1.5ms", 1.5), (" 2s ", 2e3), ("3m", 180e3), ("1h", 3600e3)] {
            assert_eq!(parse_duration(text), Some(Duration::from_secs_f64(ms / 1e3)), "{text}");
        }
        for bad in ["", "5", "-1s", "NaNs", "1d", "s", "1e400s"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}

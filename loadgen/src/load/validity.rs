//! The generator's check of itself: whether its own lateness changed the numbers, with the reasons in words.
//!
//! A late generator makes latencies longer. So each reported number (the mean, p50, p90, p99) is compared with its
//! value without the lateness of each request ([`Segment::prompt`]). That needs no minimum of requests, because it is
//! about these requests only. Whether the generator is on time in general is another question. With fewer than
//! [`enough`] requests it is not judged, and with more only as far as the number of late requests allows.
//!
//! Responses that were read late look like slow ones. But the kernel counts how long a thread waited for a processor.
//! At low rates each such wait delays one event, so the mean wait per request must be within the bound of the mean. At
//! high rates a wait also delays scheduled requests, and the first check detects it.

use std::fmt;
use std::time::Duration;

use statrs::distribution::{Binomial, DiscreteCDF};

use super::outcome::{ErrorKind, Latencies, Segment};

/// Whether requests were sent, and responses read, at the right times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Punctuality {
    /// Lateness moved no number that the run reports by more than is allowed.
    OnTime,
    /// Lateness moved a number too far. For example: `by 1.2 ms at p90, where 0.8 ms are allowed`.
    Late(String),
    /// It was not judged, for this reason.
    NotJudged(String),
}

/// Doubts about a run's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    pub about: DoubtAbout,
    /// The reason with its numbers, and what to do.
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoubtAbout {
    /// The generator was late.
    Lateness,
    /// A sending thread had no processor time left.
    OwnCpu,
    /// This machine had no port or file descriptor left.
    Local,
}

/// The processor time of sending.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort<'a> {
    /// The processor time of each thread, in seconds.
    pub(super) cpu_s: &'a [f64],
    pub(super) sending_s: f64,
    /// The time in which threads were runnable without a processor, over all threads; `None` if the kernel does not
    /// report it.
    pub(super) waited: Option<Duration>,
    /// The number of requests that began in this time, including the warm-up.
    pub(super) requests: u64,
}

/// Lateness may be at most this part of a number without lateness.
const LAG_SHARE: f64 = 0.10;
/// Lateness up to this is always allowed. The kernel must wake the process for each request. On ordinary virtual
/// machines that is late by 50 to 150 µs at the 99th percentile. The latency includes it.
const LAG_FLOOR_NS: f64 = 200_000.0;
/// The percentiles that are judged, and the fewest samples for each. Reports show a percentile from the same number on.
const JUDGED: [(&str, f64, u64); 3] = [("p50", 0.5, 20), ("p90", 0.9, 100), ("p99", 0.99, 1_000)];
/// A generator counts as on time if it is certain, to this confidence, …
const CONFIDENCE: f64 = 0.95;
/// … that less than this share of its requests is late.
const LATE_SHARE: f64 = 0.01;
/// A thread that is this busy sends late or too little, because it lacks processor time.
const CPU_SHARE: f64 = 0.90;
/// In less time than this, a thread mostly starts up, …
const CPU_SHORTEST_S: f64 = 0.1;
/// … unless it has sent this many requests.
const CPU_REQUESTS: u64 = 1_000;

/// A number that lateness has moved.
#[derive(Clone, Copy, Debug)]
struct Moved {
    at: &'static str,
    by_ns: f64,
    allowed_ns: f64,
}

/// The fewest requests, none of them late, that exclude a share of [`LATE_SHARE`]. The upper bound is exact (Clopper
/// and Pearson). It is below s if at most this many late requests have a probability of at most 1 − confidence at share
/// s. With none late that probability is (1 − s)^n.
fn enough() -> u64 {
    ((1.0 - CONFIDENCE).ln() / (1.0 - LATE_SHARE).ln()).ceil() as u64
}

/// `total`: all measured segments.
pub(super) fn punctuality(total: &Segment, effort: &Effort<'_>, is_closed_loop: bool) -> Punctuality {
    if is_closed_loop {
        return Punctuality::NotJudged("a closed loop has no schedule".to_owned());
    }
    let late = moved(&total.latency, &total.prompt).map(|moved| format!("by {moved}"));
    if let Some(late) = late.or_else(|| read_late(total, effort)) {
        return Punctuality::Late(late);
    }
    match why_not_judged(total) {
        Some(why) => Punctuality::NotJudged(why),
        None => Punctuality::OnTime,
    }
}

/// With too few samples for p99, p99 was not compared. Then it must be shown that less than [`LATE_SHARE`] is late.
fn why_not_judged(total: &Segment) -> Option<String> {
    let samples = total.latency.len();
    if samples >= JUDGED[2].2 {
        return None;
    }
    let percent = LATE_SHARE * 100.0;
    if samples < enough() {
        let enough = enough();
        return Some(format!(
            "{samples} good responses are too few: only {enough} on time exclude that {percent:.0} % are late"
        ));
    }
    let allowed_ns = allowed_ns(total.prompt.mean());
    let late = total.lag.count_between(allowed_ns as u64 + 1, u64::MAX);
    let law = Binomial::new(LATE_SHARE, total.lag.len()).ok()?;
    (law.cdf(late) > 1.0 - CONFIDENCE).then(|| {
        format!(
            "{late} of {} requests were sent later than {:.1} ms: that does not exclude that {percent:.0} % are late",
            total.lag.len(),
            allowed_ns / 1e6
        )
    })
}

/// The number that lateness has moved most, if beyond what is allowed.
fn moved(latency: &Latencies, prompt: &Latencies) -> Option<Moved> {
    let told = JUDGED.into_iter().filter(|(.., samples)| latency.len() >= *samples);
    let percentiles = told.map(|(at, quantile, _)| {
        (at, latency.value_at_quantile(quantile) as f64, prompt.value_at_quantile(quantile) as f64)
    });
    let all = percentiles.chain([("the mean", latency.mean(), prompt.mean())]);
    let moved = all.map(|(at, with, without)| Moved { at, by_ns: with - without, allowed_ns: allowed_ns(without) });
    moved.filter(|moved| moved.excess() > 1.0).max_by(|one, other| one.excess().total_cmp(&other.excess()))
}

/// Whether responses waited too long because no processor was free to read them.
fn read_late(total: &Segment, effort: &Effort<'_>) -> Option<String> {
    let waited_ns = effort.waited?.as_nanos() as f64 / effort.requests.max(1) as f64;
    let moved = Moved { at: "the mean", by_ns: waited_ns, allowed_ns: allowed_ns(total.prompt.mean()) };
    (moved.excess() > 1.0).then(|| format!("by waiting for a processor, {moved}"))
}

/// The allowed lateness of a number that is `ns` without lateness.
fn allowed_ns(ns: f64) -> f64 {
    (ns * LAG_SHARE).max(LAG_FLOOR_NS)
}

/// Doubts about a run's numbers.
pub(super) fn doubts(
    total: &Segment,
    effort: &Effort<'_>,
    punctuality: &Punctuality,
    is_closed_loop: bool,
) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    if let Punctuality::Late(late) = punctuality {
        let reason = format!(
            "the load generator was late, {late} (a tenth of the rest, at least {:.1} ms). Give it a core of its own, or ask for fewer \
             requests",
            LAG_FLOOR_NS / 1e6
        );
        doubts.push(Doubt { about: DoubtAbout::Lateness, reason });
    }
    let Effort { cpu_s, sending_s, .. } = *effort;
    let busiest = cpu_s.iter().copied().fold(0.0, f64::max);
    let is_long = sending_s >= CPU_SHORTEST_S || total.due >= CPU_REQUESTS;
    if is_long && busiest > CPU_SHARE * sending_s {
        let meaning = if is_closed_loop {
            "the throughput is the limit of the generator, and the server may be faster"
        } else {
            "it lacked processor time"
        };
        let reason = format!(
            "a sending thread was busy {:.0} % of the time: {meaning}. Use more threads, on cores of their own",
            busiest / sending_s * 100.0
        );
        doubts.push(Doubt { about: DoubtAbout::OwnCpu, reason });
    }
    let local = total.errors.of(ErrorKind::Local);
    if local > 0 {
        let reason = format!(
            "{local} requests found no free port or file descriptor on this machine: fewer connections, or a higher limit (ulimit -n)"
        );
        doubts.push(Doubt { about: DoubtAbout::Local, reason });
    }
    doubts
}

// === impl Punctuality ===

impl Punctuality {
    pub fn is_late(&self) -> bool {
        matches!(self, Self::Late(_))
    }

    /// The reason, if it was not judged.
    pub fn why_not_judged(&self) -> Option<&str> {
        match self {
            Self::NotJudged(why) => Some(why),
            _ => None,
        }
    }
}

// === impl Doubt ===

impl fmt::Display for Doubt {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.reason)
    }
}

// === impl Moved ===

impl Moved {
    /// The lateness over the allowed one; above 1 is too much.
    fn excess(&self) -> f64 {
        self.by_ns / self.allowed_ns
    }
}

impl fmt::Display for Moved {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, by_ns, allowed_ns } = *self;
        write!(out, "{:.3} ms at {at}, where {:.3} ms are allowed", by_ns / 1e6, allowed_ns / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Effort<'_> = Effort { cpu_s: &[0.1], sending_s: 1.0, waited: None, requests: 1_000 };

    /// This many requests that took `prompt_ns`, each late by `lag_ns`.
    fn segment(requests: u64, prompt_ns: u64, lag_ns: impl Fn(u64) -> u64) -> Segment {
        let mut segment = Segment::new(0);
        for request in 0..requests {
            segment.due += 1;
            let lag_ns = lag_ns(request);
            segment.lag.record(lag_ns).expect("it grows");
            segment.prompt.record(prompt_ns).expect("it grows");
            segment.latency.record(prompt_ns + lag_ns).expect("it grows");
        }
        segment
    }

    fn judged(segment: &Segment) -> Punctuality {
        punctuality(segment, &CALM, false)
    }

    #[test]
    fn lateness_is_judged_by_the_number_that_it_moves() {
        let of = |prompt, lag| judged(&segment(1_000, prompt, |_| lag));
        assert_eq!(of(10_000_000, 900_000), Punctuality::OnTime);
        assert_eq!(of(100_000, 190_000), Punctuality::OnTime, "below the floor");
        assert!(of(100_000, 250_000).is_late());
        let Punctuality::Late(late) = of(10_000_000, 1_100_000) else { panic!("a tenth is 1 ms") };
        assert!(late.starts_with("by 1.") && late.ends_with("where 1.000 ms are allowed"), "{late}");
    }

    #[test]
    fn a_late_tail_is_harmless_for_the_median_and_harmful_for_p99() {
        let tail =
            |requests| judged(&segment(requests, 10_000_000, |request| if request % 20 == 0 { 8_000_000 } else { 0 }));
        let Punctuality::Late(late) = tail(1_000) else { panic!("5 % late by 8 ms move p99 of 10 ms") };
        assert!(late.contains("at p99"), "{late}");
        let Punctuality::NotJudged(why) = tail(900) else {
            panic!("there is no p99, and the mean is moved by 0.4 of 1 ms")
        };
        assert!(why.starts_with("45 of 900 requests were sent later than 1.0 ms"), "{why}");
    }

    #[test]
    fn however_few_requests_there_are_a_mean_that_is_not_the_servers_is_late() {
        for requests in [1, 5, 19, 150, 700] {
            let few = segment(requests, 1_000_000, |request| if request % 5 == 0 { 125_000_000 } else { 0 });
            assert!(judged(&few).is_late(), "{requests} requests, a fifth of them late by 125 ms");
        }
    }

    #[test]
    fn too_few_requests_are_not_judged() {
        assert_eq!(enough(), 299, "0.99^299 is below 5 %, 0.99^298 is not");
        let of = |requests| judged(&segment(requests, 10_000_000, |_| 1_000));
        assert_eq!(of(299), Punctuality::OnTime);
        for requests in [0, 1, 298] {
            let Punctuality::NotJudged(why) = of(requests) else { panic!("{requests} are too few") };
            assert!(why.starts_with(&format!("{requests} good responses are too few")), "{why}");
        }
        // P(at most k of n | 1 %) by hand: 0.0297 for 2 of 700, 0.0805 for 3
        let late = |count| judged(&segment(700, 10_000_000, |request| if request < count { 2_000_000 } else { 0 }));
        assert_eq!(late(2), Punctuality::OnTime);
        assert!(late(3).why_not_judged().is_some());
        let closed = punctuality(&segment(10_000, 1, |_| 0), &CALM, true);
        assert_eq!(closed.why_not_judged(), Some("a closed loop has no schedule"));
    }

    #[test]
    fn a_percentile_is_judged_from_the_number_of_samples_at_which_it_is_reported() {
        for (at, quantile, samples) in JUDGED {
            assert_eq!((10.0 / (1.0 - quantile)).round() as u64, samples, "{at}: ten lie beyond it");
        }
    }

    #[test]
    fn responses_that_wait_for_a_processor_are_read_late() {
        let of = |waited_ms, prompt_ns| {
            let effort = Effort { waited: Some(Duration::from_millis(waited_ms)), ..CALM };
            punctuality(&segment(1_000, prompt_ns, |_| 0), &effort, false)
        };
        assert_eq!(of(190, 100_000), Punctuality::OnTime, "0.19 ms for each request");
        assert_eq!(of(900, 10_000_000), Punctuality::OnTime, "a tenth of the mean is 1 ms");
        for (waited_ms, prompt_ns) in [(210, 100_000), (1_100, 10_000_000)] {
            let Punctuality::Late(late) = of(waited_ms, prompt_ns) else { panic!("{waited_ms} ms for 1,000 requests") };
            assert!(late.starts_with("by waiting for a processor, "), "{late}");
        }
    }

    #[test]
    fn one_busy_thread_is_enough_also_with_few_requests() {
        let busy = |cpu_s: &[f64], sending_s, requests, is_closed| {
            let effort = Effort { cpu_s, sending_s, ..CALM };
            doubts(&segment(requests, 1_000_000, |_| 0), &effort, &Punctuality::OnTime, is_closed)
        };
        assert_eq!(busy(&[8.9, 1.0], 10.0, 1_000, false), []);
        let [doubt] = &busy(&[1.0, 9.5], 10.0, 10, false)[..] else { panic!("a thread is busy") };
        assert!(doubt.about == DoubtAbout::OwnCpu && doubt.reason.contains("95 %"), "{doubt}");
        assert!(busy(&[9.5], 10.0, 10, true)[0].reason.contains("the server may be faster"));
        assert_eq!(busy(&[0.0095], 0.01, 100, true), [], "starting up");
        assert_eq!(busy(&[0.0095], 0.01, 1_000, true).len(), 1);
    }

    #[test]
    fn limits_of_this_machine_and_lateness_name_the_remedy() {
        let mut segment = segment(1_000, 1_000_000, |_| 0);
        segment.errors.count(ErrorKind::Local);
        let late = Punctuality::Late("by 2.000 ms at p50, where 0.200 ms are allowed".into());
        let doubts = doubts(&segment, &CALM, &late, false);
        assert_eq!(
            doubts.iter().map(|doubt| doubt.about).collect::<Vec<_>>(),
            [DoubtAbout::Lateness, DoubtAbout::Local]
        );
        assert!(doubts[0].reason.contains("by 2.000 ms at p50") && doubts[0].reason.contains("a core of its own"));
        assert!(doubts[1].reason.contains("port"));
    }
}

//! Tests of the intervals of one run with 4,000 runs of queues with a known law (`statistics::queue`), recorded as in a
//! load.
//!
//! Shares are counted, printed and compared with limits. The seeds are 0 to 3,999, so every run gives the same shares.
//! Coverage is that of the reported intervals. It must be 94 to 96 % if at least two of three runs report one. If more
//! runs have none, the others look calm by chance, which no rule can detect within a run. Then the limit is on the
//! share of all runs with a wrong interval.

use fastrand::Rng;
use hdrhistogram::Histogram;

use crate::load::{Batches, new_latencies};
use crate::statistics::queue::{Law, Queue, exponential};
use crate::statistics::{Batch, Bounds, Intervals, intervals};

const RUNS: u64 = 4_000;
const NUMBERS: [&str; 6] = ["mean", "p50", "p75", "p90", "p95", "p99"];
const QUANTILES: [f64; 5] = [0.5, 0.75, 0.9, 0.95, 0.99];
/// The mean service time: 0.1 ms.
const NS: f64 = 1e5;

/// The results for the interval of one number in all runs.
#[derive(Clone, Copy, Default)]
struct Tally {
    told: u64,
    covered: u64,
}

/// One run as a load records it.
struct Recorded {
    all: Histogram<u64>,
    batches: Batches,
}

/// The tallies of [`NUMBERS`] after `length` requests of each run. `visits` begins a run from its seed; `truths` are
/// the values of its law.
fn tallies<V: Iterator<Item = (f64, f64)>>(length: usize, truths: [f64; 6], visits: impl Fn(Rng) -> V) -> [Tally; 6] {
    let mut tallies = [Tally::default(); 6];
    let mut recorded = Recorded { all: new_latencies(), batches: Batches::new(0) };
    for seed in 0..RUNS {
        recorded.record(visits(Rng::with_seed(seed)).take(length));
        let Intervals { mean, percentiles } = recorded.intervals();
        let found = std::iter::once(mean).chain(percentiles);
        for ((tally, found), truth) in tallies.iter_mut().zip(found).zip(truths) {
            let Ok(Bounds { low_ns, high_ns }) = found else { continue };
            tally.told += 1;
            tally.covered += u64::from((low_ns..=high_ns).contains(&(truth * NS)));
        }
    }
    tallies
}

fn of_queue(servers: usize, load: f64, length: usize) -> [Tally; 6] {
    let law = Law::of(servers, load);
    let mut truths = [law.mean(); 6];
    truths[1..].iter_mut().zip(QUANTILES).for_each(|(truth, quantile)| *truth = law.quantile(quantile));
    let tallies = tallies(length, truths, |mut random| {
        let mut queue = Queue::in_steady_state(servers, load, &mut random);
        std::iter::repeat_with(move || {
            let visit = queue.next(&mut random);
            (visit.at, visit.takes)
        })
    });
    check(&format!("M/M/{servers}, load {load}, {length} requests"), &tallies);
    tallies
}

/// Prints the shares and compares them with the limits.
fn check(what: &str, tallies: &[Tally; 6]) {
    let share = |count: u64, of: u64| 100.0 * count as f64 / of.max(1) as f64;
    let rows: Vec<String> = NUMBERS.iter().zip(tallies).map(|(number, &Tally { told, covered })| {
        format!(
            "{what}, {number}: refused {:.1} %, covered {:.1} % of those told, wrong {:.1} % of all ({RUNS} runs, seeds from 0)",
            share(RUNS - told, RUNS),
            share(covered, told),
            share(told - covered, RUNS)
        )
    }).collect();
    println!("{}", rows.join("\n"));
    for (row, &Tally { told, covered }) in rows.iter().zip(tallies) {
        assert!(share(told - covered, RUNS) <= 6.0, "{row}");
        assert!(told < RUNS * 2 / 3 || (94.0..=96.0).contains(&share(covered, told)), "{row}");
    }
}

/// Without this, a rule that refuses all intervals would pass.
fn assert_told(tallies: &[Tally; 6], numbers: &[&str], least: f64) {
    for number in numbers {
        let at = NUMBERS.iter().position(|known| known == number).expect("a number");
        let told = tallies[at].told as f64 / RUNS as f64;
        assert!(told >= least, "{number} is reported in {told} of all runs");
    }
}

#[test]
fn independent_times_have_intervals_that_cover_and_are_not_wide() {
    let mut truths = [1.0; 6];
    truths[1..].iter_mut().zip(QUANTILES).for_each(|(truth, quantile)| *truth = -(1.0 - quantile).ln());
    let independent = |mut random: Rng| {
        let mut at = 0.0;
        std::iter::repeat_with(move || {
            at += exponential(&mut random);
            (at, exponential(&mut random))
        })
    };
    let tallies = tallies(5_000, truths, independent);
    check("independent, 5000 requests", &tallies);
    assert_told(&tallies, &["mean", "p50", "p75", "p90", "p95"], 0.95);
    let mut recorded = Recorded { all: new_latencies(), batches: Batches::new(0) };
    let width = |seed: u64| {
        recorded.record(independent(Rng::with_seed(seed)).take(5_000));
        recorded.intervals().mean.ok().map(|mean| mean.high_ns - mean.low_ns)
    };
    let widths: Vec<f64> = (0..200).filter_map(width).collect();
    // With known independence the width would be 2 × 1.96 × the mean/√5000.
    let wider = widths.iter().sum::<f64>() / widths.len() as f64 / (2.0 * 1.96 * NS / 5_000_f64.sqrt());
    assert!((1.0..1.3).contains(&wider), "{wider} times as wide");
}

#[test]
fn runs_of_one_server_are_covered() {
    assert_told(&of_queue(1, 0.3, 5_000), &["p50", "p75", "p90"], 0.95);
    assert_told(&of_queue(1, 0.5, 5_000), &["p50", "p75"], 0.95);
}

#[test]
fn runs_of_four_servers_are_covered() {
    assert_told(&of_queue(4, 0.5, 5_000), &["p50", "p75", "p90"], 0.95);
    assert_told(&of_queue(4, 0.7, 5_000), &["p50"], 0.8);
}

#[test]
fn long_runs_of_four_servers_are_covered_at_higher_percentiles() {
    assert_told(&of_queue(4, 0.7, 20_000), &["p50", "p75"], 0.95);
}

/// Times so close together that one step of the coarse histograms holds most of them.
#[test]
fn times_close_together_are_covered() {
    let law = Law::of(1, 0.5);
    let mut covered = [0; 2];
    let mut recorded = Recorded { all: new_latencies(), batches: Batches::new(0) };
    for seed in 0..1_000 {
        let mut random = Rng::with_seed(seed);
        let mut queue = Queue::in_steady_state(1, 0.5, &mut random);
        // Half of the times lie within 0.7 % of each other. With steps of 0.1 %, the truth is known to one step.
        let close = |takes: f64| 100.0 + takes / 2.0;
        recorded.record((0..5_000).map(|_| queue.next(&mut random)).map(|visit| (visit.at, close(visit.takes))));
        let found = recorded.intervals();
        for (at, quantile) in [(0, 0.5), (1, 0.75)] {
            let truth = close(law.quantile(quantile)) * NS;
            let covers = |bounds: Bounds| (bounds.low_ns..=bounds.high_ns).contains(&truth);
            covered[at] += u64::from(found.percentiles[at].map_or(true, covers));
        }
    }
    println!("times close together: p50 {} and p75 {} of 1000 (seeds from 0)", covered[0], covered[1]);
    assert!(covered.iter().all(|covered| *covered >= 940), "{covered:?} of 1000 (seeds from 0)");
}

/// Six of a thousand requests are slow, sixty in a row, so the median does not show it.
#[test]
fn a_tail_that_comes_in_few_groups_has_no_interval() {
    let mut recorded = Recorded { all: new_latencies(), batches: Batches::new(0) };
    let mut random = Rng::with_seed(1);
    let slow = |number: usize| if number % 10_000 < 60 { 50.0 } else { 0.0 };
    recorded.record((0..50_000).map(|number| (number as f64, exponential(&mut random) + slow(number))));
    let found = recorded.intervals();
    assert!(found.percentiles[0].is_ok() && found.percentiles[2].is_ok(), "{found:?}");
    let why = found.percentiles[4].expect_err("five groups").to_string();
    assert!(why.starts_with("the slowest responses come in few groups"), "{why}");
}

// === impl Recorded ===

impl Recorded {
    /// Records a new run.
    fn record(&mut self, visits: impl Iterator<Item = (f64, f64)>) {
        self.all.reset();
        self.batches.begin(0);
        for (at, takes) in visits {
            let takes = (takes * NS) as u64;
            self.all.record(takes).expect("it grows");
            self.batches.note((at * NS) as u64, takes, None);
        }
    }

    fn intervals(&self) -> Intervals {
        let latencies = self.batches.stretches().iter().map(|stretch| &stretch.latency);
        let batches: Vec<_> = latencies.map(|times| Batch { sum_ns: times.sum_ns, times: &times.counts }).collect();
        intervals(&self.all, &batches, &QUANTILES, 0.95)
    }
}

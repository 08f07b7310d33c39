//! Tests of the ribbons of the percentile chart: 4,000 experiments of 8, 12 and 24 blocks of simulated queues.
//!
//! A block is like one of a comparison. The queue begins empty, 780 requests of wash-out are not counted, then 3,100
//! are. An experiment draws its blocks from a population of 600. The true value is the percentile of all 600 blocks
//! together. Shares are counted, printed and compared with limits. The seeds are fixed, so every run gives the same
//! shares.

use fastrand::Rng;
use hdrhistogram::Histogram;

use super::batches::Distribution;
use super::percentile::{RIBBON_BEYOND, points};
use super::queue::Queue;

const EXPERIMENTS: usize = 4_000;
const POPULATION: usize = 600;
const WASH_OUT: usize = 780;
const REQUESTS: usize = 3_100;
const QUANTILES: [f64; 8] = [0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99];
/// The mean service time. With it the histograms' steps are finest at the medians, where the narrowest ribbons are 1 %
/// wide.
const NS: f64 = 1.7e5;

fn block(servers: usize, load: f64, random: &mut Rng) -> Histogram<u64> {
    let mut queue = Queue::empty(servers, load);
    let mut histogram = Histogram::new(3).expect("three digits");
    for number in 0..WASH_OUT + REQUESTS {
        let visit = queue.next(random);
        if number >= WASH_OUT {
            histogram.record((visit.takes * NS) as u64).expect("it grows");
        }
    }
    histogram
}

fn ribbons_cover(servers: usize, load: f64, seed: u64) {
    let mut random = Rng::with_seed(seed);
    let population: Vec<_> = (0..POPULATION).map(|_| block(servers, load, &mut random)).collect();
    let mut all = Histogram::<u64>::new(3).expect("three digits");
    population.iter().for_each(|block| all.add(block).expect("it grows"));
    let truths = QUANTILES.map(|quantile| all.value_at_quantile(quantile));
    let population: Vec<_> = population.iter().map(Distribution::of).collect();
    let mut covered = [[0; QUANTILES.len()]; 3];
    for _ in 0..EXPERIMENTS {
        let drawn: Vec<_> = (0..24).map(|_| &population[random.usize(..POPULATION)]).collect();
        for (covered, blocks) in covered.iter_mut().zip([8, 12, 24]) {
            for point in points(&drawn[..blocks], &QUANTILES, 0.95) {
                let at = QUANTILES.iter().position(|quantile| *quantile == point.quantile).expect("it was asked for");
                let truth = truths[at] as f64;
                covered[at] += usize::from((point.low_ns..=point.high_ns).contains(&truth));
            }
        }
    }
    for (covered, blocks) in covered.into_iter().zip([8, 12, 24]) {
        for (covered, quantile) in covered.into_iter().zip(QUANTILES) {
            let beyond = ((blocks * REQUESTS) as f64 * quantile.min(1.0 - quantile)).round();
            let share = 100.0 * covered as f64 / EXPERIMENTS as f64;
            let row = format!("M/M/{servers}, load {load}, {blocks} blocks, p{}", quantile * 100.0);
            if beyond < RIBBON_BEYOND as f64 {
                assert_eq!(covered, 0, "{row} has too few requests");
                println!("{row}: none");
                continue;
            }
            println!("{row}: {share:.1} % ({EXPERIMENTS} experiments, seed {seed})");
            assert!((94.0..=96.0).contains(&share), "{row}: {share} % (seed {seed})");
        }
    }
}

#[test]
fn ribbons_cover_for_one_server() {
    ribbons_cover(1, 0.7, 2);
}

#[test]
fn ribbons_cover_for_four_servers() {
    ribbons_cover(4, 0.7, 4);
}

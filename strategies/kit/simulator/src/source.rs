//! The requests: when they arrive, their costs and keys.
//!
//! Invariant: cost and key of request n are functions of (seed, n), so every arm gets the same ones. In an open loop
//! the times are, too.

use crate::streams::{Purpose, Stream};
use crate::time::{SECOND_NS, START_NS};
use crate::world::{Arrivals, FaultKind, Keys, World};

/// The times of an open loop, and the facts about requests of any loop.
pub(crate) struct Source {
    gaps: Gaps,
    keys: KeyLaw,
    cost: crate::law::Law,
    costs: Stream,
    hot: Vec<(u64, u64, f64)>,
    hot_keys: Stream,
}

/// The times, by the integral of the rate. The next arrival is where it has grown by the next gap of a process with
/// rate 1. So a change of rate needs no thinning, and each request uses one number.
enum Gaps {
    Random { rate: Rate, stream: Stream },
    Equal { gap_ns: f64 },
    Given(Vec<u64>),
    None,
}

/// A rate in requests per nanosecond, and the present place of its process.
#[derive(Clone, Copy)]
struct Rate {
    form: RateForm,
    now_ns: f64,
}

#[derive(Clone, Copy)]
enum RateForm {
    Constant(f64),
    Ramp { from: f64, to: f64, over_ns: f64 },
    Bursts { low: f64, high: f64, period_ns: f64, high_ns: f64 },
}

struct KeyLaw {
    keys: Keys,
    stream: Stream,
    /// For Zipf: the sums of the weights.
    sums: Vec<f64>,
}

// === impl Source ===

impl Source {
    pub(crate) fn new(world: &World, seed: u64) -> Self {
        let per_ns = |rps: f64| rps / SECOND_NS as f64;
        let random = |form| Gaps::Random { rate: Rate { form, now_ns: 0.0 }, stream: Stream::new(seed, Purpose::Gap) };
        let gaps = match world.arrivals {
            Arrivals::Poisson { rps } => random(RateForm::Constant(per_ns(rps))),
            Arrivals::Constant { rps } => Gaps::Equal { gap_ns: SECOND_NS as f64 / rps },
            Arrivals::Ramp { from, to, over } => {
                random(RateForm::Ramp { from: per_ns(from), to: per_ns(to), over_ns: over.ns as f64 })
            }
            Arrivals::Bursts { low, high, period, share } => {
                let period_ns = period.ns as f64;
                let (low, high) = (per_ns(low), per_ns(high));
                random(RateForm::Bursts { low, high, period_ns, high_ns: period_ns * share })
            }
            Arrivals::Trace { ref times } => Gaps::Given(times.iter().map(|time| time.ns).collect()),
            Arrivals::Closed { .. } => Gaps::None,
        };
        let begin_ns = START_NS + world.warm_up.ns;
        let hot = world.faults.iter().filter_map(|fault| {
            let FaultKind::HotKey { share } = fault.kind else { return None };
            let from_ns = begin_ns + fault.at.ns;
            Some((from_ns, fault.lasts.map_or(u64::MAX, |lasts| from_ns + lasts.ns), share))
        });
        Self {
            gaps,
            keys: KeyLaw::new(world.keys, seed),
            cost: world.cost,
            costs: Stream::new(seed, Purpose::Cost),
            hot: hot.collect(),
            hot_keys: Stream::new(seed, Purpose::HotKey),
        }
    }

    /// When request `n` arrives; to be called once for each in order. `None`: no further one.
    #[inline]
    pub(crate) fn arrival(&mut self, n: u64) -> Option<u64> {
        let ns = match &mut self.gaps {
            Gaps::Random { rate, stream } => rate.advance(-libm::log(stream.unit(n))),
            Gaps::Equal { gap_ns } => n as f64 * *gap_ns,
            Gaps::Given(times) => return times.get(n as usize).map(|ns| START_NS + ns),
            Gaps::None => return None,
        };
        Some(START_NS.saturating_add(ns as u64))
    }

    #[inline]
    pub(crate) fn cost_ns(&self, n: u64) -> u64 {
        if self.cost.is_none() { 0 } else { self.cost.draw(&mut self.costs.draws(n)) }
    }

    pub(crate) fn key(&self, n: u64, now_ns: u64) -> Option<u64> {
        let is_hot =
            |&(from, until, share): &(u64, u64, f64)| (from..until).contains(&now_ns) && self.hot_keys.unit(n) <= share;
        if self.hot.iter().any(is_hot) { Some(100_000) } else { self.keys.draw(n) }
    }
}

// === impl Rate ===

impl Rate {
    /// Goes on until the integral of the rate has grown by `area`.
    fn advance(&mut self, mut area: f64) -> f64 {
        match self.form {
            RateForm::Constant(rate) => self.now_ns += area / rate,
            RateForm::Ramp { from, to, over_ns } => {
                let slope = (to - from) / over_ns;
                let rate = if self.now_ns < over_ns { from + slope * self.now_ns } else { to };
                let left = (over_ns - self.now_ns).max(0.0);
                let left_area = (rate + to) / 2.0 * left;
                if area < left_area {
                    // The root of slope/2 · x² + rate · x = area, in a form that bears a slope of 0.
                    self.now_ns += 2.0 * area / (rate + (rate * rate + 2.0 * slope * area).max(0.0).sqrt());
                } else {
                    self.now_ns += left + (area - left_area) / to;
                }
            }
            RateForm::Bursts { low, high, period_ns, high_ns } => loop {
                let place = self.now_ns % period_ns;
                let (rate, left) = if place < high_ns { (high, high_ns - place) } else { (low, period_ns - place) };
                if rate * left > area {
                    self.now_ns += area / rate;
                    break;
                }
                area -= rate * left;
                // At least one step, so that rounding cannot hold the clock.
                self.now_ns += left.max(1.0);
            },
        }
        self.now_ns
    }
}

// === impl KeyLaw ===

impl KeyLaw {
    fn new(keys: Keys, seed: u64) -> Self {
        let mut sums = Vec::new();
        if let Keys::Zipf { keys, exponent } = keys {
            let mut sum = 0.0;
            sums.extend((1..=keys).map(|rank| {
                sum += libm::pow(f64::from(rank), -exponent);
                sum
            }));
        }
        Self { keys, stream: Stream::new(seed, Purpose::Key), sums }
    }

    fn draw(&self, n: u64) -> Option<u64> {
        Some(match self.keys {
            Keys::None => return None,
            Keys::Sequential => n,
            Keys::Uniform { keys } => self.stream.below(n, u64::from(keys)),
            Keys::Course => 100_000 + self.stream.below(n, 900_000),
            Keys::Zipf { .. } => {
                let wanted = self.stream.unit(n) * self.sums.last().copied().unwrap_or(1.0);
                100_000 + self.sums.partition_point(|sum| *sum < wanted) as u64
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Time;

    /// Arrivals in each second.
    fn counts(arrivals: Arrivals, seconds: usize) -> Vec<u32> {
        let mut source = Source::new(&World { arrivals, ..World::default() }, 5);
        let mut counts = vec![0; seconds];
        for n in 0.. {
            let at = source.arrival(n).map(|ns| ((ns - START_NS) / SECOND_NS) as usize);
            match at.and_then(|second| counts.get_mut(second)) {
                Some(count) => *count += 1,
                None => return counts,
            }
        }
        counts
    }

    fn assert_near(found: &[u32], wanted: &[f64]) {
        for (found, wanted) in found.iter().zip(wanted) {
            assert!((f64::from(*found) - wanted).abs() < 4.5 * wanted.sqrt(), "{found} of {wanted}");
        }
    }

    #[test]
    fn rates_are_kept_in_each_second() {
        assert_near(&counts(Arrivals::Poisson { rps: 1e4 }, 5), &[1e4; 5]);
        assert_eq!(counts(Arrivals::Constant { rps: 400.0 }, 5), [400; 5]);
        let ramp = Arrivals::Ramp { from: 0.0, to: 8e3, over: Time::seconds(4) };
        assert_near(&counts(ramp, 6), &[1e3, 3e3, 5e3, 7e3, 8e3, 8e3]);
        let bursts = Arrivals::Bursts { low: 1e3, high: 9e3, period: Time::seconds(2), share: 0.5 };
        assert_near(&counts(bursts, 4), &[9e3, 1e3, 9e3, 1e3]);
        assert_eq!(counts(Arrivals::Trace { times: vec![Time::ZERO, Time::ms(1_500)] }, 2), [1, 1]);
    }

    #[test]
    fn poisson_counts_vary_as_much_as_they_must() {
        let counts = counts(Arrivals::Poisson { rps: 100.0 }, 2_000);
        let mean = f64::from(counts.iter().sum::<u32>()) / 2_000.0;
        let variance = counts.iter().map(|count| (f64::from(*count) - mean).powi(2)).sum::<f64>() / 2_000.0;
        assert!((variance / mean - 1.0).abs() < 0.13, "{variance} of {mean}: their ratio has a deviation of 0.032");
    }

    #[test]
    fn keys_follow_their_law_and_a_hot_key_its_window() {
        let draw = |keys| {
            let source = Source::new(&World { keys, ..World::default() }, 5);
            (0..10_000).map(|n| source.key(n, START_NS).unwrap()).collect::<Vec<_>>()
        };
        let zipf = draw(Keys::Zipf { keys: 10, exponent: 1.0 });
        let share = zipf.iter().filter(|key| **key == 100_000).count() as f64 / 1e4;
        assert!((share - 0.3414).abs() < 0.02, "1 of the sum of 1/r: {share}");
        assert!(draw(Keys::Course).iter().all(|key| (100_000..1_000_000).contains(key)));
        assert_eq!(draw(Keys::Sequential)[7], 7);
        let mut world = World { keys: Keys::None, ..World::default() };
        let hot = FaultKind::HotKey { share: 0.5 };
        world.faults.push(crate::world::Fault::new(Time::seconds(1), 0, hot).lasting(Time::seconds(1)));
        let source = Source::new(&world, 5);
        let hot = |at_ns: u64| (0..1_000).filter(|n| source.key(*n, START_NS + at_ns) == Some(100_000)).count();
        assert_eq!((hot(0), hot(2 * SECOND_NS)), (0, 0));
        assert!((430..570).contains(&hot(SECOND_NS)));
    }
}

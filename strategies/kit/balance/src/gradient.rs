//! A limit of the requests in flight that follows the latency: an option for pools whose capacity is not known.
//!
//! The algorithm is Gradient2 of Netflix's concurrency-limits (`Gradient2Limit` with the windows of `WindowedLimit`;
//! "Performance Under Load", Netflix Technology Blog, 2018). Once a window, the mean latency is compared with its
//! long-term average. If it is higher, requests queue in the backends, and the limit shrinks by that ratio. Else it
//! grows by a small allowed queue. The long-term average follows slowly, so the limit also follows a pool that stays
//! slower.
//!
//! Invariants: the limit stays within its bounds. It does not change while less than half of it is in use. A sample
//! costs a few instructions; the arithmetic is done once a window.
//!
//! Its weakness is known: the average learns the latency under load. Start with a low limit, so that it learns an
//! unloaded latency first.

const WINDOW_NS: u64 = 1_000_000_000;
/// A window with fewer samples goes on.
const SAMPLES_MIN: u64 = 10;
/// The long-term average is the plain mean of this many windows first.
const WARM_UP_WINDOWS: u32 = 10;
/// Its weight of a new window, `2 / (n + 1)` with n = 600.
const LONG_WEIGHT: f64 = 2.0 / 601.0;
/// The weight of a new limit.
const SMOOTHING: f64 = 0.2;

/// The bounds of the limit of a pool, over all workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GradientRules {
    pub initial: u32,
    pub min: u32,
    pub max: u32,
    /// The requests that may queue in the backends while the latency stays low.
    pub queue: u32,
}

/// The limit of one pool in one worker.
#[derive(Clone, Debug)]
pub struct Gradient {
    min: f64,
    max: f64,
    queue: f64,
    limit: f64,
    window: Window,
    long_ns: f64,
    windows: u32,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    ends_ns: u64,
    sum_ns: u64,
    samples: u64,
    in_flight_max: u32,
}

// === impl GradientRules ===

impl Default for GradientRules {
    fn default() -> Self {
        Self { initial: 20, min: 5, max: 1_000, queue: 4 }
    }
}

// === impl Gradient ===

impl Gradient {
    /// The limit of one of `workers` workers, which share the bounds and the queue evenly.
    pub fn new(rules: GradientRules, workers: usize, now_ns: u64) -> Self {
        let part = |whole: u32| (f64::from(whole) / workers.max(1) as f64).max(1.0);
        let (min, max) = (part(rules.min), part(rules.max.max(rules.min)));
        Self {
            min,
            max,
            queue: part(rules.queue),
            limit: part(rules.initial).clamp(min, max),
            window: Window::new(now_ns),
            long_ns: 0.0,
            windows: 0,
        }
    }

    /// The requests that may be in flight now, at least 1.
    #[inline]
    pub fn limit(&self) -> u32 {
        self.limit as u32
    }

    /// An attempt got its response head after `elapsed_ns`, or timed out then. `in_flight` includes it. Not for
    /// attempts that failed early: their latency says nothing about load.
    #[inline]
    pub fn sample(&mut self, now_ns: u64, elapsed_ns: u64, in_flight: u32) {
        let window = &mut self.window;
        window.sum_ns = window.sum_ns.saturating_add(elapsed_ns);
        window.samples += 1;
        window.in_flight_max = window.in_flight_max.max(in_flight);
        if now_ns >= window.ends_ns && window.samples >= SAMPLES_MIN {
            self.update(now_ns);
        }
    }

    #[cold]
    fn update(&mut self, now_ns: u64) {
        let window = std::mem::replace(&mut self.window, Window::new(now_ns));
        let short_ns = (window.sum_ns as f64 / window.samples as f64).max(1.0);
        self.windows = self.windows.saturating_add(1);
        let weight = match self.windows {
            first @ ..=WARM_UP_WINDOWS => 1.0 / f64::from(first),
            _ => LONG_WEIGHT,
        };
        self.long_ns += (short_ns - self.long_ns) * weight;
        let ratio = self.long_ns / short_ns;
        // After a long slow phase the average would return too slowly.
        if ratio > 2.0 {
            self.long_ns *= 0.9;
        }
        if f64::from(window.in_flight_max) < self.limit / 2.0 {
            return;
        }
        let wanted = self.limit * ratio.clamp(0.5, 1.0) + self.queue;
        self.limit = (self.limit + (wanted - self.limit) * SMOOTHING).clamp(self.min, self.max);
    }
}

// === impl Window ===

impl Window {
    fn new(now_ns: u64) -> Self {
        Self { ends_ns: now_ns.saturating_add(WINDOW_NS), sum_ns: 0, samples: 0, in_flight_max: 0 }
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use super::*;

    const MS: u64 = 1_000_000;
    const SECOND: u64 = 1_000 * MS;

    /// A pool of `servers` with one line, in virtual time. Requests over the limit are refused.
    struct Pool {
        gradient: Gradient,
        random: fastrand::Rng,
        servers: Vec<u64>,
        /// Ends and starts of the requests in flight.
        in_flight: BinaryHeap<Reverse<(u64, u64)>>,
        now: u64,
    }

    impl Pool {
        fn new(rules: GradientRules, workers: usize, servers: usize, seed: u64) -> Self {
            let gradient = Gradient::new(rules, workers, 0);
            let random = fastrand::Rng::with_seed(seed);
            Self { gradient, random, servers: vec![0; servers], in_flight: BinaryHeap::new(), now: 0 }
        }

        fn exponential(&mut self, mean_ns: u64) -> u64 {
            (-(1.0 - self.random.f64()).ln() * mean_ns as f64) as u64
        }

        /// Poisson arrivals at `load` times the capacity for some time. Returns the lowest and the highest limit of the
        /// last half, and the share of the capacity that was used.
        fn run(&mut self, time: u64, load: f64, service: u64, is_exponential: bool) -> (u32, u32, f64) {
            let gap = service as f64 / (self.servers.len() as f64 * load);
            let (begin, end) = (self.now, self.now + time);
            let (mut low, mut high, mut served) = (u32::MAX, 0, 0_u64);
            while self.now < end {
                self.now += self.exponential(gap as u64).max(1);
                while let Some(Reverse((ends, started))) =
                    self.in_flight.peek().copied().filter(|one| one.0.0 <= self.now)
                {
                    self.gradient.sample(ends, ends - started, self.in_flight.len() as u32);
                    self.in_flight.pop();
                    served += 1;
                    if ends > begin + time / 2 {
                        low = low.min(self.gradient.limit());
                        high = high.max(self.gradient.limit());
                    }
                }
                if self.in_flight.len() < self.gradient.limit() as usize {
                    let work = if is_exponential { self.exponential(service) } else { service };
                    let server = self.servers.iter_mut().min().unwrap();
                    *server = (*server).max(self.now) + work;
                    self.in_flight.push(Reverse((*server, self.now)));
                }
            }
            let capacity = (time / service) as f64 * self.servers.len() as f64;
            (low, high, served as f64 / capacity)
        }
    }

    #[test]
    fn the_limit_of_an_overloaded_pool_settles_near_its_capacity() {
        for is_exponential in [false, true] {
            for (servers, most) in [(8, 20), (40, 55)] {
                let mut pool = Pool::new(GradientRules { initial: 5, ..GradientRules::default() }, 1, servers, 16);
                let (low, high, used) = pool.run(300 * SECOND, 1.5, 20 * MS, is_exponential);
                let is_near = low as usize >= servers && high <= most;
                assert!(is_near && used > 0.9, "{servers} servers, {is_exponential}: {low} to {high}, {used}");
            }
        }
    }

    #[test]
    fn the_limit_falls_in_a_slow_phase_and_comes_back() {
        for initial in [5, 20] {
            let mut pool = Pool::new(GradientRules { initial, ..GradientRules::default() }, 1, 16, 16);
            let (low, high, used) = pool.run(120 * SECOND, 1.5, 20 * MS, true);
            assert!(low >= 16 && high <= 32 && used > 0.9, "at first {low} to {high}, {used}");
            let (_, high, _) = pool.run(60 * SECOND, 1.5, 100 * MS, true);
            assert!(high <= 10, "while slow {high}");
            let (low, high, used) = pool.run(120 * SECOND, 1.5, 20 * MS, true);
            assert!(low >= 16 && high <= 48 && used > 0.9, "after it {low} to {high}, {used}");
        }
    }

    #[test]
    fn a_pool_that_stays_slower_gets_its_limit_back() {
        let mut pool = Pool::new(GradientRules::default(), 1, 16, 16);
        pool.run(60 * SECOND, 1.5, 20 * MS, true);
        let (_, high, _) = pool.run(60 * SECOND, 1.5, 100 * MS, true);
        let (low, _, used) = pool.run(1_200 * SECOND, 1.5, 100 * MS, true);
        assert!(high <= 10 && low >= 16 && used > 0.9, "first {high}, then {low}, {used}");
    }

    #[test]
    fn half_an_hour_of_overload_lets_the_limit_drift_but_not_run_away() {
        let mut pool = Pool::new(GradientRules::default(), 1, 4, 16);
        let (low, high, _) = pool.run(1_800 * SECOND, 1.5, 20 * MS, true);
        assert!(low > 20 && high <= 60, "{low} to {high}");
        let (low, high, _) = pool.run(120 * SECOND, 0.5, 20 * MS, true);
        assert!(low == high, "{low} to {high}: less than half of it is used, so it stays");
        let (_, high, _) = pool.run(60 * SECOND, 1.5, 20 * MS, true);
        assert!(high <= 20, "a quiet time teaches the unloaded latency: {high}");
    }

    #[test]
    fn the_limit_stays_within_its_bounds_for_any_samples() {
        for seed in 0..20 {
            let mut random = fastrand::Rng::with_seed(seed);
            let rules =
                GradientRules { initial: random.u32(..200), min: random.u32(..50), max: random.u32(..100), queue: 4 };
            let workers = random.usize(..5);
            let mut gradient = Gradient::new(rules, workers, 0);
            let part = |whole: u32| (whole / workers.max(1) as u32).max(1);
            let mut now = 0;
            for _ in 0..20_000 {
                now = [now, now + random.u64(..SECOND), random.u64(..)][random.usize(..3)];
                gradient.sample(now, [0, 1, random.u64(..SECOND), u64::MAX][random.usize(..4)], random.u32(..));
                let limit = gradient.limit();
                assert!(limit >= part(rules.min) && limit <= part(rules.max.max(rules.min)), "seed {seed}: {limit}");
            }
        }
    }
}

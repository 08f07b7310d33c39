//! Simulated queues with a known stationary law, to test intervals: M/M/1 and M/M/c, first come, first served.
//!
//! The mean service time is 1. A queue begins empty or in steady state, with a number of requests from its law. Service
//! times are memoryless, so the remaining time of each is exponential too. After that it follows the recursion of
//! Kiefer and Wolfowitz (1955). The remaining work of each server falls with time, and a request goes to the server
//! with the least.

use fastrand::Rng;

#[derive(Clone, Debug)]
pub(crate) struct Queue {
    load: f64,
    /// Remaining work of each server.
    work: Vec<f64>,
    now: f64,
}

/// A request as seen by its client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visit {
    pub(crate) at: f64,
    /// Waiting time plus service time.
    pub(crate) takes: f64,
}

/// The stationary law of the time that a request takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Law {
    /// The probability that a request has to wait (Erlang's C).
    waits: f64,
    /// The wait of a request that waits is exponential with this rate.
    rate: f64,
}

pub(crate) fn exponential(random: &mut Rng) -> f64 {
    -(1.0 - random.f64()).ln()
}

/// The probabilities of 0, 1, … `servers` − 1 requests, and of more, up to a common factor.
fn occupancy(servers: usize, load: f64) -> (Vec<f64>, f64) {
    let offered = servers as f64 * load;
    let mut some = vec![1.0];
    (1..servers).for_each(|n| some.push(some[n - 1] * offered / n as f64));
    let more = some[servers - 1] * load / (1.0 - load);
    (some, more)
}

// === impl Queue ===

impl Queue {
    pub(crate) fn empty(servers: usize, load: f64) -> Self {
        Self { load, work: vec![0.0; servers], now: 0.0 }
    }

    pub(crate) fn in_steady_state(servers: usize, load: f64, random: &mut Rng) -> Self {
        let mut queue = Self::empty(servers, load);
        let (some, more) = occupancy(servers, load);
        let mut drawn = random.f64() * (some.iter().sum::<f64>() + more);
        let mut there = 0;
        while there < servers && drawn >= some[there] {
            drawn -= some[there];
            there += 1;
        }
        queue.work[..there].iter_mut().for_each(|work| *work = exponential(random));
        if there == servers {
            while random.f64() < load {
                *queue.least() += exponential(random);
            }
        }
        queue
    }

    /// The next request. The first arrives at time 0 and sees the queue in its initial state.
    pub(crate) fn next(&mut self, random: &mut Rng) -> Visit {
        let least = self.least();
        *least += exponential(random);
        let visit = Visit { takes: *least, at: self.now };
        let gap = exponential(random) / (self.load * self.work.len() as f64);
        self.now += gap;
        self.work.iter_mut().for_each(|work| *work = (*work - gap).max(0.0));
        visit
    }

    fn least(&mut self) -> &mut f64 {
        self.work.iter_mut().min_by(|one, other| one.total_cmp(other)).expect("a server")
    }
}

// === impl Law ===

impl Law {
    pub(crate) fn of(servers: usize, load: f64) -> Self {
        let (some, more) = occupancy(servers, load);
        Self { waits: more / (some.iter().sum::<f64>() + more), rate: servers as f64 * (1.0 - load) }
    }

    pub(crate) fn mean(self) -> f64 {
        1.0 + self.waits / self.rate
    }

    /// The share of requests that take longer than `time`.
    fn beyond(self, time: f64) -> f64 {
        let Self { waits, rate } = self;
        let longer = match (rate - 1.0).abs() < 1e-9 {
            true => time * (-time).exp(),
            false => ((-time).exp() - (-rate * time).exp()) / (rate - 1.0),
        };
        (-time).exp() + waits * longer
    }

    pub(crate) fn quantile(self, quantile: f64) -> f64 {
        let (mut low, mut high) = (0.0, 100.0 * (1.0 + 1.0 / self.rate));
        for _ in 0..60 {
            let middle = (low + high) / 2.0;
            if self.beyond(middle) > 1.0 - quantile { low = middle } else { high = middle }
        }
        (low + high) / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_law_is_that_of_the_textbook_and_of_the_simulation() {
        // M/M/1: exponential with rate 1 − load. M/M/4 at 0.7: Erlang's C is 0.4287.
        let one = Law::of(1, 0.7);
        assert!((one.mean() - 1.0 / 0.3).abs() < 1e-9 && (one.quantile(0.99) - 100_f64.ln() / 0.3).abs() < 1e-6);
        assert!((Law::of(4, 0.7).waits - 0.4287).abs() < 1e-4, "{:?}", Law::of(4, 0.7));
        // The first requests of 40,000 queues in steady state: they are independent and have that law.
        for servers in [1, 4] {
            let (law, mut random) = (Law::of(servers, 0.7), Rng::with_seed(1));
            let mut first = || Queue::in_steady_state(servers, 0.7, &mut random).next(&mut random).takes;
            let times: Vec<f64> = (0..40_000).map(|_| first()).collect();
            for quantile in [0.1, 0.5, 0.9, 0.99] {
                let above = times.iter().filter(|time| **time > law.quantile(quantile)).count() as f64 / 40_000.0;
                let error = ((1.0 - quantile) * quantile / 40_000.0).sqrt();
                assert!((above - (1.0 - quantile)).abs() < 4.0 * error, "{servers} servers, {quantile}: {above}");
            }
        }
    }
}

//! Random numbers by purpose and number: a number is a function of (seed, purpose, n) alone.
//!
//! Why: all arms of a comparison must get the same arrivals, costs and faults (common random numbers). With one
//! generator for all, a strategy that makes one retry more would shift every later number. Here each purpose has its
//! own numbers, and most are looked up by the number of the request.
//!
//! The numbers are those of SplitMix64 (G. L. Steele, D. Lea, C. H. Flood, OOPSLA 2014). Its state is a counter, so the
//! number n of a stream costs as much as the next one. Invariant: the numbers of a seed never change, because stored
//! runs are repeated by their seed.

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// What a number is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    Gap = 1,
    Cost,
    Key,
    HotKey,
    Balancer,
    Pick,
    Service,
    Network,
    Fault,
    BackOff,
    Check,
    Think,
    Probe,
}

/// The numbers of one purpose.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    start: u64,
}

/// A few numbers one after the other, for a law that needs more than one.
#[derive(Clone, Debug)]
pub struct Draws {
    state: u64,
}

const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// From random bits to a number above 0 and at most 1.
#[inline]
fn unit(bits: u64) -> f64 {
    ((bits >> 11) + 1) as f64 / (1_u64 << 53) as f64
}

// === impl Stream ===

impl Stream {
    pub fn new(seed: u64, purpose: Purpose) -> Self {
        Self { start: mix(mix(seed.wrapping_add(GAMMA)) ^ (purpose as u64).wrapping_mul(GAMMA)) }
    }

    /// 64 random bits.
    #[inline]
    pub fn bits(self, n: u64) -> u64 {
        mix(self.start.wrapping_add(n.wrapping_mul(GAMMA)))
    }

    /// Above 0 and at most 1.
    #[inline]
    pub fn unit(self, n: u64) -> f64 {
        unit(self.bits(n))
    }

    /// Below `bound`, with nearly equal probabilities.
    #[inline]
    pub fn below(self, n: u64, bound: u64) -> u64 {
        ((u128::from(self.bits(n)) * u128::from(bound)) >> 64) as u64
    }

    #[inline]
    pub fn draws(self, n: u64) -> Draws {
        Draws { state: self.bits(n) }
    }
}

// === impl Draws ===

impl Draws {
    #[inline]
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GAMMA);
        mix(self.state)
    }

    /// Above 0 and at most 1.
    #[inline]
    pub fn unit(&mut self) -> f64 {
        unit(self.bits())
    }

    /// Exponential with mean 1.
    #[inline]
    pub fn exponential(&mut self) -> f64 {
        -libm::log(self.unit())
    }

    /// A standard normal number, by Box and Muller.
    pub fn normal(&mut self) -> f64 {
        let (radius, angle) = (self.unit(), self.unit());
        (-2.0 * libm::log(radius)).sqrt() * libm::cos(std::f64::consts::TAU * angle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_a_seed_do_not_change() {
        let numbers = [0, 1, 1_000_000].map(|n| Stream::new(7, Purpose::Cost).below(n, 1_000_000));
        assert_eq!(numbers, NUMBERS);
        let mut draws = Stream::new(7, Purpose::Service).draws(3);
        let bits = format!("{:x} {:x}", draws.exponential().to_bits(), draws.normal().to_bits());
        assert_eq!(bits, BITS, "the same on every machine, to the last bit");
    }

    // A second implementation, in Python, gives the same numbers.
    const NUMBERS: [u64; 3] = [943_434, 452_680, 521_818];
    const BITS: &str = "3ff1b749a2c4f2d1 bfeb8e31f2dc679d";

    #[test]
    fn numbers_purposes_and_seeds_are_independent() {
        let count = 100_000_u64;
        let first = |n: u64| Stream::new(7, Purpose::Key).unit(n) - 0.5;
        let others = [
            ("the next number", (|n| Stream::new(7, Purpose::Key).unit(n + 1)) as fn(u64) -> f64),
            ("another purpose", |n| Stream::new(7, Purpose::Cost).unit(n)),
            ("another seed", |n| Stream::new(8, Purpose::Key).unit(n)),
            ("the draws of the same number", |n| Stream::new(7, Purpose::Key).draws(n).unit()),
        ];
        for (name, other) in others {
            let correlation = (0..count).map(|n| first(n) * (other(n) - 0.5) * 12.0).sum::<f64>() / count as f64;
            assert!(correlation.abs() < 4.0 / (count as f64).sqrt(), "{name}: {correlation}");
        }
    }
}

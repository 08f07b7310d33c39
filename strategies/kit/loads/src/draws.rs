//! Random numbers for the few draws of one pick, from the request's 64 random bits.
//!
//! Invariant: the same bits give the same numbers, so an explanation repeats its pick.

use lb_strategy::Request;

/// A small generator: a linear congruential step with Knuth's MMIX constants, of which the high bits are used.
#[derive(Clone, Debug)]
pub struct Draws(u64);

// === impl Draws ===

impl Draws {
    #[inline]
    pub fn of(request: &Request<'_>) -> Self {
        Self(request.random())
    }

    #[inline]
    pub fn seeded(bits: u64) -> Self {
        Self(bits)
    }

    /// 64 bits, of which the high ones are the best.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0
    }

    /// A number in `0..bound` with nearly equal probabilities; 0 if `bound` is 0.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// A number in 0 to 1, without 1.
    #[inline]
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number from nearly the standard normal law: the sum of eight uniform ones, so it is between −4.9 and 4.9.
    #[inline]
    pub fn normal(&mut self) -> f64 {
        // Mixing makes all bits of a step good, so that it can be cut into four numbers.
        let mut sum = 0;
        for _ in 0..2 {
            let bits = mixed(self.bits());
            sum += (bits & 0xFFFF) + (bits >> 16 & 0xFFFF) + (bits >> 32 & 0xFFFF) + (bits >> 48);
        }
        // Each of the eight has the mean 32,767.5 and the variance 2^32 / 12.
        (sum as f64 - 8.0 * 32_767.5) / (65_536.0 * 0.816_496_580_927_726)
    }
}

/// The last steps of SplitMix64 (Steele, Lea and Flood 2014).
#[inline]
fn mixed(bits: u64) -> u64 {
    let bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ bits >> 31
}

#[cfg(test)]
mod tests {
    use lb_strategy_conformance::statistics::{chi_square_p, counts};

    use super::*;

    #[test]
    fn numbers_below_a_bound_are_even() {
        let mut draws = Draws::seeded(1);
        let drawn = counts(7, (0..70_000).map(|_| draws.below(7) as usize));
        assert!(chi_square_p(&drawn, &[1.0; 7]) > 0.001, "{drawn:?}");
        assert_eq!(draws.below(0), 0);
        assert!((0..1000).all(|_| (0.0..1.0).contains(&draws.unit())));
    }

    #[test]
    fn normal_numbers_have_the_moments_of_the_normal_law() {
        let mut draws = Draws::seeded(2);
        let drawn: Vec<f64> = (0..200_000).map(|_| draws.normal()).collect();
        let mean_of = |power: i32| drawn.iter().map(|x| x.powi(power)).sum::<f64>() / drawn.len() as f64;
        // The sum of eight uniform numbers has the fourth moment 3 − 1.2 / 8.
        for (power, expected, off_max) in [(1, 0.0, 0.01), (2, 1.0, 0.02), (3, 0.0, 0.04), (4, 2.85, 0.1)] {
            assert!((mean_of(power) - expected).abs() < off_max, "moment {power}: {}", mean_of(power));
        }
    }
}

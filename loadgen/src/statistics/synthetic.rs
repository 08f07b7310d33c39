//! Synthetic blocks of arms with a known truth, on a machine whose speed varies.
//!
//! The value of an arm in a segment is, as logarithm, the sum of
//! - its true level,
//! - the machine's speed (`mood`), common to all arms: AR(1) from segment to segment with autocorrelation 0.9 and
//!   standard deviation 0.15. So a slow minute makes several segments in a row 15 % slower. Blocks are autocorrelated
//!   too (about 0.7 for two arms).
//! - a slow drift of the machine, up to ±10 % over a run,
//! - an AR(1) of each arm (`own_mood`: 0.01, autocorrelation 0.5), because the machine's speed does not affect all arms
//!   equally,
//! - the noise of a percentile of few requests: normal, standard deviation 0.06, lognormal in the latency,
//! - in 4 of 100 segments another process (`visitors`): 10 to 100 % slower,
//!
//! and an arm is slightly slower in the segment that follows a segment of a slower arm (the wash-out is not perfect).

use fastrand::Rng;

use super::order::Orders;

/// All parameters except the true levels.
#[derive(Clone, Copy, Debug)]
pub(super) struct World {
    pub(super) blocks: usize,
    pub(super) mood: f64,
    pub(super) own_mood: f64,
    pub(super) own_autocorrelation: f64,
    pub(super) noise: f64,
    pub(super) visitors: f64,
    pub(super) drift: f64,
}

/// An AR(1) process with standard deviation 1.
struct Mood {
    autocorrelation: f64,
    now: f64,
}

// === impl World ===

impl World {
    pub(super) const USUAL: Self = Self {
        blocks: 24,
        mood: 0.15,
        own_mood: 0.01,
        own_autocorrelation: 0.5,
        noise: 0.06,
        visitors: 0.04,
        drift: 0.1,
    };

    /// The values of each arm in each block; `truth` has the true levels, the baseline first.
    pub(super) fn run(&self, truth: &[f64], seed: u64) -> Vec<Vec<Option<f64>>> {
        let mut random = Rng::with_seed(seed);
        let mut machine = Mood::new(0.9, &mut random);
        let mut own: Vec<Mood> = truth.iter().map(|_| Mood::new(self.own_autocorrelation, &mut random)).collect();
        let drift = (random.f64() - 0.5) * 2.0 * self.drift / self.blocks as f64;
        let mut measured = vec![Vec::new(); truth.len()];
        let mut before = 0.0;
        for (block, order) in Orders::seeded(random.u64(..), truth.len()).take(self.blocks).enumerate() {
            for arm in order {
                let mut level = truth[arm].ln() + drift * block as f64 + self.mood * machine.step(&mut random);
                level += self.own_mood * own[arm].step(&mut random) + self.noise * normal(&mut random);
                if random.f64() < self.visitors {
                    level += (1.1 + 0.9 * random.f64()).ln();
                }
                level += 0.01 * (before - truth[arm].ln());
                before = truth[arm].ln();
                measured[arm].push(Some(20.0 * level.exp()));
            }
        }
        measured
    }
}

// === impl Mood ===

impl Mood {
    fn new(autocorrelation: f64, random: &mut Rng) -> Self {
        Self { autocorrelation, now: normal(random) }
    }

    fn step(&mut self, random: &mut Rng) -> f64 {
        let innovation = (1.0 - self.autocorrelation * self.autocorrelation).sqrt();
        self.now = self.autocorrelation * self.now + innovation * normal(random);
        self.now
    }
}

/// Box and Muller.
fn normal(random: &mut Rng) -> f64 {
    (-2.0 * (1.0 - random.f64()).ln()).sqrt() * (std::f64::consts::TAU * random.f64()).cos()
}

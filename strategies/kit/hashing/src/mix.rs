//! Mixing: a new 64-bit hash from a hash and a second number.
//!
//! The mixer is the finalizer of MurmurHash3 (Austin Appleby, 2011). Each bit of its input changes each bit of its
//! output with a probability of about one half.

/// The golden ratio as a fraction of 2^64. It spreads small numbers over all bits.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// A hash of `hash` and `other`. The arguments have different roles: `mix(a, b)` is not `mix(b, a)`.
#[inline]
pub const fn mix(hash: u64, other: u64) -> u64 {
    let mut mixed = hash ^ other.wrapping_add(1).wrapping_mul(GOLDEN);
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    mixed ^ (mixed >> 33)
}

/// A number below `n`, in proportion to `hash`; 0 if `n` is 0. One multiplication, where `hash % n` is a division.
#[inline]
pub const fn part_of(hash: u64, n: u64) -> u64 {
    ((hash as u128 * n as u128) >> 64) as u64
}

/// A number above 0 and below 1, from the leading 52 bits of `hash`.
#[inline]
pub fn unit(hash: u64) -> f64 {
    const STEP: f64 = 1.0 / (1_u64 << 52) as f64;
    // Half a step more, so that neither end is reached. The sum is exact.
    ((hash >> 12) as f64 + 0.5) * STEP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bit_of_both_arguments_changes_half_of_the_result() {
        let mut random = fastrand::Rng::with_seed(1);
        for bit in 0..64 {
            let mut changed = [0_u32; 2];
            for _ in 0..1000 {
                let (hash, other) = (random.u64(..), random.u64(..));
                let base = mix(hash, other);
                changed[0] += (base ^ mix(hash ^ (1 << bit), other)).count_ones();
                changed[1] += (base ^ mix(hash, other ^ (1 << bit))).count_ones();
            }
            for changed in changed {
                assert!((31_000..33_000).contains(&changed), "bit {bit}: {changed} of 64,000 bits");
            }
        }
    }

    /// The expected values were computed in Python, by the published constants.
    #[test]
    fn mixing_follows_the_recipe() {
        let expected = [
            (0, 0, 0x9ca066f1a4ab2eea),
            (1, 0, 0x25b775faeca8f520),
            (0, 1, 0xd30b054265133dd7),
            (42, 7, 0x2196e07c09491c18),
            (u64::MAX, u64::MAX, 0x64b5720b4b825f21),
        ];
        for (hash, other, mixed) in expected {
            assert_eq!(mix(hash, other), mixed, "{hash} {other}");
        }
    }

    #[test]
    fn units_are_inside_the_open_interval() {
        assert!(unit(0) > 0.0 && unit(u64::MAX) < 1.0);
        assert!((unit(1 << 63) - 0.5).abs() < 1e-15);
    }

    #[test]
    fn parts_are_below_their_limit() {
        assert_eq!([0, 1 << 63, u64::MAX].map(|hash| part_of(hash, 10)), [0, 5, 9]);
        assert_eq!(part_of(u64::MAX, 0), 0);
    }
}

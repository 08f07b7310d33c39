//! Random numbers by request: those of request i are a function of (seed, i) alone.
//!
//! Why: every arm of a comparison must get the same sequence, independent of threads and earlier requests. So there is
//! no shared generator; each (seed, request, purpose) has its own.

/// The purpose of a number. Each purpose has its own numbers, so that one without draws does not shift the others.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stream {
    Gap = 1,
    Key = 2,
    Cost = 3,
    Hot = 4,
}

/// The generator of one request for one purpose.
pub(super) fn draws(seed: u64, index: u64, stream: Stream) -> fastrand::Rng {
    fastrand::Rng::with_seed(mix(mix(seed ^ mix(stream as u64)) ^ index))
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): neighbouring inputs give independent outputs.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A standard normal number, by Box and Muller.
pub(super) fn normal(random: &mut fastrand::Rng) -> f64 {
    let (radius, angle) = (1.0 - random.f64(), random.f64());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_purposes_and_seeds_are_independent() {
        fn first(seed: u64, index: u64, stream: Stream) -> f64 {
            draws(seed, index, stream).f64()
        }
        let count = 100_000_u64;
        for (name, other) in [
            ("next request", (|i| first(7, i + 1, Stream::Key)) as fn(u64) -> f64),
            ("other purpose", |i| first(7, i, Stream::Cost)),
            ("next seed", |i| first(8, i, Stream::Key)),
        ] {
            let product = |i| (first(7, i, Stream::Key) - 0.5) * (other(i) - 0.5) * 12.0;
            let correlation = (0..count).map(product).sum::<f64>() / count as f64;
            assert!(correlation.abs() < 4.0 / (count as f64).sqrt(), "{name}: {correlation}");
        }
    }

    #[test]
    fn the_numbers_of_a_seed_do_not_change() {
        // Stored runs are repeated by their seed, so a change here breaks all of them.
        let numbers: Vec<u32> = (0..4).map(|i| draws(1, i, Stream::Key).u32(100_000..1_000_000)).collect();
        assert_eq!(numbers, [195_715, 175_548, 610_455, 562_621]);
    }
}

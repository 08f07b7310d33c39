//! Prime numbers: the sizes of Maglev's tables.

/// Whether `n` is prime, by division by all odd numbers up to its root.
pub const fn is_prime(n: u32) -> bool {
    if n < 4 {
        return n > 1;
    }
    let mut divisor = 3;
    while divisor as u64 * divisor as u64 <= n as u64 {
        if n.is_multiple_of(divisor) {
            return false;
        }
        divisor += 2;
    }
    !n.is_multiple_of(2)
}

/// The smallest prime that is `n` or more. `None` if it is above 2^32.
pub fn next_prime(n: u32) -> Option<u32> {
    (n..=u32::MAX).find(|candidate| is_prime(*candidate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primes_are_those_of_a_sieve() {
        let mut composite = [false; 10_000];
        for n in 2..composite.len() {
            (2 * n..composite.len()).step_by(n).for_each(|multiple| composite[multiple] = true);
            assert_eq!(is_prime(n as u32), !composite[n], "{n}");
        }
        assert!(!is_prime(0) && !is_prime(1));
        // The sizes of published tables.
        assert!([65_537, 655_373, 16_381, 5_000_011, 4_294_967_291].into_iter().all(is_prime));
    }

    #[test]
    fn the_next_prime_may_be_the_number_itself() {
        assert_eq!([0, 2, 4, 65_536, 65_537].map(next_prime), [2, 2, 5, 65_537, 65_537].map(Some));
        assert_eq!(next_prime(4_294_967_292), None);
    }
}

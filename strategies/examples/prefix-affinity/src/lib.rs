//! Prefix affinity: requests whose bodies begin with the same bytes go to the same backend.
//!
//! Idea: a server of a language model keeps the state of the prompts that it has read. A request that begins like an
//! earlier one is served faster by the same server. So the first [`PREFIX_BYTES`] bytes of the body are hashed. The
//! hash chooses by rendezvous: each backend gets a score from the hash and its id. The highest score wins. If a
//! backend leaves, only its requests move. Source: Thaler and Ravishankar, "A Name-Based Mapping Scheme for
//! Rendezvous", 1996.
//!
//! Why it exists: as an example of a strategy that reads the body. `prefix_affinity.c` is the same in C, with the same
//! picks.
//!
//! Invariants: a pick depends only on the prefix, the backends and those that were tried. Without a body the host's
//! fallback picks. Weights are not used. A client that knows the hash can choose its backend.

use lb_strategy::{Backends, Error, Host, NoOptions, Pick, Request, Strategy};

/// The part of the body that decides. The host reads so much before the pick; a shorter body decides as a whole.
pub const PREFIX_BYTES: u32 = 8192;

/// Odd, with well mixed bits: 2^64 divided by the golden ratio.
const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;

pub struct PrefixAffinity;

lb_strategy::export!(PrefixAffinity);

// === impl PrefixAffinity ===

impl Strategy for PrefixAffinity {
    const NAME: &'static str = "prefix_affinity";
    const EXPECTATION: &'static str = r#"{"balance":"multinomial","consistent":true}"#;
    const BODY_BYTES: u32 = PREFIX_BYTES;
    type Config = NoOptions;
    type Picker = ();

    fn new(_: NoOptions, _: Host) -> Result<Self, Error> {
        Ok(Self)
    }

    fn picker(&self, _: &Backends<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn pick(&self, _: &(), backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        let prefix = request.body();
        if prefix.is_empty() {
            return Pick::Fallback;
        }
        let hash = hash(prefix);
        let best = backends.candidates(request).max_by_key(|(_, backend)| mix(hash ^ backend.id()));
        best.map_or(Pick::NoBackend, |(index, _)| Pick::Backend(index))
    }
}

/// The hash of a text: four sums, so that the processor can work on four words at a time.
fn hash(text: &[u8]) -> u64 {
    let mut sums = [1_u64, 2, 3, 4];
    let add = |sum: &mut u64, word: u64| *sum = (*sum ^ word).wrapping_mul(MULTIPLIER).rotate_left(29);
    let (blocks, rest) = text.as_chunks::<32>();
    for block in blocks {
        let words = block.as_chunks::<8>().0;
        sums.iter_mut().zip(words).for_each(|(sum, word)| add(sum, u64::from_le_bytes(*word)));
    }
    // The first byte is the lowest one. Bytes that are missing in the last word are 0.
    let word = |piece: &[u8]| piece.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    sums.iter_mut().zip(rest.chunks(8)).for_each(|(sum, piece)| add(sum, word(piece)));
    sums.into_iter().fold(text.len() as u64, |hash, sum| mix(hash ^ sum))
}

/// A permutation of the numbers that changes half of the bits for each changed bit (the end of splitmix64).
fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use lb_strategy::Part;
    use lb_strategy::abi::LbStrategyTable;
    use lb_strategy_conformance::{Ask, Decision, Refusal, Requests, World, properties, strategy};
    use serde_json::json;

    use super::*;

    static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<PrefixAffinity>("0", "test");

    fn with_body(requests: &mut Requests, body: &[u8]) -> Ask {
        requests.ask().part(Part::Body, body)
    }

    #[test]
    fn has_the_properties_of_every_strategy() {
        properties::check_all(&TABLE, &json!({})).unwrap();
    }

    #[test]
    fn the_body_alone_decides_and_a_lost_backend_moves_only_its_own_requests() {
        let instance = strategy(&TABLE, &json!({})).unwrap();
        let all = World::of(5).picker(&instance).unwrap();
        let without_2 = World::of(5).up(&[true, true, false, true, true]).picker(&instance).unwrap();
        let mut requests = Requests::seeded(61);
        let mut used = [0; 5];
        for number in 0..1000_u32 {
            let body = number.to_le_bytes().repeat(1 + number as usize % 9);
            let first = with_body(&mut requests, &body).pick_backend(&all).unwrap();
            assert_eq!(with_body(&mut requests, &body).pick_backend(&all), Ok(first));
            let after = with_body(&mut requests, &body).pick_backend(&without_2).unwrap();
            assert!(after == first || first == 2, "{number}");
            used[first] += 1;
        }
        assert!(used.iter().all(|count| (140..260).contains(count)), "{used:?}");
    }

    #[test]
    fn without_a_body_the_host_picks() {
        let picker = World::of(2).picker(&strategy(&TABLE, &json!({})).unwrap()).unwrap();
        let ask = Requests::seeded(62).ask().part(Part::Body, "");
        assert_eq!(ask.pick(&picker), Decision::Refused(Refusal::Undecided));
    }
}

//! Round robin: backends take turns.
//!
//! Idea: all workers share one counter. Request number `n` gets turn `n mod length` of a cyclic sequence that the
//! picker computed. With equal weights the sequence is the list of eligible backends. With other weights it is nginx's
//! smooth weighted round robin (Igor Sysoev, nginx 1.3.1, 2012): 5:1:1 becomes a a b a c a a. So the turns of a heavy
//! backend are spread and do not form a burst.
//!
//! Cost: one atomic addition on one shared cache line, one division, one array read. A counter for each worker would be
//! cheaper but wrong: with n workers, counts could differ by n.
//!
//! Invariants, while the list does not change: counts of equal backends differ by at most 1 in any stretch of first
//! attempts, over all workers. In a complete sequence the counts are exactly proportional to the weights, unless these
//! are rounded.
//!
//! A retry takes no turn, because otherwise one dead backend would shift the turns of all others. It gets a random one
//! of the turns whose backends are untried. A dry pick takes no turn either.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use lb_strategy::{Backends, Error, Host, NoOptions, Pick, Request, StateSchema, Strategy};

/// The limit of backends × turns, which takes about 50 ms to compute. Beyond it weights are rounded: 1,000 backends
/// then have 33 turns each on average.
const STEPS_MAX: u64 = 1 << 25;

pub struct RoundRobin {
    next: Counter,
}

/// Backend indexes in the order of their turns. Empty if no backend is eligible.
pub struct Turns(Box<[u32]>);

/// On cache lines of its own, because all workers write it.
#[derive(Default)]
#[repr(align(128))]
struct Counter(AtomicU64);

lb_strategy::export!(RoundRobin);

// === impl RoundRobin ===

impl Strategy for RoundRobin {
    const NAME: &'static str = "round_robin";
    const STATE: Option<StateSchema> = Some(StateSchema { schema: "round_robin", version: 1 });
    const EXPECTATION: &'static str = r#"{"balance":"exact","weights":true}"#;
    type Config = NoOptions;
    type Picker = Turns;

    fn new(_: NoOptions, _: Host) -> Result<Self, Error> {
        Ok(Self { next: Counter::default() })
    }

    fn picker(&self, backends: &Backends<'_>) -> Result<Turns, Error> {
        let eligible = backends.iter().enumerate().filter(|(_, backend)| backend.is_eligible());
        Ok(Turns::smooth(eligible.map(|(index, backend)| (index as u32, backend.effective_weight())).collect()))
    }

    fn pick(&self, turns: &Turns, _: &Backends<'_>, request: &Request<'_>) -> Pick {
        if turns.0.is_empty() {
            return Pick::NoBackend;
        }
        if request.attempt() > 0 || !request.tried().is_empty() {
            return turns.any_untried(request);
        }
        let turn = if request.is_dry() { self.next.0.load(Relaxed) } else { self.next.0.fetch_add(1, Relaxed) };
        Pick::Backend(turns.0[(turn % turns.0.len() as u64) as usize] as usize)
    }

    fn export(&self) -> Vec<u8> {
        self.next.0.load(Relaxed).to_le_bytes().to_vec()
    }

    fn import(&self, version: u32, bytes: &[u8]) -> Result<(), Error> {
        match (version, bytes.try_into()) {
            (1, Ok(bytes)) => self.next.0.store(u64::from_le_bytes(bytes), Relaxed),
            (1, Err(_)) => return Err(format!("its counter has 8 bytes, not {}", bytes.len()).into()),
            _ => return Err(format!("it knows version 1 of its counter, not {version}").into()),
        }
        Ok(())
    }
}

// === impl Turns ===

impl Turns {
    /// Smooth weighted round robin. At each turn the credit of each backend grows by its weight. The backend with the
    /// most credit, the first of equals, gets the turn and pays the sum of all weights. After as many turns as that
    /// sum, all credits are 0 again, so the sequence repeats.
    fn smooth(mut members: Vec<(u32, u32)>) -> Self {
        reduce(&mut members);
        let sum: i64 = members.iter().map(|&(_, weight)| i64::from(weight)).sum();
        let mut credits = vec![0_i64; members.len()];
        let turns = (0..sum).map(|_| {
            let mut richest = 0;
            for (at, &(_, weight)) in members.iter().enumerate() {
                credits[at] += i64::from(weight);
                if credits[at] > credits[richest] {
                    richest = at;
                }
            }
            credits[richest] -= sum;
            members[richest].0
        });
        Self(turns.collect())
    }

    /// The pick for a retry. Each turn of an untried backend has the same probability, so the requests of a dead
    /// backend are spread by weight.
    fn any_untried(&self, request: &Request<'_>) -> Pick {
        let left = || self.0.iter().filter(|&&index| !request.is_tried(index as usize));
        let chosen = ((u128::from(request.random()) * left().count() as u128) >> 64) as usize;
        left().nth(chosen).map_or(Pick::NoBackend, |&index| Pick::Backend(index as usize))
    }
}

/// Divides weights by their greatest common divisor, so that equal weights become 1. Rounds them if the sequence is
/// still too long. No weight becomes 0: each eligible backend has a turn.
fn reduce(members: &mut [(u32, u32)]) {
    members.iter_mut().for_each(|(_, weight)| *weight = (*weight).max(1));
    let divisor = members.iter().fold(0, |divisor, &(_, weight)| greatest_common_divisor(divisor, weight)).max(1);
    members.iter_mut().for_each(|(_, weight)| *weight /= divisor);
    let sum: u64 = members.iter().map(|&(_, weight)| u64::from(weight)).sum();
    let longest = STEPS_MAX / members.len().max(1) as u64;
    if sum > longest {
        members.iter_mut().for_each(|(_, weight)| *weight = (u64::from(*weight) * longest / sum).max(1) as u32);
    }
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use lb_strategy::abi::LbStrategyTable;
    use lb_strategy_conformance::statistics::{chi_square_p, counts, spread};
    use lb_strategy_conformance::{Decision, Picker, Requests, World, properties, strategy};
    use serde_json::json;

    use super::*;

    static TABLE: LbStrategyTable = lb_strategy::ffi::hooks::table::<RoundRobin>("0", "test");

    fn picker(world: &World) -> Picker {
        world.picker(&strategy(&TABLE, &json!({})).unwrap()).unwrap()
    }

    fn picks(picker: &Picker, picks: usize) -> Vec<usize> {
        let mut requests = Requests::seeded(31);
        (0..picks).map(|_| requests.ask().pick_backend(picker).unwrap()).collect()
    }

    #[test]
    fn has_the_properties_of_every_strategy() {
        properties::check_all(&TABLE, &json!({})).unwrap();
    }

    #[test]
    fn equal_backends_take_turns_in_list_order() {
        assert_eq!(picks(&picker(&World::of(3).weights(&[7, 7, 7])), 7), [0, 1, 2, 0, 1, 2, 0]);
        assert_eq!(picks(&picker(&World::of(4).up(&[false, true, false, true])), 5), [1, 3, 1, 3, 1]);
    }

    #[test]
    fn counts_never_differ_by_more_than_one_for_any_eligible_set() {
        for mask in 1..64_u32 {
            let up: Vec<bool> = (0..6).map(|index| mask >> index & 1 == 1).collect();
            let world = World::of(6).up(&up);
            let picked = picks(&picker(&world), 50);
            for window in (0..50).flat_map(|from| (from + 1..=50).map(move |to| from..to)) {
                let counted = counts(6, picked[window].iter().copied());
                let eligible: Vec<u64> = world.candidates(&[]).into_iter().map(|index| counted[index]).collect();
                assert!(spread(&eligible) <= 1, "{counted:?} with {up:?}");
                assert_eq!(eligible.iter().sum::<u64>(), counted.iter().sum::<u64>());
            }
        }
    }

    #[test]
    fn a_heavy_backends_turns_are_spread_as_in_nginx() {
        // The example in nginx's commit: 5:1:1 is a a b a c a a.
        assert_eq!(picks(&picker(&World::of(3).weights(&[5, 1, 1])), 7), [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn weights_are_exact_over_a_sequence_and_never_off_by_more_than_one_turn() {
        for number in 0..6_u32.pow(3) {
            let weights = [number % 6, number / 6 % 6, number / 36];
            let sum: u32 = weights.iter().sum();
            if sum == 0 {
                continue;
            }
            let picked = picks(&picker(&World::of(3).weights(&weights)), 2 * sum as usize);
            for length in 1..=picked.len() {
                let counted = counts(3, picked[..length].iter().copied());
                for (count, weight) in counted.iter().zip(weights) {
                    let fair = length as f64 * f64::from(weight) / f64::from(sum);
                    let off = (*count as f64 - fair).abs();
                    assert!(
                        off <= if length % sum as usize == 0 { 1e-9 } else { 1.0 },
                        "{counted:?} of {weights:?} is off by {off}"
                    );
                }
            }
        }
    }

    #[test]
    fn in_a_slow_start_a_backend_has_its_part_of_its_turns() {
        let world = World::of(3).weights(&[1, 2, 1]);
        for (share, turns, expected) in [(100, 31, [10, 20, 1]), (500, 7, [2, 4, 1]), (1000, 4, [1, 2, 1])] {
            let picker = picker(&world.clone().shares(&[1000, 1000, share]));
            assert_eq!(counts(3, picks(&picker, turns).into_iter()), expected, "{share}");
        }
    }

    #[test]
    fn rounding_of_many_large_weights_keeps_all_backends_and_the_proportions() {
        let weights: Vec<u32> = (0..1000).map(|index| 1 + index % 256).collect();
        let mut members: Vec<(u32, u32)> =
            weights.iter().enumerate().map(|(i, &weight)| (i as u32, weight * 1000)).collect();
        reduce(&mut members);
        let sum: u64 = members.iter().map(|member| u64::from(member.1)).sum();
        assert!(sum * 1000 <= STEPS_MAX + 1_000_000, "{sum} turns");
        assert!(members.iter().all(|member| member.1 >= 1));
        assert_eq!(members[255].1 / members[127].1, 2);
    }

    #[test]
    fn a_retry_takes_no_turn() {
        let (quiet, troubled) = (picker(&World::of(5)), picker(&World::of(5)));
        let mut requests = Requests::seeded(32);
        for _ in 0..100 {
            let ask = requests.ask();
            let first = ask.pick_backend(&troubled).unwrap();
            assert_eq!(first, ask.pick_backend(&quiet).unwrap());
            let second = requests.ask().tried(&[first as u32]).pick_backend(&troubled).unwrap();
            requests.ask().tried(&[first as u32, second as u32]).pick_backend(&troubled).unwrap();
        }
    }

    #[test]
    fn the_requests_of_a_dead_backend_are_spread_by_weight() {
        let picker = picker(&World::of(4).weights(&[2, 1, 1, 4]));
        let mut requests = Requests::seeded(33);
        let retries = counts(4, (0..10_000).map(|_| requests.ask().tried(&[0]).pick_backend(&picker).unwrap()));
        let p = chi_square_p(&retries[1..], &[1.0, 1.0, 4.0]);
        assert!(retries[0] == 0 && p > 0.001, "{retries:?}, p {p}");
    }

    #[test]
    fn a_request_that_tried_all_backends_gets_none() {
        let ask = Requests::seeded(34).ask().tried(&[1, 0]);
        assert_eq!(ask.pick(&picker(&World::of(2))), Decision::NoBackend);
    }

    #[test]
    fn a_successor_continues_with_the_next_turn() {
        let old = strategy(&TABLE, &json!({})).unwrap();
        picks(&World::of(5).picker(&old).unwrap(), 13);
        let new = strategy(&TABLE, &json!({})).unwrap();
        new.import_state(1, &old.export_state().unwrap().unwrap()).unwrap();
        assert_eq!(picks(&World::of(5).picker(&new).unwrap(), 3), [3, 4, 0]);
        assert!(new.import_state(2, &[0; 8]).unwrap_err().to_string().contains("version 1"));
        assert!(new.import_state(1, &[0; 7]).unwrap_err().to_string().contains("8 bytes, not 7"));
    }

    #[test]
    fn the_counter_may_wrap() {
        let instance = strategy(&TABLE, &json!({})).unwrap();
        instance.import_state(1, &u64::MAX.to_le_bytes()).unwrap();
        assert_eq!(picks(&World::of(1).picker(&instance).unwrap(), 3), [0, 0, 0]);
    }

    #[test]
    fn any_option_is_refused_by_name() {
        let Err(error) = strategy(&TABLE, &json!({ "sticky": true })) else { panic!("an unknown option was taken") };
        assert!(error.contains("sticky"), "{error}");
    }
}

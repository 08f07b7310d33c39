//! Round robin: backends take turns.
//!
//! Idea: one counter, shared by all workers; request number `n` goes to turn `n mod length` of a cyclic sequence that the picker
//! computed. With equal weights the sequence is the list of eligible backends. With others it is nginx's smooth weighted round robin
//! (Igor Sysoev, nginx 1.3.1, 2012): 5:1:1 becomes a a b a c a a, so a heavy backend's turns are spread, not in one burst.
//!
//! Cost: one atomic addition on one shared cache line, one division, one array read; a per-worker counter would be cheaper, and wrong:
//! the counts of n workers may then differ by n.
//!
//! Invariants, while the list stands: over any stretch of first attempts the counts of equal backends differ by at most 1, whatever
//! worker they came from; over a whole sequence counts are as weights, exactly. A retry takes no turn (else one dead backend would
//! shift everybody's turns): it goes to a random one of the turns that are left. A dry pick takes no turn either.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use lb_strategy::{Backends, Error, Host, NoOptions, Pick, Request, StateSchema, Strategy};

/// Backends × turns that a picker may cost to compute: about 50 ms. Weights beyond it are rounded (1,000 backends keep 1 part in 33).
const STEPS_MAX: u64 = 1 << 25;

pub struct RoundRobin {
    next: Counter,
}

/// Backend indexes in the order of their turns; empty if nobody is eligible.
pub struct Turns(Box<[u32]>);

/// Alone on its cache lines: everybody writes it.
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
    /// Smooth weighted round robin: at each turn everybody's credit grows by its weight; the richest (the first of equals) takes the
    /// turn and pays the sum of all weights. After that many turns all credits are 0 again, so the sequence repeats.
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

    /// A retry: each turn that is left is as likely as any other, so what a dead backend sheds is spread as weights say.
    fn any_untried(&self, request: &Request<'_>) -> Pick {
        let left = || self.0.iter().filter(|&&index| !request.is_tried(index as usize));
        let chosen = ((u128::from(request.random()) * left().count() as u128) >> 64) as usize;
        left().nth(chosen).map_or(Pick::NoBackend, |&index| Pick::Backend(index as usize))
    }
}

/// Divides weights by their greatest common divisor, so that equal weights are plain turns, and rounds them where the sequence would
/// still be too long. Nobody falls to 0: who is eligible has a turn.
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

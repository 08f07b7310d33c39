//! The properties that every strategy must have. Each returns a sentence if a strategy does not have it.
//!
//! - Only eligible, untried backends are picked. A request gets a backend if and only if there is one.
//! - Dry picks change nothing, and no pick is lost if many threads pick.
//! - State survives a hand-over, and damaged state does no harm. Finishes and probes with extreme values do no harm.
//! - No hook panics.

use lb_strategy::Outcome;
use lb_strategy_host::{Decision, Finish, Hook, HookError, Picker, Probe, Refusal, backend_id};
use serde_json::Value;

use crate::request::{Ask, Requests};
use crate::statistics::spread;
use crate::world::{SMALL_WORLD_BACKENDS, Subject, World, small_worlds, strategy};

/// An error is a sentence about the missing property.
pub type Verdict = Result<(), String>;

const SEED: u64 = 0x5EED_0001;
pub(crate) const WEIGHTS: [[u32; SMALL_WORLD_BACKENDS]; 2] = [[1, 1, 1, 1], [3, 1, 0, 2]];
const THREADS: u32 = 4;
const PICKS_PER_THREAD: usize = 20_000;

/// Checks all properties, with these options.
pub fn check_all(subject: impl Subject, options: &Value) -> Verdict {
    check_all_small_worlds(subject, options)?;
    dry_picks_change_nothing(subject, options)?;
    threads_lose_nothing(subject, options)?;
    state_is_handed_over(subject, options)?;
    finishes_do_no_harm(subject, options)?;
    probes_do_no_harm(subject, options)
}

/// In every small world and for every set of tried backends, the pick is eligible and untried, or there is no such
/// backend.
pub fn check_all_small_worlds(subject: impl Subject, options: &Value) -> Verdict {
    let strategy = strategy(subject, options)?;
    let mut requests = Requests::seeded(SEED);
    for world in WEIGHTS.into_iter().flat_map(small_worlds) {
        let picker = world.picker(&strategy)?;
        for subset in 0..1_u32 << world.len() {
            let tried: Vec<u32> = (0..world.len() as u32).filter(|index| subset >> index & 1 == 1).collect();
            let ask = requests.ask().tried(&tried);
            serves_right(&world, &picker, &tried, &ask)?;
            serves_right(&world, &picker, &tried, &ask.clone().dry())?;
            serves_right(&world, &picker, &tried, &ask.without_key())?;
        }
    }
    Ok(())
}

/// Two instances with the same requests make the same picks, even if one also makes dry picks. A repeated dry pick is
/// the same.
pub fn dry_picks_change_nothing(subject: impl Subject, options: &Value) -> Verdict {
    let (plain, asked) = (strategy(subject, options)?, strategy(subject, options)?);
    let mut requests = Requests::seeded(SEED + 1);
    for world in WEIGHTS.into_iter().flat_map(small_worlds) {
        let (plain, asked) = (world.picker(&plain)?, world.picker(&asked)?);
        let dry = requests.ask().dry();
        let (first, second) = (dry.pick(&asked), dry.pick(&asked));
        dry.explain(&asked);
        if first != second {
            return Err(format!("a dry pick changed the next one from {first:?} to {second:?} in {world:?}"));
        }
        let real = requests.ask();
        let (expected, got) = (real.pick(&plain), real.pick(&asked));
        if expected != got {
            return Err(format!("dry picks changed a pick from {expected:?} to {got:?} in {world:?} for {real:?}"));
        }
    }
    Ok(())
}

/// Four threads pick from one picker. Each pick is right. If "exact" is declared, the counts are even.
pub fn threads_lose_nothing(subject: impl Subject, options: &Value) -> Verdict {
    let strategy = strategy(subject, options)?;
    let world = World::of(4).up(&[true, true, false, true]);
    let picker = world.picker(&strategy)?;
    let work = |worker: u32| {
        let mut requests = Requests::seeded(SEED + 2 + u64::from(worker));
        let mut counts = vec![0_u64; world.len()];
        for _ in 0..PICKS_PER_THREAD {
            let index = requests.ask().worker(worker).pick_backend(&picker)?;
            if !world.is_eligible(index) {
                return Err(format!("a thread got the ineligible backend {index}"));
            }
            counts[index] += 1;
        }
        Ok(counts)
    };
    let counted: Result<Vec<Vec<u64>>, String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|worker| scope.spawn(move || work(worker))).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| "a picking thread panicked".to_owned())?).collect()
    });
    let mut totals = vec![0; world.len()];
    for counts in counted? {
        totals.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
    }
    let eligible: Vec<u64> = world.candidates(&[]).into_iter().map(|index| totals[index]).collect();
    if strategy.plugin().expectation().contains(r#""balance":"exact""#) && spread(&eligible) > 1 {
        return Err(format!("declares exact balance, but {THREADS} threads counted {totals:?}"));
    }
    Ok(())
}

/// A new instance imports the state that another exports. Damaged or truncated state and an unknown version cause no
/// failure: the strategy may refuse or accept them.
pub fn state_is_handed_over(subject: impl Subject, options: &Value) -> Verdict {
    let old = strategy(subject, options)?;
    let Some((_, version)) = old.plugin().state_schema() else { return Ok(()) };
    let picker = World::of(3).picker(&old)?;
    let mut requests = Requests::seeded(SEED + 10);
    for _ in 0..100 {
        requests.ask().pick_backend(&picker)?;
    }
    let Some(exported) = old.export_state() else { return Ok(()) };
    let exported = exported.map_err(|error| error.to_string())?;
    // If nothing is exported, the state is in the slots, which the host hands over.
    if !exported.is_empty() {
        strategy(subject, options)?.import_state(version, &exported).map_err(|error| error.to_string())?;
    }
    let cuts = (0..exported.len()).map(|length| exported[..length].to_vec());
    for garbage in cuts.chain([vec![0xFF; 7], vec![0; 4096]]) {
        refuses_politely(strategy(subject, options)?.import_state(version, &garbage), "damaged state")?;
    }
    refuses_politely(strategy(subject, options)?.import_state(version + 1, &exported), "state of a later version")
}

/// Picks stay right after finishes with every outcome and with extreme numbers. Their picks are the instance's own or
/// not, and their backends are known or unknown.
pub fn finishes_do_no_harm(subject: impl Subject, options: &Value) -> Verdict {
    let strategy = strategy(subject, options)?;
    let world = World::of(3);
    let picker = world.picker(&strategy)?;
    let mut requests = Requests::seeded(SEED + 11);
    let outcomes = [0, 1, 2, 3, 4, 5, 77].map(|number| match number {
        0 => Outcome::Ok,
        1 => Outcome::ConnectError,
        2 => Outcome::Timeout,
        3 => Outcome::Reset,
        4 => Outcome::ClientGone,
        5 => Outcome::NotSent,
        other => Outcome::Other(other),
    });
    for (outcome, backend, total_ns) in outcomes.into_iter().flat_map(|outcome| {
        ["b0", "b2", "unknown"].into_iter().flat_map(move |name| [0, 1_000_000, u64::MAX].map(|ns| (outcome, name, ns)))
    }) {
        if strategy.plugin().wants().finish {
            picker.finish(&Finish {
                worker: Some(0),
                backend_id: backend_id(backend),
                outcome,
                http_status: (outcome == Outcome::Ok).then_some(200),
                attempt: 0,
                own: backend == "b0",
                upgraded: false,
                token: u64::MAX,
                time_to_head_ns: total_ns,
                total_ns,
                now_ns: total_ns,
            });
        }
        serves_right(&world, &picker, &[], &requests.ask())?;
    }
    Ok(())
}

/// Picks stay right after probes with every outcome and with extreme numbers, headers and bodies, on known and unknown
/// backends, by workers and periodic ones.
pub fn probes_do_no_harm(subject: impl Subject, options: &Value) -> Verdict {
    let strategy = strategy(subject, options)?;
    if !strategy.plugin().wants().probes {
        return Ok(());
    }
    let world = World::of(3);
    let picker = world.picker(&strategy)?;
    let names = strategy.plugin().response_headers().len();
    let mut requests = Requests::seeded(SEED + 12);
    let values: [Option<&[u8]>; 5] = [None, Some(b""), Some(b"7"), Some(b"-1e99"), Some(&[0xFF; 512])];
    for (turn, number) in (0..7).flat_map(|turn| [0, 1, 2, 3, 77].map(|number| (turn, number))) {
        let outcome = match number {
            0 => Outcome::Ok,
            1 => Outcome::ConnectError,
            2 => Outcome::Timeout,
            3 => Outcome::Reset,
            other => Outcome::Other(other),
        };
        picker.probe(&Probe {
            worker: (turn % 2 == 0).then_some(0),
            backend_id: backend_id(["b0", "b2", "unknown"][turn % 3]),
            outcome,
            http_status: (outcome == Outcome::Ok).then_some([200, 599][turn % 2]),
            latency_ns: [0, 1_000_000, u64::MAX][turn % 3],
            now_ns: [0, 1_000_000, u64::MAX][turn / 3 % 3],
            headers: &vec![values[(turn + number as usize) % values.len()]; names],
            body: &[b'{'; 1_024][..[0, 1, 1_024][turn % 3]],
        });
        serves_right(&world, &picker, &[], &requests.ask())?;
    }
    match strategy.panics().of(Hook::OnProbe) {
        0 => Ok(()),
        panics => Err(format!("on_probe panicked in {panics} calls")),
    }
}

fn serves_right(world: &World, picker: &Picker, tried: &[u32], ask: &Ask) -> Verdict {
    let decision = ask.pick(picker);
    if is_right(decision, world, picker, tried, ask) {
        return Ok(());
    }
    let candidates = world.candidates(tried);
    Err(format!("{decision:?} where {candidates:?} may serve {ask:?} in {world:?} (seed {SEED:#x})"))
}

/// Whether the contract allows this decision here.
pub(crate) fn is_right(decision: Decision, world: &World, picker: &Picker, tried: &[u32], ask: &Ask) -> bool {
    let candidates = world.candidates(tried);
    match decision {
        Decision::Backend { index, .. } => candidates.contains(&index),
        Decision::NoBackend => candidates.is_empty(),
        // The request waits in the pool's queue, and the strategy is asked again.
        Decision::Wait => true,
        // Without a key and a body, a strategy that hashes one of them may let the host pick.
        Decision::Refused(Refusal::Undecided) => {
            let wants = picker.strategy().plugin().wants();
            candidates.is_empty() || ((wants.hash || wants.body > 0) && !ask.has_key())
        }
        Decision::Refused(_) => false,
    }
}

fn refuses_politely(result: Result<(), HookError>, what: &str) -> Verdict {
    match result {
        Err(HookError::Failed { reason, .. }) => Err(format!("{what} made it fail: {reason}")),
        // The strategy may accept the bytes, because only the strategy knows their format.
        Err(_) | Ok(()) => Ok(()),
    }
}

//! Thread stress: four workers pick from one picker at the same time, as they do in the balancer.

use super::expectation::Balance;
use super::subject::{Deadline, Subject, WORKERS, lean_pick};
use super::{Finding, Found};
use crate::statistics::spread;
use crate::{Decision, Picker, World, pulse};

const PICKS_PER_THREAD: u64 = 25_000;
/// Picks between two looks at the clock. Between them the threads share nothing but the strategy.
const BATCH: u64 = 100;

/// The picks of one thread by backend, and the number of unusable decisions.
type Counted = (Vec<u64>, u64);

pub(super) fn check(subject: &Subject) -> Found {
    let world = World::labelled(4).up(&[true, true, false, true]);
    let picker = subject.picker(&world)?;
    let counted: Result<Vec<Counted>, String> = std::thread::scope(|scope| {
        let thread = |worker| {
            let picker = &picker;
            scope.spawn(move || work(picker, subject.seed, worker))
        };
        let threads: Vec<_> = (0..WORKERS).map(thread).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| "a picking thread panicked".to_owned())).collect()
    });
    let (mut totals, mut bad) = (vec![0; world.len()], 0);
    for (counts, of_thread) in counted? {
        totals.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
        bad += of_thread;
    }
    let figure = format!("{bad} bad, {} picks", totals.iter().sum::<u64>() + bad);
    let eligible: Vec<u64> = world.candidates(&[]).into_iter().map(|index| totals[index]).collect();
    if subject.expectation.balance == Balance::Exact && spread(&eligible) > 1 {
        let figure = format!("spread {} of {eligible:?}", spread(&eligible));
        return Ok(Finding::fail(
            figure,
            "spread at most 1",
            "exact with one thread, but not with four: turns are lost or counted per thread",
        ));
    }
    let (good, wrong) =
        ("every pick is right with four threads at once", "some picks are wrong with four threads at once");
    Ok(Finding::judged(bad == 0, figure, "0 bad picks", good, wrong))
}

fn work(picker: &Picker, seed: u64, worker: u32) -> Counted {
    let mut random = fastrand::Rng::with_seed(seed ^ u64::from(worker));
    let (mut counts, mut bad) = (vec![0; picker.backends().len()], 0);
    let deadline = Deadline::of_a_long_check();
    for batch in 0..PICKS_PER_THREAD / BATCH {
        for number in 0..BATCH {
            match lean_pick(picker, worker, batch * BATCH + number, random.u64(..)) {
                Decision::Backend { index, .. } => counts[index] += 1,
                Decision::Wait => {}
                _ => bad += 1,
            }
        }
        pulse::beat(BATCH);
        if deadline.has_passed() {
            break;
        }
    }
    (counts, bad)
}

//! The cost of picks: the time of one, and the memory that stays allocated after a million.
//!
//! A sound strategy takes tens of nanoseconds. A longer time is a warning, because it depends on the machine too.
//! Beyond the limit of `lb`'s probation it is a failure: in service `lb` would put the predecessor back.
//!
//! Invariants: a batch is shorter than the time slice of a busy machine. So the median is the time of a batch that was
//! not interrupted. The memory check of a slow strategy ends after fewer picks.

use std::time::{Duration, Instant};

use lb_strategy_host::{Finish, Outcome, backend_id};

use super::subject::{Deadline, Subject, lean_pick};
use super::{Finding, Found, SLOW_PICK};
use crate::{Decision, Picker, World, pulse};

const MILLION: u64 = 1_000_000;
const WARM_UP: u64 = 50_000;
/// Picks between two looks at the clock.
const CHUNK: u64 = 1_000;
const RETAINED_MAX_KIB: i64 = 1024;
/// Memory moves by this without any leak, which counts if only a part of a million picks was made.
const NOISE_KIB: i64 = 256;
const SIZES: [usize; 4] = [3, 10, 100, 1000];
/// The largest median time in nanoseconds without a warning, for each size.
const TIMES_MAX_NS: [f64; 4] = [1_000.0, 1_000.0, 10_000.0, 100_000.0];
/// Slower picks at these sizes are a failure. Few pools are larger.
const JUDGED: usize = 3;
/// Longer times have a unit each.
const IN_NS_MAX: f64 = 100_000.0;
const BATCH_MAX: u64 = 50;
const BATCH_TIME: Duration = Duration::from_micros(50);
const BATCHES_MAX: usize = 400;
const BATCHES_MIN: usize = 5;
const TIME_PER_SIZE: Duration = Duration::from_millis(60);

pub(super) fn memory(subject: &Subject) -> Found {
    let world = World::labelled(3);
    let picker = subject.picker(&world)?;
    let wants_finish = subject.plugin().wants().finish;
    let mut random = fastrand::Rng::with_seed(subject.seed);
    let mut picks = |from: u64, to: u64| {
        let deadline = Deadline::of_a_long_check();
        let mut number = from;
        while number < to && !deadline.has_passed() {
            for number in number..number + CHUNK {
                if let Decision::Backend { index, token } = lean_pick(&picker, 0, number, random.u64(..))
                    && wants_finish
                {
                    picker.finish(&finish(world.name(index), token, number));
                }
                pulse::beat(1);
            }
            number += CHUNK;
        }
        number - from
    };
    picks(0, WARM_UP);
    let before = resident_kib()?;
    let made = picks(WARM_UP, WARM_UP + MILLION);
    let kept = resident_kib()? - before;
    Ok(judge_memory(kept, made))
}

fn judge_memory(kept: i64, made: u64) -> Finding {
    let per_million = kept * MILLION as i64 / made.max(1) as i64;
    let is_noise = made < MILLION && kept <= NOISE_KIB;
    let (good, bad) =
        ("memory does not grow with picks", "memory grows with picks: the strategy allocates and does not free");
    let figure = match made {
        MILLION => format!("{kept} KiB in a million picks"),
        _ => format!("{kept} KiB in {made} picks"),
    };
    let bar = format!("{RETAINED_MAX_KIB} KiB per million");
    Finding::judged(per_million <= RETAINED_MAX_KIB || is_noise, figure, bar, good, bad)
}

pub(super) fn pick_time(subject: &Subject) -> Found {
    let mut medians = Vec::new();
    for size in SIZES {
        let picker = match subject.picker(&World::labelled(size)) {
            Ok(picker) => picker,
            // A strategy may refuse a large pool, for example if its table is too small. It must accept a small one.
            Err(_) if size > SIZES[0] => break,
            Err(reason) => return Err(reason),
        };
        medians.push(median_ns(&picker, subject.seed));
    }
    let _ = subject.pick_time.set(Duration::from_nanos(medians[0] as u64));
    Ok(judge_times(&medians))
}

/// The median time of a pick.
fn median_ns(picker: &Picker, seed: u64) -> f64 {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut time = |picks: u64| {
        let start = Instant::now();
        for number in 0..picks {
            std::hint::black_box(lean_pick(picker, 0, number, random.u64(..)));
        }
        let took = start.elapsed();
        pulse::beat(picks);
        took
    };
    // The first pick finds cold caches. The least of three is a first estimate.
    let estimate = (0..3).map(|_| time(1)).min().unwrap_or_default().max(Duration::from_nanos(1));
    let batch = (BATCH_TIME.as_nanos() / estimate.as_nanos()).clamp(1, u128::from(BATCH_MAX)) as u64;
    let (start, mut batches) = (Instant::now(), Vec::new());
    while batches.len() < BATCHES_MAX && (batches.len() < BATCHES_MIN || start.elapsed() < TIME_PER_SIZE) {
        batches.push(time(batch).as_nanos() as f64 / batch as f64);
    }
    batches.sort_by(f64::total_cmp);
    batches[batches.len() / 2]
}

fn judge_times(medians: &[f64]) -> Finding {
    let figure = figure(medians);
    let limit = SLOW_PICK.as_nanos() as f64;
    if medians.iter().take(JUDGED).any(|median| *median > limit) {
        let sentence =
            "too slow at 3 / 10 / 100 / 1000 backends: probation in lb fails a strategy if most picks take longer";
        return Finding::fail(figure, format!("at most {}", shown(limit)), sentence);
    }
    let bar = "1 / 1 / 10 / 100 µs";
    if medians.iter().zip(TIMES_MAX_NS).any(|(median, bar)| *median > bar) {
        let sentence = format!(
            "slow at 3 / 10 / 100 / 1000 backends: does pick allocate, lock or call the system? Probation fails it above {}",
            shown(limit)
        );
        return Finding::warn(figure, bar, sentence);
    }
    Finding::pass(figure, bar, "median with 3 / 10 / 100 / 1000 backends, call included")
}

fn figure(medians: &[f64]) -> String {
    let is_short = medians.iter().all(|median| *median < IN_NS_MAX);
    let one = |median: &f64| if is_short { format!("{median:.0}") } else { shown(*median) };
    let mut figures: Vec<String> = medians.iter().map(one).collect();
    figures.resize(SIZES.len(), "refused".to_owned());
    figures.join(" / ") + if is_short { " ns" } else { "" }
}

fn shown(ns: f64) -> String {
    match ns {
        ..10_000.0 => format!("{ns:.0} ns"),
        ..10_000_000.0 => format!("{:.0} µs", ns / 1e3),
        _ => format!("{:.0} ms", ns / 1e6),
    }
}

fn finish(backend: &str, token: u64, number: u64) -> Finish {
    Finish {
        worker: Some(0),
        backend_id: backend_id(backend),
        outcome: Outcome::Ok,
        http_status: Some(200),
        attempt: 0,
        own: true,
        upgraded: false,
        token,
        time_to_head_ns: MILLION,
        total_ns: MILLION,
        now_ns: number * 1000,
    }
}

/// The memory of this process that is in RAM.
fn resident_kib() -> Result<i64, String> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(|error| format!("/proc/self/status: {error}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("/proc/self/status has no VmRSS")?;
    line.trim().trim_end_matches(" kB").parse().map_err(|_| format!("VmRSS is {line:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scorecard::Verdict;

    #[test]
    fn a_slow_pick_is_a_warning_and_one_beyond_the_limit_of_probation_a_failure() {
        let judged = |ns: [f64; 4]| judge_times(&ns);
        assert_eq!(judged([30.0, 80.0, 430.0, 4_000.0]).verdict, Verdict::Pass);
        let slow = judged([200e3; 4]);
        assert_eq!((slow.verdict, &*slow.figure), (Verdict::Warn, "200 µs / 200 µs / 200 µs / 200 µs"));
        let too_slow = judged([251e3; 4]);
        assert_eq!((too_slow.verdict, &*too_slow.bar), (Verdict::Fail, "at most 250 µs"));
        assert_eq!(judged([30.0, 80.0, 430.0, 260e3]).verdict, Verdict::Warn, "a pool of 1,000 is rare");
        assert_eq!(judge_times(&[30.0]).figure, "30 / refused / refused / refused ns");
    }

    #[test]
    fn a_leak_is_found_in_a_part_of_a_million_picks_and_noise_is_none() {
        assert_eq!(judge_memory(1_025, MILLION).verdict, Verdict::Fail);
        assert_eq!(judge_memory(1_000, MILLION).verdict, Verdict::Pass);
        assert_eq!(judge_memory(300, 50_000).verdict, Verdict::Fail);
        assert_eq!(judge_memory(200, 50_000).verdict, Verdict::Pass);
    }
}

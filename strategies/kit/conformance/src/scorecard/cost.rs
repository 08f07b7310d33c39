//! The cost of picks: memory that stays allocated after a million picks, and the time of one.
//!
//! A long time is only a warning, because it depends on the machine too. A sound strategy takes tens of nanoseconds.
//! The bars are far above that, so that only another order of magnitude is reported.

use std::time::{Duration, Instant};

use lb_strategy_host::{Finish, Outcome, backend_id};

use super::subject::{Subject, lean_pick};
use super::{Finding, Found};
use crate::{Decision, World};

const MILLION: u64 = 1_000_000;
const WARM_UP: u64 = 50_000;
const RETAINED_MAX_KIB: i64 = 1024;
const SIZES: [usize; 4] = [3, 10, 100, 1000];
/// The largest median time in nanoseconds without a warning, for each size.
const TIMES_MAX_NS: [f64; 4] = [1_000.0, 1_000.0, 10_000.0, 100_000.0];
const BATCH: u64 = 50;
const BATCHES_MAX: usize = 400;
const TIME_PER_SIZE: Duration = Duration::from_millis(60);

pub(super) fn memory(subject: &Subject) -> Found {
    let world = World::of(3);
    let picker = subject.picker(&world)?;
    let wants_finish = subject.plugin().wants().finish;
    let mut random = fastrand::Rng::with_seed(subject.seed);
    let mut picks = |from: u64, to: u64| {
        for number in from..to {
            if let Decision::Backend { index, token } = lean_pick(&picker, 0, number, random.u64(..))
                && wants_finish
            {
                picker.finish(&finish(world.name(index), token, number));
            }
        }
    };
    picks(0, WARM_UP);
    let before = resident_kib()?;
    picks(WARM_UP, WARM_UP + MILLION);
    let kept = resident_kib()? - before;
    let (good, bad) =
        ("memory does not grow with picks", "memory grows with picks: the strategy allocates and does not free");
    let figure = format!("{kept} KiB per million picks");
    Ok(Finding::judged(kept <= RETAINED_MAX_KIB, figure, format!("at most {RETAINED_MAX_KIB} KiB"), good, bad))
}

pub(super) fn pick_time(subject: &Subject) -> Found {
    let mut medians = Vec::new();
    for size in SIZES {
        let picker = match subject.picker(&World::of(size)) {
            Ok(picker) => picker,
            // A strategy may refuse a large pool, for example if its table is too small. It must accept a small one.
            Err(_) if size > SIZES[0] => break,
            Err(reason) => return Err(reason),
        };
        let mut random = fastrand::Rng::with_seed(subject.seed);
        let (start, mut batches) = (Instant::now(), Vec::new());
        while batches.len() < BATCHES_MAX && (batches.len() < 3 || start.elapsed() < TIME_PER_SIZE) {
            let batch = Instant::now();
            for number in 0..BATCH {
                std::hint::black_box(lean_pick(&picker, 0, number, random.u64(..)));
            }
            batches.push(batch.elapsed().as_nanos() as f64 / BATCH as f64);
        }
        batches.sort_by(f64::total_cmp);
        medians.push(batches[batches.len() / 2]);
    }
    let mut figures: Vec<String> = medians.iter().map(|median| format!("{median:.0}")).collect();
    figures.resize(SIZES.len(), "refused".to_owned());
    let figure = figures.join(" / ") + " ns";
    let bar = "1 / 1 / 10 / 100 µs";
    let slow = medians.iter().zip(TIMES_MAX_NS).any(|(median, bar)| *median > bar);
    Ok(if slow {
        Finding::warn(figure, bar, "slow at 3 / 10 / 100 / 1000 backends: does pick allocate, lock or call the system?")
    } else {
        Finding::pass(figure, bar, "median with 3 / 10 / 100 / 1000 backends, call included")
    })
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

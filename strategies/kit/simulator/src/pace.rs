//! The speed of a backend over time, and so the end of a piece of work.
//!
//! Waves and faults are known in advance. So the end of a work is computed once, when it begins, and no event is
//! needed for a change of speed. Invariant: a speed never changes between two of the times that [`Pace::at`] tells.

use crate::streams::{Purpose, Stream};
use crate::time::{SECOND_NS, START_NS};
use crate::world::{Backends, Wave};

/// A work that takes longer than this through waves and faults never ends. So a plan with a tiny speed cannot loop.
const HORIZON_NS: u64 = 3 * 3_600 * SECOND_NS;

/// The speed of one backend.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    base: f64,
    waves: Vec<(Wave, u64)>,
    /// From, until and factor; 0 is a stall.
    windows: Vec<(u64, u64, f64)>,
}

// === impl Pace ===

impl Pace {
    /// Of server number `server`.
    pub(crate) fn new(group: &Backends, seed: u64, server: usize) -> Self {
        let phase = |(number, wave): (usize, &Wave)| {
            let random =
                || Stream::new(seed, Purpose::Service).below((server * 64 + number) as u64 + (1 << 60), wave.period.ns);
            (*wave, if wave.random_phase { random() } else { 0 })
        };
        let waves = group.waves.iter().enumerate().map(phase).collect();
        Self { base: group.speed, waves, windows: Vec::new() }
    }

    /// In this time the speed is multiplied by `factor`.
    pub(crate) fn add_window(&mut self, from_ns: u64, until_ns: u64, factor: f64) {
        self.windows.push((from_ns, until_ns, factor));
    }

    /// When a worker that begins `work_ns` now has finished it; `u64::MAX`: never.
    #[inline]
    pub(crate) fn finish(&self, now_ns: u64, work_ns: u64) -> u64 {
        if self.waves.is_empty() && self.windows.is_empty() {
            return match self.base == 1.0 {
                true => now_ns + work_ns,
                false => now_ns.saturating_add((work_ns as f64 / self.base) as u64),
            };
        }
        self.finish_by_parts(now_ns, work_ns as f64)
    }

    fn finish_by_parts(&self, mut now_ns: u64, mut work: f64) -> u64 {
        let horizon_ns = now_ns.saturating_add(HORIZON_NS);
        loop {
            if self.stands_for_ever(now_ns) || now_ns > horizon_ns {
                return u64::MAX;
            }
            let (speed, until_ns) = self.at(now_ns);
            let takes = if speed > 0.0 { work / speed } else { f64::INFINITY };
            if until_ns == u64::MAX {
                return if takes.is_finite() { now_ns.saturating_add(takes as u64) } else { u64::MAX };
            }
            let part = (until_ns - now_ns) as f64;
            if takes <= part {
                return now_ns + takes as u64;
            }
            work -= part * speed;
            now_ns = until_ns;
        }
    }

    fn stands_for_ever(&self, now_ns: u64) -> bool {
        self.windows.iter().any(|&(from, until, factor)| factor == 0.0 && until == u64::MAX && from <= now_ns)
    }

    /// Whether it stands still.
    pub(crate) fn is_stalled(&self, now_ns: u64) -> bool {
        self.windows.iter().any(|&(from, until, factor)| factor == 0.0 && (from..until).contains(&now_ns))
    }

    /// The speed, and until when it stays; `u64::MAX`: for ever.
    fn at(&self, now_ns: u64) -> (f64, u64) {
        let (mut speed, mut until) = (self.base, u64::MAX);
        for (wave, phase_ns) in &self.waves {
            let place = (now_ns - START_NS + phase_ns) % wave.period.ns;
            let busy = (wave.period.ns as f64 * wave.share) as u64;
            let is_busy = place < busy;
            speed *= if is_busy { wave.speed } else { 1.0 };
            until = until.min(now_ns + if is_busy { busy } else { wave.period.ns } - place);
        }
        for &(from, end, factor) in &self.windows {
            if (from..end).contains(&now_ns) {
                speed *= factor;
                until = until.min(end);
            } else if from > now_ns {
                until = until.min(from);
            }
        }
        (speed, until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Time;

    const MS: u64 = 1_000_000;

    fn finish(pace: &Pace, from_ms: u64, work_ms: u64) -> u64 {
        match pace.finish(START_NS + from_ms * MS, work_ms * MS) {
            u64::MAX => u64::MAX,
            end_ns => (end_ns - START_NS) / MS,
        }
    }

    #[test]
    fn work_takes_longer_in_slow_parts_and_stands_still_in_a_stall() {
        let wave = Wave { period: Time::ms(100), share: 0.5, speed: 0.5, random_phase: false };
        let mut pace = Pace::new(&Backends { speed: 2.0, waves: vec![wave], ..Backends::default() }, 1, 0);
        assert_eq!(finish(&pace, 0, 50), 50, "speed 1 in the busy half");
        assert_eq!(finish(&pace, 50, 100), 100, "speed 2 in the other one");
        assert_eq!(finish(&pace, 0, 150), 100);
        assert_eq!(finish(&pace, 0, 300), 200);
        pace.add_window(START_NS + 10 * MS, START_NS + 40 * MS, 0.0);
        assert_eq!(finish(&pace, 0, 10), 10);
        assert_eq!(finish(&pace, 0, 11), 41);
        assert!(pace.is_stalled(START_NS + 10 * MS) && !pace.is_stalled(START_NS + 40 * MS));
        pace.add_window(START_NS + 200 * MS, u64::MAX, 0.0);
        assert_eq!(finish(&pace, 100, 200), u64::MAX, "a stall for ever");
    }

    #[test]
    fn random_phases_differ_and_follow_the_seed() {
        let wave = Wave { period: Time::ms(100), share: 0.5, speed: 0.5, random_phase: true };
        let group = Backends { waves: vec![wave], ..Backends::default() };
        let phase = |seed, server| Pace::new(&group, seed, server).waves[0].1;
        assert_eq!(phase(1, 0), phase(1, 0));
        assert!(phase(1, 0) != phase(1, 1) && phase(1, 0) != phase(2, 0));
    }
}

//! Collects the counts of the sending threads every 100 ms, for the view and for observers.
//!
//! Invariant: each thread takes the lock a few times in 100 ms and never for a request, so observers do not slow the
//! load.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;

use super::outcome::{RoughLatencies, Window, new_rough};

/// The length of a window.
pub(super) const WINDOW_NS: u64 = 100_000_000;
/// The number of windows whose latencies are kept for [`Snapshot::latency`]: one second.
const RECENT: usize = 10;

/// The counts of one thread for the requests that were scheduled in one window.
pub(super) struct Report<'a> {
    pub(super) window: &'a Window,
    pub(super) latency: &'a RoughLatencies,
    /// The latencies of the requests that ended in it.
    pub(super) ended_latency: &'a RoughLatencies,
    pub(super) names: &'a [Box<[u8]>],
}

/// The counts of one thread since its last report.
pub(super) struct Look<'a> {
    pub(super) live: &'a Live,
    pub(super) latency: &'a RoughLatencies,
    /// Good responses, in the order of `names`. Backends at the end without a response may be missing.
    pub(super) backends: &'a [u32],
    pub(super) names: &'a [Box<[u8]>],
}

/// The events within some time, whenever their requests were scheduled.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Live {
    pub sent: u64,
    pub ok: u64,
    pub failed: u64,
    pub errors: u64,
    pub unsent: u64,
    /// Requests in flight or waiting for a connection at its end.
    pub outstanding: u64,
    /// Responses by the first digit of their status, from 1xx to 5xx.
    pub classes: [u64; 5],
}

/// The state of a load, up to the last complete 100 ms.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Since the start, the warm-up included.
    pub total: Live,
    /// In the last second.
    pub recent: Live,
    /// The length of the last second, in seconds: less at the beginning.
    pub recent_s: f64,
    /// Latencies of the good responses of the last second.
    pub latency: RoughLatencies,
    pub backends: Vec<String>,
    /// Good responses by backend since the start, in the order of `backends`.
    pub backend_counts: Vec<u64>,
    /// Good responses by backend in the last second.
    pub backend_recent: Vec<u64>,
    /// The number of complete windows of the series; see [`super::Handle::windows`].
    pub windows: usize,
}

#[derive(Debug)]
pub(super) struct Collector(Mutex<Collected>);

#[derive(Debug)]
pub(super) struct Collected {
    windows: Vec<Window>,
    backends: Vec<String>,
    /// Windows that not all threads have reported.
    pending: BTreeMap<u64, Pending>,
    /// By thread: the first window that it has not reported.
    told: Vec<u64>,
    backend_counts: Vec<u64>,
    total: Live,
    /// By thread.
    outstanding: Vec<u64>,
    /// The last windows by the clock.
    recent: VecDeque<Recent>,
}

/// A window of the series while threads report it.
#[derive(Debug)]
struct Pending {
    window: Window,
    latency: RoughLatencies,
    ended_latency: RoughLatencies,
}

/// The events of one window by the clock.
#[derive(Debug)]
struct Recent {
    number: u64,
    live: Live,
    latency: RoughLatencies,
    /// In the order of `Collected::backends`.
    backends: Vec<u64>,
}

// === impl Collector ===

impl Collector {
    pub(super) fn new(threads: usize) -> Self {
        Self(Mutex::new(Collected {
            windows: Vec::new(),
            backends: Vec::new(),
            pending: BTreeMap::new(),
            told: vec![0; threads],
            backend_counts: Vec::new(),
            total: Live::default(),
            outstanding: vec![0; threads],
            recent: VecDeque::new(),
        }))
    }

    /// Takes the counts of `thread` for window `number` of the series. Windows between its last report and this one
    /// were empty.
    pub(super) fn report(&self, thread: usize, number: u64, report: &Report<'_>) {
        self.0.lock().report(thread, number, report);
    }

    /// Takes the events of `thread` since its last look; the current window is `now`.
    pub(super) fn look(&self, thread: usize, now: u64, look: &Look<'_>) {
        self.0.lock().look(thread, now, look);
    }

    /// This thread reports nothing more.
    pub(super) fn end(&self, thread: usize) {
        let mut collected = self.0.lock();
        collected.told[thread] = u64::MAX;
        collected.outstanding[thread] = 0;
        collected.close_windows();
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let collected = self.0.lock();
        let (mut latency, mut recent) = (new_rough(), Live::default());
        let mut backend_recent = vec![0; collected.backends.len()];
        for window in &collected.recent {
            latency.add(&window.latency).expect("a histogram that grows takes any other");
            recent.add(&window.live);
            backend_recent.iter_mut().zip(&window.backends).for_each(|(sum, count)| *sum += count);
        }
        let outstanding = collected.outstanding.iter().sum();
        Snapshot {
            total: Live { outstanding, ..collected.total },
            recent: Live { outstanding, ..recent },
            recent_s: collected.recent.len() as f64 * WINDOW_NS as f64 / 1e9,
            latency,
            backends: collected.backends.clone(),
            backend_counts: collected.backend_counts.clone(),
            backend_recent,
            windows: collected.windows.len(),
        }
    }

    /// The windows from number `from` on.
    pub(super) fn windows(&self, from: usize) -> Vec<Window> {
        self.0.lock().windows.get(from..).unwrap_or_default().to_vec()
    }

    /// Moves out all windows, at the end. Later snapshots keep the counts, but have no windows.
    pub(super) fn take(&self) -> (Vec<Window>, Vec<String>) {
        let mut collected = self.0.lock();
        (std::mem::take(&mut collected.windows), collected.backends.clone())
    }
}

// === impl Live ===

impl Live {
    fn add(&mut self, other: &Self) {
        let Self { sent, ok, failed, errors, unsent, outstanding: _, classes } = other;
        self.sent += sent;
        self.ok += ok;
        self.failed += failed;
        self.errors += errors;
        self.unsent += unsent;
        self.classes.iter_mut().zip(classes).for_each(|(mine, other)| *mine += other);
    }

    pub(super) fn count_status(&mut self, status: u16) {
        // a status outside 100 to 599 counts in the nearest class
        self.classes[usize::from(status / 100).clamp(1, 5) - 1] += 1;
    }
}

// === impl Collected ===

impl Collected {
    fn report(&mut self, thread: usize, number: u64, report: &Report<'_>) {
        let numbers: Vec<usize> = report.names.iter().map(|name| self.backend(name)).collect();
        let Pending { window, latency, ended_latency } = self.pending.entry(number).or_insert_with(Pending::new);
        let Window { due, sent, ok, failed, errors, unsent, ended, .. } = report.window;
        window.due += due;
        window.sent += sent;
        window.ok += ok;
        window.failed += failed;
        window.errors += errors;
        window.unsent += unsent;
        window.ended.ok += ended.ok;
        window.ended.errors += ended.errors;
        add_counts(&mut window.backends, &report.window.backends, &numbers);
        add_counts(&mut window.ended.backends, &ended.backends, &numbers);
        for (all, own) in [(latency, report.latency), (ended_latency, report.ended_latency)] {
            all.add(own).expect("a histogram that grows takes any other");
        }
        self.told[thread] = number + 1;
        self.close_windows();
    }

    fn look(&mut self, thread: usize, now: u64, look: &Look<'_>) {
        self.total.add(look.live);
        self.outstanding[thread] = look.live.outstanding;
        let at = self.recent.iter().position(|window| window.number == now).unwrap_or_else(|| {
            if self.recent.len() == RECENT {
                self.recent.pop_front();
            }
            let (live, latency, backends) = (Live::default(), new_rough(), Vec::new());
            self.recent.push_back(Recent { number: now, live, latency, backends });
            self.recent.len() - 1
        });
        let window = &mut self.recent[at];
        window.live.add(look.live);
        window.latency.add(look.latency).expect("a histogram that grows takes any other");
        for (name, count) in look.names.iter().zip(look.backends).filter(|(_, count)| **count > 0) {
            let number = self.backend(name);
            self.backend_counts[number] += u64::from(*count);
            let backends = &mut self.recent[at].backends;
            if backends.len() <= number {
                backends.resize(number + 1, 0);
            }
            backends[number] += u64::from(*count);
        }
    }

    /// The number of a backend in the numbering that all threads share.
    fn backend(&mut self, name: &[u8]) -> usize {
        let name = String::from_utf8_lossy(name);
        self.backends.iter().position(|known| *known == name).unwrap_or_else(|| {
            self.backends.push(name.into_owned());
            self.backend_counts.push(0);
            self.backends.len() - 1
        })
    }

    /// Appends the windows that all threads have reported, and empty windows for gaps.
    fn close_windows(&mut self) {
        let told = self.told.iter().copied().min().unwrap_or(u64::MAX);
        while self.pending.first_key_value().is_some_and(|(number, _)| *number < told) {
            let Some((number, pending)) = self.pending.pop_first() else { break };
            while (self.windows.len() as u64) < number {
                self.close(Pending::new());
            }
            self.close(pending);
        }
    }

    fn close(&mut self, Pending { mut window, latency, ended_latency }: Pending) {
        let at =
            |latency: &RoughLatencies, quantile| (!latency.is_empty()).then(|| latency.value_at_quantile(quantile));
        window.start_ms = self.windows.len() as u64 * (WINDOW_NS / 1_000_000);
        (window.p50_ns, window.p99_ns) = (at(&latency, 0.5), at(&latency, 0.99));
        window.max_ns = (!latency.is_empty()).then(|| latency.max());
        (window.ended.p50_ns, window.ended.p99_ns) = (at(&ended_latency, 0.5), at(&ended_latency, 0.99));
        self.windows.push(window);
    }
}

/// Adds a thread's counts, in the order of its own backends, to those of all threads.
fn add_counts(sums: &mut Vec<u32>, counts: &[u32], numbers: &[usize]) {
    for (&number, count) in numbers.iter().zip(counts) {
        if sums.len() <= number {
            sums.resize(number + 1, 0);
        }
        sums[number] += count;
    }
}

// === impl Pending ===

impl Pending {
    fn new() -> Self {
        Self { window: Window::default(), latency: new_rough(), ended_latency: new_rough() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(collector: &Collector, thread: usize, number: u64, ok: u64, names: &[&str], backends: &[u32]) {
        let names: Vec<Box<[u8]>> = names.iter().map(|name| name.as_bytes().into()).collect();
        let mut latency = new_rough();
        (0..ok).for_each(|_| latency.record(1_000_000 * (thread as u64 + 1)).unwrap());
        let window = Window { ok, backends: backends.to_vec(), ..Window::default() };
        let ended_latency = new_rough();
        let report = Report { window: &window, latency: &latency, ended_latency: &ended_latency, names: &names };
        collector.report(thread, number, &report);
    }

    #[test]
    fn a_window_is_complete_when_all_threads_have_reported_it() {
        let collector = Collector::new(2);
        report(&collector, 0, 0, 5, &["a"], &[5]);
        assert_eq!(collector.snapshot().windows, 0);
        report(&collector, 1, 0, 7, &["b", "a"], &[3, 4]);
        assert_eq!(collector.snapshot().backends, ["a", "b"]);
        let window = &collector.windows(0)[0];
        assert_eq!((window.ok, &window.backends), (12, &vec![9, 3]));
        assert!(window.p50_ns.unwrap().abs_diff(2_000_000) < 20_000 && window.p99_ns == window.max_ns);
    }

    #[test]
    fn there_are_no_gaps_between_windows() {
        let collector = Collector::new(1);
        report(&collector, 0, 0, 1, &[], &[]);
        report(&collector, 0, 3, 1, &[], &[]);
        let windows = collector.windows(0);
        assert_eq!(windows.iter().map(|window| window.start_ms).collect::<Vec<_>>(), [0, 100, 200, 300]);
        assert_eq!(windows.iter().map(|window| window.ok).collect::<Vec<_>>(), [1, 0, 0, 1]);
        assert_eq!(collector.windows(2).len(), 2);
    }

    #[test]
    fn a_thread_that_has_ended_does_not_hold_up_windows() {
        let collector = Collector::new(2);
        report(&collector, 0, 0, 1, &[], &[]);
        collector.end(1);
        assert_eq!(collector.snapshot().windows, 1);
    }

    #[test]
    fn a_snapshot_has_the_last_second_of_all_threads() {
        let collector = Collector::new(2);
        let mut latency = new_rough();
        latency.record(1_000_000).unwrap();
        let mut live = Live { ok: 1, outstanding: 7, ..Live::default() };
        live.count_status(204);
        let names: [Box<[u8]>; 2] = [b"a"[..].into(), b"b"[..].into()];
        for now in 0..30 {
            for thread in 0..2 {
                let backends = if now < 25 { [1, 0] } else { [0, 1] };
                let look = Look { live: &live, latency: &latency, backends: &backends, names: &names };
                collector.look(thread, now, &look);
            }
        }
        let snapshot = collector.snapshot();
        assert_eq!(snapshot.backends, ["a", "b"]);
        assert_eq!((snapshot.backend_counts, snapshot.backend_recent), (vec![50, 10], vec![10, 10]));
        assert_eq!((snapshot.total.classes, snapshot.recent.classes), ([0, 60, 0, 0, 0], [0, 20, 0, 0, 0]));
        assert_eq!((snapshot.total.ok, snapshot.recent.ok, snapshot.latency.len()), (60, 20, 20));
        assert_eq!((snapshot.recent.outstanding, snapshot.recent_s), (14, 1.0));
    }
}

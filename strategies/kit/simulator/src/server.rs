//! One backend as a server: its workers, its queue, its faults, and the account of its load.
//!
//! A request that finds a free worker is in service at once; others wait, first come, first served. One more than the
//! queue's limit gets a 503. As in `mock-server`, an attempt that is given up frees its place at once.
//!
//! Invariants: `in_service` is at most the concurrency. The account grows only within the measured time.

use std::collections::VecDeque;

use crate::calendar::{CheckSign, Handle};
use crate::meter::Meter;
use crate::pace::Pace;
use crate::streams::{Draws, Purpose, Stream};
use crate::world::{Backends, Fault, FaultKind};

pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) group: Backends,
    pace: Pace,
    faults: Vec<Window>,
    fault_draws: Stream,
    /// Those that were given up meanwhile are still here, and stale.
    queue: VecDeque<Handle>,
    queued: u32,
    in_service: u32,
    pub(crate) meter: Meter,
    pub(crate) account: Account,
}

#[derive(Clone, Copy)]
struct Window {
    from_ns: u64,
    until_ns: u64,
    kind: FaultKind,
}

/// What happens to an attempt that reaches a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meeting {
    /// It is in service until then; `u64::MAX`: for ever.
    Starts {
        ends_ns: u64,
    },
    Waits,
    Refused,
    /// No response will come.
    Hangs,
    Resets,
    /// A response without service.
    Responds {
        status: u16,
    },
}

/// The load in the measured time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    is_open: bool,
    since_ns: u64,
    /// Sums of load × time, in request-nanoseconds.
    pub(crate) in_service_area: u128,
    pub(crate) queued_area: u128,
    /// The most in service and in the queue together.
    pub(crate) load_max: u32,
    pub(crate) queued_max: u32,
    pub(crate) attempts: u64,
    pub(crate) served: u64,
    pub(crate) failed: u64,
    /// Responses for clients to requests that count, and those of them with an error.
    pub(crate) responses: u64,
    pub(crate) error_responses: u64,
    /// Attempts since the last sample.
    pub(crate) fresh: u32,
}

// === impl Server ===

impl Server {
    /// `faults` are those of this server; times in them count from `begin_ns`.
    pub(crate) fn new(number: usize, group: &Backends, faults: &[&Fault], begin_ns: u64, seed: u64) -> Self {
        let mut pace = Pace::new(group, seed, number);
        let mut windows = Vec::new();
        for fault in faults {
            let from_ns = begin_ns + fault.at.ns;
            let until_ns = fault.lasts.map_or(u64::MAX, |lasts| from_ns + lasts.ns);
            match fault.kind {
                FaultKind::Slow { factor } => pace.add_window(from_ns, until_ns, 1.0 / factor),
                FaultKind::Stall => pace.add_window(from_ns, until_ns, 0.0),
                kind => windows.push(Window { from_ns, until_ns, kind }),
            }
        }
        Self {
            name: format!("b{}", number + 1),
            group: group.clone(),
            pace,
            faults: windows,
            fault_draws: Stream::new(seed, Purpose::Fault),
            queue: VecDeque::new(),
            queued: 0,
            in_service: 0,
            meter: Meter::default(),
            account: Account::default(),
        }
    }

    /// Requests in service and in the queue.
    pub(crate) fn load(&self) -> (u32, u32) {
        (self.in_service, self.queued)
    }

    /// An attempt arrives with this work. `number` is the same for the same attempt in every arm.
    #[inline]
    pub(crate) fn meet(&mut self, now_ns: u64, handle: Handle, number: u64, work_ns: u64) -> Meeting {
        if self.account.is_open {
            self.account.attempts += 1;
        }
        self.account.fresh += 1;
        if !self.faults.is_empty()
            && let Some(meeting) = self.meet_fault(now_ns, number)
        {
            return meeting;
        }
        self.meter.request(now_ns);
        if self.has_free_worker() {
            self.enters(now_ns);
            return Meeting::Starts { ends_ns: self.ends(now_ns, work_ns) };
        }
        if self.queued >= self.group.queue {
            self.note_failure(now_ns);
            return Meeting::Responds { status: 503 };
        }
        self.account.advance(now_ns, self.in_service, self.queued);
        self.queue.push_back(handle);
        self.queued += 1;
        self.account.note_load(self.in_service, self.queued);
        Meeting::Waits
    }

    #[cold]
    fn meet_fault(&mut self, now_ns: u64, number: u64) -> Option<Meeting> {
        let is_now = |window: &&Window| (window.from_ns..window.until_ns).contains(&now_ns);
        let mut meeting = None;
        for (place, window) in self.faults.iter().filter(is_now).enumerate() {
            let is_drawn = |rate: f64| self.fault_draws.unit(number.wrapping_mul(16) + place as u64) <= rate;
            meeting = match window.kind {
                FaultKind::Kill | FaultKind::Refuse => Some(Meeting::Refused),
                FaultKind::Hang => Some(Meeting::Hangs),
                FaultKind::Reset { rate } if is_drawn(rate) => Some(Meeting::Resets),
                FaultKind::Errors { rate, status, .. } if is_drawn(rate) => Some(Meeting::Responds { status }),
                _ => continue,
            };
            break;
        }
        if let Some(Meeting::Responds { .. }) = meeting {
            self.meter.request(now_ns);
        }
        if meeting.is_some_and(|meeting| meeting != Meeting::Hangs) {
            self.note_failure(now_ns);
        }
        meeting
    }

    /// An attempt in service has been finished, this long after it reached the server.
    #[inline]
    pub(crate) fn served(&mut self, now_ns: u64, took_ns: u64) {
        self.leaves_service(now_ns);
        self.meter.latency(took_ns);
        if self.account.is_open {
            self.account.served += 1;
        }
    }

    /// An attempt in service has ended, or was given up.
    #[inline]
    pub(crate) fn leaves_service(&mut self, now_ns: u64) {
        self.account.advance(now_ns, self.in_service, self.queued);
        self.in_service -= 1;
    }

    /// An attempt in the queue was given up. Its place is dropped when its turn comes.
    pub(crate) fn leaves_queue(&mut self, now_ns: u64) {
        self.account.advance(now_ns, self.in_service, self.queued);
        self.queued -= 1;
    }

    /// The next of the queue, if a worker is free. Stale ones are to be asked for again.
    #[inline]
    pub(crate) fn next_of_queue(&mut self) -> Option<Handle> {
        if self.queue.is_empty() || !self.has_free_worker() { None } else { self.queue.pop_front() }
    }

    /// One that [`Self::next_of_queue`] returned begins. Returns when it ends.
    pub(crate) fn starts_queued(&mut self, now_ns: u64, work_ns: u64) -> u64 {
        self.account.advance(now_ns, self.in_service, self.queued);
        self.queued -= 1;
        self.in_service += 1;
        self.ends(now_ns, work_ns)
    }

    /// Its process has ended: it has no request any more.
    pub(crate) fn dies(&mut self, now_ns: u64) {
        self.account.advance(now_ns, self.in_service, self.queued);
        self.queue.clear();
        (self.in_service, self.queued) = (0, 0);
    }

    /// The outcome of a health check that begins now.
    pub(crate) fn check(&self, now_ns: u64) -> CheckSign {
        if self.pace.is_stalled(now_ns) {
            return CheckSign::Silent;
        }
        let is_now = |window: &&Window| (window.from_ns..window.until_ns).contains(&now_ns);
        for window in self.faults.iter().filter(is_now) {
            match window.kind {
                FaultKind::Kill | FaultKind::Refuse => return CheckSign::Absent,
                FaultKind::Hang => return CheckSign::Silent,
                FaultKind::Errors { checks: true, .. } => return CheckSign::Bad,
                _ => {}
            }
        }
        CheckSign::Good
    }

    #[inline]
    fn has_free_worker(&self) -> bool {
        self.group.concurrency == 0 || self.in_service < self.group.concurrency
    }

    #[inline]
    fn enters(&mut self, now_ns: u64) {
        self.account.advance(now_ns, self.in_service, self.queued);
        self.in_service += 1;
        self.account.note_load(self.in_service, self.queued);
    }

    #[inline]
    fn ends(&self, now_ns: u64, work_ns: u64) -> u64 {
        self.pace.finish(now_ns, work_ns).saturating_add(self.extra_ns(now_ns))
    }

    fn extra_ns(&self, now_ns: u64) -> u64 {
        let is_now = |window: &&Window| (window.from_ns..window.until_ns).contains(&now_ns);
        let extra = |window: &Window| if let FaultKind::Delay { extra } = window.kind { extra.ns } else { 0 };
        self.faults.iter().filter(is_now).map(extra).sum()
    }

    fn note_failure(&mut self, now_ns: u64) {
        self.meter.failure(now_ns);
        if self.account.is_open {
            self.account.failed += 1;
        }
    }

    /// The work of attempt `number` beside the cost of its request.
    #[inline]
    pub(crate) fn draw_service(&self, draws: impl FnOnce() -> Draws) -> u64 {
        if self.group.service.is_none() { 0 } else { self.group.service.draw(&mut draws()) }
    }
}

// === impl Account ===

impl Account {
    /// The measured time begins.
    pub(crate) fn open(&mut self, now_ns: u64) {
        *self = Self { is_open: true, since_ns: now_ns, ..Self::default() };
    }

    /// The measured time is over.
    pub(crate) fn close(&mut self, now_ns: u64, (in_service, queued): (u32, u32)) {
        self.advance(now_ns, in_service, queued);
        self.is_open = false;
    }

    #[inline]
    fn advance(&mut self, now_ns: u64, in_service: u32, queued: u32) {
        if self.is_open {
            let passed = u128::from(now_ns - self.since_ns);
            self.in_service_area += passed * u128::from(in_service);
            self.queued_area += passed * u128::from(queued);
            self.since_ns = now_ns;
        }
    }

    #[inline]
    fn note_load(&mut self, in_service: u32, queued: u32) {
        if self.is_open {
            self.load_max = self.load_max.max(in_service + queued);
            self.queued_max = self.queued_max.max(queued);
        }
    }
}

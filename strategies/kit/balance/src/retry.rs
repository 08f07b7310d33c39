//! Whether a failed attempt may be followed by another one, and the wait before it.
//!
//! Why here: the decision needs no more than facts about the attempt, so a test can try the whole table. Invariants:
//! - If no byte of the request was sent, each method is safe to retry. Else only an idempotent request is.
//! - A client that got a byte of a response gets no second one.
//! - Without the rule `idempotency_key`, a POST never reaches two backends.
//!
//! These rules do not limit the rate of retries. [`RetryBudget`](crate::RetryBudget) does.

mod plan;

use http::Method;

pub use plan::{After, Begin, Left, RetryPlan};

/// The status codes 400 to 599.
const STATUSES: std::ops::RangeInclusive<u16> = 400..=599;

/// The retry policy of a pool or a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryRules {
    /// The most attempts of one request, the first included. 1 switches retries off.
    pub attempts: u32,
    /// The failures after which another attempt may follow.
    pub on: RetryOn,
    /// The time limit of each attempt until its response head, in nanoseconds.
    pub per_attempt_ns: Option<u64>,
    /// Whether a request with the header `Idempotency-Key` counts as idempotent, with any method.
    pub idempotency_key: bool,
    /// Whether a slow attempt gets a second one beside it.
    pub hedge: bool,
    /// The longest request body that is kept to be sent again.
    pub replay_bytes: u64,
    pub back_off: BackOff,
}

/// A set of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryOn {
    /// There was no connection.
    pub connect: bool,
    /// The connection ended before the response head was complete.
    pub reset: bool,
    /// The response head did not arrive in time.
    pub timeout: bool,
    /// The response has one of these status codes.
    pub statuses: StatusSet,
}

/// A set of status codes from 400 to 599.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusSet([u64; 4]);

/// The wait before an attempt after every eligible backend was tried. A backend that was not tried needs no wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOff {
    pub base_ns: u64,
    pub cap_ns: u64,
}

/// Why an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureCause {
    /// No connection was made.
    Connect,
    /// The connection ended before the response head was complete.
    Reset,
    /// The response head did not arrive in time.
    Timeout,
    /// A response head with this status code arrived.
    Status(u16),
}

/// The state of a request when one of its attempts failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestProgress {
    /// The number of the attempt, from 0.
    pub attempt: u32,
    /// Whether a byte of the request was sent in this attempt.
    pub was_sent: bool,
    pub idempotency: Idempotency,
    pub body: BodyState,
    /// Whether the client got a byte of a response, interim ones included.
    pub has_response_begun: bool,
}

/// Whether a request may be processed twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idempotency {
    No,
    /// The backends drop a second request with the same `Idempotency-Key`.
    ByKey,
    /// The method is idempotent (RFC 9110 §9.2.2).
    ByMethod,
}

/// Whether the body of a request can be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyState {
    Absent,
    /// Each byte that was taken from the client is kept. The rest may still arrive.
    Replayable,
    /// A byte that was taken from the client is not kept.
    Lost,
}

// === impl RetryRules ===

impl RetryRules {
    /// Whether a request with this method may be processed twice. `has_key`: it has the header `Idempotency-Key`.
    #[inline]
    pub fn idempotency(&self, method: &Method, has_key: bool) -> Idempotency {
        match method.is_idempotent() {
            true => Idempotency::ByMethod,
            false if self.idempotency_key && has_key => Idempotency::ByKey,
            false => Idempotency::No,
        }
    }

    /// The state of a body of which `taken` bytes were taken from the client. The caller keeps them up to
    /// [`replay_bytes`](Self::replay_bytes).
    #[inline]
    pub fn body(&self, has_body: bool, taken: u64) -> BodyState {
        match has_body {
            false => BodyState::Absent,
            true if taken <= self.replay_bytes => BodyState::Replayable,
            true => BodyState::Lost,
        }
    }

    /// Whether another attempt may follow one that failed by `cause`. The budget decides after this.
    #[inline]
    pub fn may_retry(&self, cause: FailureCause, progress: RequestProgress) -> bool {
        self.on.contains(cause)
            && self.may_send_again(progress)
            && (cause == FailureCause::Connect || is_safe_to_repeat(progress))
    }

    /// Whether another attempt may follow one on a keep-alive connection that the backend closed without a byte of a
    /// response. If nothing was sent, this does not depend on [`on`](Self::on): the backend cannot have processed the
    /// request. Else the connection was reset.
    #[inline]
    pub fn may_retry_closed(&self, progress: RequestProgress) -> bool {
        match progress.was_sent {
            true => self.may_retry(FailureCause::Reset, progress),
            false => self.may_send_again(progress),
        }
    }

    /// Whether a second attempt may begin while the first one waits for its response. Only a method allows it: a
    /// backend may refuse a key of which the first request is not complete.
    #[inline]
    pub fn may_hedge(&self, progress: RequestProgress) -> bool {
        self.hedge && progress.idempotency == Idempotency::ByMethod && self.may_send_again(progress)
    }

    #[inline]
    fn may_send_again(&self, progress: RequestProgress) -> bool {
        progress.attempt.saturating_add(1) < self.attempts
            && !progress.has_response_begun
            && progress.body != BodyState::Lost
    }
}

fn is_safe_to_repeat(progress: RequestProgress) -> bool {
    !progress.was_sent || progress.idempotency != Idempotency::No
}

impl Default for RetryRules {
    fn default() -> Self {
        Self {
            attempts: 2,
            on: RetryOn::default(),
            per_attempt_ns: None,
            idempotency_key: false,
            hedge: false,
            replay_bytes: 64 * 1024,
            back_off: BackOff { base_ns: 25_000_000, cap_ns: 250_000_000 },
        }
    }
}

// === impl RetryOn ===

impl RetryOn {
    #[inline]
    pub fn contains(&self, cause: FailureCause) -> bool {
        match cause {
            FailureCause::Connect => self.connect,
            FailureCause::Reset => self.reset,
            FailureCause::Timeout => self.timeout,
            FailureCause::Status(status) => self.statuses.contains(status),
        }
    }
}

impl Default for RetryOn {
    fn default() -> Self {
        let statuses = [502, 503, 504].into_iter().collect();
        Self { connect: true, reset: true, timeout: true, statuses }
    }
}

// === impl StatusSet ===

impl StatusSet {
    /// Adds a status code; false if it is not from 400 to 599.
    pub fn insert(&mut self, status: u16) -> bool {
        let Some((word, bit)) = Self::place(status) else { return false };
        self.0[word] |= bit;
        true
    }

    #[inline]
    pub fn contains(&self, status: u16) -> bool {
        Self::place(status).is_some_and(|(word, bit)| self.0[word] & bit != 0)
    }

    #[inline]
    fn place(status: u16) -> Option<(usize, u64)> {
        let place = STATUSES.contains(&status).then(|| usize::from(status - STATUSES.start()))?;
        Some((place / 64, 1 << (place % 64)))
    }
}

impl FromIterator<u16> for StatusSet {
    /// Status codes that are not from 400 to 599 are left out.
    fn from_iter<I: IntoIterator<Item = u16>>(statuses: I) -> Self {
        let mut set = Self::default();
        for status in statuses {
            set.insert(status);
        }
        set
    }
}

// === impl BackOff ===

impl BackOff {
    /// The wait before the pool is tried again. `round` counts from 0 how often every eligible backend was tried.
    ///
    /// "Full jitter": even between 0 and the smaller of the cap and `base * 2^round`. M. Brooker, "Exponential Backoff
    /// And Jitter", AWS Architecture Blog, 2015.
    pub fn wait_ns(&self, round: u32, random: u64) -> u64 {
        let factor = 1_u64.checked_shl(round).unwrap_or(u64::MAX);
        let most = self.base_ns.saturating_mul(factor).min(self.cap_ns);
        // The high half of the product spreads the random bits evenly over 0..=most.
        ((u128::from(random) * (u128::from(most) + 1)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests;

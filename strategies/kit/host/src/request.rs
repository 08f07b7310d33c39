//! What a strategy is asked and told, and what it answers, as types of the host.
//!
//! Invariant: plain data without `unsafe`. [`handle`](crate::handle) turns it into the structs of the contract and
//! back.

use lb_strategy::abi::LB_PROBES_MAX;
use lb_strategy::{Outcome, Part};

/// The parts of a request that are looked up only if a strategy asks for them.
pub trait Lookup {
    /// The `nth` value of the header `name` (any case).
    fn header(&self, name: &[u8], nth: usize) -> Option<&[u8]>;
    /// Method, path, host, client or body; `None` if the request has none.
    fn part(&self, part: Part) -> Option<&[u8]>;
}

/// The data about a request that a strategy gets.
pub struct PickRequest<'a> {
    /// The number of the calling worker; `None` on other threads.
    pub worker: Option<u32>,
    pub attempt: u32,
    /// Indexes into the picker's list that must not be picked.
    pub tried: &'a [u32],
    /// The key and its hash. `None` if the request has no key or the strategy does not want it.
    pub key: Option<(&'a [u8], u64)>,
    pub random: u64,
    pub now_ns: u64,
    pub dry: bool,
    /// The length of the request's body in bytes; `None` if it is not known yet.
    pub body_length: Option<u64>,
    pub lookup: &'a dyn Lookup,
}

/// The checked result of a pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Backend {
        index: usize,
        token: u64,
    },
    /// The list has no eligible, untried backend either.
    NoBackend,
    /// The request waits until the strategy is asked again.
    Wait,
    /// The host must pick.
    Refused(Refusal),
}

/// Why a strategy's result is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The strategy made no decision, mostly because there is no key.
    Undecided,
    Panic,
    BadIndex,
    AlreadyTried,
    NotEligible,
    /// The strategy returned no backend, although the list has an eligible, untried one.
    Declined,
    /// An error status.
    Error,
}

/// The backends that a strategy has probed with one pick: checked indexes into the picker's list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    pub(crate) index: [u32; LB_PROBES_MAX],
    pub(crate) count: u32,
    /// Those that were asked for and are not eligible, not in the list, named twice, or too many.
    pub refused: u32,
}

/// The end of one attempt.
#[derive(Clone, Copy, Debug)]
pub struct Finish {
    pub worker: Option<u32>,
    pub backend_id: u64,
    pub outcome: Outcome,
    pub http_status: Option<u16>,
    pub attempt: u32,
    /// Whether this instance picked. Only then is the token passed on.
    pub own: bool,
    pub upgraded: bool,
    pub token: u64,
    pub time_to_head_ns: u64,
    pub total_ns: u64,
    pub now_ns: u64,
}

/// The response of one attempt, for a strategy that [asks for it](crate::Wants::answer).
#[derive(Clone, Copy, Debug, Default)]
pub struct Answered<'a> {
    /// Bytes of the request's body that the client has sent.
    pub bytes_in: u64,
    /// Bytes of the response's body that went on to the client.
    pub bytes_out: u64,
    /// From the start of the attempt; 0 without a body.
    pub first_body_ns: u64,
    /// The values of [`Plugin::response_headers`](crate::Plugin::response_headers) in their order, or none.
    pub headers: &'a [Option<&'a [u8]>],
}

/// The end of one probe.
#[derive(Clone, Copy, Debug)]
pub struct Probe<'a> {
    /// `None` for a periodic probe.
    pub worker: Option<u32>,
    pub backend_id: u64,
    pub outcome: Outcome,
    pub http_status: Option<u16>,
    /// To the response head; 0 without one.
    pub latency_ns: u64,
    pub now_ns: u64,
    /// The values of [`Plugin::response_headers`](crate::Plugin::response_headers) in their order, or none.
    pub headers: &'a [Option<&'a [u8]>],
    /// The first bytes of the response's body.
    pub body: &'a [u8],
}

/// The begin of one accepted attempt.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    pub worker: Option<u32>,
    pub backend_id: u64,
    /// From 0.
    pub attempt: u32,
    /// Whether this instance picked. Only then is the token passed on.
    pub own: bool,
    pub token: u64,
    /// The length of the request's body in bytes; `None` if it is not known yet.
    pub body_length: Option<u64>,
    pub now_ns: u64,
}

// === impl Probes ===

impl Probes {
    /// The indexes of eligible backends, each once.
    pub fn indexes(&self) -> &[u32] {
        &self.index[..self.count as usize]
    }
}

// === impl () ===

/// A request of which nothing can be looked up.
impl Lookup for () {
    fn header(&self, _: &[u8], _: usize) -> Option<&[u8]> {
        None
    }

    fn part(&self, _: Part) -> Option<&[u8]> {
        None
    }
}

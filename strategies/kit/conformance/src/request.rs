//! Requests from a seed: random bits, keys and a clock that only the test moves.
//!
//! Invariant: unless a test sets another one, the body of a request is its key. So the checks that change keys judge a
//! strategy that picks by the body, too.

use lb_strategy_host::{Decision, HookError, Lookup, Part, PickRequest, Picker, Probes};

use crate::pulse;

/// The time between two requests, on the clock of [`Requests`].
const STEP_NS: u64 = 1_000_000;

/// An endless stream of requests. The same seed gives the same stream.
#[derive(Clone, Debug)]
pub struct Requests {
    random: fastrand::Rng,
    now_ns: u64,
}

/// One request for a strategy. [`Requests::ask`] makes it, and its methods change it.
#[derive(Clone, Debug)]
pub struct Ask {
    random: u64,
    now_ns: u64,
    key: Option<Vec<u8>>,
    tried: Vec<u32>,
    attempt: u32,
    worker: Option<u32>,
    is_dry: bool,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    parts: Vec<(Part, Vec<u8>)>,
    /// `None`: the length of the body.
    body_length: Option<Option<u64>>,
}

/// The 64-bit hash of a key by the host's default function.
pub fn key_hash(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}

// === impl Requests ===

impl Requests {
    pub fn seeded(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), now_ns: 0 }
    }

    /// The next request: new random bits, a key of six digits, and 1 ms more on the clock.
    pub fn ask(&mut self) -> Ask {
        self.now_ns += STEP_NS;
        let key = format!("{:06}", self.random.u32(0..1_000_000));
        Ask {
            random: self.random.u64(..),
            now_ns: self.now_ns,
            key: Some(key.into_bytes()),
            tried: Vec::new(),
            attempt: 0,
            worker: Some(0),
            is_dry: false,
            headers: Vec::new(),
            parts: vec![(Part::Method, b"POST".to_vec()), (Part::Path, b"/".to_vec())],
            body_length: None,
        }
    }
}

// === impl Ask ===

impl Ask {
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    pub fn without_key(mut self) -> Self {
        self.key = None;
        self
    }

    /// Makes it a retry after these backends failed.
    pub fn tried(mut self, tried: &[u32]) -> Self {
        self.tried = tried.to_vec();
        self.attempt = tried.len() as u32;
        self
    }

    /// Sets the clock, for tests with a time of their own.
    pub fn at(mut self, now_ns: u64) -> Self {
        self.now_ns = now_ns;
        self
    }

    pub fn worker(mut self, worker: u32) -> Self {
        self.worker = Some(worker);
        self
    }

    pub fn dry(mut self) -> Self {
        self.is_dry = true;
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets a part; a request has the method `POST`, the path `/` and its key as the body without it.
    pub fn part(mut self, part: Part, value: impl Into<Vec<u8>>) -> Self {
        self.parts.retain(|(known, _)| *known != part);
        self.parts.push((part, value.into()));
        self
    }

    /// Sets the length of the body; `None`: not known yet. Without it the whole body is [`Part::Body`].
    pub fn body_length(mut self, length: Option<u64>) -> Self {
        self.body_length = Some(length);
        self
    }

    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// The picker's decision for this request.
    pub fn pick(&self, picker: &Picker) -> Decision {
        let decision = picker.pick(&self.lend());
        pulse::beat(1);
        decision
    }

    /// The same, with the backends that get a probe with it.
    pub fn pick_and_probe(&self, picker: &Picker) -> (Decision, Probes) {
        let mut probes = Probes::default();
        let decision = picker.pick_and_probe(&self.lend(), &mut probes);
        pulse::beat(1);
        (decision, probes)
    }

    /// The explanation of the picker's strategy; `None` if it has none or fails.
    pub fn explain(&self, picker: &Picker) -> Option<String> {
        self.try_explain(picker).and_then(Result::ok)
    }

    /// The same, with the reason of a failure.
    pub fn try_explain(&self, picker: &Picker) -> Option<Result<String, HookError>> {
        let words = picker.explain(&self.lend());
        pulse::beat(1);
        words
    }

    /// The index of the picked backend. If the decision is another one, a sentence with that decision.
    pub fn pick_backend(&self, picker: &Picker) -> Result<usize, String> {
        match self.pick(picker) {
            Decision::Backend { index, .. } => Ok(index),
            other => Err(format!("{other:?} instead of a backend for {self:?}")),
        }
    }

    fn lend(&self) -> PickRequest<'_> {
        let body = Lookup::part(self, Part::Body);
        PickRequest {
            worker: self.worker,
            attempt: self.attempt,
            tried: &self.tried,
            key: self.key.as_deref().map(|key| (key, key_hash(key))),
            random: self.random,
            now_ns: self.now_ns,
            dry: self.is_dry,
            body_length: self.body_length.unwrap_or(Some(body.map_or(0, |body| body.len() as u64))),
            lookup: self,
        }
    }
}

impl Lookup for Ask {
    fn header(&self, name: &[u8], nth: usize) -> Option<&[u8]> {
        self.headers
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .nth(nth)
            .map(|(_, value)| value.as_slice())
    }

    fn part(&self, part: Part) -> Option<&[u8]> {
        let set = self.parts.iter().find(|(known, _)| *known == part).map(|(_, value)| value.as_slice());
        let body = || self.key.as_deref().filter(|_| part == Part::Body);
        set.or_else(body).filter(|value| part != Part::Body || !value.is_empty())
    }
}

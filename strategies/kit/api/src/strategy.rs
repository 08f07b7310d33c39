//! The trait [`Strategy`], which a strategy author implements, and the types of its results.
//!
//! All workers share one instance of a strategy, from its load until it is replaced. A picker is an immutable view of
//! one backend list. Each call gets the list too, so a picker holds only data that was computed from it, such as a
//! ring.

use std::fmt;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::ffi::lent::{Backends, Finish, Host, Metrics, Probe, Probes, Request, Start};

/// A routing strategy.
///
/// Many workers call `pick`, `probes`, `on_start`, `on_finish` and `on_probe` at the same time, so these must not
/// block. The host calls all other functions on its builder thread, one at a time, while workers pick. Dry picks also
/// come from the builder thread.
pub trait Strategy: Send + Sync + Sized + 'static {
    /// The name of the strategy in `lb.toml`. The file is `lib<NAME>.so`.
    const NAME: &'static str;
    /// Whether `pick` reads [`Request::key`] or [`Request::hash`]. The host computes them only then. Default: no.
    const WANTS_HASH: bool = false;
    /// Whether the host calls `on_finish`. Default: no.
    const WANTS_FINISH: bool = false;
    /// Whether [`Finish`] tells about the response: bytes, the time to the first byte of the body, and the headers in
    /// [`RESPONSE_HEADERS`](Self::RESPONSE_HEADERS). Only with [`WANTS_FINISH`](Self::WANTS_FINISH). Default: no.
    const WANTS_ANSWER: bool = false;
    /// The names of the response headers whose values a [`Finish`] and a [`Probe`] bring; at most 8. A trailer counts
    /// where the head has no such header. With names, either [`WANTS_ANSWER`](Self::WANTS_ANSWER) and
    /// [`WANTS_FINISH`](Self::WANTS_FINISH) must be `true`, or the strategy must have probes. Otherwise the crate does
    /// not compile.
    const RESPONSE_HEADERS: &'static [&'static str] = &[];
    /// Whether the host calls [`on_start`](Self::on_start). Default: no.
    const WANTS_START: bool = false;
    /// Whether the strategy has [`metrics`](Self::metrics) of its own. Default: no.
    const METRICS: bool = false;
    /// Whether the strategy asks for probes with a pick, by [`probes`](Self::probes). Default: no.
    const PROBES: bool = false;
    /// Milliseconds between two periodic probes of each eligible backend. Default: 0, which means none.
    const PROBE_MS: u32 = 0;
    /// The bytes of each request's body that the host reads before the pick, for [`Request::body`]. At most 65,536.
    /// Default: 0, so bodies stream without a wait.
    const BODY_BYTES: u32 = 0;
    /// The format of the learned state: slots and exported bytes. Default: none, so each instance starts without state.
    ///
    /// A new strategy gets the bytes of its predecessor if both have the same schema, see [`import`](Self::import). It
    /// gets the slots if the version is the same too.
    const STATE: Option<StateSchema> = None;
    /// Milliseconds between two calls of [`tick`](Self::tick). Default: 0, which means no calls.
    const TICK_MS: u32 = 0;
    /// Whether the strategy implements [`explain`](Self::explain). Default: no.
    const EXPLAINS: bool = false;
    /// The expected behavior as JSON. `lb check-strategy` and reports test the picks against it. "", the default,
    /// declares nothing. Keys:
    ///
    /// - `weights`: `true` if the shares follow the weights.
    /// - `consistent`: `true` if a key, or a body, changes its backend only when it must, and two processes agree.
    ///   "outages" if that holds for outages only, and not if a backend leaves or comes. "history" if it holds, but the
    ///   backend of a key also depends on earlier changes, so that two processes may differ.
    /// - `balance`: the distribution of the picks. Its values:
    ///   - "exact": counts of equal backends differ by at most 1.
    ///   - "multinomial": independent random draws.
    ///   - "ring:K": a ring with K points for each unit of weight.
    ///   - "by_load": busy backends get fewer requests, because the strategy counts requests in flight.
    ///   - "by_latency": slow backends get fewer requests, because the strategy measures times, perhaps besides
    ///     requests in flight.
    ///   - "by_options": the options determine the shares. A strategy that asks for a key or a body must send equal
    ///     ones to the same backend. `explain` returns the shares under `shares`.
    const EXPECTATION: &'static str = "";

    /// The options, from the table `[strategy.config.<NAME>]` of `lb.toml`. Use serde's `deny_unknown_fields`. A
    /// strategy without options uses [`NoOptions`].
    type Config: DeserializeOwned;
    /// The data that is computed from one backend list; `()` if there is none.
    type Picker: Send + Sync + 'static;

    /// Makes an instance. It must not have side effects, because `lb` also makes instances only to check them.
    fn new(config: Self::Config, host: Host) -> Result<Self, Error>;

    /// Makes the picker for one backend list. The list may be empty, or have no eligible backend.
    fn picker(&self, backends: &Backends<'_>) -> Result<Self::Picker, Error>;

    /// Picks a backend for a request. `backends` is the list that `picker` was made from. The pick must be eligible and
    /// not yet tried: one of [`Backends::candidates`]. Otherwise the host's fallback picks, and `lb` counts that.
    fn pick(&self, picker: &Self::Picker, backends: &Backends<'_>, request: &Request<'_>) -> Pick;

    /// Asks for probes beside a request: small requests of the host's own to backends of this list. Their ends come to
    /// [`on_probe`](Self::on_probe). Called right after a `pick` that returned `picked`, only with
    /// [`PROBES`](Self::PROBES). The host sends probes to the path of `[strategy.probe]`, after the request itself. It
    /// sends none without that section, and none for a dry pick.
    fn probes(
        &self,
        _picker: &Self::Picker,
        _backends: &Backends<'_>,
        _request: &Request<'_>,
        _picked: usize,
        _probes: &mut Probes<'_>,
    ) {
    }

    /// Records the end of one probe: of a pick on its worker, a periodic one on the builder thread. Called only with
    /// [`PROBES`](Self::PROBES) or [`PROBE_MS`](Self::PROBE_MS).
    fn on_probe(&self, _probe: &Probe<'_>) {}

    /// Records the end of one attempt. The fallback or a predecessor may have picked it, see [`Finish::is_own`]. Called
    /// only with [`WANTS_FINISH`](Self::WANTS_FINISH).
    fn on_finish(&self, _finish: &Finish<'_>) {}

    /// Records the begin of one attempt, on its worker, before anything is sent. A pick may be refused or dry, so not
    /// every pick has a begin. Called only with [`WANTS_START`](Self::WANTS_START).
    fn on_start(&self, _start: &Start<'_>) {}

    /// The state as bytes, for a later instance of the same schema. Empty if the slots contain all of it. Called before
    /// another instance takes over, at the end of `lb`, and from time to time to save it. So it must not change the
    /// state. Called only with [`STATE`](Self::STATE).
    fn export(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Imports the bytes that an earlier instance of the same schema exported, in its `version`. Called at most once,
    /// before the first picker, and not if there are no bytes. After an error `lb` makes a new instance, which starts
    /// without state.
    fn import(&self, _version: u32, _bytes: &[u8]) -> Result<(), Error> {
        Err(Error::new("this strategy imports no state"))
    }

    /// For work at regular times, about every [`TICK_MS`](Self::TICK_MS), on the builder thread. `now_ns` is the clock
    /// of [`Request::now_ns`]. A late tick is not made up for. With [`Tick::Rebuild`] the host calls
    /// [`picker`](Self::picker) again with the current list, and publishes the result.
    fn tick(&self, _now_ns: u64) -> Tick {
        Tick::Keep
    }

    /// Writes the strategy's own metrics, on the builder thread, at most once a second. Called only with
    /// [`METRICS`](Self::METRICS).
    fn metrics(&self, _metrics: &mut Metrics<'_>) {}

    /// Explains, as JSON, which backend this request would get and why. Decide as `pick` would, and change nothing.
    /// Called only with [`EXPLAINS`](Self::EXPLAINS). The result is a JSON object. Two keys have a meaning: `backend`
    /// and `ring`. `backend` is the name or the index of the backend that `pick` would return, or null if it would
    /// return none.
    ///
    /// For a request without a key, a strategy with a ring may return the whole ring under `ring`. The live page of
    /// `lb` draws it. The ring is a list of at most [`RING_ARCS_MAX`] arcs in clockwise order. Each is `[end, backend]`
    /// or `[end, backend, requests]`:
    ///
    /// - `end`: the position where the arc ends, as a part of the circle from 0 to 1. It must not be less than that of
    ///   the arc before. An arc begins where the one before ends; the first begins where the last ends.
    /// - `backend`: the owner's index in the list, eligible or not. A request goes to the first arc whose owner may
    ///   serve.
    /// - `requests`: the share of all requests that begin in the arc. Default: the arc's length.
    fn explain(&self, _picker: &Self::Picker, _backends: &Backends<'_>, _request: &Request<'_>) -> String {
        String::new()
    }
}

/// The largest number of arcs in a ring from [`Strategy::explain`]. A picture cannot show more.
pub const RING_ARCS_MAX: usize = 1 << 14;

/// The result of [`Strategy::pick`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// The backend at this index of the list.
    Backend(usize),
    /// The same, with a number that [`Finish::token`] returns at the end of the attempt.
    BackendWithToken(usize, u64),
    /// The list has no eligible backend that was not tried: the client gets 503. If the list has one, this result is a
    /// fault, and the host's built-in fallback picks.
    NoBackend,
    /// No decision, for example because the request has no key: the host's built-in fallback picks.
    Fallback,
    /// The request waits in the pool's queue, and the host asks again. It asks when an attempt of the pool ends, when a
    /// list is published, and each second. After the queue's time limit the client gets 503. In a pool without a queue
    /// the built-in fallback picks. A host of version 1.0 takes it for [`Pick::Fallback`].
    Wait,
}

/// The format of a strategy's learned state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateSchema {
    /// The name of the format.
    pub schema: &'static str,
    /// The version of the format. Change it when the meaning of the bytes or of the slots changes. Bytes of another
    /// version can still be imported. Slots are kept only if the version is equal.
    pub version: u32,
}

/// The result of [`Strategy::tick`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tick {
    /// The pickers stay.
    Keep,
    /// The host must make a new picker and publish it.
    Rebuild,
}

/// The reason why `new`, `picker` or `import` failed: one sentence for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(String);

/// The [`Config`](Strategy::Config) of a strategy without options: any key is refused.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoOptions {}

// === impl Error ===

impl Error {
    /// Makes an error. `sentence` says what is wrong and what the operator can do.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self(sentence.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<String> for Error {
    fn from(sentence: String) -> Self {
        Self(sentence)
    }
}

impl From<&str> for Error {
    fn from(sentence: &str) -> Self {
        Self(sentence.to_owned())
    }
}

//! What a strategy author writes: the trait [`Strategy`] and the few values it speaks in.
//!
//! A strategy is shared by all workers and lives as long as it is in charge; a picker is its immutable view of one backend list. The
//! list is lent to every call, so an author's picker holds only what it computed from the list (a ring, a table), often nothing.

use std::fmt;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::ffi::lent::{Backends, Finish, Host, Request};

/// A routing strategy. `new`, `picker`, `export`, `import`, `tick` and `explain` run on the host's builder thread while workers pick;
/// `pick` and `on_finish` run on any worker, concurrently: they must not block.
pub trait Strategy: Send + Sync + Sized + 'static {
    /// The name by which `lb.toml` asks for it; the file is `lib<NAME>.so`.
    const NAME: &'static str;
    /// Whether `pick` reads [`Request::key`] or [`Request::hash`]; the host computes them only then. Default: no.
    const WANTS_HASH: bool = false;
    /// Whether the host calls `on_finish`. Default: no.
    const WANTS_FINISH: bool = false;
    /// Names the learnt state (slots and exported bytes). Default: none. State is handed over only where schema and version are equal.
    const STATE: Option<StateSchema> = None;
    /// Milliseconds between two calls of `tick`; 0, the default, is never.
    const TICK_MS: u32 = 0;
    /// Whether `explain` says more than the pick itself. Default: no.
    const EXPLAINS: bool = false;
    /// What theory expects of it, as JSON, for reports and the conformance kit; "" is nothing. Keys: `balance` ("exact",
    /// "multinomial", "ring:K", "by_load"; "by_options": the same key stays, shares are what the options make them and `explain` tells
    /// them under `shares`), `weights` (bool), `consistent` (bool).
    const EXPECTATION: &'static str = "";

    /// The table `[strategy.config.<name>]` of `lb.toml`. Use `deny_unknown_fields`; [`NoOptions`] for none.
    type Config: DeserializeOwned;
    /// The immutable view of one backend list; `()` where there is nothing to precompute.
    type Picker: Send + Sync + 'static;

    /// Makes an instance. No side effects: it may be made only to be checked.
    fn new(config: Self::Config, host: Host) -> Result<Self, Error>;

    /// Makes the picker for one backend list (which may be empty, or hold nobody eligible).
    fn picker(&self, backends: &Backends<'_>) -> Result<Self::Picker, Error>;

    /// Decides. The list is the one that `picker` was made from; only eligible backends that were not yet tried may be chosen.
    fn pick(&self, picker: &Self::Picker, backends: &Backends<'_>, request: &Request<'_>) -> Pick;

    /// One attempt ended, whoever picked it.
    fn on_finish(&self, _finish: &Finish<'_>) {}

    /// Bytes from which a successor of the same schema can go on.
    fn export(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Takes a predecessor's bytes; called at most once, before the first picker. An error means: go on fresh.
    fn import(&self, _version: u32, _bytes: &[u8]) -> Result<(), Error> {
        Err(Error::new("this strategy imports no state"))
    }

    /// Called about every `TICK_MS`.
    fn tick(&self, _now_ns: u64) -> Tick {
        Tick::Keep
    }

    /// Why this request would go where, as JSON. Decide as `pick` would and change nothing.
    ///
    /// Asked about a request without a key, a strategy with a ring may tell all of it under `ring`, and `lb`'s live page draws it: at
    /// most [`RING_ARCS_MAX`] arcs clockwise, each `[end, backend]` or `[end, backend, requests]`. `end` is the arc's last place as a
    /// part of the circle, 0 to 1 and never less than the one before, where it begins (the first begins at the last one's end);
    /// `backend` the index of its owner in the list, eligible or not, for a request goes on to the first arc whose owner may serve;
    /// `requests` the part of all requests that begin in it, where that is not the arc's length.
    fn explain(&self, _picker: &Self::Picker, _backends: &Backends<'_>, _request: &Request<'_>) -> String {
        String::new()
    }
}

/// Arcs of a ring that [`Strategy::explain`] tells, at most: more cannot be told apart in a picture.
pub const RING_ARCS_MAX: usize = 1 << 14;

/// A decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// The backend at this index of the lent list.
    Backend(usize),
    /// The same, with a word that comes back in [`Finish::token`].
    BackendWithToken(usize, u64),
    /// No backend may serve this request: the client gets 503.
    NoBackend,
    /// Undecided (no key, say): the host's built-in strategy picks.
    Fallback,
}

/// Names a kind of learnt state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateSchema {
    /// The name of the format.
    pub schema: &'static str,
    /// Of the format. Bytes of another version may be imported, slots are kept only for an equal one.
    pub version: u32,
}

/// What a tick asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tick {
    /// The pickers stay.
    Keep,
    /// Make a new picker and publish it.
    Rebuild,
}

/// Why options were refused, a picker could not be made or state not be taken: one sentence for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(String);

/// The `Config` of a strategy without options: any key is refused.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoOptions {}

// === impl Error ===

impl Error {
    /// `sentence` says what is wrong and what to do.
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

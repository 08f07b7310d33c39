//! The safe handle on a loaded strategy: the other place with `unsafe`. Whatever a plugin answers is checked before it is believed.
//!
//! Invariants: a picker keeps its strategy alive and owns the list that it was made from; each is freed once, where it is dropped
//! (the owner sees to it that this is the builder thread); an index that leaves here is inside the list, eligible in it and untried.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use lb_strategy::abi::*;
use lb_strategy::{Backends, Outcome};

use crate::backends::BackendList;
use crate::library::Plugin;

/// Longer reasons are cut.
const REASON_MAX_BYTES: usize = 4096;

/// An instance of a plugin with its options and its learnt state.
pub struct Strategy {
    plugin: Arc<Plugin>,
    raw: NonNull<LbStrategy>,
    /// Tells this instance from every other one of the process.
    instance: u64,
}

/// A strategy's view of one backend list.
pub struct Picker {
    strategy: Arc<Strategy>,
    raw: NonNull<LbPicker>,
    backends: BackendList,
}

/// A hook said no, or broke.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    #[error("strategy {strategy} refuses its options: {reason}")]
    Options { strategy: String, reason: String },
    #[error("strategy {strategy} cannot work with this backend list: {reason}")]
    List { strategy: String, reason: String },
    #[error("strategy {strategy} does not take the state of its predecessor: {reason}")]
    State { strategy: String, reason: String },
    #[error("strategy {strategy} failed in {hook}: {reason}")]
    Failed { strategy: String, hook: &'static str, reason: String },
}

/// A request's headers, looked up only when a strategy asks.
pub trait Headers {
    /// The `nth` value of the header `name` (any case).
    fn get(&self, name: &[u8], nth: usize) -> Option<&[u8]>;
}

/// What a strategy may know of the request.
pub struct PickRequest<'a> {
    /// This worker's number; `None` off the workers.
    pub worker: Option<u32>,
    pub attempt: u32,
    /// Indexes into the picker's list that must not be chosen.
    pub tried: &'a [u32],
    /// Key and its hash, where the strategy wants them and the request has them.
    pub key: Option<(&'a [u8], u64)>,
    pub random: u64,
    pub now_ns: u64,
    pub dry: bool,
    pub headers: &'a dyn Headers,
}

/// A checked answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Backend {
        index: usize,
        token: u64,
    },
    NoBackend,
    /// The host has to pick by itself.
    Refused(Refusal),
}

/// Why an answer does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The strategy said so (no key, mostly).
    Undecided,
    Panic,
    BadIndex,
    AlreadyTried,
    NotEligible,
    /// A status that a pick cannot have.
    Error,
}

/// The end of one attempt.
#[derive(Clone, Copy, Debug)]
pub struct Finish {
    pub worker: Option<u32>,
    pub backend_id: u64,
    pub outcome: Outcome,
    pub http_status: Option<u16>,
    pub attempt: u32,
    /// Whether this very instance picked; the token counts only then.
    pub own: bool,
    pub upgraded: bool,
    pub token: u64,
    pub time_to_head_ns: u64,
    pub total_ns: u64,
    pub now_ns: u64,
}

static INSTANCES: AtomicU64 = AtomicU64::new(1);

/// The contract's request with our own part behind it: the header callback gets back the pointer it was lent.
#[repr(C)]
struct Lent<'a> {
    public: LbRequest,
    headers: &'a dyn Headers,
}

// === impl Strategy ===

impl Strategy {
    /// Makes an instance with `options` (a JSON object; null is an empty one).
    pub fn new(plugin: Arc<Plugin>, options: &serde_json::Value) -> Result<Arc<Self>, HookError> {
        let text = if options.is_null() { "{}".to_owned() } else { options.to_string() };
        let mut reason = Vec::<u8>::new();
        let mut raw = std::ptr::null_mut();
        let hook = plugin.table().strategy_new.expect("checked at load");
        // SAFETY: host, text and sink are valid for the call; `raw` takes one pointer.
        let status = unsafe { hook(plugin.host.0, LbStr::new(text.as_bytes()), sink(&mut reason), &raw mut raw) };
        let strategy = plugin.name().to_owned();
        match (status, NonNull::new(raw)) {
            (LB_OK, Some(raw)) => Ok(Arc::new(Self { plugin, raw, instance: INSTANCES.fetch_add(1, Relaxed) })),
            (LB_E_CONFIG, _) => Err(HookError::Options { strategy, reason: sentence(&reason) }),
            (status, _) => Err(failed(strategy, "strategy_new", status, reason)),
        }
    }

    pub fn plugin(&self) -> &Arc<Plugin> {
        &self.plugin
    }

    /// This instance's number, unique in the process: whether a finish is "own" is told by it.
    pub fn instance(&self) -> u64 {
        self.instance
    }

    /// Bytes for a successor; `None` where the plugin exports none.
    pub fn export_state(&self) -> Option<Result<Vec<u8>, HookError>> {
        let hook = self.plugin.table().state_export?;
        let mut state = Vec::<u8>::new();
        // SAFETY: the instance is alive, the sink valid for the call.
        let status = unsafe { hook(self.raw.as_ptr(), sink(&mut state)) };
        Some(if status == LB_OK {
            Ok(state)
        } else {
            Err(failed(self.plugin.name().to_owned(), "state_export", status, Vec::new()))
        })
    }

    /// Takes a predecessor's bytes. The caller sees to it that the schemas are equal and no picker was made yet.
    pub fn import_state(&self, version: u32, state: &[u8]) -> Result<(), HookError> {
        let strategy = self.plugin.name().to_owned();
        let Some(hook) = self.plugin.table().state_import else {
            return Err(HookError::State { strategy, reason: "it imports none".into() });
        };
        let mut reason = Vec::<u8>::new();
        // SAFETY: the instance is alive, bytes and sink valid for the call.
        let status = unsafe { hook(self.raw.as_ptr(), version, LbStr::new(state), sink(&mut reason)) };
        match status {
            LB_OK => Ok(()),
            LB_E_STATE => Err(HookError::State { strategy, reason: sentence(&reason) }),
            status => Err(failed(strategy, "state_import", status, reason)),
        }
    }

    /// Lets time pass; `true` asks for a new picker. Call every [`Plugin::tick_ms`], on the builder thread.
    pub fn tick(&self, now_ns: u64) -> Result<bool, HookError> {
        let Some(hook) = self.plugin.table().tick else { return Ok(false) };
        // SAFETY: the instance is alive.
        match unsafe { hook(self.raw.as_ptr(), now_ns) } {
            LB_OK => Ok(false),
            LB_REBUILD => Ok(true),
            status => Err(failed(self.plugin.name().to_owned(), "tick", status, Vec::new())),
        }
    }
}

impl Drop for Strategy {
    fn drop(&mut self) {
        // SAFETY: made by this plugin's strategy_new, freed once; every picker made from it holds an Arc and is gone.
        unsafe { self.plugin.table().strategy_free.expect("checked at load")(self.raw.as_ptr()) }
    }
}

// SAFETY: the contract: a strategy is shared by all threads.
unsafe impl Send for Strategy {}
// SAFETY: as above.
unsafe impl Sync for Strategy {}

// === impl BackendList ===

impl BackendList {
    /// The list as a strategy written in Rust sees it: for tests that call one without the table between.
    pub fn lend(&self) -> Backends<'_> {
        // SAFETY: the list owns all that it points to, does not change, and is borrowed as long as the view.
        unsafe { Backends::from_raw(self.raw()) }
    }
}

// === impl Picker ===

impl Picker {
    /// Makes the strategy's view of `backends`, and keeps both.
    pub fn new(strategy: Arc<Strategy>, backends: BackendList) -> Result<Self, HookError> {
        let mut reason = Vec::<u8>::new();
        let mut raw = std::ptr::null_mut();
        let hook = strategy.plugin.table().picker_new.expect("checked at load");
        // SAFETY: the instance is alive, list and sink valid for the call; the list is kept until picker_free.
        let status = unsafe { hook(strategy.raw.as_ptr(), backends.raw(), sink(&mut reason), &raw mut raw) };
        let name = strategy.plugin.name().to_owned();
        match (status, NonNull::new(raw)) {
            (LB_OK, Some(raw)) => Ok(Self { strategy, raw, backends }),
            (LB_E_OTHER, _) => Err(HookError::List { strategy: name, reason: sentence(&reason) }),
            (status, _) => Err(failed(name, "picker_new", status, reason)),
        }
    }

    pub fn strategy(&self) -> &Arc<Strategy> {
        &self.strategy
    }

    pub fn backends(&self) -> &BackendList {
        &self.backends
    }

    /// One decision: a call into the plugin and the check of its answer. No allocation, no lock.
    #[inline]
    pub fn pick(&self, request: &PickRequest<'_>) -> Decision {
        let lent = lend(request);
        let mut answer = LbPick::default();
        let hook = self.strategy.plugin.table().pick;
        // SAFETY: instance, picker and list are alive and belong together, the request is valid for the call. The hook was checked
        // for presence at load.
        let status = unsafe {
            hook.unwrap_unchecked()(
                self.strategy.raw.as_ptr(),
                self.raw.as_ptr(),
                self.backends.raw(),
                (&raw const lent).cast(),
                &raw mut answer,
            )
        };
        match status {
            LB_OK => self.check(answer, request.tried),
            LB_NONE => Decision::NoBackend,
            LB_E_PANIC => Decision::Refused(Refusal::Panic),
            status if status > 0 => Decision::Refused(Refusal::Undecided),
            _ => Decision::Refused(Refusal::Error),
        }
    }

    /// Tells the strategy that an attempt ended. Call only where the plugin wants it.
    pub fn finish(&self, finish: &Finish) {
        let Some(hook) = self.strategy.plugin.table().on_finish else { return };
        let raw = LbFinish {
            size: size_of::<LbFinish>() as u32,
            worker: finish.worker.unwrap_or(LB_WORKER_ANY),
            backend_id: finish.backend_id,
            slot: self.backends.slot(finish.backend_id).map_or(std::ptr::null(), std::ptr::from_ref),
            outcome: match finish.outcome {
                Outcome::Ok => 0,
                Outcome::ConnectError => 1,
                Outcome::Timeout => 2,
                Outcome::Reset => 3,
                Outcome::ClientGone => 4,
                Outcome::NotSent => 5,
                Outcome::Other(other) => other,
            },
            http_status: finish.http_status.map_or(0, u32::from),
            attempt: finish.attempt,
            flags: (if finish.own { LB_FIN_OWN } else { 0 }) | (if finish.upgraded { LB_FIN_UPGRADED } else { 0 }),
            token: if finish.own { finish.token } else { 0 },
            ttfb_ns: finish.time_to_head_ns,
            total_ns: finish.total_ns,
            now_ns: finish.now_ns,
        };
        // SAFETY: the instance is alive, the finish and its slot valid for the call.
        unsafe { hook(self.strategy.raw.as_ptr(), &raw const raw) }
    }

    /// The strategy's own words, JSON, on why this request would go where; `None` where it has none.
    pub fn explain(&self, request: &PickRequest<'_>) -> Option<String> {
        let hook = self.strategy.plugin.table().explain?;
        let lent = lend(request);
        let mut words = Vec::<u8>::new();
        // SAFETY: as for `pick`; the sink is valid for the call.
        let status = unsafe {
            hook(
                self.strategy.raw.as_ptr(),
                self.raw.as_ptr(),
                self.backends.raw(),
                (&raw const lent).cast(),
                sink(&mut words),
            )
        };
        (status == LB_OK).then(|| String::from_utf8_lossy(&words).into_owned())
    }

    #[inline]
    fn check(&self, answer: LbPick, tried: &[u32]) -> Decision {
        let index = answer.index as usize;
        if index >= self.backends.len() {
            Decision::Refused(Refusal::BadIndex)
        } else if tried.contains(&answer.index) {
            Decision::Refused(Refusal::AlreadyTried)
        } else if !self.backends.is_eligible(index) {
            Decision::Refused(Refusal::NotEligible)
        } else {
            Decision::Backend { index, token: answer.token }
        }
    }
}

impl Drop for Picker {
    fn drop(&mut self) {
        // SAFETY: made by this strategy's picker_new, freed once; strategy and list are dropped after this.
        unsafe { self.strategy.plugin.table().picker_free.expect("checked at load")(self.raw.as_ptr()) }
    }
}

// SAFETY: the contract: a picker is immutable and used by all workers; the list it owns is immutable but for atomics.
unsafe impl Send for Picker {}
// SAFETY: as above.
unsafe impl Sync for Picker {}

#[inline]
fn lend<'a>(request: &PickRequest<'a>) -> Lent<'a> {
    let (key, hash, flag) = match request.key {
        Some((key, hash)) => (LbStr::new(key), hash, LB_REQ_HASH),
        None => (LbStr::EMPTY, 0, 0),
    };
    Lent {
        public: LbRequest {
            flags: flag | if request.dry { LB_REQ_DRY } else { 0 },
            worker: request.worker.unwrap_or(LB_WORKER_ANY),
            attempt: request.attempt,
            n_tried: request.tried.len() as u32,
            tried: request.tried.as_ptr(),
            key,
            hash,
            rand: request.random,
            now_ns: request.now_ns,
            header: Some(header),
        },
        headers: request.headers,
    }
}

unsafe extern "C" fn header(request: *const LbRequest, name: LbStr, nth: u32, out: *mut LbStr) -> i32 {
    if name.ptr.is_null() || out.is_null() {
        return 0;
    }
    // SAFETY: the contract: `request` is the pointer we lent, which begins a `Lent`; the name is borrowed for the call.
    let (lent, name) = unsafe { (&*request.cast::<Lent<'_>>(), std::slice::from_raw_parts(name.ptr, name.len)) };
    match lent.headers.get(name, nth as usize) {
        Some(value) => {
            // SAFETY: `out` is the caller's place for one string.
            unsafe { *out = LbStr::new(value) };
            1
        }
        None => 0,
    }
}

fn sink(buffer: &mut Vec<u8>) -> *mut LbSink {
    std::ptr::from_mut(buffer).cast()
}

/// A plugin's reason, as long as one can read: it goes into logs and answers.
fn sentence(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(REASON_MAX_BYTES)]).trim().to_owned()
}

fn failed(strategy: String, hook: &'static str, status: LbStatus, reason: Vec<u8>) -> HookError {
    let reason = sentence(&reason);
    let reason = match status {
        LB_E_PANIC => "it panicked".to_owned(),
        LB_OK => "it answered success without a result".to_owned(),
        status if reason.is_empty() => format!("status {status}"),
        status => format!("{reason} (status {status})"),
    };
    HookError::Failed { strategy, hook, reason }
}

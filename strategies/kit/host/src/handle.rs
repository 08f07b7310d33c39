//! The safe handle of a loaded strategy. It checks every result of a plugin. Like `library`, it contains `unsafe` code.
//!
//! Invariants: a picker keeps its strategy alive and owns the list that it was made from. Strategies and pickers are
//! freed once, on the thread that drops them; the owner ensures that this is the builder thread. A returned index is in
//! the list, eligible in the list, and untried.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use lb_strategy::abi::*;
use lb_strategy::{Backends, Outcome};

use crate::backends::BackendList;
use crate::library::Plugin;

/// A longer reason is cut.
const REASON_MAX_BYTES: usize = 4096;

/// An instance of a plugin with its options and its learned state.
pub struct Strategy {
    plugin: Arc<Plugin>,
    raw: NonNull<LbStrategy>,
    /// A number that no other instance of this process has.
    instance: u64,
}

/// A strategy's view of one backend list.
pub struct Picker {
    strategy: Arc<Strategy>,
    raw: NonNull<LbPicker>,
    backends: BackendList,
}

/// A hook that refused its arguments or failed.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    #[error("strategy {strategy} refuses its options: {reason}")]
    Options { strategy: String, reason: String },
    #[error("strategy {strategy} cannot work with this backend list: {reason}")]
    List { strategy: String, reason: String },
    #[error("strategy {strategy} cannot import the state of its predecessor: {reason}")]
    State { strategy: String, reason: String },
    #[error("strategy {strategy} failed in {hook}: {reason}")]
    Failed { strategy: String, hook: &'static str, reason: String },
}

/// The headers of a request. A value is looked up only if a strategy asks for it.
pub trait Headers {
    /// The `nth` value of the header `name` (any case).
    fn get(&self, name: &[u8], nth: usize) -> Option<&[u8]>;
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
    pub headers: &'a dyn Headers,
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

static INSTANCES: AtomicU64 = AtomicU64::new(1);

/// The contract's request, followed by the host's private data. The callback `header` gets the same pointer and so
/// finds both.
#[repr(C)]
struct Lent<'a> {
    public: LbRequest,
    headers: &'a dyn Headers,
}

// === impl Strategy ===

impl Strategy {
    /// Makes an instance with `options`: a JSON object, or null for an empty one.
    pub fn new(plugin: Arc<Plugin>, options: &serde_json::Value) -> Result<Arc<Self>, HookError> {
        let text = if options.is_null() { "{}".to_owned() } else { options.to_string() };
        let mut reason = Vec::<u8>::new();
        let mut raw = std::ptr::null_mut();
        let hook = plugin.table().strategy_new.expect("checked at load");
        // SAFETY: host, text and sink are valid during the call, and `raw` has space for one pointer.
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

    /// This instance's number, unique in the process. It shows which instance picked for a finished attempt.
    pub fn instance(&self) -> u64 {
        self.instance
    }

    /// The state for a successor; `None` if the plugin has no such hook.
    pub fn export_state(&self) -> Option<Result<Vec<u8>, HookError>> {
        let hook = self.plugin.table().state_export?;
        let mut state = Vec::<u8>::new();
        // SAFETY: the instance is alive, and the sink is valid during the call.
        let status = unsafe { hook(self.raw.as_ptr(), sink(&mut state)) };
        Some(if status == LB_OK {
            Ok(state)
        } else {
            Err(failed(self.plugin.name().to_owned(), "state_export", status, Vec::new()))
        })
    }

    /// Imports a predecessor's bytes. The caller ensures that the schemas are equal and that no picker was made yet.
    pub fn import_state(&self, version: u32, state: &[u8]) -> Result<(), HookError> {
        let strategy = self.plugin.name().to_owned();
        let Some(hook) = self.plugin.table().state_import else {
            return Err(HookError::State { strategy, reason: "it imports no state".into() });
        };
        let mut reason = Vec::<u8>::new();
        // SAFETY: the instance is alive, and bytes and sink are valid during the call.
        let status = unsafe { hook(self.raw.as_ptr(), version, LbStr::new(state), sink(&mut reason)) };
        match status {
            LB_OK => Ok(()),
            LB_E_STATE => Err(HookError::State { strategy, reason: sentence(&reason) }),
            status => Err(failed(strategy, "state_import", status, reason)),
        }
    }

    /// Calls the hook `tick`. Returns `true` if the strategy asks for a new picker. For the builder thread, every
    /// [`Plugin::tick_ms`] milliseconds.
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
        // SAFETY: made by this plugin's strategy_new and freed once. Its pickers are gone, because each holds an Arc of
        // it.
        unsafe { self.plugin.table().strategy_free.expect("checked at load")(self.raw.as_ptr()) }
    }
}

// SAFETY: by the contract, all threads share a strategy.
unsafe impl Send for Strategy {}
// SAFETY: as above.
unsafe impl Sync for Strategy {}

// === impl BackendList ===

impl BackendList {
    /// The list as the type of the Rust SDK, for tests that call a strategy directly and not through its table.
    pub fn lend(&self) -> Backends<'_> {
        // SAFETY: the list owns everything that it points to, does not change, and is borrowed as long as the view.
        unsafe { Backends::from_raw(self.raw()) }
    }
}

// === impl Picker ===

impl Picker {
    /// Makes the strategy's picker for `backends`. It keeps the strategy and the list.
    pub fn new(strategy: Arc<Strategy>, backends: BackendList) -> Result<Self, HookError> {
        let mut reason = Vec::<u8>::new();
        let mut raw = std::ptr::null_mut();
        let hook = strategy.plugin.table().picker_new.expect("checked at load");
        // SAFETY: the instance is alive, and list and sink are valid during the call. The list is kept until
        // picker_free.
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

    /// One decision: calls the plugin and checks the result. The host does not allocate and takes no lock.
    #[inline]
    pub fn pick(&self, request: &PickRequest<'_>) -> Decision {
        let lent = lend(request);
        let mut answer = LbPick::default();
        let hook = self.strategy.plugin.table().pick;
        // SAFETY: instance, picker and list are alive and belong together, and the request is valid during the call.
        // The load checked that the hook exists.
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
            LB_NONE => self.none(request.tried),
            LB_E_PANIC => Decision::Refused(Refusal::Panic),
            status if status > 0 => Decision::Refused(Refusal::Undecided),
            _ => Decision::Refused(Refusal::Error),
        }
    }

    /// Reports the end of an attempt to the strategy. Call it only if [`Plugin::wants_finish`].
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
        // SAFETY: the instance is alive, and the finish and its slot are valid during the call.
        unsafe { hook(self.strategy.raw.as_ptr(), &raw const raw) }
    }

    /// The strategy's explanation of its pick for this request, as JSON; `None` if it has none.
    pub fn explain(&self, request: &PickRequest<'_>) -> Option<Result<String, HookError>> {
        let hook = self.strategy.plugin.table().explain?;
        let lent = lend(request);
        let mut words = Vec::<u8>::new();
        // SAFETY: as for `pick`; the sink is valid during the call.
        let status = unsafe {
            hook(
                self.strategy.raw.as_ptr(),
                self.raw.as_ptr(),
                self.backends.raw(),
                (&raw const lent).cast(),
                sink(&mut words),
            )
        };
        match status {
            LB_OK => Some(Ok(String::from_utf8_lossy(&words).into_owned())),
            status if status > 0 => None,
            status => Some(Err(failed(self.strategy.plugin.name().to_owned(), "explain", status, words))),
        }
    }

    /// Whether "no backend" is right, by the list that the strategy got.
    #[cold]
    fn none(&self, tried: &[u32]) -> Decision {
        let is_left = |index: usize| self.backends.is_eligible(index) && !tried.contains(&(index as u32));
        match (0..self.backends.len()).any(is_left) {
            true => Decision::Refused(Refusal::Declined),
            false => Decision::NoBackend,
        }
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
        // SAFETY: made by this strategy's picker_new and freed once. Strategy and list are dropped after this.
        unsafe { self.strategy.plugin.table().picker_free.expect("checked at load")(self.raw.as_ptr()) }
    }
}

// SAFETY: by the contract, a picker is immutable and all workers use it. Its list is immutable except for atomics.
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
    // SAFETY: by the contract, `request` is the lent pointer, which points to a `Lent`. The name is valid during the
    // call.
    let (lent, name) = unsafe { (&*request.cast::<Lent<'_>>(), std::slice::from_raw_parts(name.ptr, name.len)) };
    match lent.headers.get(name, nth as usize) {
        Some(value) => {
            // SAFETY: `out` points to space for one string.
            unsafe { *out = LbStr::new(value) };
            1
        }
        None => 0,
    }
}

fn sink(buffer: &mut Vec<u8>) -> *mut LbSink {
    std::ptr::from_mut(buffer).cast()
}

/// A plugin's reason, cut to a length that fits logs and responses.
fn sentence(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(REASON_MAX_BYTES)]).trim().to_owned()
}

fn failed(strategy: String, hook: &'static str, status: LbStatus, reason: Vec<u8>) -> HookError {
    let reason = sentence(&reason);
    let reason = match status {
        LB_E_PANIC => "it panicked".to_owned(),
        LB_OK => "it returned success without a result".to_owned(),
        status if reason.is_empty() => format!("status {status}"),
        status => format!("{reason} (status {status})"),
    };
    HookError::Failed { strategy, hook, reason }
}

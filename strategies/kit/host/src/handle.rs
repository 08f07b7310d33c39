//! The safe handle of a loaded strategy. It checks every result of a plugin. Like `library`, it contains `unsafe` code.
//! Its parts: `lend` turns a request into the contract's struct, `attempt` tells begins and ends.
//!
//! Invariants: a picker keeps its strategy alive and owns the list that it was made from. Strategies and pickers are
//! freed once, on the thread that drops them; the owner ensures that this is the builder thread. A returned index is in
//! the list, eligible in the list, and untried.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use lb_strategy::Backends;
use lb_strategy::abi::*;

use crate::backends::BackendList;
use crate::crash::Subject;
use crate::error::{HookError, sentence};
use crate::inside::{Hook, HookPanics, Tag, enter};
use crate::library::Plugin;
use crate::request::{Decision, PickRequest, Probes, Refusal};
use lend::{Lent, lend, lend_to_shadow};

mod attempt;
mod lend;

/// An instance of a plugin with its options and its learned state.
pub struct Strategy {
    plugin: Arc<Plugin>,
    raw: NonNull<LbStrategy>,
    /// A number that no other instance of this process has.
    instance: u64,
    /// Boxed, so that its address stays while calls note it.
    tag: Box<Tag>,
}

/// A strategy's view of one backend list.
pub struct Picker {
    strategy: Arc<Strategy>,
    raw: NonNull<LbPicker>,
    backends: BackendList,
}

static INSTANCES: AtomicU64 = AtomicU64::new(1);

// === impl Strategy ===

impl Strategy {
    /// Makes an instance with `options`: a JSON object, or null for an empty one. It works for no pool.
    pub fn new(plugin: Arc<Plugin>, options: &serde_json::Value) -> Result<Arc<Self>, HookError> {
        Self::make(plugin, options, None)
    }

    /// The same, for the pool `pool`: log lines and crashes of the instance name it.
    pub fn for_pool(plugin: Arc<Plugin>, options: &serde_json::Value, pool: &str) -> Result<Arc<Self>, HookError> {
        Self::make(plugin, options, Some(pool))
    }

    fn make(plugin: Arc<Plugin>, options: &serde_json::Value, pool: Option<&str>) -> Result<Arc<Self>, HookError> {
        let sha256 = plugin.sha256_hex();
        let subject = Subject {
            plugin: plugin.name(),
            version: plugin.version(),
            pool,
            file: plugin.path(),
            sha256: sha256.as_deref(),
            options,
        };
        let tag = Box::new(Tag::new(&subject, plugin.lines.clone()));
        let text = if options.is_null() { "{}".to_owned() } else { options.to_string() };
        let mut reason = Vec::<u8>::new();
        let mut raw = std::ptr::null_mut();
        let hook = plugin.table().strategy_new.expect("checked at load");
        let call = enter(&tag, Hook::StrategyNew);
        // SAFETY: host, text and sink are valid during the call, and `raw` has space for one pointer.
        let status = unsafe { hook(plugin.host.0, LbStr::new(text.as_bytes()), sink(&mut reason), &raw mut raw) };
        drop(call);
        let name = plugin.name();
        match (status, NonNull::new(raw)) {
            (LB_OK, Some(raw)) => Ok(Arc::new(Self { plugin, raw, instance: INSTANCES.fetch_add(1, Relaxed), tag })),
            (LB_E_CONFIG, _) => Err(HookError::Options { strategy: name.to_owned(), reason: sentence(&reason) }),
            (status, _) => Err(tag.failed(Hook::StrategyNew, status, &reason)),
        }
    }

    pub fn plugin(&self) -> &Arc<Plugin> {
        &self.plugin
    }

    /// This instance's number, unique in the process. It shows which instance picked for a finished attempt.
    pub fn instance(&self) -> u64 {
        self.instance
    }

    /// From now on, the report of a crash says that the instance was proven.
    pub fn set_proven(&self) {
        self.tag.report.is_proven.store(true, Relaxed);
    }

    /// The state for a successor; `None` if the plugin has no such hook.
    pub fn export_state(&self) -> Option<Result<Vec<u8>, HookError>> {
        let hook = self.plugin.table().state_export?;
        let mut state = Vec::<u8>::new();
        let call = enter(&self.tag, Hook::StateExport);
        // SAFETY: the instance is alive, and the sink is valid during the call.
        let status = unsafe { hook(self.raw.as_ptr(), sink(&mut state)) };
        drop(call);
        Some(if status == LB_OK { Ok(state) } else { Err(self.tag.failed(Hook::StateExport, status, &[])) })
    }

    /// Imports a predecessor's bytes. The caller ensures that the schemas are equal and that no picker was made yet.
    pub fn import_state(&self, version: u32, state: &[u8]) -> Result<(), HookError> {
        let strategy = self.plugin.name().to_owned();
        let Some(hook) = self.plugin.table().state_import else {
            return Err(HookError::State { strategy, reason: "it imports no state".into() });
        };
        let mut reason = Vec::<u8>::new();
        let call = enter(&self.tag, Hook::StateImport);
        // SAFETY: the instance is alive, and bytes and sink are valid during the call.
        let status = unsafe { hook(self.raw.as_ptr(), version, LbStr::new(state), sink(&mut reason)) };
        drop(call);
        match status {
            LB_OK => Ok(()),
            LB_E_STATE => Err(HookError::State { strategy, reason: sentence(&reason) }),
            status => Err(self.tag.failed(Hook::StateImport, status, &reason)),
        }
    }

    /// Calls the hook `tick`. Returns `true` if the strategy asks for a new picker. For the builder thread, every
    /// [`Plugin::tick_ms`] milliseconds.
    pub fn tick(&self, now_ns: u64) -> Result<bool, HookError> {
        let Some(hook) = self.plugin.table().tick else { return Ok(false) };
        let call = enter(&self.tag, Hook::Tick);
        // SAFETY: the instance is alive.
        let status = unsafe { hook(self.raw.as_ptr(), now_ns) };
        drop(call);
        match status {
            LB_OK => Ok(false),
            LB_REBUILD => Ok(true),
            status => Err(self.tag.failed(Hook::Tick, status, &[])),
        }
    }

    /// The instance's own metrics: JSON lines, see the hook `metrics` of the header. `None` if the plugin has no such
    /// hook. For the builder thread.
    pub fn metrics(&self) -> Option<Result<Vec<u8>, HookError>> {
        let hook = self.plugin.table().metrics?;
        let mut lines = Vec::<u8>::new();
        let call = enter(&self.tag, Hook::Metrics);
        // SAFETY: the instance is alive, and the sink is valid during the call.
        let status = unsafe { hook(self.raw.as_ptr(), sink(&mut lines)) };
        drop(call);
        Some(if status == LB_OK { Ok(lines) } else { Err(self.tag.failed(Hook::Metrics, status, &[])) })
    }

    /// The panics that the plugin reported: by a status, or by a log line where the hook returns none.
    pub fn panics(&self) -> &Arc<HookPanics> {
        &self.tag.panics
    }
}

impl Drop for Strategy {
    fn drop(&mut self) {
        let _call = enter(&self.tag, Hook::StrategyFree);
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
        let call = enter(&strategy.tag, Hook::PickerNew);
        // SAFETY: the instance is alive, and list and sink are valid during the call. The list is kept until
        // picker_free.
        let status = unsafe { hook(strategy.raw.as_ptr(), backends.raw(), sink(&mut reason), &raw mut raw) };
        drop(call);
        match (status, NonNull::new(raw)) {
            (LB_OK, Some(raw)) => Ok(Self { strategy, raw, backends }),
            (LB_E_OTHER, _) => {
                Err(HookError::List { strategy: strategy.plugin.name().to_owned(), reason: sentence(&reason) })
            }
            (status, _) => Err(strategy.tag.failed(Hook::PickerNew, status, &reason)),
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
        self.ask(&lend(request), request.tried, &mut LbPick::default())
    }

    /// The same, with the backends that the strategy has probed. Only for a strategy that [wants](crate::Wants) probes.
    #[inline]
    pub fn pick_and_probe(&self, request: &PickRequest<'_>, probes: &mut Probes) -> Decision {
        let mut answer = LbPick::default();
        let decision = self.ask(&lend(request), request.tried, &mut answer);
        *probes = match decision {
            Decision::Backend { .. } if answer.n_probes > 0 => self.checked_probes(&answer),
            _ => Probes::default(),
        };
        decision
    }

    /// One decision of a shadow: nothing follows from it, and it gets no probes. The request has the flag
    /// [`LB_REQ_SHADOW`].
    #[inline]
    pub fn pick_as_shadow(&self, request: &PickRequest<'_>) -> Decision {
        self.ask(&lend_to_shadow(request), request.tried, &mut LbPick::default())
    }

    #[inline]
    fn ask(&self, lent: &Lent<'_>, tried: &[u32], answer: &mut LbPick) -> Decision {
        let hook = self.strategy.plugin.table().pick;
        let call = enter(&self.strategy.tag, Hook::Pick);
        // SAFETY: instance, picker and list are alive and belong together, and the request is valid during the call.
        // The load checked that the hook exists.
        let status = unsafe {
            hook.unwrap_unchecked()(
                self.strategy.raw.as_ptr(),
                self.raw.as_ptr(),
                self.backends.raw(),
                std::ptr::from_ref(lent).cast(),
                &raw mut *answer,
            )
        };
        drop(call);
        match status {
            LB_OK => self.check(answer, tried),
            LB_NONE => self.none(tried),
            // To a plugin of version 1.0 it is an unknown status.
            LB_WAIT if self.strategy.plugin.table().abi_minor >= 1 => Decision::Wait,
            LB_E_PANIC => {
                self.strategy.tag.panicked(Hook::Pick);
                Decision::Refused(Refusal::Panic)
            }
            status if status > 0 => Decision::Refused(Refusal::Undecided),
            _ => Decision::Refused(Refusal::Error),
        }
    }

    /// The strategy's explanation of its pick for this request, as JSON; `None` if it has none.
    pub fn explain(&self, request: &PickRequest<'_>) -> Option<Result<String, HookError>> {
        let hook = self.strategy.plugin.table().explain?;
        let lent = lend(request);
        let mut words = Vec::<u8>::new();
        let call = enter(&self.strategy.tag, Hook::Explain);
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
        drop(call);
        match status {
            LB_OK => Some(Ok(String::from_utf8_lossy(&words).into_owned())),
            status if status > 0 => None,
            status => Some(Err(self.strategy.tag.failed(Hook::Explain, status, &words))),
        }
    }

    fn checked_probes(&self, answer: &LbPick) -> Probes {
        let mut probes = Probes::default();
        let is_eligible = |at: usize| at < self.backends.len() && self.backends.is_eligible(at);
        for index in answer.probe.iter().take(answer.n_probes as usize) {
            if !probes.indexes().contains(index) && is_eligible(*index as usize) {
                probes.index[probes.count as usize] = *index;
                probes.count += 1;
            }
        }
        // The plugin may have written any number.
        probes.refused = answer.n_probes.min(LB_PROBES_MAX as u32 + 1) - probes.count;
        probes
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
    fn check(&self, answer: &LbPick, tried: &[u32]) -> Decision {
        let index = answer.index as usize;
        if index >= self.backends.len() {
            Decision::Refused(Refusal::BadIndex)
        } else if !tried.is_empty() && tried.contains(&answer.index) {
            // The first condition saves what `contains` prepares for long lists.
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
        let _call = enter(&self.strategy.tag, Hook::PickerFree);
        // SAFETY: made by this strategy's picker_new and freed once. Strategy and list are dropped after this.
        unsafe { self.strategy.plugin.table().picker_free.expect("checked at load")(self.raw.as_ptr()) }
    }
}

// SAFETY: by the contract, a picker is immutable and all workers use it. Its list is immutable except for atomics.
unsafe impl Send for Picker {}
// SAFETY: as above.
unsafe impl Sync for Picker {}

fn sink(buffer: &mut Vec<u8>) -> *mut LbSink {
    std::ptr::from_mut(buffer).cast()
}

//! The hooks of a [`Strategy`] as C functions. Each catches panics.
//!
//! Why here: a plugin has its own copy of the standard library, so the host cannot catch its panic. The plugin must.
//! Invariants: no function below unwinds. A panic's payload is dropped; only one whose drop panics leaks.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::abi::*;
use crate::ffi::lent::{Backends, Finish, Host, Metrics, Probe, Probes, Request, Start, bytes};
use crate::strategy::{Error, Pick, Strategy, Tick};

/// The target of the host's opaque `lb_strategy` pointer.
struct Instance<S> {
    strategy: S,
    host: Host,
}

fn guarded<T>(on_panic: T, call: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(value) => value,
        Err(payload) => {
            // The payload may be a value of the strategy, and its drop may panic, too. That payload is leaked.
            if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                #[expect(clippy::disallowed_methods, reason = "dropping the second payload may panic again")]
                std::mem::forget(second);
            }
            on_panic
        }
    }
}

/// # Safety
/// `host` must be null or valid, and `sink` must be null or an argument of the running call.
unsafe fn tell(host: *const LbHost, sink: *mut LbSink, text: &[u8]) {
    // SAFETY: the caller ensures it.
    if let Some(write) = unsafe { host.as_ref() }.and_then(|host| host.sink_write)
        && !sink.is_null()
    {
        // SAFETY: the call that got the sink still runs.
        unsafe { write(sink, LbStr::new(text)) }
    }
}

pub(super) unsafe extern "C" fn strategy_new<S: Strategy>(
    host: *const LbHost,
    config: LbStr,
    err: *mut LbSink,
    out: *mut *mut LbStrategy,
) -> LbStatus {
    guarded(LB_E_PANIC, || {
        // SAFETY: the config text is borrowed for the call.
        let text = unsafe { bytes(config) };
        let text = if text.is_empty() { b"{}" } else { text };
        // SAFETY: the host is valid until the process ends.
        let shared = unsafe { Host::from_raw(host) };
        let made = serde_json::from_slice::<S::Config>(text)
            .map_err(|error| Error::new(error.to_string()))
            .and_then(|config| S::new(config, shared));
        match made {
            Ok(strategy) => {
                let instance = Box::new(Instance { strategy, host: shared });
                // SAFETY: `out` points to space for one pointer.
                unsafe { *out = Box::into_raw(instance).cast() };
                LB_OK
            }
            Err(error) => {
                // SAFETY: the call that got `err` still runs.
                unsafe { tell(host, err, error.to_string().as_bytes()) };
                LB_E_CONFIG
            }
        }
    })
}

pub(super) unsafe extern "C" fn strategy_free<S: Strategy>(strategy: *mut LbStrategy) {
    guarded((), || {
        if !strategy.is_null() {
            // SAFETY: made by `strategy_new::<S>` and freed once.
            drop(unsafe { Box::from_raw(strategy.cast::<Instance<S>>()) });
        }
    });
}

pub(super) unsafe extern "C" fn picker_new<S: Strategy>(
    strategy: *mut LbStrategy,
    backends: *const LbBackends,
    err: *mut LbSink,
    out: *mut *mut LbPicker,
) -> LbStatus {
    guarded(LB_E_PANIC, || {
        // SAFETY: made by `strategy_new::<S>` and not yet freed.
        let instance = unsafe { instance::<S>(strategy) };
        // SAFETY: the list is valid for the call.
        match instance.strategy.picker(&unsafe { Backends::from_raw(backends) }) {
            Ok(picker) => {
                // SAFETY: `out` points to space for one pointer.
                unsafe { *out = Box::into_raw(Box::new(picker)).cast() };
                LB_OK
            }
            Err(error) => {
                // SAFETY: the call that got `err` still runs.
                unsafe { write(instance.host, err, error.to_string().as_bytes()) };
                LB_E_OTHER
            }
        }
    })
}

pub(super) unsafe extern "C" fn picker_free<S: Strategy>(picker: *mut LbPicker) {
    guarded((), || {
        if !picker.is_null() {
            // SAFETY: made by `picker_new::<S>` and freed once.
            drop(unsafe { Box::from_raw(picker.cast::<S::Picker>()) });
        }
    });
}

pub(super) unsafe extern "C" fn pick<S: Strategy>(
    strategy: *mut LbStrategy,
    picker: *const LbPicker,
    backends: *const LbBackends,
    request: *const LbRequest,
    out: *mut LbPick,
) -> LbStatus {
    guarded(LB_E_PANIC, || {
        // SAFETY: by the contract, strategy and picker are alive, list and request are valid during the call, and `out`
        // points to space for one pick.
        let (instance, picker, backends, request, out) = unsafe {
            (
                instance::<S>(strategy),
                &*picker.cast::<S::Picker>(),
                Backends::from_raw(backends),
                Request::from_raw(request),
                &mut *out,
            )
        };
        let (index, token) = match instance.strategy.pick(picker, &backends, &request) {
            Pick::Backend(index) => (index, 0),
            Pick::BackendWithToken(index, token) => (index, token),
            Pick::NoBackend => return LB_NONE,
            Pick::Fallback => return LB_FALLBACK,
            Pick::Wait => return LB_WAIT,
        };
        // The host refuses an index that is not in the list. So it also refuses one that does not fit 32 bits.
        out.index = u32::try_from(index).unwrap_or(u32::MAX);
        out.token = token;
        if S::PROBES {
            instance.strategy.probes(picker, &backends, &request, index, &mut Probes::new(out));
        }
        LB_OK
    })
}

pub(super) unsafe extern "C" fn on_finish<S: Strategy>(strategy: *mut LbStrategy, finish: *const LbFinish) {
    guarded((), || {
        // SAFETY: the strategy is alive, and the finish is valid during the call.
        let (instance, finish) = unsafe { (instance::<S>(strategy), Finish::from_raw(finish)) };
        instance.strategy.on_finish(&finish);
    });
}

pub(super) unsafe extern "C" fn on_start<S: Strategy>(strategy: *mut LbStrategy, start: *const LbStart) {
    guarded((), || {
        // SAFETY: the strategy is alive, and the start is valid during the call.
        let (instance, start) = unsafe { (instance::<S>(strategy), Start::from_raw(start)) };
        instance.strategy.on_start(&start);
    });
}

pub(super) unsafe extern "C" fn on_probe<S: Strategy>(strategy: *mut LbStrategy, probe: *const LbProbe) {
    guarded((), || {
        // SAFETY: the strategy is alive, and the probe is valid during the call.
        let (instance, probe) = unsafe { (instance::<S>(strategy), Probe::from_raw(probe)) };
        instance.strategy.on_probe(&probe);
    });
}

pub(super) unsafe extern "C" fn metrics<S: Strategy>(strategy: *mut LbStrategy, out: *mut LbSink) -> LbStatus {
    guarded(LB_E_PANIC, || {
        // SAFETY: the strategy is alive, and the call that got `out` still runs.
        let (instance, out) = unsafe { (instance::<S>(strategy), &mut *out) };
        instance.strategy.metrics(&mut Metrics::new(instance.host, out));
        LB_OK
    })
}

pub(super) unsafe extern "C" fn state_export<S: Strategy>(strategy: *mut LbStrategy, out: *mut LbSink) -> LbStatus {
    guarded(LB_E_PANIC, || {
        // SAFETY: the strategy is alive.
        let instance = unsafe { instance::<S>(strategy) };
        let state = instance.strategy.export();
        // SAFETY: the call that got `out` still runs.
        unsafe { write(instance.host, out, &state) };
        LB_OK
    })
}

pub(super) unsafe extern "C" fn state_import<S: Strategy>(
    strategy: *mut LbStrategy,
    version: u32,
    state: LbStr,
    err: *mut LbSink,
) -> LbStatus {
    guarded(LB_E_PANIC, || {
        // SAFETY: the strategy is alive, and the bytes are valid during the call.
        let (instance, state) = unsafe { (instance::<S>(strategy), bytes(state)) };
        match instance.strategy.import(version, state) {
            Ok(()) => LB_OK,
            Err(error) => {
                // SAFETY: the call that got `err` still runs.
                unsafe { write(instance.host, err, error.to_string().as_bytes()) };
                LB_E_STATE
            }
        }
    })
}

pub(super) unsafe extern "C" fn tick<S: Strategy>(strategy: *mut LbStrategy, now_ns: u64) -> LbStatus {
    guarded(LB_E_PANIC, || {
        // SAFETY: the strategy is alive.
        match unsafe { instance::<S>(strategy) }.strategy.tick(now_ns) {
            Tick::Keep => LB_OK,
            Tick::Rebuild => LB_REBUILD,
        }
    })
}

pub(super) unsafe extern "C" fn explain<S: Strategy>(
    strategy: *mut LbStrategy,
    picker: *const LbPicker,
    backends: *const LbBackends,
    request: *const LbRequest,
    out: *mut LbSink,
) -> LbStatus {
    guarded(LB_E_PANIC, || {
        // SAFETY: as for `pick`.
        let (instance, picker, backends, request) = unsafe {
            (
                instance::<S>(strategy),
                &*picker.cast::<S::Picker>(),
                Backends::from_raw(backends),
                Request::from_raw(request),
            )
        };
        let text = instance.strategy.explain(picker, &backends, &request);
        // SAFETY: the call that got `out` still runs.
        unsafe { write(instance.host, out, text.as_bytes()) };
        LB_OK
    })
}

/// # Safety
/// `strategy` must come from `strategy_new::<S>` and must not be freed while the reference is in use.
unsafe fn instance<'a, S: Strategy>(strategy: *mut LbStrategy) -> &'a Instance<S> {
    // SAFETY: the caller ensures it.
    unsafe { &*strategy.cast::<Instance<S>>() }
}

/// # Safety
/// `sink` must be null or an argument of the running call.
unsafe fn write(host: Host, sink: *mut LbSink, text: &[u8]) {
    // SAFETY: the caller ensures it.
    unsafe { tell(host.as_raw(), sink, text) }
}

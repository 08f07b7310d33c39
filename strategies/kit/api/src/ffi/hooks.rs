//! A [`Strategy`] as a table of C functions. Each function catches panics.
//!
//! Why here: a plugin has its own copy of the standard library, so the host cannot catch its panic. The plugin must.
//! Invariants: no function below unwinds. A panic's payload is dropped; only one whose drop panics leaks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use crate::abi::*;
use crate::ffi::lent::{Backends, Finish, Host, LogLevel, Metrics, Request, Start, bytes};
use crate::strategy::{Error, Pick, Strategy, Tick};

/// The target of the host's opaque `lb_strategy` pointer.
struct Instance<S> {
    strategy: S,
    host: Host,
}

/// Set by the first call of the entry, which also installs the panic hook. Both happen once in an image.
static HOST: OnceLock<Host> = OnceLock::new();

/// The response headers of `S` as the table names them.
struct Names<S>(std::marker::PhantomData<S>);

/// The views read fields of version 1.1 without a check, so an older host refuses the plugin.
const MIN_HOST_MINOR: u32 = 1;

/// The table of `S`. The host uses `version` and `build` only in messages.
pub const fn table<S: Strategy>(version: &'static str, build: &'static str) -> LbStrategyTable {
    assert!(S::BODY_BYTES <= LB_BODY_BYTES_MAX, "BODY_BYTES is more than 65,536");
    let (schema, state_version) = match S::STATE {
        Some(state) => (state.schema, state.version),
        None => ("", 0),
    };
    LbStrategyTable {
        size: size_of::<LbStrategyTable>() as u32,
        abi_major: ABI_MAJOR,
        abi_minor: ABI_MINOR,
        min_host_minor: MIN_HOST_MINOR,
        flags: (if S::WANTS_HASH { LB_F_WANTS_HASH } else { 0 })
            | (if S::WANTS_FINISH { LB_F_WANTS_FINISH } else { 0 })
            | (if S::WANTS_ANSWER { LB_F_WANTS_ANSWER } else { 0 }),
        name: LbStr::new(S::NAME.as_bytes()),
        version: LbStr::new(version.as_bytes()),
        build: LbStr::new(build.as_bytes()),
        state_schema: LbStr::new(schema.as_bytes()),
        state_version,
        tick_ms: S::TICK_MS,
        expectation: LbStr::new(S::EXPECTATION.as_bytes()),
        strategy_new: Some(strategy_new::<S>),
        strategy_free: Some(strategy_free::<S>),
        picker_new: Some(picker_new::<S>),
        picker_free: Some(picker_free::<S>),
        pick: Some(pick::<S>),
        on_finish: if S::WANTS_FINISH { Some(on_finish::<S>) } else { None },
        state_export: if S::STATE.is_some() { Some(state_export::<S>) } else { None },
        state_import: if S::STATE.is_some() { Some(state_import::<S>) } else { None },
        tick: if S::TICK_MS > 0 { Some(tick::<S>) } else { None },
        explain: if S::EXPLAINS { Some(explain::<S>) } else { None },
        on_start: if S::WANTS_START { Some(on_start::<S>) } else { None },
        metrics: if S::METRICS { Some(metrics::<S>) } else { None },
        response_headers: Names::<S>::OF.as_ptr(),
        n_response_headers: S::RESPONSE_HEADERS.len() as u32,
        body_bytes: S::BODY_BYTES,
    }
}

/// The body of the exported entry. It checks the host's structs here, so that a pick does not have to.
///
/// Returns null if this host lends less than this version of the crate needs.
///
/// # Safety
/// `host` must be null or valid until the process ends.
pub unsafe fn entry(host: *const LbHost, table: &'static LbStrategyTable) -> *const LbStrategyTable {
    // SAFETY: the caller ensures it.
    let Some(raw) = (unsafe { host.as_ref() }) else {
        return std::ptr::null();
    };
    let fits = raw.abi_major == ABI_MAJOR
        && raw.size as usize >= size_of::<LbHost>()
        && raw.request_size as usize >= size_of::<LbRequest>()
        && raw.sink_write.is_some();
    if !fits {
        return std::ptr::null();
    }
    // SAFETY: valid until the process ends; the caller ensures it.
    let host = unsafe { Host::from_raw(host) };
    if HOST.set(host).is_ok() {
        // By default the plugin's standard library prints a panic to stderr. The host's log gets it, with its location.
        std::panic::set_hook(Box::new(move |panic| host.log(LogLevel::Error, &panic.to_string())));
    }
    table
}

impl<S: Strategy> Names<S> {
    const OF: &'static [LbStr; RESPONSE_HEADERS_MAX] = &{
        let mut names = [LbStr::EMPTY; RESPONSE_HEADERS_MAX];
        assert!(S::RESPONSE_HEADERS.len() <= names.len(), "a strategy may name at most 8 response headers");
        let mut index = 0;
        while index < S::RESPONSE_HEADERS.len() {
            names[index] = LbStr::new(S::RESPONSE_HEADERS[index].as_bytes());
            index += 1;
        }
        names
    };
}

// SAFETY: the table is immutable and its strings are 'static. The contract says which threads may call its functions.
unsafe impl Sync for LbStrategyTable {}
// SAFETY: as above.
unsafe impl Send for LbStrategyTable {}

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

unsafe extern "C" fn strategy_new<S: Strategy>(
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

unsafe extern "C" fn strategy_free<S: Strategy>(strategy: *mut LbStrategy) {
    guarded((), || {
        if !strategy.is_null() {
            // SAFETY: made by `strategy_new::<S>` and freed once.
            drop(unsafe { Box::from_raw(strategy.cast::<Instance<S>>()) });
        }
    });
}

unsafe extern "C" fn picker_new<S: Strategy>(
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

unsafe extern "C" fn picker_free<S: Strategy>(picker: *mut LbPicker) {
    guarded((), || {
        if !picker.is_null() {
            // SAFETY: made by `picker_new::<S>` and freed once.
            drop(unsafe { Box::from_raw(picker.cast::<S::Picker>()) });
        }
    });
}

unsafe extern "C" fn pick<S: Strategy>(
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
        LB_OK
    })
}

unsafe extern "C" fn on_finish<S: Strategy>(strategy: *mut LbStrategy, finish: *const LbFinish) {
    guarded((), || {
        // SAFETY: the strategy is alive, and the finish is valid during the call.
        let (instance, finish) = unsafe { (instance::<S>(strategy), Finish::from_raw(finish)) };
        instance.strategy.on_finish(&finish);
    });
}

unsafe extern "C" fn on_start<S: Strategy>(strategy: *mut LbStrategy, start: *const LbStart) {
    guarded((), || {
        // SAFETY: the strategy is alive, and the start is valid during the call.
        let (instance, start) = unsafe { (instance::<S>(strategy), Start::from_raw(start)) };
        instance.strategy.on_start(&start);
    });
}

unsafe extern "C" fn metrics<S: Strategy>(strategy: *mut LbStrategy, out: *mut LbSink) -> LbStatus {
    guarded(LB_E_PANIC, || {
        // SAFETY: the strategy is alive, and the call that got `out` still runs.
        let (instance, out) = unsafe { (instance::<S>(strategy), &mut *out) };
        instance.strategy.metrics(&mut Metrics::new(instance.host, out));
        LB_OK
    })
}

unsafe extern "C" fn state_export<S: Strategy>(strategy: *mut LbStrategy, out: *mut LbSink) -> LbStatus {
    guarded(LB_E_PANIC, || {
        // SAFETY: the strategy is alive.
        let instance = unsafe { instance::<S>(strategy) };
        let state = instance.strategy.export();
        // SAFETY: the call that got `out` still runs.
        unsafe { write(instance.host, out, &state) };
        LB_OK
    })
}

unsafe extern "C" fn state_import<S: Strategy>(
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

unsafe extern "C" fn tick<S: Strategy>(strategy: *mut LbStrategy, now_ns: u64) -> LbStatus {
    guarded(LB_E_PANIC, || {
        // SAFETY: the strategy is alive.
        match unsafe { instance::<S>(strategy) }.strategy.tick(now_ns) {
            Tick::Keep => LB_OK,
            Tick::Rebuild => LB_REBUILD,
        }
    })
}

unsafe extern "C" fn explain<S: Strategy>(
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::NoOptions;

    struct Never;

    impl Strategy for Never {
        const NAME: &'static str = "never";
        type Config = NoOptions;
        type Picker = ();
        fn new(_: NoOptions, _: Host) -> Result<Self, Error> {
            Ok(Self)
        }
        fn picker(&self, _: &Backends<'_>) -> Result<(), Error> {
            Ok(())
        }
        fn pick(&self, _: &(), _: &Backends<'_>, _: &Request<'_>) -> Pick {
            Pick::NoBackend
        }
    }

    static TABLE: LbStrategyTable = table::<Never>("1", "test");

    unsafe extern "C" fn drop_text(_: *mut LbSink, _: LbStr) {}

    fn host() -> LbHost {
        LbHost {
            size: size_of::<LbHost>() as u32,
            abi_major: ABI_MAJOR,
            abi_minor: ABI_MINOR,
            n_workers: 1,
            request_size: size_of::<LbRequest>() as u32,
            ctx: std::ptr::null_mut(),
            log: None,
            sink_write: Some(drop_text),
            pick_size: size_of::<LbPick>() as u32,
            stats_size: size_of::<LbStats>() as u32,
        }
    }

    #[test]
    fn a_host_that_lends_less_than_this_version_needs_is_refused_at_the_entry() {
        type Change = fn(&mut LbHost);
        let refused: [(&str, Change); 4] = [
            ("another major", |host| host.abi_major = 2),
            ("a shorter host struct", |host| host.size -= 1),
            ("a shorter request", |host| host.request_size -= 8),
            ("no sink", |host| host.sink_write = None),
        ];
        for (what, change) in refused {
            let mut raw = host();
            change(&mut raw);
            // SAFETY: `entry` refuses this host before it keeps the pointer.
            assert!(unsafe { entry(&raw, &TABLE) }.is_null(), "{what}");
        }
        // SAFETY: null is allowed.
        assert!(unsafe { entry(std::ptr::null(), &TABLE) }.is_null());
    }

    #[test]
    fn a_later_minor_version_with_longer_structs_is_accepted() {
        let mut raw = host();
        (raw.abi_minor, raw.size, raw.request_size) = (9, 400, 400);
        // SAFETY: leaked, so valid until the process ends.
        let answer = unsafe { entry(Box::leak(Box::new(raw)), &TABLE) };
        assert!(std::ptr::eq(answer, &TABLE));
    }

    #[test]
    fn a_table_offers_only_the_hooks_that_the_strategy_has() {
        assert!(TABLE.pick.is_some() && TABLE.strategy_new.is_some());
        assert!(TABLE.on_finish.is_none() && TABLE.state_export.is_none() && TABLE.state_import.is_none());
        assert!(TABLE.tick.is_none() && TABLE.explain.is_none() && TABLE.flags == 0);
    }
}

//! The table of a [`Strategy`], and the body of the exported entry. The functions in the table are those of
//! `calls`.
//!
//! Invariant: a host that lends less than this version reads is refused at the entry, so no call checks it.

use std::sync::OnceLock;

use super::calls::*;
use crate::abi::*;
use crate::ffi::lent::{Host, LogLevel};
use crate::strategy::Strategy;

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
        on_probe: if has_probes::<S>() { Some(on_probe::<S>) } else { None },
        probe_ms: S::PROBE_MS,
        reserved: 0,
    }
}

const fn has_probes<S: Strategy>() -> bool {
    S::PROBES || S::PROBE_MS > 0
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
        && raw.pick_size as usize >= size_of::<LbPick>()
        && raw.stats_size as usize >= size_of::<LbStats>()
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
        let gets_them = S::WANTS_ANSWER && S::WANTS_FINISH || has_probes::<S>();
        assert!(
            S::RESPONSE_HEADERS.is_empty() || gets_them,
            "RESPONSE_HEADERS needs WANTS_ANSWER and WANTS_FINISH, or probes"
        );
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffi::lent::{Backends, Request};
    use crate::strategy::{Error, NoOptions, Pick};

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
        let refused: [(&str, Change); 6] = [
            ("another major", |host| host.abi_major = 2),
            ("a shorter host struct", |host| host.size -= 1),
            ("a shorter request", |host| host.request_size -= 8),
            ("a shorter pick", |host| host.pick_size -= 8),
            ("shorter stats", |host| host.stats_size -= 8),
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

//! The binary contract: `include/lb_strategy.h` mirrored in `repr(C)`.
//!
//! Why by hand: authors may write strategies in C, so the header is the original and this file follows it.
//!
//! Invariant: both sides have the same layout. Both assert their sizes at compile time. The test `header` of the host
//! compares the offset of every field.

use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// The major version. It is part of the entry symbol's name, so another major version has another symbol.
pub const ABI_MAJOR: u16 = 1;
/// The minor version. A release that appends a field, a hook or a constant adds one.
pub const ABI_MINOR: u16 = 1;
/// The entry symbol of a plugin, NUL-terminated for the loader.
pub const ENTRY_SYMBOL: &[u8] = b"lb_strategy_entry_v1\0";

pub type LbStatus = i32;
pub const LB_OK: LbStatus = 0;
pub const LB_NONE: LbStatus = 1;
pub const LB_FALLBACK: LbStatus = 2;
pub const LB_REBUILD: LbStatus = 3;
pub const LB_WAIT: LbStatus = 4;
pub const LB_E_CONFIG: LbStatus = -1;
pub const LB_E_ABI: LbStatus = -2;
pub const LB_E_STATE: LbStatus = -3;
pub const LB_E_OTHER: LbStatus = -4;
pub const LB_E_PANIC: LbStatus = -100;

pub const LB_BACKEND_ELIGIBLE: u32 = 1;
pub const LB_BACKEND_HEALTHY: u32 = 2;
pub const LB_BACKEND_DRAINING: u32 = 4;

pub const LB_REQ_HASH: u32 = 1;
pub const LB_REQ_DRY: u32 = 2;
pub const LB_REQ_SHADOW: u32 = 4;
pub const LB_WORKER_ANY: u32 = u32::MAX;

pub const LB_PART_METHOD: u32 = 0;
pub const LB_PART_PATH: u32 = 1;
pub const LB_PART_HOST: u32 = 2;
pub const LB_PART_CLIENT: u32 = 3;
pub const LB_PART_BODY: u32 = 4;

/// The largest [`LbStrategyTable::body_bytes`].
pub const LB_BODY_BYTES_MAX: u32 = 65_536;

pub const LB_FIN_OWN: u32 = 1;
pub const LB_FIN_UPGRADED: u32 = 2;

/// The most backends that one pick can have probed.
pub const LB_PROBES_MAX: usize = 4;

pub const LB_F_WANTS_HASH: u32 = 1;
pub const LB_F_WANTS_FINISH: u32 = 2;
pub const LB_F_UNLOADABLE: u32 = 4;
pub const LB_F_WANTS_ANSWER: u32 = 8;

/// The most response headers that a table may name.
pub const RESPONSE_HEADERS_MAX: usize = 8;

/// Borrowed bytes without a NUL; `ptr` may be null only when `len` is 0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct LbStr {
    pub ptr: *const u8,
    pub len: usize,
}

/// The host's byte buffer, opaque to the plugin.
#[repr(C)]
pub struct LbSink {
    _opaque: [u8; 0],
}

/// The plugin's strategy instance, opaque to the host.
#[repr(C)]
pub struct LbStrategy {
    _opaque: [u8; 0],
}

/// The plugin's picker, opaque to the host.
#[repr(C)]
pub struct LbPicker {
    _opaque: [u8; 0],
}

#[repr(C)]
pub struct LbHost {
    pub size: u32,
    pub abi_major: u16,
    pub abi_minor: u16,
    pub n_workers: u32,
    pub request_size: u32,
    pub ctx: *mut c_void,
    pub log: Option<unsafe extern "C" fn(ctx: *mut c_void, level: u32, message: LbStr)>,
    pub sink_write: Option<unsafe extern "C" fn(sink: *mut LbSink, bytes: LbStr)>,
    pub pick_size: u32,
    pub stats_size: u32,
}

/// Live numbers of one backend. The host owns them, and they survive every swap. Plugins read them with relaxed loads.
#[repr(C)]
#[derive(Debug, Default)]
pub struct LbStats {
    pub in_flight: AtomicU32,
    pub consecutive_errors: AtomicU32,
    pub ewma_latency_ns: AtomicU64,
    pub ewma_at_ns: AtomicU64,
    pub report_at_ns: AtomicU64,
    pub utilization: AtomicU64,
    pub qps: AtomicU64,
    pub eps: AtomicU64,
    pub metric: [AtomicU64; 4],
}

/// Eight words for each backend, for a strategy's own numbers. The host sets them to 0 first.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct LbSlot {
    pub word: [AtomicU64; 8],
}

#[repr(C)]
pub struct LbBackend {
    pub id: u64,
    pub name: LbStr,
    pub addr: LbStr,
    pub weight: u32,
    pub effective: u32,
    pub flags: u32,
    pub reserved: u32,
    pub stats: *const LbStats,
    pub slot: *const LbSlot,
    pub labels_json: LbStr,
}

#[repr(C)]
pub struct LbBackends {
    pub size: u32,
    pub len: u32,
    pub stride: u32,
    pub reserved: u32,
    pub base: *const c_void,
    pub epoch: u64,
    pub members_epoch: u64,
    pub eligible: *const u32,
    pub n_eligible: u32,
    pub reserved_1: u32,
}

pub type LbHeaderFn = unsafe extern "C" fn(request: *const LbRequest, name: LbStr, nth: u32, out: *mut LbStr) -> i32;

pub type LbPartFn = unsafe extern "C" fn(request: *const LbRequest, which: u32, out: *mut LbStr) -> i32;

#[repr(C)]
pub struct LbRequest {
    pub flags: u32,
    pub worker: u32,
    pub attempt: u32,
    pub n_tried: u32,
    pub tried: *const u32,
    pub key: LbStr,
    pub hash: u64,
    pub rand: u64,
    pub now_ns: u64,
    pub header: Option<LbHeaderFn>,
    pub part: Option<LbPartFn>,
    pub body_length: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct LbPick {
    pub index: u32,
    pub reserved: u32,
    pub token: u64,
    pub n_probes: u32,
    pub probe: [u32; LB_PROBES_MAX],
    pub reserved_1: u32,
}

#[repr(C)]
pub struct LbFinish {
    pub size: u32,
    pub worker: u32,
    pub backend_id: u64,
    pub slot: *const LbSlot,
    pub outcome: u32,
    pub http_status: u32,
    pub attempt: u32,
    pub flags: u32,
    pub token: u64,
    pub ttfb_ns: u64,
    pub total_ns: u64,
    pub now_ns: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub first_body_ns: u64,
    pub response_headers: *const LbStr,
    pub n_response_headers: u32,
    pub reserved: u32,
}

#[repr(C)]
pub struct LbStart {
    pub size: u32,
    pub worker: u32,
    pub backend_id: u64,
    pub slot: *const LbSlot,
    pub attempt: u32,
    pub flags: u32,
    pub token: u64,
    pub body_length: u64,
    pub now_ns: u64,
}

#[repr(C)]
pub struct LbProbe {
    pub size: u32,
    pub worker: u32,
    pub backend_id: u64,
    pub slot: *const LbSlot,
    pub outcome: u32,
    pub http_status: u32,
    pub latency_ns: u64,
    pub now_ns: u64,
    pub body: LbStr,
    pub response_headers: *const LbStr,
    pub n_response_headers: u32,
    pub reserved: u32,
}

pub type StrategyNew = unsafe extern "C" fn(*const LbHost, LbStr, *mut LbSink, *mut *mut LbStrategy) -> LbStatus;
pub type StrategyFree = unsafe extern "C" fn(*mut LbStrategy);
pub type PickerNew =
    unsafe extern "C" fn(*mut LbStrategy, *const LbBackends, *mut LbSink, *mut *mut LbPicker) -> LbStatus;
pub type PickerFree = unsafe extern "C" fn(*mut LbPicker);
pub type PickFn = unsafe extern "C" fn(
    *mut LbStrategy,
    *const LbPicker,
    *const LbBackends,
    *const LbRequest,
    *mut LbPick,
) -> LbStatus;
pub type OnFinish = unsafe extern "C" fn(*mut LbStrategy, *const LbFinish);
pub type StateExport = unsafe extern "C" fn(*mut LbStrategy, *mut LbSink) -> LbStatus;
pub type StateImport = unsafe extern "C" fn(*mut LbStrategy, u32, LbStr, *mut LbSink) -> LbStatus;
pub type TickFn = unsafe extern "C" fn(*mut LbStrategy, u64) -> LbStatus;
pub type Explain = unsafe extern "C" fn(
    *mut LbStrategy,
    *const LbPicker,
    *const LbBackends,
    *const LbRequest,
    *mut LbSink,
) -> LbStatus;

pub type OnStart = unsafe extern "C" fn(*mut LbStrategy, *const LbStart);
pub type OnProbe = unsafe extern "C" fn(*mut LbStrategy, *const LbProbe);
pub type MetricsFn = unsafe extern "C" fn(*mut LbStrategy, *mut LbSink) -> LbStatus;

/// The table that a plugin's entry returns: `static const` in the plugin, valid as long as the image is mapped.
#[repr(C)]
#[derive(Clone)]
pub struct LbStrategyTable {
    pub size: u32,
    pub abi_major: u16,
    pub abi_minor: u16,
    pub min_host_minor: u32,
    pub flags: u32,
    pub name: LbStr,
    pub version: LbStr,
    pub build: LbStr,
    pub state_schema: LbStr,
    pub state_version: u32,
    pub tick_ms: u32,
    pub expectation: LbStr,
    pub strategy_new: Option<StrategyNew>,
    pub strategy_free: Option<StrategyFree>,
    pub picker_new: Option<PickerNew>,
    pub picker_free: Option<PickerFree>,
    pub pick: Option<PickFn>,
    pub on_finish: Option<OnFinish>,
    pub state_export: Option<StateExport>,
    pub state_import: Option<StateImport>,
    pub tick: Option<TickFn>,
    pub explain: Option<Explain>,
    pub on_start: Option<OnStart>,
    pub metrics: Option<MetricsFn>,
    pub response_headers: *const LbStr,
    pub n_response_headers: u32,
    pub body_bytes: u32,
    pub on_probe: Option<OnProbe>,
    pub probe_ms: u32,
    pub reserved: u32,
}

/// The smallest table of this major version, in bytes: it ends after `pick`.
pub const TABLE_REQUIRED_SIZE: usize = std::mem::offset_of!(LbStrategyTable, pick) + size_of::<usize>();

pub type EntryFn = unsafe extern "C" fn(*const LbHost) -> *const LbStrategyTable;

#[cfg(target_pointer_width = "64")]
const _: () = {
    use std::mem::{align_of, offset_of};
    assert!(size_of::<LbStr>() == 16);
    assert!(size_of::<LbHost>() == 48);
    assert!(size_of::<LbStats>() == 88);
    assert!(size_of::<LbSlot>() == 64 && align_of::<LbSlot>() == 64);
    assert!(size_of::<LbBackend>() == 88);
    assert!(size_of::<LbBackends>() == 56);
    assert!(size_of::<LbRequest>() == 88 && offset_of!(LbRequest, header) == 64);
    assert!(size_of::<LbPick>() == 40);
    assert!(size_of::<LbProbe>() == 80);
    assert!(size_of::<LbFinish>() == 112);
    assert!(size_of::<LbStart>() == 56);
    assert!(offset_of!(LbStrategyTable, pick) == 136);
    assert!(size_of::<LbStrategyTable>() == 232);
};

// === impl LbStr ===

impl LbStr {
    pub const EMPTY: Self = Self { ptr: std::ptr::null(), len: 0 };

    /// Borrows `bytes` without a lifetime: the caller must keep them alive during the call.
    pub const fn new(bytes: &[u8]) -> Self {
        Self { ptr: bytes.as_ptr(), len: bytes.len() }
    }
}

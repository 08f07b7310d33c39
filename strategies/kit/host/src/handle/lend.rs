//! A request as the contract's struct, and the callbacks by which a strategy looks up more of it.
//!
//! Invariant: the struct and its private data live on the stack of the call, and nothing is copied or allocated.

use lb_strategy::Part;
use lb_strategy::abi::*;

use crate::request::{Lookup, PickRequest};

/// The contract's request, followed by the host's private data. The callbacks get the same pointer and so find
/// both.
#[repr(C)]
pub(super) struct Lent<'a> {
    public: LbRequest,
    lookup: &'a dyn Lookup,
}

/// Lends `request` for one call.
#[inline]
pub(super) fn lend<'a>(request: &PickRequest<'a>) -> Lent<'a> {
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
            part: Some(part),
            body_length: request.body_length.unwrap_or(u64::MAX),
        },
        lookup: request.lookup,
    }
}

/// The same, for an instance that is a shadow.
#[inline]
pub(super) fn lend_to_shadow<'a>(request: &PickRequest<'a>) -> Lent<'a> {
    let mut lent = lend(request);
    lent.public.flags |= LB_REQ_SHADOW;
    lent
}

unsafe extern "C" fn header(request: *const LbRequest, name: LbStr, nth: u32, out: *mut LbStr) -> i32 {
    if name.ptr.is_null() || out.is_null() {
        return 0;
    }
    // SAFETY: by the contract, `request` is the lent pointer, which points to a `Lent`. The name is valid during the
    // call.
    let (lent, name) = unsafe { (&*request.cast::<Lent<'_>>(), std::slice::from_raw_parts(name.ptr, name.len)) };
    match lent.lookup.header(name, nth as usize) {
        Some(value) => {
            // SAFETY: `out` points to space for one string.
            unsafe { *out = LbStr::new(value) };
            1
        }
        None => 0,
    }
}

unsafe extern "C" fn part(request: *const LbRequest, which: u32, out: *mut LbStr) -> i32 {
    let Some(which) = Part::of(which) else { return 0 };
    if out.is_null() {
        return 0;
    }
    // SAFETY: by the contract, `request` is the lent pointer, which points to a `Lent`.
    match unsafe { &*request.cast::<Lent<'_>>() }.lookup.part(which) {
        Some(value) => {
            // SAFETY: `out` points to space for one string.
            unsafe { *out = LbStr::new(value) };
            1
        }
        None => 0,
    }
}

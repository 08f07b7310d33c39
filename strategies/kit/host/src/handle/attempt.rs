//! The begin and the end of an attempt, and the end of a probe, told to the strategy.

use lb_strategy::abi::*;

use super::Picker;
use crate::inside::{Hook, enter};
use crate::request::{Answered, Finish, Probe, Start};

impl Picker {
    /// Reports the end of an attempt to the strategy. Call it only if [`Wants::finish`](crate::Wants).
    pub fn finish(&self, finish: &Finish) {
        self.finish_with(finish, &Answered::default());
    }

    /// The same, with what the attempt's response was.
    pub fn finish_with(&self, finish: &Finish, answered: &Answered<'_>) {
        let Some(hook) = self.strategy.plugin.table().on_finish else { return };
        let values = values(answered.headers);
        let raw = LbFinish {
            size: size_of::<LbFinish>() as u32,
            worker: finish.worker.unwrap_or(LB_WORKER_ANY),
            backend_id: finish.backend_id,
            slot: self.backends.slot(finish.backend_id).map_or(std::ptr::null(), std::ptr::from_ref),
            outcome: finish.outcome.number(),
            http_status: finish.http_status.map_or(0, u32::from),
            attempt: finish.attempt,
            flags: (if finish.own { LB_FIN_OWN } else { 0 }) | (if finish.upgraded { LB_FIN_UPGRADED } else { 0 }),
            token: if finish.own { finish.token } else { 0 },
            ttfb_ns: finish.time_to_head_ns,
            total_ns: finish.total_ns,
            now_ns: finish.now_ns,
            bytes_in: answered.bytes_in,
            bytes_out: answered.bytes_out,
            first_body_ns: answered.first_body_ns,
            response_headers: values.as_ptr(),
            n_response_headers: answered.headers.len().min(values.len()) as u32,
            reserved: 0,
        };
        let _call = enter(&self.strategy.tag, Hook::OnFinish);
        // SAFETY: the instance is alive, and the finish and its slot are valid during the call.
        unsafe { hook(self.strategy.raw.as_ptr(), &raw const raw) }
    }

    /// Tells the begin of an attempt to the strategy. Call it only if [`Wants::start`](crate::Wants).
    pub fn start(&self, start: &Start) {
        let Some(hook) = self.strategy.plugin.table().on_start else { return };
        let raw = LbStart {
            size: size_of::<LbStart>() as u32,
            worker: start.worker.unwrap_or(LB_WORKER_ANY),
            backend_id: start.backend_id,
            slot: self.backends.slot(start.backend_id).map_or(std::ptr::null(), std::ptr::from_ref),
            attempt: start.attempt,
            flags: if start.own { LB_FIN_OWN } else { 0 },
            token: if start.own { start.token } else { 0 },
            body_length: start.body_length.unwrap_or(u64::MAX),
            now_ns: start.now_ns,
        };
        let _call = enter(&self.strategy.tag, Hook::OnStart);
        // SAFETY: the instance is alive, and the start and its slot are valid during the call.
        unsafe { hook(self.strategy.raw.as_ptr(), &raw const raw) }
    }

    /// Reports the end of a probe to the strategy. Call it only if [`Wants::probes`](crate::Wants).
    pub fn probe(&self, probe: &Probe<'_>) {
        let Some(hook) = self.strategy.plugin.table().on_probe else { return };
        let values = values(probe.headers);
        let raw = LbProbe {
            size: size_of::<LbProbe>() as u32,
            worker: probe.worker.unwrap_or(LB_WORKER_ANY),
            backend_id: probe.backend_id,
            slot: self.backends.slot(probe.backend_id).map_or(std::ptr::null(), std::ptr::from_ref),
            outcome: probe.outcome.number(),
            http_status: probe.http_status.map_or(0, u32::from),
            latency_ns: probe.latency_ns,
            now_ns: probe.now_ns,
            body: LbStr::new(probe.body),
            response_headers: values.as_ptr(),
            n_response_headers: probe.headers.len().min(values.len()) as u32,
            reserved: 0,
        };
        let _call = enter(&self.strategy.tag, Hook::OnProbe);
        // SAFETY: the instance is alive, and the probe and its slot are valid during the call.
        unsafe { hook(self.strategy.raw.as_ptr(), &raw const raw) }
    }
}

/// The values of response headers as the contract has them.
fn values(headers: &[Option<&[u8]>]) -> [LbStr; RESPONSE_HEADERS_MAX] {
    let mut values = [LbStr::EMPTY; RESPONSE_HEADERS_MAX];
    for (value, text) in values.iter_mut().zip(headers) {
        *value = text.map_or(LbStr::EMPTY, LbStr::new);
    }
    values
}

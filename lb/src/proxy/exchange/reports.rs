//! Load reports of backends, taken from the heads and trailers of their responses.
//!
//! Invariants: a pool that does not ask for reports pays a look at one option for each response, and nothing is read. A
//! report that is refused changes nothing except a counter; a log line names its backend at most once a minute. The
//! fields stay in the response, because the client may use them too.

use super::Exchange;
use super::attempt::Attempt;
use crate::config::LoadReportPolicy;
use crate::http1::Fields;
use crate::load_report::{self, FIELD_REQUEST, LoadReport, Malformed, REQUESTED_FORM};
use crate::pool::Load;
use crate::telemetry::ReportResult;

// === impl Attempt: load reports ===

impl Attempt {
    /// Takes the report in a section of fields of its backend. The clock is read only if there is one.
    #[inline]
    pub(super) fn take_report(&self, fields: &Fields, now_ns: impl FnOnce() -> u64) {
        let current = self.slot.pool.current();
        if let Some(shared) = current.as_ref().map(|current| &current.shared)
            && let Some(policy) = shared.load_reports.as_deref()
        {
            self.read_report(&shared.name, policy, fields, now_ns);
        }
    }

    #[inline(never)]
    fn read_report(&self, pool: &str, policy: &LoadReportPolicy, fields: &Fields, now_ns: impl FnOnce() -> u64) {
        let Some(report) = load_report::of_fields(|name| fields.get(name), &policy.metrics) else { return };
        let result = match report {
            Ok(LoadReport { utilization, qps, eps, named }) => {
                self.member().backend.reported(&Load { utilization, qps, eps, named }, now_ns());
                ReportResult::Ok
            }
            Err(malformed) => {
                if self.member().backend.may_complain(now_ns()) {
                    self.log_refused(pool, malformed);
                }
                ReportResult::Malformed
            }
        };
        self.member().shard.load_report(result);
    }

    #[cold]
    fn log_refused(&self, pool: &str, reason: Malformed) {
        let backend = &*self.member().backend.id;
        tracing::warn!(
            pool,
            backend,
            %reason,
            "a load report of a backend was refused; lb_load_reports_total counts further ones"
        );
    }
}

// === impl Exchange: load reports ===

impl Exchange {
    /// Asks the backend for a report, if the pool is configured to ask. The client may have asked for another form.
    #[inline]
    pub(super) fn ask_for_report(&mut self) {
        let current = self.pool.current();
        let policy = current.as_ref().and_then(|current| current.shared.load_reports.as_ref());
        let fields = &mut self.head.fields;
        if policy.is_some_and(|policy| policy.request_header) && !fields.has(FIELD_REQUEST) {
            fields.push(FIELD_REQUEST, REQUESTED_FORM);
        }
    }
}

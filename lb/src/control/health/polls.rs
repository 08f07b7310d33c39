//! Polls of load reports: one task for each backend of a pool that polls.
//!
//! A backend reports in its responses, so one that gets no requests would have no report. Why apart from health checks:
//! a pool may need reports more often than checks, and from another path.
//!
//! Invariants: a poll changes nothing except the report and its counter. A task ends when its entry here is dropped. A
//! poll that brings no report leaves the last one as it is. It is counted, and logged at most once a minute.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};
use http_body_util::Empty;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::client::{Connection, request};
use crate::config::{LoadPoll, LoadReportPolicy};
use crate::load_report::{self, FIELD_REQUEST, LoadReport, Malformed, REQUESTED_FORM};
use crate::pool::{Backend, Load};
use crate::telemetry::{BackendGauges, ReportResult};

/// The running polls. `K` identifies a backend.
pub(in crate::control) struct Polls<K> {
    running: HashMap<K, Poll>,
}

/// What one task polls.
#[derive(Clone)]
pub(in crate::control) struct Polled {
    /// The name of its pool, for log lines.
    pub(in crate::control) pool: Arc<str>,
    pub(in crate::control) backend: Arc<Backend>,
    pub(in crate::control) policy: Arc<LoadReportPolicy>,
    pub(in crate::control) gauges: Arc<BackendGauges>,
    /// Zero of the clock that strategies see.
    pub(in crate::control) opened: Instant,
}

struct Poll {
    polled: Polled,
    task: AbortHandle,
}

/// A slower backend is polled less often.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// Why a poll brought no report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Vain {
    #[error("no response within {} s", TIME_LIMIT.as_secs())]
    TimedOut,
    #[error("no connection or no response")]
    NoResponse,
    #[error("the response, with status {}, has no field endpoint-load-metrics", .0.as_u16())]
    NoReport(StatusCode),
    #[error("{0}")]
    Malformed(Malformed),
}

// === impl Polls ===

impl<K: Eq + Hash> Polls<K> {
    pub(in crate::control) fn new() -> Self {
        Self { running: HashMap::new() }
    }

    /// Polls this backend from now on, or not any more. A poll of the same backend by the same policy goes on.
    pub(in crate::control) fn follow(&mut self, key: K, polled: Option<Polled>) {
        let Some(polled) = polled else {
            self.running.remove(&key);
            return;
        };
        if self.running.get(&key).is_some_and(|running| running.polled.is_same(&polled)) {
            return;
        }
        let task = tokio::spawn(polled.clone().run()).abort_handle();
        self.running.insert(key, Poll { polled, task });
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Polled ===

impl Polled {
    fn is_same(&self, other: &Self) -> bool {
        let is_same_place = Arc::ptr_eq(&self.backend, &other.backend) && Arc::ptr_eq(&self.gauges, &other.gauges);
        is_same_place && self.policy == other.policy
    }

    async fn run(self) {
        let Some(LoadPoll { path, every }) = &self.policy.poll else { return };
        let mut ticks = interval(*every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let polled = match timeout(TIME_LIMIT, head_of(&self.backend, path)).await {
                Ok(Some((status, head))) => self.report(status, &head),
                Ok(None) => Err(Vain::NoResponse),
                Err(_) => Err(Vain::TimedOut),
            };
            self.take(path, polled);
        }
    }

    fn report(&self, status: StatusCode, head: &HeaderMap) -> Result<LoadReport, Vain> {
        let first = |name: &[u8]| Some(head.get(std::str::from_utf8(name).ok()?)?.as_bytes());
        let report = load_report::of_fields(first, &self.policy.metrics);
        report.ok_or(Vain::NoReport(status))?.map_err(Vain::Malformed)
    }

    fn take(&self, path: &str, polled: Result<LoadReport, Vain>) {
        let now_ns = self.opened.elapsed().as_nanos() as u64;
        self.gauges.load_report(match &polled {
            Ok(_) => ReportResult::Ok,
            Err(vain) => vain.result(),
        });
        match polled {
            Ok(LoadReport { utilization, qps, eps, named }) => {
                self.backend.reported(&Load { utilization, qps, eps, named }, now_ns);
            }
            // The log has a line of the health checks about a backend that is down.
            Err(Vain::TimedOut | Vain::NoResponse) if !self.backend.is_eligible() => {}
            Err(reason) if self.backend.may_complain(now_ns) => {
                let (pool, backend) = (&*self.pool, &*self.backend.id);
                tracing::warn!(
                    pool,
                    backend,
                    path,
                    %reason,
                    "a poll brought no load report: check poll_path; lb_load_reports_total counts further ones"
                );
            }
            Err(_) => {}
        }
    }
}

// === impl Vain ===

impl Vain {
    fn result(self) -> ReportResult {
        match self {
            Self::TimedOut | Self::NoResponse => ReportResult::NoResponse,
            Self::NoReport(_) => ReportResult::NoReport,
            Self::Malformed(_) => ReportResult::Malformed,
        }
    }
}

/// The status and the fields of the response to a GET request on a connection of its own; `None` without a response.
async fn head_of(backend: &Backend, path: &str) -> Option<(StatusCode, HeaderMap)> {
    let request = request(path, &backend.address, "lb-load-poll").header(FIELD_REQUEST, REQUESTED_FORM);
    let request = request.body(Empty::new()).ok()?;
    let mut connection = Connection::open(TcpStream::connect(backend.socket).await.ok()?).await.ok()?;
    let head = connection.send(request).await.ok()?.into_parts().0;
    Some((head.status, head.headers))
}

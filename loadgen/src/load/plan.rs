//! A load as plain data: requests, target, schedule, end.
//!
//! Invariant: [`Plan::check`] runs all checks of a plan, and `start` calls it.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use thiserror::Error;

use super::arrivals::Arrivals;
use super::cost::{BadCost, Cost};
use super::keys::{BadKeys, HotKey, Keys};

/// A load. [`Plan::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct Plan {
    pub target: Target,
    pub arrivals: Arrivals,
    pub stop: Stop,
    /// Requests scheduled before this are sent, and counted apart from the measured ones. Default none.
    pub warm_up: Duration,
    /// Open loop: the most connections at the same time. If all are busy, a request waits for one. Default
    /// [`OUTSTANDING`]. A closed loop has its own number.
    pub connections: usize,
    /// Open loop: the most requests in flight or waiting for a connection. A request beyond is counted as unsent and
    /// dropped, so a run cannot run out of memory. Default [`OUTSTANDING`].
    pub outstanding: usize,
    /// Sending threads. Each has its own connections and its share of both bounds; request i is sent by thread i mod
    /// `threads`. Default 1, which is good for tens of thousands of requests per second.
    pub threads: usize,
    /// Request i uses entry i mod the number of entries. Default `GET /`.
    pub requests: Vec<Request>,
    pub keys: Keys,
    /// Times at which one key takes many requests. Default none.
    pub hot_keys: Vec<HotKey>,
    pub cost: Cost,
    /// The seed of arrivals, keys and costs. Default 1.
    pub seed: u64,
    /// The limit for one request, from when it gets a connection (connecting included) to its last byte. Default 30 s.
    pub timeout: Duration,
    /// Retry a request once, on a new connection, if a keep-alive connection was closed before any byte of its
    /// response. Only for idempotent methods without a body. Its latency includes the first attempt. Default no: it is
    /// an error of the kind `closed`.
    pub resend_closed: bool,
    /// The response header that names the backend. Default `x-server-id`, as `mock-server` sends.
    pub backend_header: String,
}

/// The target of a load.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// New connections go to these addresses in turn. At least one.
    pub addresses: Vec<SocketAddr>,
    /// The value of the header `host`.
    pub host: String,
}

/// When sending ends. Requests in flight are completed, up to their timeout, so that slow ones are counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stop {
    /// After this many measured requests. An open loop counts scheduled requests, sent or not.
    AfterRequests(u64),
    /// This long after the warm-up.
    AfterTime(Duration),
    /// On [`super::Handle::finish`].
    WhenTold,
}

/// One request as it is written, except for key and cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub method: Method,
    /// Path and query, as in the request line.
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// Why a plan cannot run.
#[derive(Debug, Error, PartialEq)]
pub enum BadPlan {
    #[error("the target has no address")]
    NoAddress,
    #[error("a rate must be above 0 and at most 1000000 requests/s, not {0}")]
    Rate(f64),
    #[error("a ramp from {from} to {to} requests/s needs a duration above 0 s")]
    Jump { from: f64, to: f64 },
    #[error("{what} must be from 1 to {max}, not {value}")]
    Range { what: &'static str, max: usize, value: usize },
    #[error("the timeout must be above 0")]
    Timeout,
    #[error("there is no request to send")]
    NoRequest,
    #[error("the path {0:?} must begin with / and hold neither spaces nor control characters")]
    Path(String),
    #[error("{0:?} is no header: write NAME: VALUE")]
    Header(String),
    #[error("the header {0} is written by the load generator itself")]
    OwnHeader(String),
    #[error(transparent)]
    Keys(#[from] BadKeys),
    #[error(transparent)]
    Cost(#[from] BadCost),
}

/// The default bound of outstanding requests in an open loop.
pub const OUTSTANDING: usize = 10_000;
/// The header that carries a key.
pub const KEY_HEADER: &str = "x-key";
const RATE_MAX: f64 = 1e6;
const CONNECTIONS_MAX: usize = 60_000;
const THREADS_MAX: usize = 256;

// === impl Plan ===

impl Plan {
    /// This load with `GET /` and all defaults.
    pub fn new(target: Target, arrivals: Arrivals, stop: Stop) -> Self {
        Self {
            target,
            arrivals,
            stop,
            warm_up: Duration::ZERO,
            connections: OUTSTANDING,
            outstanding: OUTSTANDING,
            threads: 1,
            requests: vec![Request::get("/")],
            keys: Keys::None,
            hot_keys: Vec::new(),
            cost: Cost::None,
            seed: 1,
            timeout: Duration::from_secs(30),
            resend_closed: false,
            backend_header: "x-server-id".to_owned(),
        }
    }

    /// Checks whether this plan can run.
    pub fn check(&self) -> Result<(), BadPlan> {
        if self.target.addresses.is_empty() {
            return Err(BadPlan::NoAddress);
        }
        check_arrivals(&self.arrivals)?;
        for (what, value, max) in [
            ("the number of connections", self.connections, CONNECTIONS_MAX),
            ("the bound of outstanding requests", self.outstanding, 10 * CONNECTIONS_MAX),
            ("the number of threads", self.threads, THREADS_MAX),
        ] {
            in_range(what, value, max)?;
        }
        if self.timeout.is_zero() {
            return Err(BadPlan::Timeout);
        }
        if self.requests.is_empty() {
            return Err(BadPlan::NoRequest);
        }
        self.requests.iter().try_for_each(Request::check)?;
        check_header("host", &self.target.host)?;
        check_header(&self.backend_header, "")?;
        self.keys.check()?;
        self.hot_keys.iter().try_for_each(HotKey::check)?;
        self.cost.check()?;
        Ok(())
    }
}

pub(super) fn check_arrivals(arrivals: &Arrivals) -> Result<(), BadPlan> {
    let rate = |rps: f64| if rps > 0.0 && rps <= RATE_MAX { Ok(()) } else { Err(BadPlan::Rate(rps)) };
    match *arrivals {
        Arrivals::Poisson { rps } | Arrivals::Constant { rps } => rate(rps),
        Arrivals::Ramp { from, to, over } => {
            rate(from)?;
            rate(to)?;
            if over.is_zero() { Err(BadPlan::Jump { from, to }) } else { Ok(()) }
        }
        Arrivals::Closed { connections } => in_range("the number of connections", connections, CONNECTIONS_MAX),
    }
}

fn in_range(what: &'static str, value: usize, max: usize) -> Result<(), BadPlan> {
    if (1..=max).contains(&value) { Ok(()) } else { Err(BadPlan::Range { what, max, value }) }
}

fn check_header(name: &str, value: &str) -> Result<(), BadPlan> {
    if HeaderName::try_from(name).is_err() || HeaderValue::try_from(value).is_err() {
        return Err(BadPlan::Header(format!("{name}: {value}")));
    }
    Ok(())
}

// === impl Request ===

impl Request {
    pub fn get(path: &str) -> Self {
        Self { method: Method::GET, path: path.to_owned(), headers: Vec::new(), body: Vec::new() }
    }

    fn check(&self) -> Result<(), BadPlan> {
        let is_path = self.path.starts_with('/') || self.path == "*";
        if !is_path || self.path.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err(BadPlan::Path(self.path.clone()));
        }
        for (name, value) in &self.headers {
            check_header(name, value)?;
            // Another length or coding than that of the body would make the next request part of this one.
            if ["content-length", "transfer-encoding"].iter().any(|own| name.eq_ignore_ascii_case(own)) {
                return Err(BadPlan::OwnHeader(name.clone()));
            }
        }
        Ok(())
    }

    /// Whether two sends do no harm (RFC 9110, section 9.2.2). A request with a body is never repeated.
    pub(super) fn is_repeatable(&self) -> bool {
        self.body.is_empty() && self.method.is_idempotent()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(change: impl FnOnce(&mut Plan)) -> Plan {
        let target = Target { addresses: vec!["127.0.0.1:1".parse().unwrap()], host: "here".to_owned() };
        let mut plan = Plan::new(target, Arrivals::Constant { rps: 1.0 }, Stop::AfterRequests(1));
        change(&mut plan);
        plan
    }

    #[test]
    fn the_defaults_are_sound() {
        assert_eq!(plan(|_| {}).check(), Ok(()));
    }

    #[test]
    fn a_plan_that_cannot_run_is_refused_with_its_reason() {
        let over = Duration::ZERO;
        let header = |name: &str, value: &str| Request {
            headers: vec![(name.to_owned(), value.to_owned())],
            ..Request::get("/")
        };
        let cases: Vec<(Plan, &str)> = vec![
            (plan(|plan| plan.target.addresses.clear()), "address"),
            (plan(|plan| plan.arrivals = Arrivals::Poisson { rps: 0.0 }), "rate"),
            (plan(|plan| plan.arrivals = Arrivals::Constant { rps: f64::NAN }), "rate"),
            (plan(|plan| plan.arrivals = Arrivals::Ramp { from: 1.0, to: 2.0, over }), "duration"),
            (plan(|plan| plan.arrivals = Arrivals::Closed { connections: 0 }), "connections"),
            (plan(|plan| plan.outstanding = 0), "outstanding"),
            (plan(|plan| plan.threads = 1000), "threads"),
            (plan(|plan| plan.timeout = Duration::ZERO), "timeout"),
            (plan(|plan| plan.requests.clear()), "request"),
            (plan(|plan| plan.requests = vec![Request::get("home")]), "path"),
            (plan(|plan| plan.requests = vec![Request::get("/a b")]), "path"),
            (plan(|plan| plan.requests = vec![header("a b", "1")]), "header"),
            (plan(|plan| plan.requests = vec![header("a", "1\r\nb: 2")]), "header"),
            (plan(|plan| plan.requests = vec![header("Content-Length", "3")]), "itself"),
            (plan(|plan| plan.target.host = "a\nb".to_owned()), "header"),
            (plan(|plan| plan.keys = Keys::Hot { share: 2.0 }), "share"),
            (
                plan(|plan| plan.hot_keys = vec![HotKey { from: Duration::ZERO, until: Duration::MAX, share: -0.1 }]),
                "share",
            ),
            (plan(|plan| plan.cost = Cost::Constant { time: Duration::from_secs(4000) }), "hour"),
        ];
        for (plan, word) in cases {
            let error = plan.check().unwrap_err().to_string();
            assert!(error.contains(word), "{error:?} should speak of {word}");
        }
    }
}

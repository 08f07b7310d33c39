//! The options of a server, as plain data.
//!
//! They are separate from the command line, because tests and other crates start servers in-process, without flags.
//! [`Options::check`] is the one place that checks them, for every caller.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use thiserror::Error;

use crate::endpoint::Endpoint;
use crate::load::ReportForm;
use crate::service_time::ServiceTime;

/// How a server starts. `Options::default()` is a fast, unbounded server on any free port.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address to listen on. Default 127.0.0.1.
    pub host: IpAddr,
    /// The port to listen on. Default 0: any free port; [`crate::Running::addr`] has it.
    pub port: u16,
    /// The id in `/home` and in `x-server-id`: 1 to 64 bytes of `[A-Za-z0-9 ._:-]`. Default "1".
    pub id: String,
    /// Another id for `/home` alone, of the same characters. Default `None`: the id of `x-server-id`.
    pub home_id: Option<String>,
    /// The law of the service time. Default none.
    pub service_time: ServiceTime,
    /// The number of requests in service at the same time. Default 0: no bound, and so no queue.
    pub concurrency: usize,
    /// The number of requests that may wait when all workers are busy; a further one gets a 503. Default 1024.
    pub queue: usize,
    /// The share of requests that fail with a 500, from 0 to 1. Default 0.
    pub failure_rate: f64,
    /// The seed of service times and failures. Default `None`: a new seed, shown in the stats.
    pub seed: Option<u64>,
    /// A connection is closed without notice after this many responses. Default 0: never.
    pub keep_alive_requests: u64,
    /// The time for requests in progress to finish at a graceful end. Default 5 s.
    pub grace: Duration,
    /// Each response to work or to a probe has a load report of this form. Default `None`: no report.
    pub load_report: Option<ReportForm>,
    /// Chunked responses have their report in the trailers, in place of the head. Default false.
    pub load_report_trailer: bool,
    /// The path of probes, which get the load as JSON. Default `None`: no probes.
    pub probe_path: Option<String>,
}

/// Why options cannot be used.
#[derive(Debug, Error, PartialEq)]
pub enum BadOption {
    #[error("the id {0:?} is not 1 to 64 of the characters A-Z a-z 0-9 space . _ : -")]
    Id(String),
    #[error("the failure rate {0} is not between 0 and 1")]
    FailureRate(f64),
    #[error("a concurrency of {0} is more than {CONCURRENCY_MAX}; 0 means no bound")]
    Concurrency(usize),
    #[error("the probe path {0:?} must begin with / and be no other path of this server, such as /probe")]
    ProbePath(String),
}

/// A larger bound has the same effect as no bound.
const CONCURRENCY_MAX: usize = 1_000_000;

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 0,
            id: "1".to_owned(),
            home_id: None,
            service_time: ServiceTime::None,
            concurrency: 0,
            queue: 1024,
            failure_rate: 0.0,
            seed: None,
            keep_alive_requests: 0,
            grace: Duration::from_secs(5),
            load_report: None,
            load_report_trailer: false,
            probe_path: None,
        }
    }
}

impl Options {
    /// Whether a server can start with these options.
    pub fn check(&self) -> Result<(), BadOption> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b" ._:-".contains(&byte);
        for id in [&self.id].into_iter().chain(&self.home_id) {
            if !(1..=64).contains(&id.len()) || !id.bytes().all(allowed) {
                return Err(BadOption::Id(id.clone()));
            }
        }
        if !(0.0..=1.0).contains(&self.failure_rate) {
            return Err(BadOption::FailureRate(self.failure_rate));
        }
        if self.concurrency > CONCURRENCY_MAX {
            return Err(BadOption::Concurrency(self.concurrency));
        }
        if let Some(path) = &self.probe_path {
            let is_path = path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'?');
            if !is_path || Endpoint::of(path, None) != Endpoint::Other {
                return Err(BadOption::ProbePath(path.clone()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_usable() {
        assert_eq!(Options::default().check(), Ok(()));
    }

    #[test]
    fn an_id_that_is_not_valid_in_a_header_or_in_json_is_refused() {
        for id in ["", "a\nb", "é", "\"", &"x".repeat(65)] {
            let options = Options { id: id.to_owned(), ..Options::default() };
            assert_eq!(options.check(), Err(BadOption::Id(id.to_owned())));
            let options = Options { home_id: Some(id.to_owned()), ..Options::default() };
            assert_eq!(options.check(), Err(BadOption::Id(id.to_owned())));
        }
        let longest = Options { id: "Server 1._:-".repeat(5), ..Options::default() };
        assert_eq!(longest.check(), Ok(()));
    }

    #[test]
    fn a_failure_rate_outside_0_to_1_is_refused() {
        for rate in [-0.1, 1.1, f64::INFINITY] {
            let options = Options { failure_rate: rate, ..Options::default() };
            assert_eq!(options.check(), Err(BadOption::FailureRate(rate)));
        }
        assert!(Options { failure_rate: f64::NAN, ..Options::default() }.check().is_err());
    }

    #[test]
    fn a_probe_path_that_is_no_path_or_belongs_to_another_route_is_refused() {
        for path in ["", "probe", "/a b", "/probe?x", "/é", "/home", "/heartbeat", "/status/200"] {
            let options = Options { probe_path: Some(path.to_owned()), ..Options::default() };
            assert_eq!(options.check(), Err(BadOption::ProbePath(path.to_owned())));
        }
        let options = Options { probe_path: Some("/probe".to_owned()), ..Options::default() };
        assert_eq!(options.check(), Ok(()));
    }
}

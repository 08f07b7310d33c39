//! The command line of `mock-server`.
//!
//! Why apart from [`mock_server::Options`]: flags, environment and help are for people; the library's options are for code. Every
//! field is handed over by name, so that a new one cannot be forgotten.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use mock_server::{Options, ServiceTime, parse_duration};

/// A backend to experiment on: known service times, a real queue, faults on demand.
///
/// Answers /home and /heartbeat as in the course, /upload, /echo (Upgrade: echo),
/// /stream?bytes=&chunk=&interval_ms=&length=&abort_after=, /status/CODE, /headers, /close;
/// tells what it did on /stats (JSON) and /metrics (Prometheus); takes switches on /control
/// while it runs, for example
///
///   curl -d '{"slow":3}' localhost:5000/control         three times as slow
///   curl -d '{"extra_ms":50}' localhost:5000/control    50 ms more for each request
///   curl -d '{"stall":true}' localhost:5000/control     answers nothing until false
#[derive(Debug, Parser)]
#[command(name = "mock-server", version, verbatim_doc_comment)]
pub(crate) struct Cli {
    /// Port to listen on; 0 takes any free one, told on stdout as "listening on HOST:PORT"
    #[arg(long, env = "MOCK_SERVER_PORT", default_value_t = 5000)]
    port: u16,

    /// Address to listen on; 0.0.0.0 is reachable from other machines
    #[arg(long, env = "MOCK_SERVER_HOST", default_value = "127.0.0.1")]
    host: IpAddr,

    /// Id of this server, in /home and in the header x-server-id of every answer
    #[arg(long, env = "SERVER_ID", default_value = "1")]
    id: String,

    /// Id in /home, where it is not that of x-server-id
    #[arg(long, env = "MOCK_SERVER_HOME_ID", value_name = "ID")]
    home_id: Option<String>,

    /// How long a request keeps a worker busy: 0, constant:5ms, exponential:10ms (mean) or lognormal:10ms,0.5 (median, sigma).
    /// A request may set its own by the header x-service-time-us
    #[arg(long, env = "MOCK_SERVER_SERVICE_TIME", default_value = "0", value_name = "LAW")]
    service_time: ServiceTime,

    /// Workers: requests in service at the same time, the others wait in one queue; 0 = no bound. Policies differ only where
    /// requests have to wait, so bound it for experiments
    #[arg(long, env = "MOCK_SERVER_CONCURRENCY", default_value_t = 0, value_name = "N")]
    concurrency: usize,

    /// Requests that may wait when all workers are busy; one more gets a 503
    #[arg(long, env = "MOCK_SERVER_QUEUE", default_value_t = 1024, value_name = "N")]
    queue: usize,

    /// Part of the requests that fail with a 500, from 0 to 1
    #[arg(long, env = "MOCK_SERVER_FAILURE_RATE", default_value_t = 0.0, value_name = "P")]
    failure_rate: f64,

    /// Seed of service times and failures; without it a fresh one, printed at the start, to repeat a run with
    #[arg(long, env = "MOCK_SERVER_SEED", value_name = "N")]
    seed: Option<u64>,

    /// Close each connection after N answers, unannounced, as an idle timeout does; 0 = never. For tests of a proxy that reuses
    /// connections
    #[arg(long, env = "MOCK_SERVER_KEEP_ALIVE_REQUESTS", default_value_t = 0, value_name = "N")]
    keep_alive_requests: u64,

    /// How long requests in progress may take to finish after SIGTERM
    #[arg(long, env = "MOCK_SERVER_GRACE", default_value = "5s", value_parser = parse_duration, value_name = "TIME")]
    grace: Duration,

    /// End when stdin ends: hold the other end of the pipe and no server outlives its parent
    #[arg(long, env = "MOCK_SERVER_EXIT_WITH_PARENT")]
    pub(crate) exit_with_parent: bool,

    /// Write HOST:PORT to this file when connections are taken
    #[arg(long, env = "MOCK_SERVER_READY_FILE", value_name = "PATH")]
    pub(crate) ready_file: Option<PathBuf>,
}

// === impl Cli ===

impl Cli {
    pub(crate) fn options(&self) -> Options {
        let Self {
            port,
            host,
            id,
            home_id,
            service_time,
            concurrency,
            queue,
            failure_rate,
            seed,
            keep_alive_requests,
            grace,
            exit_with_parent: _,
            ready_file: _,
        } = self;
        Options {
            host: *host,
            port: *port,
            id: id.clone(),
            home_id: home_id.clone(),
            service_time: *service_time,
            concurrency: *concurrency,
            queue: *queue,
            failure_rate: *failure_rate,
            seed: *seed,
            keep_alive_requests: *keep_alive_requests,
            grace: *grace,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_reaches_the_options() {
        let line = "mock-server --port 0 --host 0.0.0.0 --id s7 --home-id 7 --service-time lognormal:10ms,0.5 --concurrency 4 --queue 9 \
                    --failure-rate 0.25 --seed 3 --keep-alive-requests 5 --grace 100ms";
        let options = Cli::parse_from(line.split_whitespace()).options();
        let expected = Options {
            host: "0.0.0.0".parse().unwrap(),
            port: 0,
            id: "s7".to_owned(),
            home_id: Some("7".to_owned()),
            service_time: "lognormal:10ms,0.5".parse().unwrap(),
            concurrency: 4,
            queue: 9,
            failure_rate: 0.25,
            seed: Some(3),
            keep_alive_requests: 5,
            grace: Duration::from_millis(100),
        };
        assert_eq!(format!("{options:?}"), format!("{expected:?}"));
    }
}

//! The command line of `mock-server`.
//!
//! It is separate from [`mock_server::Options`], because flags, environment and help are for people, and the library's
//! options are for code. Fields are copied by name, so the compiler finds a forgotten one.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueHint};
use lb_manual::{CompletionsArgs, ManArgs};
use mock_server::{Options, ReportForm, ServiceTime, parse_duration};

const ROUTES: &str = "\
Routes:
  /home, /heartbeat               as in the course
  /upload                         reads a body and returns its length
  /stream?bytes=&chunk=&interval_ms=&length=&abort_after=
                                  sends a long, slow or broken body
  /echo                           with Upgrade: echo, returns every byte
  /status/CODE, /headers, /close  this status; the request's headers; connection: close
  /stats, /metrics                counts, as JSON and for Prometheus
  /control                        the switches of the running server

Switches:
  curl -d '{\"slow\":3}' localhost:5000/control            three times as slow
  curl -d '{\"extra_ms\":50}' localhost:5000/control       50 ms more for each request
  curl -d '{\"failure_rate\":0.1}' localhost:5000/control  one request in ten fails with a 500
  curl -d '{\"stall\":true}' localhost:5000/control        no response until false

Exit codes: 0 stopped by a signal or the end of stdin; 2 cannot start (usage, port in use); 1 any other failure.";

/// A backend for experiments: known service times, a real queue, faults on demand
#[derive(Debug, Parser)]
#[command(name = "mock-server", version = env!("BUILD_VERSION"), after_help = ROUTES)]
pub(crate) struct Cli {
    /// Port to listen on; 0 means any free port. stdout gets the line "listening on HOST:PORT"
    #[arg(long, env = "MOCK_SERVER_PORT", default_value_t = 5000)]
    port: u16,

    /// Address to listen on; 0.0.0.0 is reachable from other machines
    #[arg(long, env = "MOCK_SERVER_HOST", default_value = "127.0.0.1")]
    host: IpAddr,

    /// Id of this server, in /home and in the header x-server-id of every response
    #[arg(long, env = "SERVER_ID", default_value = "1")]
    id: String,

    /// Another id for /home; without it, /home has the id of x-server-id
    #[arg(long, env = "MOCK_SERVER_HOME_ID", value_name = "ID")]
    home_id: Option<String>,

    /// The time for which a request keeps a worker busy: 0, constant:5ms, exponential:10ms (mean) or lognormal:10ms,0.5
    /// (median, sigma). A request may set its own with the header x-service-time-us
    #[arg(long, env = "MOCK_SERVER_SERVICE_TIME", default_value = "0", value_name = "LAW")]
    service_time: ServiceTime,

    /// Workers: the number of requests in service at the same time; further ones wait in one queue; 0 means no bound.
    /// Set a bound for experiments: policies differ only if requests wait
    #[arg(long, env = "MOCK_SERVER_CONCURRENCY", default_value_t = 0, value_name = "N")]
    concurrency: usize,

    /// The number of requests that may wait when all workers are busy; a further one gets a 503
    #[arg(long, env = "MOCK_SERVER_QUEUE", default_value_t = 1024, value_name = "N")]
    queue: usize,

    /// The share of requests that fail with a 500, from 0 to 1
    #[arg(long, env = "MOCK_SERVER_FAILURE_RATE", default_value_t = 0.0, value_name = "P")]
    failure_rate: f64,

    /// Seed of service times and failures. Without it, a new seed is drawn and printed at the start, so that a run can
    /// be repeated
    #[arg(long, env = "MOCK_SERVER_SEED", value_name = "N")]
    seed: Option<u64>,

    /// Close each connection after N responses, without notice, like an idle time-out; 0 means never. For tests of
    /// proxies that reuse connections
    #[arg(long, env = "MOCK_SERVER_KEEP_ALIVE_REQUESTS", default_value_t = 0, value_name = "N")]
    keep_alive_requests: u64,

    /// The time for requests in progress to finish at the end (SIGTERM, SIGINT or the end of stdin)
    #[arg(long, env = "MOCK_SERVER_GRACE", default_value = "5s", value_parser = parse_duration, value_name = "TIME")]
    grace: Duration,

    /// Send a load report in the header endpoint-load-metrics of every response to work and to probes: text, json or
    /// bin. It has the share of busy workers (waiting requests included), requests and errors a second, and the metrics
    /// in_flight and queued. Without --concurrency, 100 requests count as full
    #[arg(long, env = "MOCK_SERVER_LOAD_REPORT", value_name = "FORM")]
    load_report: Option<ReportForm>,

    /// Send the report of a chunked response as a trailer, in place of the header. Only clients that send the header
    /// "te: trailers" get trailers
    #[arg(long, env = "MOCK_SERVER_LOAD_REPORT_TRAILER", requires = "load_report")]
    load_report_trailer: bool,

    /// Answer probes at this path, such as /probe, at once: the load as JSON, and the headers x-in-flight (requests in
    /// service and waiting) and x-latency-ms. A probe is not counted as a request
    #[arg(long, env = "MOCK_SERVER_PROBE_PATH", value_name = "PATH")]
    probe_path: Option<String>,

    /// Stop when stdin ends. If the parent holds the other end of the pipe, the server ends with it
    #[arg(long, env = "MOCK_SERVER_EXIT_WITH_PARENT")]
    pub(crate) exit_with_parent: bool,

    /// Write HOST:PORT to this file when the server accepts connections
    #[arg(long, env = "MOCK_SERVER_READY_FILE", value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(crate) ready_file: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What it does in place of serving.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print the script with which a shell completes the command line of mock-server
    Completions(CompletionsArgs),
    /// Print the man page, or write the pages of all commands into a folder
    Man(ManArgs),
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
            load_report,
            load_report_trailer,
            probe_path,
            exit_with_parent: _,
            ready_file: _,
            command: _,
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
            load_report: *load_report,
            load_report_trailer: *load_report_trailer,
            probe_path: probe_path.clone(),
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
                    --failure-rate 0.25 --seed 3 --keep-alive-requests 5 --grace 100ms --load-report bin --load-report-trailer \
                    --probe-path /probe";
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
            load_report: Some(ReportForm::Binary),
            load_report_trailer: true,
            probe_path: Some("/probe".to_owned()),
        };
        assert_eq!(format!("{options:?}"), format!("{expected:?}"));
    }
}

//! `mock-server`: a backend for experiments.
//!
//! A balancer can only be studied in front of servers with known behaviour. This server has the course's routes `/home`
//! and `/heartbeat`. Like a real server, it has a service time with a law, and a bounded number of workers with a real
//! queue. Without a queue, every policy looks the same. It can fail, and switches make it slow or silent while it runs.
//! `/stats` has exact counts, so a run can be reconciled with the balancer's own numbers.
//!
//! ```no_run
//! use mock_server::{MockServer, Options};
//!
//! # async fn example() -> Result<(), mock_server::StartError> {
//! let server = MockServer::start(Options { id: "1".into(), ..Options::default() })?; // port 0: any free one
//! let url = format!("http://{}/home", server.addr);
//! // … send requests to `url` from any runtime …
//! assert_eq!(server.stats().requests, 0);
//! server.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! | path | response |
//! |---|---|
//! | `/home` | as in the course |
//! | `/heartbeat` | as in the course; it never queues, takes no service time and is not counted as a request |
//! | `/upload` | reads any body, with any method: `{"bytes":N}` |
//! | `/stream?bytes=&chunk=&interval_ms=&length=1&abort_after=` | a body of known bytes, paced or cut off |
//! | `/echo` with `Upgrade: echo` | 101, then every byte comes back until the client closes |
//! | `/status/CODE`, `/headers`, `/close` | this code; the request's headers as JSON; `connection: close` |
//! | `/stats`, `/metrics` | [`Stats`] as JSON; the same for Prometheus |
//! | `GET /control`, `POST /control` | [`State`]; applies a [`Change`], such as `{"slow":3.0}` or `{"stall":true}` |
//! | [`Options::probe_path`] | the load as JSON, at once; not counted as a request |
//!
//! With [`Options::load_report`] each response to work has the server's load in the form of ORCA.
//!
//! A request may set its own service time: `x-service-time-us: 1500`. [`Options::concurrency`] bounds the workers. If
//! all are busy, a request waits in one queue. If the queue is full, it gets a 503 (`x-mock-error: queue_full`).
//!
//! Invariants:
//! - One server is one thread with its own single-threaded runtime. The same seed, and requests in the same order, give
//!   the same service times and failures.
//! - At rest, `requests = served + failures + rejected + refused + abandoned + in_progress` (see [`Stats`]).
//! - Every response has `x-server-id`, except hyper's own 400, 414 and 431 to malformed requests.
//!
//! Linux only: the timer is a `timerfd`.

#![forbid(unsafe_code)]

mod answer;
mod connection;
mod control;
mod counters;
mod echo;
mod endpoint;
mod error_histogram;
mod gate;
mod load;
mod options;
mod report;
mod server;
mod service_time;
mod shared;
mod stats;
mod stream;
mod switches;
mod timer;
mod work;

pub use load::{BadReportForm, ReportForm};
pub use options::{BadOption, Options};
pub use server::{MockServer, Running, StartError};
pub use service_time::{BadServiceTime, ServiceTime, parse_duration};
pub use stats::{ServiceTimeError, Stats};
pub use switches::{BadChange, Change, State};

//! `mock-server`: the backend that one experiments on.
//!
//! A balancer can only be studied in front of servers whose behaviour is known. This one answers the course's `/home` and
//! `/heartbeat`, and has what real servers have and plain mocks lack: a service time with a law, a bounded number of workers with
//! a real queue in front (without one every policy looks the same), failures, and switches to make it slow or silent while it
//! runs. What it did it can say exactly (`/stats`), so that a run can be reconciled with the balancer's own numbers.
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
//! | path | answer |
//! |---|---|
//! | `/home`, `/heartbeat` | as in the course; a heartbeat never queues, costs no service time and is no request |
//! | `/upload` | reads any body, any method: `{"bytes":N}` |
//! | `/stream?bytes=&chunk=&interval_ms=&length=1&abort_after=` | so many bytes, byte o being letter o mod 26; cut off after `abort_after` |
//! | `/echo` with `Upgrade: echo` | 101, then every byte comes back until the client's end |
//! | `/status/CODE`, `/headers`, `/close` | that code; the request's headers as JSON; an announced `connection: close` |
//! | `/stats`, `/metrics` | [`Stats`] as JSON; the same for Prometheus |
//! | `GET /control`, `POST /control` | [`State`]; a [`Change`] of it, as `{"slow":3.0}` or `{"stall":true}` |
//!
//! A request may name its own service time: `x-service-time-us: 1500`. Workers are bounded by [`Options::concurrency`]; who finds
//! them busy waits in one queue, and gets a 503 (`x-mock-error: queue_full`) when that is full too.
//!
//! Invariants:
//! - One server is one thread with its own single-threaded runtime: requests are taken in the order of their arrival, and the
//!   same seed and arrivals give the same service times and failures.
//! - `requests = served + failures + rejected + refused + abandoned + in_progress`, always (see [`Stats`]).
//! - Every answer made here carries `x-server-id`. Not made here is only hyper's bare 400, 414 or 431 to what is no proper HTTP.
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
mod options;
mod server;
mod service_time;
mod shared;
mod stats;
mod stream;
mod switches;
mod timer;
mod work;

pub use options::{BadOption, Options};
pub use server::{MockServer, Running, StartError};
pub use service_time::{BadServiceTime, ServiceTime, parse_duration};
pub use stats::{ServiceTimeError, Stats};
pub use switches::{BadChange, Change, State};

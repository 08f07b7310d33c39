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
//! Invariants:
//! - One server is one thread with its own single-threaded runtime: requests are taken in the order of their arrival, and the
//!   same seed and arrivals give the same service times and failures.
//! - `requests = served + failures + rejected + refused + abandoned + in_progress`, always (see [`Stats`]).
//! - Every answer made here carries `x-server-id`. The one answer not made here is hyper's bare 400/431 to bytes that are no HTTP.
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

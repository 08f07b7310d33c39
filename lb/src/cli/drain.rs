//! `lb drain` and `lb ready`: take a backend of the running lb out of service and back. `lb drain --wait` shows the
//! progress.
//!
//! Invariants: with --wait, exit code 0 means that every request of the backend ended by itself. With `--json` each
//! line on stdout is the backend's state as the admin port returns it.

use std::time::{Duration, Instant};

use clap::Args as ClapArgs;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::inspect::print;
use super::running::{asked, checked, list, text};
use super::{CliError, client};
use crate::config::{Admin, DEFAULT_POOL};

/// The interval of looks while --wait waits.
const LOOK: Duration = Duration::from_millis(200);
/// The longest time without a line of progress.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// A backend.
#[derive(Clone, Debug, PartialEq, Eq, ClapArgs)]
#[group(skip)] // its name would be that of the command
pub struct Target {
    /// Its id, as in `lb backends`
    #[arg(value_name = "BACKEND")]
    pub id: String,
    /// Its pool
    #[arg(long, value_name = "NAME", default_value = DEFAULT_POOL)]
    pub pool: String,
}

#[derive(Clone, Debug, PartialEq, Eq, ClapArgs)]
#[group(skip)]
pub struct Drain {
    #[command(flatten)]
    pub target: Target,
    /// End the requests that are in flight after this time, in milliseconds, up to 86400000 [default: no limit]
    #[arg(long, value_name = "MS")]
    pub deadline_ms: Option<u64>,
    /// Wait until no request is in flight, and show the progress
    #[arg(long)]
    pub wait: bool,
}

/// What --wait does next.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Waits { in_flight: u64 },
    Drained,
    Ended(String),
}

/// Takes a backend out of service.
pub(super) fn drain(admin: &Admin, drain: &Drain, as_json: bool) -> Result<(), CliError> {
    let body = drain.deadline_ms.map(|ms| json!({ "deadline_ms": ms }).to_string()).unwrap_or_default();
    let mut backend = changed(admin, &drain.target, "drain", &body)?;
    let mut told: Option<(u64, Instant)> = None;
    loop {
        let progress = Progress::of(&drain.target.id, &backend);
        let is_news = match (&progress, told) {
            (Progress::Waits { in_flight }, Some((last, at))) => *in_flight != last || at.elapsed() >= SILENCE_MAX,
            _ => true,
        };
        if is_news {
            print(&if as_json { backend.to_string() } else { line(&backend) })?;
        }
        match progress {
            Progress::Ended(why) => return Err(CliError::Refused(why)),
            Progress::Drained => return Ok(()),
            Progress::Waits { .. } if !drain.wait => return Ok(()),
            Progress::Waits { in_flight } if is_news => told = Some((in_flight, Instant::now())),
            Progress::Waits { .. } => {}
        }
        std::thread::sleep(LOOK);
        backend = found(&asked(admin, "/backends")?, &drain.target);
    }
}

/// Puts a backend back into service.
pub(super) fn ready(admin: &Admin, target: &Target, as_json: bool) -> Result<(), CliError> {
    let backend = changed(admin, target, "ready", "")?;
    print(&if as_json { backend.to_string() } else { format!("{} takes requests again", target.id) })
}

fn changed(admin: &Admin, target: &Target, action: &str, body: &str) -> Result<Value, CliError> {
    let [id, pool] = [&target.id, &target.pool].map(|name| utf8_percent_encode(name, NON_ALPHANUMERIC));
    checked(&client::post(admin, &format!("/backends/{id}/{action}?pool={pool}"), body)?)
}

/// The backend in the list; null if it is not there.
fn found(backends: &Value, target: &Target) -> Value {
    let is_it = |one: &&Value| one["id"] == *target.id && one["pool"] == *target.pool;
    list(backends).iter().find(is_it).cloned().unwrap_or_default()
}

fn line(backend: &Value) -> String {
    let (id, drain) = (text(&backend["id"]), &backend["drain"]);
    let seconds = |key: &str| drain[key].as_u64().map(|ms| ms.div_ceil(1_000));
    let since = seconds("for_ms").unwrap_or_default();
    match (backend["in_flight"].as_u64(), backend["draining"] == true) {
        (Some(0), true) => format!("{id} is drained after {since} s"),
        (Some(in_flight), true) => {
            let left = seconds("left_ms").map(|left| format!(", {left} s to the deadline")).unwrap_or_default();
            format!("{id} drains: {in_flight} in flight after {since} s{left}")
        }
        _ => format!("{id} does not drain"),
    }
}

// === impl Progress ===

impl Progress {
    fn of(id: &str, backend: &Value) -> Self {
        match (backend["in_flight"].as_u64(), backend["drain"]["cut"].as_u64()) {
            (None, _) => Self::Ended(format!("{id} was removed while it drained")),
            _ if backend["draining"] != true => Self::Ended(format!("{id} takes requests again: its drain was ended")),
            (_, Some(1)) => Self::Ended(format!("{id}: the deadline ended 1 request")),
            (_, Some(cut @ 2..)) => Self::Ended(format!("{id}: the deadline ended {cut} requests")),
            (Some(0), _) => Self::Drained,
            (Some(in_flight), _) => Self::Waits { in_flight },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_well_only_if_all_requests_ended_by_themselves() {
        let progress = |backend: Value| Progress::of("b1", &backend);
        assert_eq!(progress(json!({ "draining": true, "in_flight": 3 })), Progress::Waits { in_flight: 3 });
        assert_eq!(progress(json!({ "draining": true, "in_flight": 0 })), Progress::Drained);
        assert_eq!(progress(json!({ "draining": true, "in_flight": 0, "drain": { "cut": 0 } })), Progress::Drained);
        for (backend, said) in [
            (json!({ "draining": true, "in_flight": 0, "drain": { "cut": 2 } }), "the deadline ended 2 requests"),
            (json!({ "draining": true, "in_flight": 1, "drain": { "cut": 1 } }), "the deadline ended 1 request"),
            (json!({ "draining": false, "in_flight": 1 }), "takes requests again"),
            (Value::Null, "was removed"),
        ] {
            let Progress::Ended(why) = progress(backend) else { panic!("it goes on") };
            assert!(why.contains(said), "{why}");
        }
    }

    #[test]
    fn a_line_shows_what_is_left_and_how_long() {
        let mut backend =
            json!({ "id": "b1", "draining": true, "in_flight": 3, "drain": { "for_ms": 1200, "left_ms": 28_800 } });
        assert_eq!(line(&backend), "b1 drains: 3 in flight after 2 s, 29 s to the deadline");
        backend["drain"] = json!({ "for_ms": 1200 });
        assert_eq!(line(&backend), "b1 drains: 3 in flight after 2 s");
        backend["in_flight"] = json!(0);
        assert_eq!(line(&backend), "b1 is drained after 2 s");
    }
}

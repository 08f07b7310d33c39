//! `loadgen run --out DIR`: stores a run in the format of experiments, so that `report`, `report --diff` and `check`
//! read it.
//!
//! It is an experiment of one arm without a plan. The arm is always called `target`, so that runs on two servers can be
//! compared. Invariants: a folder with a run is refused before the first request. All differences between two loads,
//! requests included, are in the manifest's load, backends or keys, which `same_setting` compares. Values of headers
//! that may be secrets are not stored.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::experiment::{HostWatch, keys_in_words, marks_of_load, single};
use crate::load::{Arrivals, Cost, Outcome, Plan, Stop};
use crate::model::{
    self, Arm, BackendsDescription, Completeness, Folder, FolderError, Load, Manifest, Mark, Program, Results, Run,
    SCHEMA, Scenario,
};
use crate::report::{self, ReportError};

/// The folder of a run, and the data from before its begin.
pub(super) struct Store {
    folder: Folder,
    host: HostWatch,
    began: Instant,
    started: jiff::Timestamp,
}

/// Why a run cannot be stored there; known before the first request.
#[derive(Debug, Error)]
pub enum BadFolder {
    #[error("{} holds a run already: choose another folder with --out", .0.display())]
    Taken(PathBuf),
    #[error("cannot create the folder {}: {source}", path.display())]
    Make { path: PathBuf, source: io::Error },
}

/// Why a run was not stored, or not reported.
#[derive(Debug, Error)]
pub(super) enum StoreError {
    #[error("{0}; the result is printed above and is not stored")]
    Folder(#[from] FolderError),
    #[error("{source}; the result is stored: fix the cause, then run `loadgen report {}`", folder.display())]
    Report { folder: PathBuf, source: ReportError },
}

/// The arm of every such run.
const ARM: &str = "target";
/// Replaces the value of a header that may be a secret.
const SECRET: &str = "(not stored)";

// === impl Store ===

impl Store {
    /// Checks the folder and observes the machine, right before the load.
    pub(super) fn begin(path: &Path) -> Result<Self, BadFolder> {
        let folder = Folder::new(path);
        if folder.file("run.json").exists() {
            return Err(BadFolder::Taken(path.to_owned()));
        }
        std::fs::create_dir_all(path).map_err(|source| BadFolder::Make { path: path.to_owned(), source })?;
        Ok(Self { folder, host: HostWatch::begin(), began: Instant::now(), started: jiff::Timestamp::now() })
    }

    /// Stores the run and its reports; returns the page. `headers` are those of the command line, which is stored too.
    pub(super) fn finish(
        self,
        plan: &Plan,
        outcome: &Outcome,
        url: &str,
        headers: &[String],
    ) -> Result<PathBuf, StoreError> {
        let folder = self.folder.clone();
        let run = self.run(plan, outcome, url, command(std::env::args(), headers));
        folder.write(&run)?;
        let written = report::write_for(&folder, &run)
            .map_err(|source| StoreError::Report { folder: folder.path().to_owned(), source })?;
        Ok(written.into_iter().next().unwrap_or_else(|| folder.path().to_owned()))
    }

    fn run(self, plan: &Plan, outcome: &Outcome, url: &str, command: Vec<String>) -> Run {
        let busy = self.host.busy().map(|busy| Mark::warning("host", busy));
        let duration_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let budget_ms = match plan.stop {
            Stop::AfterTime(time) => u64::try_from((plan.warm_up + time).as_millis()).unwrap_or(u64::MAX),
            Stop::AfterRequests(_) | Stop::WhenTold => duration_ms,
        };
        let (cell, series, latencies) = single(ARM, asked_rps(plan, outcome), outcome);
        let manifest = Manifest {
            schema: SCHEMA,
            scenario: Scenario::Own,
            title: format!("{} {url}", plan.requests[0].method),
            command,
            loadgen: Program {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                commit: env!("BUILD_REVISION").to_owned(),
            },
            lb: None,
            started: self.started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            duration_ms,
            budget_ms,
            arms: vec![arm()],
            load: load(plan),
            backends: backends(plan),
            seeds: [("run".to_owned(), plan.seed)].into(),
            host: self.host.end(),
            completeness: match outcome.aborted {
                false => Completeness::Complete,
                true => Completeness::Partial { reason: "interrupted before the end".to_owned() },
            },
            marks: busy.into_iter().chain(marks(plan, outcome)).collect(),
        };
        let latencies = [(cell.key(), latencies)].into();
        Run { manifest, results: Results { cells: vec![cell], ..Results::default() }, series: vec![series], latencies }
    }
}

/// The arm of a run on a URL; its strategy is unknown.
fn arm() -> Arm {
    Arm {
        label: ARM.to_owned(),
        strategy: String::new(),
        strategy_sha256: String::new(),
        options: serde_json::json!({}),
        cost_factor: 1.0,
        config_sha256: String::new(),
        expectation: String::new(),
        safeguards: None,
    }
}

fn load(plan: &Plan) -> Load {
    let (arrivals, rate_rps) = match plan.arrivals {
        Arrivals::Closed { connections } => {
            let requests = if let Stop::AfterRequests(requests) = plan.stop { requests } else { 0 };
            return Load::Closed { connections: u32::try_from(connections).unwrap_or(u32::MAX), requests };
        }
        Arrivals::Poisson { rps } => (model::Arrivals::Poisson, rps),
        Arrivals::Constant { rps } => (model::Arrivals::Constant, rps),
        Arrivals::Ramp { to, .. } => (model::Arrivals::Ramp, to),
    };
    let outstanding_max = u32::try_from(plan.outstanding).unwrap_or(u32::MAX);
    Load::Open { arrivals, rate_rps, capacity_rps: None, outstanding_max }
}

/// The mean of a rate that changes; `None` in a closed loop.
fn asked_rps(plan: &Plan, outcome: &Outcome) -> Option<f64> {
    let total = outcome.total();
    match plan.arrivals {
        Arrivals::Ramp { .. } if total.seconds() > 0.0 => Some(total.due as f64 / total.seconds()),
        arrivals => arrivals.rps(),
    }
}

fn backends(plan: &Plan) -> BackendsDescription {
    let mut parts = vec!["a server that ran already".to_owned(), requests(plan)];
    if plan.cost != Cost::None {
        parts.push(format!("requests cost {}, and carry their cost with them", plan.cost));
    }
    parts.push(match plan.arrivals {
        Arrivals::Closed { .. } => "closed loop".to_owned(),
        arrivals => format!(
            "{}, at most {} connections and {} requests under way",
            arrivals.in_words(),
            plan.connections,
            plan.outstanding
        ),
    });
    parts.push(format!("timeout {} s", plan.timeout.as_secs_f64()));
    parts.push(format!("warm-up {} s", plan.warm_up.as_secs_f64()));
    if plan.resend_closed {
        parts.push("requests on connections that the server had closed were sent again".to_owned());
    }
    BackendsDescription {
        description: parts.join("; "),
        keys: keys_in_words(&plan.keys),
        target: plan.target.host.clone(),
    }
}

/// The requests, with a digest of all their bytes. Loads with other paths, headers or bodies have another digest.
fn requests(plan: &Plan) -> String {
    let mut digest = Sha256::new();
    let mut part = |bytes: &[u8]| {
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    };
    for request in &plan.requests {
        part(request.method.as_str().as_bytes());
        part(request.path.as_bytes());
        part(&(request.headers.len() as u64).to_le_bytes());
        for (name, value) in &request.headers {
            part(name.as_bytes());
            part(value.as_bytes());
        }
        part(&request.body);
    }
    // the exact keys, because words round them
    part(format!("{:?}", plan.keys).as_bytes());
    let digest: String = digest.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let first = &plan.requests[0];
    let mut words = match plan.requests.len() {
        1 => format!("{} {}", first.method, first.path),
        many => format!("{} of {many} paths in turn", first.method),
    };
    if !first.headers.is_empty() {
        let names: Vec<&str> = first.headers.iter().map(|(name, _)| name.as_str()).collect();
        words += &format!(" with {}", names.join(", "));
    }
    if !first.body.is_empty() {
        words += &format!(" and a body of {} bytes", first.body.len());
    }
    format!("{words} (sha256 {digest})")
}

fn marks(plan: &Plan, outcome: &Outcome) -> Vec<Mark> {
    let is_closed = plan.arrivals.is_closed();
    let mut marks = marks_of_load(outcome, is_closed);
    if marks.is_empty() {
        let reason = match is_closed {
            true => "its sending threads had processor time to spare",
            false => "requests were sent on schedule",
        };
        marks.push(Mark::passed("generator", reason));
    }
    marks
}

/// The command line without the values of headers that may be secrets.
fn command(words: impl Iterator<Item = String>, headers: &[String]) -> Vec<String> {
    let is_secret = |header: &&String| {
        let name = header.split(':').next().unwrap_or_default().to_ascii_lowercase();
        ["auth", "cookie", "token", "key", "secret", "session"].iter().any(|part| name.contains(part))
    };
    let secret: Vec<&String> = headers.iter().filter(is_secret).collect();
    let redacted = |word: String| match secret.iter().find(|header| word.ends_with(header.as_str())) {
        Some(header) => {
            let (before, name) = (&word[..word.len() - header.len()], header.split(':').next().unwrap_or_default());
            format!("{before}{name}: {SECRET}")
        }
        None => word,
    };
    words.map(redacted).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::Method;

    use super::*;
    use crate::load::{Batches, Keys, Punctuality, Request, Segment, Target};

    fn plan(change: impl FnOnce(&mut Plan)) -> Plan {
        let target = Target { addresses: vec![([127, 0, 0, 1], 1).into()], host: "here".to_owned() };
        let mut plan = Plan::new(target, Arrivals::Constant { rps: 10.0 }, Stop::AfterTime(Duration::from_secs(1)));
        change(&mut plan);
        plan
    }

    /// The stored form of this load.
    fn stored(plan: &Plan) -> Run {
        let outcome = Outcome {
            warm_up: None,
            segments: vec![Segment::new(0)],
            batches: Batches::new(0),
            windows: Vec::new(),
            backends: Vec::new(),
            cpu_s: Vec::new(),
            wall_s: 1.0,
            aborted: false,
            punctuality: Punctuality::OnTime,
            doubts: Vec::new(),
            first_errors: [].into(),
        };
        let (host, began, started) = (HostWatch::begin(), Instant::now(), jiff::Timestamp::now());
        Store { folder: Folder::new("/none"), host, began, started }.run(plan, &outcome, "http://here/", Vec::new())
    }

    #[test]
    fn each_difference_between_loads_refuses_the_comparison() {
        let request = |change: fn(&mut Request)| {
            plan(|plan| {
                plan.requests = vec![Request::get("/a")];
                change(&mut plan.requests[0]);
            })
        };
        let plain = request(|_| {});
        let others: Vec<(&str, Plan)> = vec![
            ("path", request(|request| request.path = "/b".to_owned())),
            ("method", request(|request| request.method = Method::POST)),
            ("body", request(|request| request.body = b"x".to_vec())),
            ("header", request(|request| request.headers = vec![("x".to_owned(), "1".to_owned())])),
            ("header's value", request(|request| request.headers = vec![("x".to_owned(), "2".to_owned())])),
            ("another body", request(|request| request.body = b"y".to_vec())),
            ("paths", plan(|plan| plan.requests = vec![Request::get("/a"), Request::get("/b")])),
            ("rate", Plan { arrivals: Arrivals::Constant { rps: 11.0 }, ..plain.clone() }),
            ("law", Plan { arrivals: Arrivals::Poisson { rps: 10.0 }, ..plain.clone() }),
            (
                "ramp",
                Plan {
                    arrivals: Arrivals::Ramp { from: 1.0, to: 10.0, over: Duration::from_secs(1) },
                    ..plain.clone()
                },
            ),
            ("closed", Plan { arrivals: Arrivals::Closed { connections: 5 }, ..plain.clone() }),
            ("clients", Plan { arrivals: Arrivals::Closed { connections: 6 }, ..plain.clone() }),
            ("connections", Plan { connections: 7, ..plain.clone() }),
            ("outstanding", Plan { outstanding: 7, ..plain.clone() }),
            ("keys", Plan { keys: Keys::Uniform, ..plain.clone() }),
            ("exponent", Plan { keys: Keys::Zipf { keys: 9, exponent: 1.1 }, ..plain.clone() }),
            ("cost", Plan { cost: Cost::Constant { time: Duration::from_millis(1) }, ..plain.clone() }),
            ("warm-up", Plan { warm_up: Duration::from_secs(1), ..plain.clone() }),
            ("timeout", Plan { timeout: Duration::from_secs(1), ..plain.clone() }),
            ("resent", Plan { resend_closed: true, ..plain.clone() }),
        ];
        let mut seen = vec![("none", stored(&plain))];
        for (what, plan) in others {
            let own = stored(&plan);
            let same = seen.iter().find(|(_, other)| report::same_setting(other, &own).is_ok());
            assert!(same.is_none(), "{what} is taken for {:?}", same.map(|same| same.0));
            seen.push((what, own));
        }
        let again = Plan { seed: 9, stop: Stop::AfterTime(Duration::from_secs(2)), ..plain.clone() };
        let verdict = report::same_setting(&stored(&again), &stored(&plain));
        assert_eq!(verdict, Ok(()), "more of the same, drawn again, is the same load");
    }

    #[test]
    fn secrets_are_not_in_the_command() {
        let headers = ["authorization: Bearer s3cret", "x-a: b", "Cookie:sid=s3cret"].map(str::to_owned);
        let words = [
            "loadgen",
            "run",
            "-H",
            "authorization: Bearer s3cret",
            "-Hx-a: b",
            "--header=Cookie:sid=s3cret",
            "http://h/",
        ];
        let told = command(words.into_iter().map(str::to_owned), &headers).join(" ");
        let expected = "loadgen run -H authorization: (not stored) -Hx-a: b --header=Cookie: (not stored) http://h/";
        assert_eq!(told, expected);
    }
}

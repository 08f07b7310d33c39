//! The options of `loadgen run`, and the plan that they give.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args as ClapArgs;
use http::Method;
use thiserror::Error;

use super::target::Url;
use super::threshold::{BadThreshold, Threshold};
use super::{EXIT_CODES, LONGEST};
use crate::load::{Arrivals, BadPlan, Cost, Keys, OUTSTANDING, Plan, Request, Stop, Target, parse_duration};

const EXAMPLES: &str = "\
Examples:
  loadgen run http://127.0.0.1:8080/home                   200 requests by 50 clients
  loadgen run -n 10000 -c 64 http://127.0.0.1:8080/home    10,000 requests by 64 clients: a closed loop
  loadgen run -q 500 -z 30s http://127.0.0.1:8080/home     500 a second for 30 s: an open loop
  loadgen run -q 500 --poisson -z 30s --warm-up 5s …       the same with random gaps, as from many users
  loadgen run -q 100..2000 -z 60s …                        a rate that rises
  loadgen run -m POST -d '{\"n\":1}' -H 'content-type: application/json' …
  loadgen run -q 200 -z 60s --keys zipf:10000,1.1 --cost exponential:10ms …
                                                           keys for a hashing balancer, costs for mock-server
  loadgen run -q 500 -z 30s --threshold 'p99<50ms' --threshold 'errors<0.1%' …
                                                           for CI: exit code 99 if a threshold is missed
  loadgen run -q 500 -z 30s --out runs/new http://127.0.0.1:8080/home
                                                           stored, for loadgen report --diff runs/old runs/new

Open or closed loop? In a closed loop (no -q), each client waits for its response before it sends the next request. So a slow server
gets fewer requests, and its latency looks better than it is for users. An open loop (-q) sends by a schedule, whatever the server
does. The report has two columns: latency from the scheduled send time, service time from the actual send.

";

/// Send requests to any HTTP server and measure its responses.
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = format!("{EXAMPLES}{EXIT_CODES}"))]
pub struct Args {
    /// http://HOST:PORT/PATH; https is not supported
    #[arg(value_name = "URL")]
    pub url: String,

    /// Requests to send; 200 if neither this nor a duration is given
    #[arg(short = 'n', long, value_name = "N")]
    pub requests: Option<u64>,

    /// How long to send, such as 30s or 2m; requests in flight at the end are completed
    #[arg(short = 'z', long, value_name = "TIME", value_parser = duration, conflicts_with = "requests")]
    pub duration: Option<Duration>,

    /// Clients of a closed loop (default 50); with -q: connections at most (default 10000)
    #[arg(short = 'c', long, value_name = "N")]
    pub connections: Option<usize>,

    /// Requests per second: an open loop. FROM..TO rises or falls over the duration
    #[arg(short = 'q', long, value_name = "RATE")]
    pub rate: Option<Rate>,

    /// Random gaps between requests (exponential), instead of equal ones
    #[arg(long, requires = "rate")]
    pub poisson: bool,

    /// Send for this time before the measurement starts
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "0")]
    pub warm_up: Duration,

    /// For one request, from its send to the last byte of its response
    #[arg(short = 't', long, value_name = "TIME", value_parser = duration, default_value = "30s")]
    pub timeout: Duration,

    /// The method
    #[arg(short = 'm', long, value_name = "METHOD", default_value = "GET", help_heading = "Requests")]
    pub method: Method,

    /// A header, as 'name: value'; may be repeated
    #[arg(short = 'H', long = "header", value_name = "HEADER", help_heading = "Requests")]
    pub headers: Vec<String>,

    /// The body
    #[arg(short = 'd', long, value_name = "TEXT", help_heading = "Requests")]
    pub body: Option<String>,

    /// A file with the body
    #[arg(short = 'D', long, value_name = "FILE", conflicts_with = "body", help_heading = "Requests")]
    pub body_file: Option<PathBuf>,

    /// A file with one path a line, used in turn instead of the URL's path; empty lines and lines with # are skipped
    #[arg(long, value_name = "FILE", help_heading = "Requests")]
    pub paths: Option<PathBuf>,

    /// The header x-key: none, sequential, uniform (six digits), zipf:KEYS,EXPONENT or hot:SHARE
    #[arg(long, value_name = "KEYS", default_value = "none", help_heading = "Requests")]
    pub keys: Keys,

    /// The service time that each request asks of mock-server: none, constant:5ms, exponential:10ms (mean),
    /// normal:10ms,10ms (mean, deviation) or pareto:10ms,1.5 (mean, shape)
    #[arg(long, value_name = "LAW", default_value = "none", help_heading = "Requests")]
    pub cost: Cost,

    /// The seed of gaps, keys and costs: the same seed gives the same sequence [default: random; the report has it]
    #[arg(long, value_name = "N", help_heading = "Requests")]
    pub seed: Option<u64>,

    /// With -q: at most this many requests in flight or waiting; requests beyond are counted as unsent
    #[arg(long, value_name = "N", default_value_t = OUTSTANDING, help_heading = "How")]
    pub outstanding: usize,

    /// Sending threads
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "How")]
    pub threads: usize,

    /// Retry a request once if the server closed its keep-alive connection, instead of counting an error (idempotent
    /// methods without a body)
    #[arg(long, help_heading = "How")]
    pub resend_closed: bool,

    /// The response header with the backend's name, for counts by backend
    #[arg(long, value_name = "NAME", default_value = "x-server-id", help_heading = "How")]
    pub backend_header: String,

    /// Show progress as lines instead of a live view; this is the default if stderr is not a terminal
    #[arg(long, help_heading = "How")]
    pub plain: bool,

    /// Show no progress
    #[arg(long, help_heading = "How")]
    pub quiet: bool,

    /// A condition, exit code 99 if it is missed: p50 … p99.9, mean, max (p99<50ms, service_p99<20ms), errors<0.1%,
    /// rps>1000; several with commas
    #[arg(long = "threshold", value_name = "CONDITION", value_delimiter = ',', help_heading = "Judging")]
    pub thresholds: Vec<String>,

    /// The opposite: exit code 99 if the condition holds, such as 'p99>50ms'
    #[arg(long, value_name = "CONDITION", value_delimiter = ',', help_heading = "Judging")]
    pub fail_if: Vec<String>,

    /// Store the run in this folder, for loadgen report and loadgen check
    #[arg(long, value_name = "DIR", help_heading = "Judging")]
    pub out: Option<PathBuf>,

    /// Print the report as JSON
    #[arg(long, help_heading = "Judging")]
    pub json: bool,
}

/// A rate: one number, or from one number to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    from: f64,
    to: f64,
}

/// Why options do not give a plan.
#[derive(Debug, Error)]
pub enum BadOptions {
    #[error(transparent)]
    Plan(#[from] BadPlan),
    #[error(transparent)]
    Threshold(#[from] BadThreshold),
    #[error("{0:?} is not a header: write 'name: value'")]
    Header(String),
    #[error("cannot read {path}: {source}", path = path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{path} has no path: write one path a line", path = path.display())]
    NoPaths { path: PathBuf },
    #[error("a rate from {from} to {to} needs a duration: add -z 60s")]
    RampWithoutTime { from: f64, to: f64 },
    #[error("a rate that changes has equal gaps: leave out --poisson, or give one rate")]
    RampOfPoisson,
    #[error("-n 0 sends nothing")]
    NoRequests,
    #[error("-z 0 sends nothing")]
    NoTime,
}

/// A checked plan whose target is not resolved yet.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    plan: Plan,
}

const REQUESTS: u64 = 200;
const CLIENTS: usize = 50;

fn duration(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text).filter(|time| *time <= LONGEST);
    time.ok_or_else(|| "write a number and a unit, such as 500ms, 30s or 2m; at most 1000h".to_owned())
}

// === impl Args ===

impl Args {
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) fn thresholds(&self) -> Result<Vec<Threshold>, BadOptions> {
        let must = self.thresholds.iter().map(|text| text.parse::<Threshold>());
        let must_not = self.fail_if.iter().map(|text| text.parse().map(Threshold::negated));
        Ok(must.chain(must_not).collect::<Result<_, _>>()?)
    }

    pub(super) fn prepare(&self, url: &Url) -> Result<Prepared, BadOptions> {
        let stop = match (self.requests, self.duration) {
            (Some(0), _) => return Err(BadOptions::NoRequests),
            (_, Some(Duration::ZERO)) => return Err(BadOptions::NoTime),
            (_, Some(time)) => Stop::AfterTime(time),
            (requests, None) => Stop::AfterRequests(requests.unwrap_or(REQUESTS)),
        };
        let arrivals = match (self.rate, self.duration) {
            (None, _) => Arrivals::Closed { connections: self.connections.unwrap_or(CLIENTS) },
            (Some(Rate { from, to }), _) if from == to && self.poisson => Arrivals::Poisson { rps: to },
            (Some(Rate { from, to }), _) if from == to => Arrivals::Constant { rps: to },
            (Some(_), _) if self.poisson => return Err(BadOptions::RampOfPoisson),
            (Some(Rate { from, to }), Some(over)) => Arrivals::Ramp { from, to, over: self.warm_up + over },
            (Some(Rate { from, to }), None) => return Err(BadOptions::RampWithoutTime { from, to }),
        };
        // a placeholder until the target is resolved, so that the rest can be checked first
        let placeholder = Target { addresses: vec![([127, 0, 0, 1], 1).into()], host: "unresolved".to_owned() };
        let plan = Plan {
            warm_up: self.warm_up,
            connections: self.connections.unwrap_or(OUTSTANDING),
            outstanding: self.outstanding,
            threads: self.threads,
            requests: self.requests(url)?,
            keys: self.keys,
            cost: self.cost,
            // below 2^32, so that it is short to type
            seed: self.seed.unwrap_or_else(|| u64::from(fastrand::u32(..))),
            timeout: self.timeout,
            resend_closed: self.resend_closed,
            backend_header: self.backend_header.clone(),
            ..Plan::new(placeholder, arrivals, stop)
        };
        plan.check()?;
        Ok(Prepared { plan })
    }

    fn requests(&self, url: &Url) -> Result<Vec<Request>, BadOptions> {
        let read =
            |path: &PathBuf| std::fs::read(path).map_err(|source| BadOptions::File { path: path.clone(), source });
        let headers = self.headers.iter().map(|text| {
            let (name, value) = text.split_once(':').ok_or_else(|| BadOptions::Header(text.clone()))?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        });
        let headers = headers.collect::<Result<Vec<_>, BadOptions>>()?;
        let body = match (&self.body, &self.body_file) {
            (Some(text), _) => text.clone().into_bytes(),
            (None, Some(path)) => read(path)?,
            (None, None) => Vec::new(),
        };
        let paths = match &self.paths {
            None => vec![url.path.clone()],
            Some(path) => {
                let text = String::from_utf8_lossy(&read(path)?).into_owned();
                let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
                lines.map(str::to_owned).collect()
            }
        };
        if let (true, Some(path)) = (paths.is_empty(), &self.paths) {
            return Err(BadOptions::NoPaths { path: path.clone() });
        }
        let request =
            |path: String| Request { method: self.method.clone(), path, headers: headers.clone(), body: body.clone() };
        Ok(paths.into_iter().map(request).collect())
    }
}

// === impl Prepared ===

impl Prepared {
    pub(super) fn plan(mut self, target: Target) -> Result<Plan, BadOptions> {
        self.plan.target = target;
        self.plan.check()?;
        Ok(self.plan)
    }
}

// === impl Rate ===

impl std::str::FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            text.trim().parse::<f64>().map_err(|_| "write requests per second, such as 500 or 100..2000".to_owned())
        };
        let (from, to) = match text.split_once("..") {
            Some((from, to)) => (number(from)?, number(to)?),
            None => (number(text)?, number(text)?),
        };
        Ok(Self { from, to })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::run::target;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn plan(line: &str) -> Result<Plan, String> {
        let words = std::iter::once("run").chain(line.split(' '));
        let args = Line::try_parse_from(words).map_err(|error| error.to_string())?.args;
        let url = target::parse(&args.url).map_err(|error| error.to_string())?;
        Ok(args.prepare(&url).map_err(|error| error.to_string())?.plan)
    }

    #[test]
    fn without_a_rate_it_is_a_closed_loop_and_with_one_an_open_one() {
        let of = |line: &str| plan(line).map(|plan| (plan.arrivals, plan.stop)).unwrap();
        assert_eq!(of("http://h/"), (Arrivals::Closed { connections: 50 }, Stop::AfterRequests(200)));
        let (time, over) = (Stop::AfterTime(Duration::from_secs(5)), Duration::from_secs(5));
        assert_eq!(of("-c 8 -z 5s http://h/"), (Arrivals::Closed { connections: 8 }, time));
        assert_eq!(of("-q 500 -n 9 http://h/"), (Arrivals::Constant { rps: 500.0 }, Stop::AfterRequests(9)));
        assert_eq!(of("-q 500 --poisson -z 5s h"), (Arrivals::Poisson { rps: 500.0 }, time));
        assert_eq!(of("-q 10..20 -z 5s h"), (Arrivals::Ramp { from: 10.0, to: 20.0, over }, time));
        assert_eq!(plan("-q 500 -c 7 http://h/").unwrap().connections, 7);
    }

    #[test]
    fn every_example_of_the_help_is_a_load() {
        let lines: Vec<&str> = EXAMPLES.lines().filter(|line| line.starts_with("  loadgen run ")).collect();
        assert!(lines.len() > 8);
        for line in lines {
            // the explanation comes last, and … stands for the URL of the other examples
            let typed = line.trim().split("   ").next().unwrap().replace('…', "http://h/");
            let quoted = typed.split('\'').enumerate();
            let words = quoted.flat_map(|(at, part)| match at % 2 {
                0 => part.split_whitespace().map(str::to_owned).collect(),
                _ => vec![part.to_owned()],
            });
            let args = Line::try_parse_from(words.skip(1)).unwrap_or_else(|error| panic!("{line}: {error}")).args;
            let url = target::parse(&args.url).unwrap_or_else(|error| panic!("{line}: {error}"));
            args.thresholds().unwrap_or_else(|error| panic!("{line}: {error}"));
            args.prepare(&url).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn a_seed_is_random_unless_it_is_given() {
        let seed = |line: &str| plan(line).unwrap().seed;
        assert_eq!([seed("--seed 7 h"), seed("--seed 7 h")], [7, 7]);
        assert_ne!(seed("h"), seed("h"));
    }

    #[test]
    fn a_request_follows_the_options() {
        let request = plan("-m POST -d a=b -H x:1 -H y:2 http://h/p?q").unwrap().requests.remove(0);
        let headers = [("x", "1"), ("y", "2")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let expected =
            Request { method: Method::POST, path: "/p?q".to_owned(), headers: headers.into(), body: b"a=b".to_vec() };
        assert_eq!(request, expected);
    }

    #[test]
    fn contradicting_options_are_refused_with_the_reason() {
        for (line, word) in [
            ("-n 5 -z 5s http://h/", "cannot be used with"),
            ("--poisson http://h/", "--rate"),
            ("-q 1..2 http://h/", "duration"),
            ("-q 1..2 -z 1s --poisson http://h/", "--poisson"),
            ("-q 0 http://h/", "rate"),
            ("-q fast http://h/", "requests per second"),
            ("-n 0 http://h/", "nothing"),
            ("-z 0s http://h/", "nothing"),
            ("-c 0 http://h/", "connections"),
            ("-H x http://h/", "header"),
            ("-H content-length:3 http://h/", "itself"),
            ("-D /none/such http://h/", "/none/such"),
            ("-z 5 http://h/", "unit"),
            ("-z 99999999h http://h/", "at most 1000h"),
            ("--keys some http://h/", "zipf"),
            ("--cost much http://h/", "exponential"),
            ("-t 0 http://h/", "timeout"),
        ] {
            let error = plan(line).unwrap_err();
            assert!(error.contains(word), "{line}: {error}");
        }
    }

    #[test]
    fn paths_come_from_a_file_in_turn() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "/a\n\n# not this\n /b?c \n").unwrap();
        let plan = plan(&format!("--paths {} http://h/", file.path().display())).unwrap();
        assert_eq!(plan.requests.iter().map(|request| &*request.path).collect::<Vec<_>>(), ["/a", "/b?c"]);
    }
}

//! The cost of a scrape of `/metrics`: processor time, bytes, series, and the effect on the tail latency of requests.
//!
//! `cargo build --release && cargo run --release -p lb --example scrape_cost` (a minute and a half; `--json`, `--help`)
//!
//! It starts two mock servers and one `lb` with two pools of 50 backends. Every backend sends a response with every
//! usual code. Then 20 scrapes are taken without load. Their processor time is that of `lb`'s main thread, which serves
//! the admin port (`schedstat`, to the nanosecond). It includes health checks during the scrape, so the report has the
//! median.
//!
//! Then an open loop sends requests at half the capacity that a closed loop found. Time is divided into windows of one
//! second; of each two, in random order, one has a scrape. The report has these figures:
//!
//! - the ratio of the median p99 of windows with and without a scrape;
//! - the median ratio within the pairs, in which drift cancels;
//! - the ratio of quiet windows among themselves, which is the noise;
//! - the median latency of requests due in the 10 ms after the scrape's start, and of those at the same place in quiet
//!   windows.
//!
//! As in `swap_cost`, all processes share the same cores, so absolute latencies depend on the machine.

mod measuring;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::{Value, json};

use measuring::load::{self, Schedule};
use measuring::stage::{Balancer, Build, Mock};
use measuring::statistics::{median, median_of_ratios, quantile, ratio_of_medians};
use measuring::windows::{
    CALIBRATION, GAP, HAPPENS_AFTER, WARM_UP, WINDOW, latencies_ns, loadavg, p99_us, sleep_until,
};

const SCRAPES: usize = 20;
/// About the duration of a scrape under load.
const MEANWHILE: Duration = Duration::from_millis(10);
const BETWEEN_SCRAPES: Duration = Duration::from_millis(50);
/// Every backend sends each of these before the measurement.
const CODES: [u16; 5] = [200, 204, 404, 500, 503];
const ROUTE: &str = "[[routes]]\nhost = \"side\"\npool = \"side\"\n";

/// Measure the cost of a scrape of /metrics
#[derive(Debug, Parser)]
struct Arguments {
    /// The build to measure, a folder with lb, mock-server and the plugins [default: the build of this program]
    #[arg(long, value_name = "FOLDER")]
    build: Option<PathBuf>,
    /// Pairs of windows: one with a scrape, one without
    #[arg(long, default_value_t = 30, value_name = "N", value_parser = clap::value_parser!(u64).range(2..=100))]
    pairs: u64,
    /// Backends in each of the two pools
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    backends: u64,
    /// Keep-alive connections of the load
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    connections: u64,
    /// Requests per second [default: half of the measured capacity]
    #[arg(long, value_name = "RATE")]
    rate: Option<f64>,
    /// Seed of the order of windows, the gaps and the interval
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// One scrape.
struct Scrape {
    cpu_ms: f64,
    took_ms: f64,
    bytes: usize,
    series: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    measuring::tell(run(&arguments), arguments.json, text)
}

fn run(arguments: &Arguments) -> Result<Value> {
    let build = Build::find(arguments.build.as_deref())?;
    let mocks = [Mock::start(&build, 1)?, Mock::start(&build, 2)?];
    let lb = Balancer::start(&build, &mocks, arguments.backends as usize, ROUTE)?;
    wake_all_series(&lb, arguments.backends as usize)?;
    let mut scrapes = Vec::new();
    for _ in 0..SCRAPES {
        scrapes.push(scrape(&lb)?);
        std::thread::sleep(BETWEEN_SCRAPES);
    }
    latency(arguments, &lb, &scrapes)
}

/// Gets a response with each code from each backend: round robin uses them one after the other.
fn wake_all_series(lb: &Balancer, backends: usize) -> Result<()> {
    for host in ["default", "side"] {
        let mut stream = TcpStream::connect(lb.proxy)?;
        stream.set_nodelay(true)?;
        for code in CODES {
            for _ in 0..backends {
                write!(stream, "HEAD /status/{code} HTTP/1.1\r\nhost: {host}\r\n\r\n")?;
                read_head(&mut stream)?;
            }
        }
    }
    let page = lb.ask("GET", "/metrics")?;
    let answered = page.lines().filter(|line| line.starts_with("lb_backend_requests_total{") && !line.ends_with(" 0"));
    let (found, wanted) = (answered.count(), 2 * backends * CODES.len());
    ensure!(found >= wanted, "only {found} of {wanted} series of backends have counts");
    Ok(())
}

/// Reads the head of a response to HEAD, which has no body.
fn read_head(stream: &mut TcpStream) -> Result<()> {
    let (mut head, mut piece) = (Vec::new(), [0; 1024]);
    while !head.ends_with(b"\r\n\r\n") {
        let read = stream.read(&mut piece)?;
        ensure!(read > 0, "the connection ended before the response did");
        head.extend_from_slice(&piece[..read]);
    }
    Ok(())
}

fn scrape(lb: &Balancer) -> Result<Scrape> {
    let (began, before) = (Instant::now(), main_thread_ns(lb)?);
    let page = lb.ask("GET", "/metrics")?;
    let took_ms = began.elapsed().as_secs_f64() * 1e3;
    let cpu_ms = (main_thread_ns(lb)? - before) as f64 / 1e6;
    let series = page.lines().filter(|line| !line.starts_with('#')).count();
    Ok(Scrape { cpu_ms, took_ms, bytes: page.len(), series })
}

/// Processor time of the thread that serves the admin port.
fn main_thread_ns(lb: &Balancer) -> Result<u64> {
    let path = format!("/proc/{0}/task/{0}/schedstat", lb.pid());
    let text = std::fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))?;
    Ok(text.split(' ').next().context("an empty schedstat")?.parse()?)
}

fn latency(arguments: &Arguments, lb: &Balancer, scrapes: &[Scrape]) -> Result<Value> {
    let connections = arguments.connections as usize;
    let before = loadavg();
    let capacity = load::capacity(lb.proxy, connections, CALIBRATION)?;
    let rate = arguments.rate.unwrap_or(capacity / 2.0);
    let mut random = fastrand::Rng::with_seed(arguments.seed);
    let order: Vec<bool> = (0..arguments.pairs)
        .flat_map(|_| {
            let first = random.bool();
            [first, !first]
        })
        .collect();
    let schedule = Schedule { per_second: rate, is_poisson: true, seed: arguments.seed };
    let (windows, samples) = load::open_loop(lb.proxy, connections, schedule, || {
        let mut begin = Instant::now() + WARM_UP;
        let window = |has_scrape: &bool| {
            sleep_until(begin + HAPPENS_AFTER);
            let scraped = if *has_scrape { Some(scrape(lb)?) } else { None };
            let window = (begin, scraped);
            sleep_until(begin + WINDOW);
            begin += WINDOW + GAP;
            Ok(window)
        };
        order.iter().map(window).collect::<Result<Vec<_>>>()
    })?;
    let (mut quiet, mut scraped, mut under_load) = (Vec::new(), Vec::new(), Vec::new());
    let mut meanwhile = [Vec::new(), Vec::new()];
    for (begin, scrape) in windows {
        let p99 = p99_us(&samples, begin)?;
        let of_the_moment = quantile(&latencies_ns(&samples, begin + HAPPENS_AFTER, MEANWHILE), 0.5) as f64 / 1e3;
        if scrape.is_some() {
            scraped.push(p99)
        } else {
            quiet.push(p99)
        }
        meanwhile[usize::from(scrape.is_some())].push(of_the_moment);
        under_load.extend(scrape);
    }
    let pairs: Vec<(f64, f64)> = scraped.iter().copied().zip(quiet.iter().copied()).collect();
    let every_other = |first: usize| quiet.iter().skip(first).step_by(2).copied().collect::<Vec<_>>();
    let last = scrapes.last().context("no scrape")?;
    Ok(json!({
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "loadavg_before_and_after": [before, loadavg()],
        "seed": arguments.seed,
        "backends_per_pool": arguments.backends,
        "bytes": last.bytes,
        "series": last.series,
        "idle": of_scrapes(scrapes),
        "under_load": of_scrapes(&under_load),
        "connections": connections,
        "capacity_per_s": capacity,
        "rate_per_s": rate,
        "requests": samples.len(),
        "failed": 0,
        "windows": scraped.len(),
        "quiet_p99_us": median(&quiet),
        "scraped_p99_us": median(&scraped),
        "scraped_over_quiet": ratio_of_medians(&scraped, &quiet, &mut random),
        "scraped_over_quiet_in_pairs": median_of_ratios(&pairs, &mut random),
        "median_us_meanwhile": { "quiet": median(&meanwhile[0]), "scraped": median(&meanwhile[1]) },
        "noise": ratio_of_medians(&every_other(0), &every_other(1), &mut random),
    }))
}

fn of_scrapes(scrapes: &[Scrape]) -> Value {
    let all = |of: fn(&Scrape) -> f64| scrapes.iter().map(of).collect::<Vec<_>>();
    json!({
        "scrapes": scrapes.len(),
        "cpu_ms_median": median(&all(|scrape| scrape.cpu_ms)),
        "cpu_ms_longest": all(|scrape| scrape.cpu_ms).into_iter().fold(0.0, f64::max),
        "took_ms_median": median(&all(|scrape| scrape.took_ms)),
    })
}

fn text(report: &Value) -> String {
    let number = |value: &Value, digits: usize| value.as_f64().map_or("?".to_owned(), |n| format!("{n:.digits$}"));
    let ratio = |of: &Value| {
        let [value, from, to] = ["value", "from", "to"].map(|part| number(&of[part], 2));
        format!("{value} (95 %: {from} to {to})")
    };
    let scrapes = |of: &Value| {
        let [median, longest, took] =
            ["cpu_ms_median", "cpu_ms_longest", "took_ms_median"].map(|key| number(&of[key], 2));
        format!(
            "{} scrapes: {median} ms of processor time (median; longest {longest}), response after {took} ms",
            of["scrapes"]
        )
    };
    let loads = &report["loadavg_before_and_after"];
    [
        format!(
            "{} cores for generator, servers and lb together, none pinned; load average {} before, {} after; seed {}",
            report["cores"],
            loads[0].as_str().unwrap_or("?"),
            loads[1].as_str().unwrap_or("?"),
            report["seed"]
        ),
        format!(
            "2 pools of {} backends: {} series, {} bytes",
            report["backends_per_pool"], report["series"], report["bytes"]
        ),
        format!("without load   {}", scrapes(&report["idle"])),
        format!("under load     {}", scrapes(&report["under_load"])),
        format!(
            "{} requests per second of a capacity of {}, {} requests, none failed",
            number(&report["rate_per_s"], 0),
            number(&report["capacity_per_s"], 0),
            report["requests"]
        ),
        format!(
            "{} windows with a scrape, median p99 {} µs, over as many without (median p99 {} µs): {}",
            report["windows"],
            number(&report["scraped_p99_us"], 0),
            number(&report["quiet_p99_us"], 0),
            ratio(&report["scraped_over_quiet"])
        ),
        format!("the same within pairs of neighbours: {}", ratio(&report["scraped_over_quiet_in_pairs"])),
        format!(
            "requests due in the {} ms after the scrape's start: median {} µs, {} µs without a scrape",
            MEANWHILE.as_millis(),
            number(&report["median_us_meanwhile"]["scraped"], 0),
            number(&report["median_us_meanwhile"]["quiet"], 0)
        ),
        format!("noise, quiet windows over quiet windows: {}", ratio(&report["noise"])),
    ]
    .join("\n")
}

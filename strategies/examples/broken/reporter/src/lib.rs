//! Picks the first candidate, and `explain` tells all that its hooks got. `reporter.c` is the same in C.
//!
//! Why it exists: tests read from it, in a running lb, whether lb keeps each promise of the header. The header
//! `x-status` of a request sets the result of its pick, and `x-probe` the indexes of its probes, a digit each. The
//! first tick asks for a new picker. A response 418 makes its end, or that of a probe, panic. Invariant: the state has
//! the same form as in C, so one takes over from the other.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lb_strategy::{
    Backends, Error, Finish, Host, LogLevel, Metrics, NoOptions, Outcome, Pick, Probe, Probes, Request, Start,
    StateSchema, Strategy, Tick,
};
use serde_json::{Value, json};

pub struct Reporter {
    host: Host,
    reports: Mutex<Reports>,
    ticks: AtomicU64,
    tick_ns: AtomicU64,
    pickers: AtomicU64,
    imported: AtomicU64,
    waits: AtomicU64,
    shadow_picks: AtomicU64,
    /// A bit for each worker that picked.
    workers: AtomicU64,
    /// The picks of each worker now.
    inside: [AtomicU64; 64],
    overlaps: AtomicU64,
}

/// Says when it is freed.
pub struct Freed {
    host: Host,
}

#[derive(Default)]
struct Reports {
    picked: Value,
    started: Value,
    finished: Value,
    probed: Value,
    probes: u64,
    starts: u64,
    finishes: u64,
    /// Ends of own picks, with their token.
    own_ends: u64,
    outcomes: [u64; 6],
}

lb_strategy::export!(Reporter);

// === impl Reporter ===

impl Strategy for Reporter {
    const NAME: &'static str = "reporter";
    const WANTS_HASH: bool = true;
    const WANTS_FINISH: bool = true;
    const WANTS_ANSWER: bool = true;
    const RESPONSE_HEADERS: &'static [&'static str] = &["X-Server-Id", "x-none"];
    const WANTS_START: bool = true;
    const METRICS: bool = true;
    const BODY_BYTES: u32 = 8;
    const PROBES: bool = true;
    const STATE: Option<StateSchema> = Some(StateSchema { schema: "reporter", version: 1 });
    const TICK_MS: u32 = 20;
    const EXPLAINS: bool = true;
    type Config = NoOptions;
    type Picker = Freed;

    fn new(_: NoOptions, host: Host) -> Result<Self, Error> {
        let zero = || AtomicU64::new(0);
        let [ticks, tick_ns, pickers, imported, waits, shadow_picks, workers, overlaps] = [(); 8].map(|()| zero());
        let (reports, inside) = (Mutex::default(), [(); 64].map(|()| zero()));
        Ok(Self { host, reports, ticks, tick_ns, pickers, imported, waits, shadow_picks, workers, inside, overlaps })
    }

    fn picker(&self, _: &Backends<'_>) -> Result<Freed, Error> {
        self.pickers.fetch_add(1, Relaxed);
        Ok(Freed { host: self.host })
    }

    fn pick(&self, _: &Freed, backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        if !request.is_dry() {
            self.shadow_picks.fetch_add(u64::from(request.is_shadow()), Relaxed);
            self.report(request);
        }
        match request.header("x-status", 0) {
            None => backends
                .candidate(request, 0)
                .map_or(Pick::NoBackend, |(index, _)| Pick::BackendWithToken(index, request.random())),
            Some(b"1") => Pick::NoBackend,
            Some(b"2") => Pick::Fallback,
            Some(b"4") => {
                self.waits.fetch_add(1, Relaxed);
                Pick::Wait
            }
            Some(other) => panic!("no result is called {}", other.escape_ascii()),
        }
    }

    fn probes(&self, _: &Freed, _: &Backends<'_>, request: &Request<'_>, _picked: usize, probes: &mut Probes<'_>) {
        for digit in request.header("x-probe", 0).unwrap_or_default() {
            probes.add(usize::from(digit - b'0'));
        }
    }

    fn on_probe(&self, probe: &Probe<'_>) {
        assert_ne!(probe.http_status(), Some(418), "a teapot");
        let text = |nth| probe.response_header(nth).map(|value| String::from_utf8_lossy(value).into_owned());
        let body = String::from_utf8_lossy(&probe.body()[..probe.body().len().min(64)]).replace(['"', '\\'], "?");
        let mut reports = self.reports();
        reports.probes += 1;
        reports.probed = json!({
            "is_periodic": u8::from(probe.is_periodic()),
            "backend_id": probe.backend_id(),
            "has_slot": u8::from(probe.slot().is_some()),
            "outcome": number_of(probe.outcome()),
            "http_status": probe.http_status().unwrap_or(0),
            "latency_ns": probe.latency_ns(),
            "now_ns": probe.now_ns(),
            "headers": [text(0), text(1)],
            "body": body,
            "body_length": probe.body().len(),
        });
    }

    fn on_start(&self, start: &Start<'_>) {
        let mut reports = self.reports();
        reports.starts += 1;
        reports.started = json!({
            "backend_id": start.backend_id(),
            "has_slot": u8::from(start.slot().is_some()),
            "attempt": start.attempt(),
            "own": u8::from(start.is_own()),
            "token": start.token(),
            "body_length": start.body_length(),
            "now_ns": start.now_ns(),
        });
    }

    fn on_finish(&self, finish: &Finish<'_>) {
        assert_ne!(finish.http_status(), Some(418), "a teapot");
        let outcome = number_of(finish.outcome());
        let text = |nth| finish.response_header(nth).map(|value| String::from_utf8_lossy(value).into_owned());
        let mut reports = self.reports();
        reports.finishes += 1;
        reports.own_ends += u64::from(finish.is_own() && finish.token() != 0);
        reports.outcomes[outcome] += 1;
        reports.finished = json!({
            "backend_id": finish.backend_id(),
            "has_slot": u8::from(finish.slot().is_some()),
            "outcome": outcome,
            "http_status": finish.http_status().unwrap_or(0),
            "attempt": finish.attempt(),
            "own": u8::from(finish.is_own()),
            "upgraded": u8::from(finish.is_upgraded()),
            "token": finish.token(),
            "ttfb_ns": finish.time_to_head_ns(),
            "total_ns": finish.total_ns(),
            "now_ns": finish.now_ns(),
            "bytes_in": finish.bytes_in(),
            "bytes_out": finish.bytes_out(),
            "first_body_ns": finish.first_body_ns(),
            "headers": [text(0), text(1)],
        });
        if let Some(slot) = finish.slot() {
            slot.word(0).fetch_add(1, Relaxed);
        }
    }

    fn export(&self) -> Vec<u8> {
        (self.reports().finishes + self.imported.load(Relaxed)).to_string().into_bytes()
    }

    fn import(&self, version: u32, bytes: &[u8]) -> Result<(), Error> {
        let number = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()).filter(|_| version == 1);
        self.imported.store(number.ok_or("a reporter's state is a number, in version 1")?, Relaxed);
        Ok(())
    }

    fn tick(&self, now_ns: u64) -> Tick {
        self.tick_ns.store(now_ns, Relaxed);
        if self.ticks.fetch_add(1, Relaxed) == 0 { Tick::Rebuild } else { Tick::Keep }
    }

    fn metrics(&self, metrics: &mut Metrics<'_>) {
        metrics.counter("ticks_total", "Ticks.", self.ticks.load(Relaxed) as f64);
        metrics.counter("shadow_picks_total", "Picks as a shadow.", self.shadow_picks.load(Relaxed) as f64);
        let (ends, own_ends) = {
            let reports = self.reports();
            (reports.finishes, reports.own_ends)
        };
        metrics.counter("ends_total", "Ends.", ends as f64);
        metrics.counter("own_ends_total", "Ends of own picks.", own_ends as f64);
        metrics.gauge_of("b2", "share", "A share.", 0.25);
    }

    fn explain(&self, picker: &Freed, backends: &Backends<'_>, request: &Request<'_>) -> String {
        let backend = match self.pick(picker, backends, request) {
            Pick::BackendWithToken(index, _) => Some(index),
            _ => None,
        };
        let reports = self.reports();
        let [ticks, tick_ns, pickers, imported, waits] =
            [&self.ticks, &self.tick_ns, &self.pickers, &self.imported, &self.waits].map(|count| count.load(Relaxed));
        json!({
            "picked": reports.picked,
            "started": reports.started,
            "finished": reports.finished,
            "probed": reports.probed,
            "outcomes": reports.outcomes,
            "counts": {
                "ticks": ticks, "tick_ns": tick_ns, "pickers": pickers, "imported": imported, "waits": waits,
                "starts": reports.starts, "finishes": reports.finishes, "probes": reports.probes,
            },
            "workers": self.workers.load(Relaxed),
            "overlaps": self.overlaps.load(Relaxed),
            // The SDK checks the sizes and versions itself.
            "host": { "is_right": 1, "n_workers": self.host.workers() },
            "asked": [u8::from(request.is_dry()), u8::from(request.worker().is_none())],
            "list": report_of_list(backends),
            "backend": backend,
        })
        .to_string()
    }
}

impl Reporter {
    fn report(&self, request: &Request<'_>) {
        let worker = request.worker().filter(|worker| *worker < self.inside.len());
        if let Some(worker) = worker {
            self.workers.fetch_or(1 << worker, Relaxed);
            self.overlaps.fetch_add(u64::from(self.inside[worker].fetch_add(1, Relaxed) > 0), Relaxed);
        }
        self.reports().picked = report_of(request, self.host);
        if let Some(worker) = worker {
            self.inside[worker].fetch_sub(1, Relaxed);
        }
    }

    fn reports(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.host.log(LogLevel::Info, "a reporter in Rust is freed");
    }
}

// === impl Freed ===

impl Drop for Freed {
    fn drop(&mut self) {
        self.host.log(LogLevel::Info, "a picker in Rust is freed");
    }
}

fn number_of(outcome: Outcome) -> usize {
    match outcome {
        Outcome::Ok => 0,
        Outcome::ConnectError => 1,
        Outcome::Timeout => 2,
        Outcome::Reset => 3,
        Outcome::ClientGone => 4,
        Outcome::NotSent | Outcome::Other(_) => 5,
    }
}

fn report_of(request: &Request<'_>, host: Host) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let header = |nth| request.header("X-Two", nth).map(text);
    let client = match request.client() {
        Some(std::net::IpAddr::V4(client)) => format!("{:032x}", client.to_ipv6_mapped().to_bits()),
        Some(std::net::IpAddr::V6(client)) => format!("{:032x}", client.to_bits()),
        None => String::new(),
    };
    json!({
        "dry": u8::from(request.is_dry()),
        "is_worker": u8::from(request.worker().is_some_and(|worker| worker < host.workers())),
        "attempt": request.attempt(),
        "tried": request.tried(),
        "key": request.key().map(text),
        "hash": request.hash(),
        "rand": request.random(),
        "now_ns": request.now_ns(),
        "headers": [header(0), header(1), header(2)],
        "method": request.method(),
        "path": request.path(),
        "host": request.host(),
        "client": client,
        "body": Some(request.body()).filter(|body| !body.is_empty()).map(text),
        "body_length": request.body_length(),
    })
}

fn report_of_list(backends: &Backends<'_>) -> Value {
    let list = backends.iter().map(|backend| {
        let flags = [backend.is_eligible(), backend.is_healthy(), backend.is_draining()].map(u8::from);
        json!({
            "id": backend.id(),
            "name": backend.name(),
            "addr": backend.address(),
            "weight": backend.weight(),
            "effective": backend.effective_weight(),
            "is": flags,
            "in_flight": backend.in_flight(),
            "errors": backend.consecutive_errors(),
            "ewma_ns": backend.ewma_latency_ns().unwrap_or(0),
            "word": backend.slot().word(0).load(Relaxed),
            "labels": serde_json::from_str::<Value>(backend.labels()).unwrap_or_default(),
        })
    });
    json!({
        "epoch": backends.epoch(),
        "members_epoch": backends.members_epoch(),
        "eligible": backends.eligible(),
        "backends": list.collect::<Vec<_>>(),
    })
}

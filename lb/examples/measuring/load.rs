//! The load: a fixed number of keep-alive connections, one thread each. The calibration is a closed loop, the
//! measurement an open one.
//!
//! Open loop means that the send times are drawn beforehand, and do not depend on responses. Latency is measured from
//! the scheduled time: a stall delays the requests behind it, and the figures show that. Invariant: a request that
//! fails ends the measurement.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const REQUEST: &[u8] = b"GET /home HTTP/1.1\r\nhost: lb\r\n\r\n";
const PATIENCE: Duration = Duration::from_secs(10);

/// When the requests of all connections together are due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub(crate) per_second: f64,
    /// Exponential gaps; else all gaps are the same.
    pub(crate) is_poisson: bool,
    pub(crate) seed: u64,
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) due: Instant,
    /// From when it was due to when it was sent.
    pub(crate) lag_ns: u64,
    /// From when it was due to the last byte of its answer.
    pub(crate) latency_ns: u64,
}

struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

/// Requests per second that `connections` get when each asks again at once.
pub(crate) fn capacity(proxy: SocketAddr, connections: usize, lasts: Duration) -> Result<f64> {
    let end = Instant::now() + lasts;
    let ask = || -> Result<u64> {
        let mut connection = Connection::open(proxy)?;
        let mut asked = 0;
        while Instant::now() < end {
            connection.ask()?;
            asked += 1;
        }
        Ok(asked)
    };
    let asked = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..connections).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no client panics")).sum::<Result<u64>>()
    })?;
    Ok(asked as f64 / lasts.as_secs_f64())
}

/// Asks by `schedule` until `during` is over; answers what that made, and all requests by the time they were due.
pub(crate) fn open_loop<T>(
    proxy: SocketAddr,
    connections: usize,
    schedule: Schedule,
    during: impl FnOnce() -> Result<T>,
) -> Result<(T, Vec<Sample>)> {
    let (stop, start) = (AtomicBool::new(false), Instant::now());
    let ask = |number: usize| -> Result<Vec<Sample>> {
        let mut connection = Connection::open(proxy)?;
        let mut samples = Vec::with_capacity(1 << 16);
        let mut random = fastrand::Rng::with_seed(schedule.seed.wrapping_add(number as u64));
        let gap = connections as f64 / schedule.per_second;
        let mut due = start + Duration::from_secs_f64(gap * number as f64 / connections as f64);
        while !stop.load(Relaxed) {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let sent = Instant::now();
            connection.ask().inspect_err(|_| stop.store(true, Relaxed))?;
            let (lag_ns, latency_ns) = ((sent - due).as_nanos() as u64, due.elapsed().as_nanos() as u64);
            samples.push(Sample { due, lag_ns, latency_ns });
            // 1 - f64() lies in (0, 1], so the logarithm is finite.
            let stretch = if schedule.is_poisson { -(1.0 - random.f64()).ln() } else { 1.0 };
            due += Duration::from_secs_f64(gap * stretch);
        }
        Ok(samples)
    };
    std::thread::scope(|scope| {
        let ask = &ask;
        let threads: Vec<_> = (0..connections).map(|number| scope.spawn(move || ask(number))).collect();
        let made = during();
        stop.store(true, Relaxed);
        let samples = threads.into_iter().map(|thread| thread.join().expect("no client panics"));
        let mut samples = samples.collect::<Result<Vec<_>>>()?.concat();
        samples.sort_unstable_by_key(|sample| sample.due);
        Ok((made?, samples))
    })
}

// === impl Connection ===

impl Connection {
    fn open(proxy: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(proxy).with_context(|| format!("lb takes no connection at {proxy}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, answer: Vec::new() })
    }

    /// One request and its whole answer, which must be a 200.
    fn ask(&mut self) -> Result<()> {
        self.stream.write_all(REQUEST).context("a request could not be sent")?;
        self.answer.clear();
        let mut piece = [0; 4096];
        while self.missing()? > 0 {
            match self.stream.read(&mut piece).context("an answer did not come")? {
                0 => bail!("the connection ended before the answer did"),
                read => self.answer.extend_from_slice(&piece[..read]),
            }
        }
        Ok(())
    }

    /// How many bytes must still come, at least.
    fn missing(&self) -> Result<usize> {
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Response::new(&mut fields);
        let httparse::Status::Complete(head_bytes) = head.parse(&self.answer)? else { return Ok(1) };
        if head.code != Some(200) {
            bail!("an answer is no 200: {:?}", String::from_utf8_lossy(&self.answer));
        }
        let length = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
        let length = length.context("an answer does not say how long it is")?;
        let body_bytes: usize = std::str::from_utf8(length.value)?.parse()?;
        Ok((head_bytes + body_bytes).saturating_sub(self.answer.len()))
    }
}

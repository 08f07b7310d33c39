//! Active health checks: one task per backend asks `GET <health.path>` on a connection of its own and reports what came of it.
//!
//! Why own connections: a check is to find out whether a client could get through now, and it is not a request that counts as one.
//! A backend that was good and is not, or the other way round, is asked again sooner, until that is settled.
//! What follows from an outcome is decided in [`super::standing`]. Invariants: at most [`CHECKS_AT_ONCE`] checks run at the same
//! time; a task ends with its entry here, and an outcome that comes in later is known as outdated by its checker's number.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::actor::Event;
use super::pools::PoolKey;
use super::standing::Standing;
use crate::config::Health;

const CHECKS_AT_ONCE: usize = 256;
/// How often a starting process is asked whether it is there.
const JOIN_INTERVAL: Duration = Duration::from_millis(20);
/// More of a check's answer is not read.
const BODY_MAX_BYTES: usize = 64 << 10;

/// The running checkers.
pub(super) struct Checkers {
    rules: Health,
    events: mpsc::Sender<Event>,
    permits: Arc<Semaphore>,
    running: HashMap<(PoolKey, Arc<str>), Checker>,
    next_number: u64,
}

struct Checker {
    number: u64,
    task: AbortHandle,
}

/// What one task checks.
struct Target {
    checker: u64,
    pool: PoolKey,
    id: Arc<str>,
    address: Arc<str>,
    socket: SocketAddr,
}

// === impl Checkers ===

impl Checkers {
    pub(super) fn new(rules: Health, events: mpsc::Sender<Event>) -> Self {
        let permits = Arc::new(Semaphore::new(CHECKS_AT_ONCE));
        Self { rules, events, permits, running: HashMap::new(), next_number: 0 }
    }

    /// Checks this backend from now on, at once first. A joining one is asked often, and only its first good answer is reported
    /// before it is checked like the others; it is asked also where checks are off, because else nobody knows when it is there.
    pub(super) fn watch(&mut self, pool: PoolKey, id: &Arc<str>, address: &Arc<str>, socket: SocketAddr, joins: bool) {
        self.forget(pool, id);
        if !joins && !self.rules.enabled {
            return;
        }
        self.next_number += 1;
        let target = Target { checker: self.next_number, pool, id: id.clone(), address: address.clone(), socket };
        let (rules, permits, events) = (self.rules.clone(), self.permits.clone(), self.events.clone());
        let task = tokio::spawn(target.run(rules, permits, events, joins)).abort_handle();
        self.running.insert((pool, id.clone()), Checker { number: self.next_number, task });
    }

    /// For the checkers to come; those that run go on by the old ones until they are replaced.
    pub(super) fn set_rules(&mut self, rules: Health) {
        self.rules = rules;
    }

    pub(super) fn forget(&mut self, pool: PoolKey, id: &Arc<str>) {
        self.running.remove(&(pool, id.clone()));
    }

    pub(super) fn is_watched(&self, pool: PoolKey, id: &Arc<str>) -> bool {
        self.running.contains_key(&(pool, id.clone()))
    }

    /// Whether an outcome comes from the checker that is in charge now.
    pub(super) fn is_current(&self, pool: PoolKey, id: &Arc<str>, checker: u64) -> bool {
        self.running.get(&(pool, id.clone())).is_some_and(|running| running.number == checker)
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Target ===

impl Target {
    async fn run(self, rules: Health, permits: Arc<Semaphore>, events: mpsc::Sender<Event>, joins: bool) {
        if joins {
            while check(self.socket, &self.address, &rules).await.is_err() {
                sleep(JOIN_INTERVAL).await;
            }
            if !self.report(&events, Ok(())).await || !rules.enabled {
                return;
            }
            sleep(self.first_pause(rules.interval)).await;
        }
        let mut is_first = !joins;
        // by the same rules as the one that counts, only to know how soon to ask again
        let mut standing = Standing::unknown();
        loop {
            let outcome = {
                // Never closed, so this cannot fail.
                let _permit = permits.acquire().await;
                check(self.socket, &self.address, &rules).await
            };
            standing.check(outcome.clone(), &rules);
            if !self.report(&events, outcome).await {
                return;
            }
            sleep(match (standing.is_in_doubt(), is_first) {
                (true, _) => rules.fast_interval,
                (false, true) => self.first_pause(rules.interval),
                (false, false) => rules.interval,
            })
            .await;
            is_first = false;
        }
    }

    /// `false` when nobody listens any more.
    async fn report(&self, events: &mpsc::Sender<Event>, outcome: Result<(), String>) -> bool {
        let event = Event::Checked { checker: self.checker, pool: self.pool, id: self.id.clone(), outcome };
        events.send(event).await.is_ok()
    }

    /// Between half and the whole of an interval, by id: backends that came together are not checked in step for ever.
    fn first_pause(&self, interval: Duration) -> Duration {
        let part = lb_strategy_host::backend_id(&self.id) % 1000;
        interval / 2 + interval * part as u32 / 2000
    }
}

/// One check: good is any status below 500 within the time; else why not, in words.
async fn check(socket: SocketAddr, address: &str, rules: &Health) -> Result<(), String> {
    match timeout(rules.timeout, ask(socket, address, &rules.path)).await {
        Ok(Ok(status)) if status.as_u16() < 500 => Ok(()),
        Ok(Ok(status)) => Err(format!("{} answered {}", rules.path, status.as_u16())),
        Ok(Err(reason)) => Err(reason),
        Err(_) => Err(format!("no answer within {:?}", rules.timeout)),
    }
}

async fn ask(socket: SocketAddr, address: &str, path: &str) -> Result<http::StatusCode, String> {
    let stream = TcpStream::connect(socket).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        _ => format!("cannot connect: {error}"),
    })?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| format!("cannot connect: {error}"))?;
    let request = http::Request::get(path)
        .header(HOST, address)
        .header(USER_AGENT, "lb-health")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("{path}: {error}"))?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(|error| format!("no valid answer: {error}"))?;
        let status = answer.status();
        // Read to the end where it is short, so that the server does not see a connection that breaks off.
        let _ = Limited::new(answer.into_body(), BODY_MAX_BYTES).collect().await;
        Ok(status)
    };
    let driver = pin!(async {
        // What goes wrong here is told by the exchange.
        let _ = connection.await;
        std::future::pending::<()>().await;
    });
    tokio::select! {
        status = exchange => status,
        () = driver => Err("the connection was closed".to_owned()),
    }
}

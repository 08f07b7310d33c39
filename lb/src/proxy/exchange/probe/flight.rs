//! One probe on its way: a connection, a GET request, the response, and the word to the strategy.
//!
//! Invariants: it ends within the time-out of the pool's policy. Only the instance that asked for it gets its end, and
//! only while that instance is in charge. A probe on a connection that the backend had closed is sent once more on a
//! new one, within the same time. A lack of descriptors or ports in lb itself is no news about the backend: the
//! strategy is not told.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};

use http::{Method, StatusCode, Version};
use lb_strategy_host::{Outcome, Probe, Strategy};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::super::account::Account;
use super::super::send::INTERIM_PER_POLL;
use crate::config::ProbePolicy;
use crate::http1::{RequestHead, ResponseHead};
use crate::net::{Descriptor, Stream};
use crate::proxy::body::{Frame, RequestBody};
use crate::proxy::fault::Fault;
use crate::proxy::local::Local;
use crate::proxy::upstream::{Probing, Upstream};
use crate::proxy::view::{MemberView, PoolView};
use crate::telemetry::ProbeSkip;

/// The probe. Its place among those on their way is free after its drop.
pub(super) struct Flight {
    local: Rc<Local>,
    pool: Rc<PoolView>,
    member: Rc<MemberView>,
    policy: Arc<ProbePolicy>,
    instance: u64,
    account: Box<Account>,
}

/// The way to its connection.
pub(super) enum Means {
    Kept(Box<Upstream>),
    New(Descriptor),
}

/// What has arrived of the response.
#[derive(Default)]
struct Answer {
    status: Option<StatusCode>,
    latency_ns: u64,
    body: Vec<u8>,
}

/// The most bytes of a body that a strategy gets.
const BODY_BYTES_MAX: usize = 1024;

// === impl Flight ===

impl Flight {
    /// Takes a place and the means. The error is the reason why the probe is not sent.
    pub(super) fn begin(
        local: &Rc<Local>,
        pool: &Rc<PoolView>,
        member: &Rc<MemberView>,
        policy: &Arc<ProbePolicy>,
        strategy: &Strategy,
    ) -> Result<(Self, Means), ProbeSkip> {
        if !member.backend.is_eligible() {
            return Err(ProbeSkip::NotEligible);
        }
        let probing = member.probing.get_or_init(|| Box::new(Probing::new(&local.uncounted)));
        let instance = strategy.instance();
        if !probing.begin(instance) {
            return Err(ProbeSkip::Outstanding);
        }
        let flight = Self {
            local: local.clone(),
            pool: pool.clone(),
            member: member.clone(),
            policy: policy.clone(),
            instance,
            account: Account::new(strategy),
        };
        // Of any age: the worker closes those that have waited for too long.
        let means = match probing.idle.take(local.owner().epoch, false) {
            Some(upstream) => Means::Kept(upstream),
            None => flight.descriptor().map(Means::New).ok_or(ProbeSkip::NoDescriptor)?,
        };
        Ok((flight, means))
    }

    /// A descriptor, unless requests need those that are left.
    fn descriptor(&self) -> Option<Descriptor> {
        let descriptors = &self.local.descriptors;
        if descriptors.is_scarce() { None } else { descriptors.take() }
    }

    pub(super) async fn run(mut self, means: Means) {
        let began = Instant::now();
        let mut answer = Answer::default();
        match self.fly(means, began, &mut answer).await {
            Ok(()) => self.tell(Outcome::Ok, &answer),
            Err(Fault::NoDescriptor) => self.member.shard.probes_skipped(ProbeSkip::NoDescriptor, 1),
            Err(fault) => self.tell(fault.outcome(), &answer),
        }
    }

    async fn fly(&mut self, means: Means, began: Instant, answer: &mut Answer) -> Result<(), Fault> {
        let end = began + self.policy.timeout;
        let mut upstream = match means {
            Means::Kept(upstream) => upstream,
            Means::New(descriptor) => self.connect(descriptor, end).await?,
        };
        let mut asked = self.ask(&mut upstream, end).await;
        if asked.as_ref().is_err_and(|fault| *fault == Fault::BackendReset) && upstream.was_kept_and_silent() {
            let descriptor = self.descriptor().ok_or(Fault::NoDescriptor)?;
            upstream = self.connect(descriptor, end).await?;
            asked = self.ask(&mut upstream, end).await;
        }
        let head = asked?;
        answer.status = Some(head.status);
        answer.latency_ns = (began.elapsed().as_nanos() as u64).max(1);
        self.account.take(&head.fields);
        self.local.responses.give_back(head);
        self.read_body(&mut upstream, end, &mut answer.body).await?;
        if let Some(probing) = self.member.probing.get() {
            probing.idle.put(upstream, Instant::now(), 1);
        }
        Ok(())
    }

    async fn connect(&self, descriptor: Descriptor, end: Instant) -> Result<Box<Upstream>, Fault> {
        let socket = match timeout_at(end, TcpStream::connect(self.member.backend.socket)).await {
            Ok(Ok(socket)) => socket,
            Ok(Err(error)) => return Err(Upstream::connect_fault(&error)),
            Err(_) => return Err(Fault::ConnectTimeout),
        };
        let _ = socket.set_nodelay(true);
        let (stream, local) = (Stream::Plain(socket, descriptor), &self.local);
        Ok(Upstream::new(stream, &local.uncounted, &local.buffers))
    }

    /// Sends the request and waits for the final head.
    async fn ask(&self, upstream: &mut Upstream, end: Instant) -> Result<Box<ResponseHead>, Fault> {
        let local = &self.local;
        let (mut body, mut head) = (RequestBody::empty(), local.requests.take());
        self.write_head(&mut head);
        upstream.begin(&head, &body, &self.member.backend.address);
        local.requests.give_back(head);
        let mut response = local.responses.take();
        let answered = poll_fn(|cx| {
            if let Poll::Ready(Err(fault)) = upstream.poll_send(cx, &mut body) {
                return Poll::Ready(Err(fault));
            }
            for _ in 0..INTERIM_PER_POLL {
                ready!(upstream.poll_head(cx, &Method::GET, &mut response)?);
                match response.status {
                    // The probe did not ask for it.
                    StatusCode::SWITCHING_PROTOCOLS => return Poll::Ready(Err(Fault::BadResponse)),
                    status if status.is_informational() => {}
                    _ => return Poll::Ready(Ok(())),
                }
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        });
        timeout_at(end, answered).await.unwrap_or(Err(Fault::BackendTimeout)).map(|()| response)
    }

    fn write_head(&self, head: &mut RequestHead) {
        (head.method, head.version) = (Method::GET, Version::HTTP_11);
        // The configuration has checked the path.
        let _ = head.target.set(&self.policy.path);
        head.fields.clear();
        let host = self.policy.host.as_deref().unwrap_or(&self.member.backend.address);
        head.fields.push(b"host", host.as_bytes());
        head.fields.push(b"user-agent", b"lb-probe");
    }

    /// Reads the body to its end, or as much of it as a strategy gets.
    async fn read_body(&mut self, upstream: &mut Upstream, end: Instant, text: &mut Vec<u8>) -> Result<(), Fault> {
        let mut none = RequestBody::empty();
        while text.len() < BODY_BYTES_MAX {
            let frame = timeout_at(end, poll_fn(|cx| upstream.poll_frame(cx, &mut none))).await;
            match frame.map_err(|_| Fault::BackendTimeout)?.transpose()? {
                None => break,
                Some(Frame::Data(data)) => {
                    let room = BODY_BYTES_MAX - text.len();
                    text.extend_from_slice(&data[..data.len().min(room)]);
                }
                Some(Frame::Trailers(trailers)) => self.account.take(&trailers),
            }
        }
        Ok(())
    }

    /// Tells the strategy, then counts: a reader of the count finds the strategy told.
    fn tell(&self, outcome: Outcome, answer: &Answer) {
        let current = self.pool.current();
        let picker = current.as_ref().map(|current| &current.shared.picker);
        if let Some(picker) = picker.filter(|picker| picker.strategy().instance() == self.instance) {
            self.account.with(self.instance, |answered| {
                picker.probe(&Probe {
                    worker: Some(self.local.number),
                    backend_id: self.member.backend.number,
                    outcome,
                    http_status: answer.status.map(|status| status.as_u16()),
                    latency_ns: answer.latency_ns,
                    now_ns: self.local.clock_ns(Instant::now()),
                    headers: answered.headers,
                    body: &answer.body,
                });
            });
        }
        self.member.shard.probe(outcome.into());
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some(probing) = self.member.probing.get() {
            probing.end(self.instance);
        }
    }
}

//! One request and its response: route, key, then attempts until there is a response or no attempt is left.
//!
//! An exchange knows only [`Context`] of its connection, so HTTP/1.1 has one at a time and HTTP/2 many. The modules:
//! `headers` checks and forwards heads, `trailers` filters trailers. `hold` waits for the part of the body that the
//! strategy asks for. `choose` makes the pick, `slot` is its place on the backend, `wait` is the wait for one.
//! `attempt` is one attempt, `hedge` runs two at once, `retry` decides about further ones. `probe` sends the probes of
//! a pick. `pace` limits slow uploads, `response` is the response with its body, early ones too. `switched` is a
//! tunnel, `finish` ends the request, `notes` fills the log record. Invariants: a request uses the settings and the
//! policy of one generation. No generation is held over an await. The guards end attempt and request exactly once on
//! every path.

mod account;
mod attempt;
mod choose;
mod classes;
mod connection;
mod cookies;
mod finish;
mod forwarded;
mod headers;
mod hedge;
mod hold;
mod notes;
mod own_routes;
mod pace;
mod parts;
mod probe;
mod reports;
mod request_id;
mod response;
mod retry;
mod send;
mod shadows;
mod slot;
mod switched;
mod trailers;
mod upgrade;
mod wait;

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;

use http::{Method, StatusCode};
use lb_balance::Idempotency;
use tokio::time::Instant;

pub(super) use self::hedge::Race;
pub(super) use self::response::{Response, ResponseBody};
pub(super) use self::switched::Switched;

use self::attempt::Answer;
use self::choose::{Picked, Unpicked};
use self::classes::Classes;
use self::finish::RequestGuard;
use self::probe::Asked;
use self::retry::{Failed, Plan, Retry};
use self::upgrade::Upgrade;
use super::body::RequestBody;
use super::fault::Fault;
use super::interim::Interim;
use super::local::Local;
use super::peer::Peer;
use super::reply;
use super::shown::Shown;
use super::view::{PoolView, Routed};
use crate::config::Policy;
use crate::generation::Place;
use crate::http1::{Fields, RequestHead};
use crate::net::Timer;
use crate::pool::{Key, key};

/// The surroundings of an exchange.
pub(super) struct Context {
    pub(super) local: Rc<Local>,
    pub(super) peer: Peer,
    /// For the exchange's deadlines; its task polls it.
    pub(super) timer: Rc<Timer>,
    pub(super) interim: Rc<dyn Interim>,
    /// Of attempts that run at the same time.
    pub(super) race: Cell<Race>,
}

/// A request as it was read.
pub(super) struct Request {
    pub(super) head: Box<RequestHead>,
    pub(super) body: RequestBody,
    /// When its head was complete.
    pub(super) arrived: Instant,
}

/// A request in progress.
struct Exchange {
    context: Rc<Context>,
    pool: Rc<PoolView>,
    policy: Rc<Policy>,
    head: Box<RequestHead>,
    body: RequestBody,
    key: Option<Key>,
    /// Whether the request may be processed twice.
    idempotency: Idempotency,
    /// The client got an interim response of a backend.
    has_interim_begun: bool,
    /// The protocols to which the backend may switch.
    upgrade: Option<Upgrade>,
    /// The probes of the last pick that have not begun.
    asked: Cell<Option<Asked>>,
    /// What the shadows of the pool picked, until its attempt begins.
    shown: Cell<Option<Box<Shown>>>,
    /// It holds the settings, too.
    guard: RequestGuard,
}

/// What a request does after a pick or an attempt that gave it no response to pass on.
enum Step {
    Wait { is_behind: bool },
    Replace(Answer, Retry),
    Failed(Failed),
}

/// A pick, or else the end of the request's attempts.
type NextPick = Result<Picked, Result<Answer, Fault>>;

/// Responds to one request; faults are responses, too.
pub(super) async fn serve(context: Rc<Context>, request: Request) -> Response {
    if let Some(calls) = own_routes::of(&context, &request.head) {
        return Box::pin(own_routes::call(context, calls, request)).await;
    }
    let (routed, route) = route(&context, &request.head);
    let mut exchange = Exchange::new(context, routed, request);
    let answer = match route.and_then(|()| exchange.prepare()) {
        Ok(()) => exchange.answer().await,
        Err(fault) => Err(fault),
    };
    match answer {
        Ok(answer) => match exchange.missing(&answer) {
            None => exchange.pass_on(answer),
            Some(message) => Box::pin(exchange.say_missing(answer, message)).await,
        },
        Err(fault) => exchange.refuse(fault),
    }
}

/// Routes by the newest generation. A request without a normal path counts for `default` and is refused with the fault.
#[inline]
fn route(context: &Context, head: &RequestHead) -> (Routed, Result<(), Fault>) {
    let view = context.local.view.borrow();
    let route = headers::path(head).map(|path| view.generation.route(|| headers::host(head), &path));
    (view.at(route.unwrap_or_default()), route.map(drop))
}

/// Responds to a malformed request, and counts it for the pool `default`, because no route is known. `head` is the
/// readable part.
pub(super) fn refuse(context: &Rc<Context>, head: Option<Box<RequestHead>>, fault: Fault) -> Response {
    // A method that stands for all methods that clients may invent.
    let unknown = || RequestHead { method: Method::from_bytes(b"-").unwrap_or_default(), ..RequestHead::default() };
    let head = head.unwrap_or_else(|| Box::new(unknown()));
    let request = Request { head, body: RequestBody::empty(), arrived: Instant::now() };
    let routed = context.local.view.borrow().at(Place::default());
    Exchange::new(context.clone(), routed, request).refuse(fault)
}

// === impl Exchange ===

impl Exchange {
    #[inline]
    fn new(context: Rc<Context>, routed: Routed, request: Request) -> Self {
        let Routed { pool, policy, settings } = routed;
        let Request { mut head, body, arrived } = request;
        if settings.request_id {
            request_id::ensure(&mut head.fields, &mut context.local.random.borrow_mut());
        }
        let mut guard = RequestGuard::begin(&context, settings, &pool, head.method.clone(), arrived);
        guard.record = notes::begin(&context, &pool, &guard.settings, &head, guard.started);
        Self {
            context,
            pool,
            policy,
            head,
            body,
            key: None,
            idempotency: Idempotency::No,
            has_interim_begun: false,
            upgrade: None,
            asked: Cell::new(None),
            shown: Cell::new(None),
            guard,
        }
    }

    /// Checks the request, takes its key and makes its head one for a backend.
    fn prepare(&mut self) -> Result<(), Fault> {
        let classes = Classes::of(&self.head.fields);
        headers::check(&self.head, &self.guard.settings)?;
        let limit = self.policy.limits.body_bytes;
        if let (Some(most), Some(length)) = (limit, self.body.exact())
            && length > most
        {
            return Err(Fault::BodyTooLarge);
        }
        self.key = self.take_key();
        let has_body = !self.body.has_ended();
        let settings = &self.guard.settings;
        self.upgrade = headers::forward_request(&mut self.head, classes, has_body, &self.context.peer, settings);
        self.ask_for_report();
        let rules = &self.policy.retry.rules;
        // Only a key that the backend gets: `Connection` may have named it.
        let key = || self.head.fields.get(b"idempotency-key").is_some_and(|key| !key.trim_ascii().is_empty());
        self.idempotency = rules.idempotency(&self.head.method, rules.idempotency_key && key());
        if has_body {
            self.body.meter(limit, self.guard.shard(), trailers::forward_trailers);
            if self.idempotency != Idempotency::No && rules.attempts > 1 {
                self.body.keep(rules.replay_bytes);
            }
        }
        Ok(())
    }

    fn take_key(&self) -> Option<Key> {
        let current = self.pool.current();
        let shared = &current.as_ref()?.shared;
        if !shared.wants.hash {
            return None;
        }
        let mut random = self.context.local.random.borrow_mut();
        let (target, fields) = (&self.head.target, &self.head.fields);
        key::of(&shared.hash_on, shared.hash, target, fields, &self.context.peer.text, &mut random)
    }

    /// Makes attempts until there is a response or no attempt is left. Waits and retries are rare, and boxed so that
    /// other requests do not contain them.
    #[inline]
    async fn answer(&mut self) -> Result<Answer, Fault> {
        let now = match self.wanted_body() {
            0 => self.guard.started,
            most => self.hold(most).await?,
        };
        let now_ns = self.context.local.clock_ns(now);
        self.pool.request(now_ns);
        let mut plan = Plan::default();
        let is_behind = self.must_wait();
        let first = if is_behind { Err(Unpicked::Overload) } else { self.pick(&plan, now, now_ns) };
        let mut picked = match first {
            Ok(picked) => picked,
            Err(Unpicked::NoBackend) => return Err(Fault::NoBackend),
            Err(Unpicked::Overload | Unpicked::Held | Unpicked::Raced) => {
                match self.go_on(&mut plan, Step::Wait { is_behind }).await {
                    Ok(picked) => picked,
                    Err(ended) => return ended,
                }
            }
        };
        loop {
            let attempted = match self.policy.retry.rules.hedge {
                false => self.attempt::<false>(&plan, picked).await,
                true => self.attempt_hedged(&mut plan, picked).await,
            };
            let step = match attempted {
                Ok(answer) => match self.retry_after_status(&plan, &answer) {
                    None => return self.checked(answer),
                    Some(retry) => Step::Replace(answer, retry),
                },
                Err(failed) => Step::Failed(failed),
            };
            picked = match self.go_on(&mut plan, step).await {
                Ok(picked) => picked,
                Err(ended) => return ended,
            };
        }
    }

    /// The next pick after a step. An error is the end: the response that stays, or a fault.
    #[cold]
    #[inline(never)]
    fn go_on<'e>(&'e mut self, plan: &'e mut Plan, step: Step) -> Pin<Box<dyn Future<Output = NextPick> + 'e>> {
        Box::pin(async move {
            match step {
                Step::Wait { is_behind } => self.wait(plan, is_behind).await.map_err(Err),
                Step::Replace(answer, retry) => self.replace(plan, answer, retry).await.map_err(Ok),
                Step::Failed(Failed { fault, retry: None }) => Err(Err(fault)),
                Step::Failed(Failed { fault, retry: Some(retry) }) => {
                    self.pick_again(plan, retry).await.ok_or(Err(fault))
                }
            }
        })
    }

    /// Picks the backend whose response replaces `answer`; if there is none, returns `answer`.
    async fn replace(&mut self, plan: &mut Plan, answer: Answer, retry: Retry) -> Result<Picked, Answer> {
        match self.pick_again(plan, retry).await {
            Some(picked) => {
                response::put_away(answer, &self.context, &self.policy).await;
                Ok(picked)
            }
            None => Err(answer),
        }
    }

    #[inline]
    fn checked(&self, mut answer: Answer) -> Result<Answer, Fault> {
        let is_switch = answer.head.status == StatusCode::SWITCHING_PROTOCOLS;
        if is_switch && !upgrade::is_asked(self.upgrade.as_ref(), &answer.head.fields) {
            answer.attempt.fail(Fault::SwitchedUnasked);
            return Err(Fault::SwitchedUnasked);
        }
        Ok(answer)
    }

    fn refuse(self, fault: Fault) -> Response {
        let mut reply = fault.reply();
        self.sign(&mut reply.head.fields, Some(fault));
        self.context.local.requests.give_back(self.head);
        Response::own(reply, Some((self.guard, Some(fault))), fault.leaves_request())
    }

    #[inline]
    fn pass_on(mut self, answer: Answer) -> Response {
        let Answer { mut head, upstream, mut attempt } = answer;
        self.body.keep_no_more();
        headers::forward_response(&mut head);
        if let Some(cookie) = attempt.set_cookie.take() {
            head.fields.push(b"set-cookie", &cookie);
        }
        self.sign(&mut head.fields, None);
        self.context.local.requests.give_back(self.head);
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return Response::switch(head, Switched::new(*upstream, attempt, self.guard, &self.policy));
        }
        Response::streamed(head, self.context, self.policy, upstream, attempt, self.guard, self.body)
    }

    /// The message that replaces a backend's 404 to a GET, where configured.
    fn missing(&self, answer: &Answer) -> Option<&'static str> {
        let is_missing = answer.head.status == StatusCode::NOT_FOUND && self.head.method == Method::GET;
        self.guard.settings.missing_path.filter(|_| is_missing)
    }

    /// Reads and drops the backend's body, so that its connection can be used again. The request ends when the client
    /// has lb's response.
    async fn say_missing(mut self, mut answer: Answer, message: &str) -> Response {
        let cookie = answer.attempt.set_cookie.take();
        response::discard(answer, &self.context, &self.policy, self.guard.started, &mut self.body).await;
        let words = message.replace("{path}", self.head.target.path());
        let mut reply = reply::failure(StatusCode::BAD_REQUEST, &words);
        if let Some(cookie) = cookie {
            reply.head.fields.push(b"set-cookie", &cookie);
        }
        self.sign(&mut reply.head.fields, None);
        Response::own(reply, Some((self.guard, None)), false)
    }

    /// Adds to a response the fields about its request.
    fn sign(&self, fields: &mut Fields, fault: Option<Fault>) {
        if self.guard.settings.request_id {
            request_id::copy(&self.head.fields, fields);
        }
        if let Some(explanation) = notes::explanation(self.guard.record.as_deref(), fault) {
            fields.set(notes::X_LB_EXPLAIN, &explanation);
        }
    }
}

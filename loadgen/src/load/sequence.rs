//! The sequence of requests as bytes. Request i is a template, a key and a cost, each a function of (seed, i). A hot
//! key also depends on the scheduled time.
//!
//! Invariant: rendering allocates nothing once the buffer has grown to the longest request.

use std::io::Write;

use http::Method;

use super::clock::nanos;
use super::cost::{COST_HEADER, Cost};
use super::keys::{Chooser, FIRST, HotKey};
use super::plan::{KEY_HEADER, Plan, Request};

/// The requests, ready to be written.
#[derive(Clone, Debug)]
pub(super) struct Sequence {
    templates: Vec<Template>,
    keys: Chooser,
    hot_keys: Vec<HotSpan>,
    cost: Cost,
}

/// A hot key on the clock of the load.
#[derive(Clone, Debug)]
struct HotSpan {
    from_ns: u64,
    until_ns: u64,
    key: HotKey,
}

#[derive(Clone, Debug)]
struct Template {
    /// The head without its last, empty line.
    head: Vec<u8>,
    body: Vec<u8>,
    is_head: bool,
    is_repeatable: bool,
}

// === impl Sequence ===

impl Sequence {
    /// For a schedule that begins at `base_ns`.
    pub(super) fn new(plan: &Plan, base_ns: u64) -> Self {
        let at = |time| base_ns.saturating_add(nanos(plan.warm_up)).saturating_add(nanos(time));
        let span = |key: &HotKey| HotSpan { from_ns: at(key.from), until_ns: at(key.until), key: *key };
        Self {
            hot_keys: plan.hot_keys.iter().map(span).collect(),
            templates: plan.requests.iter().map(|request| Template::new(request, &plan.target.host)).collect(),
            keys: plan.keys.into(),
            cost: plan.cost,
        }
    }

    /// Appends request `index`, which is scheduled at `due_ns`, to `out`.
    pub(super) fn render(&self, seed: u64, index: u64, due_ns: u64, out: &mut Vec<u8>) {
        let template = self.template(index);
        out.extend_from_slice(&template.head);
        // Writing to memory cannot fail.
        if let Some(key) = self.key(seed, index, due_ns) {
            let _ = write!(out, "{KEY_HEADER}: {key}\r\n");
        }
        if let Some(us) = self.cost.us(seed, index) {
            let _ = write!(out, "{COST_HEADER}: {us}\r\n");
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&template.body);
    }

    /// Whether the response to request `index` never has a body (HEAD).
    pub(super) fn is_head(&self, index: u64) -> bool {
        self.template(index).is_head
    }

    pub(super) fn is_repeatable(&self, index: u64) -> bool {
        self.template(index).is_repeatable
    }

    fn key(&self, seed: u64, index: u64, due_ns: u64) -> Option<u32> {
        let is_hot = |span: &HotSpan| (span.from_ns..span.until_ns).contains(&due_ns) && span.key.takes(seed, index);
        if self.hot_keys.iter().any(is_hot) { Some(FIRST) } else { self.keys.key(seed, index) }
    }

    fn template(&self, index: u64) -> &Template {
        &self.templates[(index % self.templates.len() as u64) as usize]
    }
}

// === impl Template ===

impl Template {
    fn new(request: &Request, host: &str) -> Self {
        let mut head = format!("{} {} HTTP/1.1\r\n", request.method, request.path);
        let has = |wanted: &str| request.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted));
        let mut line = |name: &str, value: &str| {
            head.push_str(name);
            head.push_str(": ");
            head.push_str(value);
            head.push_str("\r\n");
        };
        if !has("host") {
            line("host", host);
        }
        if !has("user-agent") {
            line("user-agent", concat!("loadgen/", env!("CARGO_PKG_VERSION")));
        }
        for (name, value) in &request.headers {
            line(name, value);
        }
        // A length of 0 is written only for methods that usually have a body (RFC 9110, section 8.6).
        if !request.body.is_empty() || [Method::POST, Method::PUT, Method::PATCH].contains(&request.method) {
            line("content-length", &request.body.len().to_string());
        }
        Self {
            head: head.into_bytes(),
            body: request.body.clone(),
            is_head: request.method == Method::HEAD,
            is_repeatable: request.is_repeatable(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::load::{Arrivals, Keys, Stop, Target};

    fn plan() -> Plan {
        let target = Target { addresses: vec!["127.0.0.1:1".parse().unwrap()], host: "here".to_owned() };
        Plan::new(target, Arrivals::Constant { rps: 1.0 }, Stop::AfterRequests(1))
    }

    fn text(sequence: &Sequence, seed: u64, index: u64) -> String {
        let mut out = Vec::new();
        sequence.render(seed, index, 0, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_request_is_its_template_with_key_and_cost() {
        let mut plan = plan();
        plan.requests = vec![
            Request::get("/a?b"),
            Request {
                method: Method::POST,
                path: "/c".to_owned(),
                headers: vec![("Host".to_owned(), "there".to_owned()), ("user-agent".to_owned(), "x".to_owned())],
                body: b"body".to_vec(),
            },
        ];
        plan.keys = Keys::Sequential;
        plan.cost = Cost::Constant { time: Duration::from_micros(1500) };
        let sequence = Sequence::new(&plan, 0);
        let agent = concat!("loadgen/", env!("CARGO_PKG_VERSION"));
        assert_eq!(
            text(&sequence, 1, 0),
            format!(
                "GET /a?b HTTP/1.1\r\nhost: here\r\nuser-agent: {agent}\r\nx-key: 100000\r\nx-service-time-us: 1500\r\n\r\n"
            )
        );
        assert_eq!(
            text(&sequence, 1, 1),
            "POST /c HTTP/1.1\r\nHost: there\r\nuser-agent: x\r\ncontent-length: 4\r\nx-key: 100001\r\n\
             x-service-time-us: 1500\r\n\r\nbody"
        );
    }

    #[test]
    fn the_same_seed_gives_the_same_sequence_and_another_does_not() {
        let mut plan = plan();
        plan.keys = Keys::Zipf { keys: 1000, exponent: 1.1 };
        plan.cost = Cost::Exponential { mean: Duration::from_millis(10) };
        let (one, again) = (Sequence::new(&plan, 0), Sequence::new(&plan, 0));
        let all = |sequence: &Sequence, seed| (0..1000).map(|index| text(sequence, seed, index)).collect::<Vec<_>>();
        assert_eq!(all(&one, 7), all(&again, 7));
        assert_ne!(all(&one, 7), all(&one, 8));
        // Out of order too: draws do not depend on earlier draws.
        assert_eq!(text(&one, 7, 500), all(&again, 7)[500]);
    }

    #[test]
    fn a_hot_key_takes_its_share_in_its_time_and_leaves_other_keys_unchanged() {
        let ms = Duration::from_millis;
        let mut plan = plan();
        plan.keys = Keys::Uniform;
        let cool = Sequence::new(&plan, 7);
        plan.warm_up = ms(10);
        plan.hot_keys = vec![HotKey { from: ms(20), until: ms(30), share: 0.8 }];
        let hot = Sequence::new(&plan, 7);
        let (from_ns, until_ns) = (30_000_007, 40_000_007);
        for outside in [0, from_ns - 1, until_ns] {
            assert!((0..1000).all(|index| hot.key(5, index, outside) == cool.key(5, index, outside)), "at {outside}");
        }
        let taken = (0..1000).filter(|&index| hot.key(5, index, from_ns) == Some(FIRST)).count();
        assert!(taken.abs_diff(800) < 50, "{taken} of 1,000, seed 5");
        let is_own = |index: &u64| hot.key(5, *index, until_ns - 1) == cool.key(5, *index, 0);
        assert_eq!((0..1000).filter(is_own).count(), 1000 - taken, "at any moment of its time");
    }
}

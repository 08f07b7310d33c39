//! The sequence of requests as bytes: request i is a template, a key and a cost, each a function of (seed, i).
//!
//! Invariant: rendering allocates nothing once the buffer has grown to the longest request.

use std::io::Write;

use http::Method;

use super::cost::{COST_HEADER, Cost};
use super::keys::Chooser;
use super::plan::{KEY_HEADER, Plan, Request};

/// What is sent, ready to be written.
#[derive(Clone, Debug)]
pub(super) struct Sequence {
    templates: Vec<Template>,
    keys: Chooser,
    cost: Cost,
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
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            templates: plan.requests.iter().map(|request| Template::new(request, &plan.target.host)).collect(),
            keys: plan.keys.into(),
            cost: plan.cost,
        }
    }

    /// Writes request `index` behind what is in `out`.
    pub(super) fn render(&self, seed: u64, index: u64, out: &mut Vec<u8>) {
        let template = self.template(index);
        out.extend_from_slice(&template.head);
        // Writing to memory cannot fail.
        if let Some(key) = self.keys.key(seed, index) {
            let _ = write!(out, "{KEY_HEADER}: {key}\r\n");
        }
        if let Some(us) = self.cost.us(seed, index) {
            let _ = write!(out, "{COST_HEADER}: {us}\r\n");
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&template.body);
    }

    /// Whether the answer to request `index` has no body whatever it says.
    pub(super) fn is_head(&self, index: u64) -> bool {
        self.template(index).is_head
    }

    pub(super) fn is_repeatable(&self, index: u64) -> bool {
        self.template(index).is_repeatable
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
        // A length of 0 is said only where a body is usual (RFC 9110, section 8.6).
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
        sequence.render(seed, index, &mut out);
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
        let sequence = Sequence::new(&plan);
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
    fn the_same_seed_is_the_same_sequence_and_another_is_not() {
        let mut plan = plan();
        plan.keys = Keys::Zipf { keys: 1000, exponent: 1.1 };
        plan.cost = Cost::Exponential { mean: Duration::from_millis(10) };
        let (one, again) = (Sequence::new(&plan), Sequence::new(&plan));
        let all = |sequence: &Sequence, seed| (0..1000).map(|index| text(sequence, seed, index)).collect::<Vec<_>>();
        assert_eq!(all(&one, 7), all(&again, 7));
        assert_ne!(all(&one, 7), all(&one, 8));
        // Out of order too: nothing is drawn in turn.
        assert_eq!(text(&one, 7, 500), all(&again, 7)[500]);
    }
}

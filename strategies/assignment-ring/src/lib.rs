//! The course's consistent hash map: an array of slots, two given functions, and a clockwise walk.
//!
//! Idea: M slots form a circle. Virtual server j of server i is in slot Phi(i, j). If that slot is taken, probing finds
//! a free one. A request with number i starts at slot H(i) and goes to the first virtual server there or after it.
//!
//! Source: the sheet of the assignment "Implementing a Customizable Load Balancer", with M = 512 and K = 9.
//! H(i) = i^2 + 2i + 17 and Phi(i, j) = i^2 + j^2 + 2j + 25.
//!
//! Why the shares are uneven: H(i) is (i+1)^2 + 16, and squares modulo 512 have few values. So requests begin at only
//! 87 of the 512 slots. Phi puts all virtual servers of three servers into slots 26 to 114. Requests that begin after
//! these go around the circle to server 1, which gets 84.4 % of all. Other functions in the options give better shares,
//! as far as 9 virtual servers permit. [`consistent_hash`](../../consistent-hash/src/lib.rs) is the ring for real use.
//!
//! A server's number i is the number at the end of its name ("Server 12": 12), else its position in the list, counted
//! from 1. If two servers have the same number, probing places the one with the later name, and a warning is logged.
//!
//! A request's number i is its key if that is a decimal number below 2^32, as the course's 6-digit ids are. Otherwise
//! it is the lower 32 bits of the key's hash. Weights are not used, except that a backend of weight 0 gets no new
//! request.
//!
//! Balance: depends on the functions; `explain` returns the exact shares. Disruption is not quite minimal: a virtual
//! server that probing moved returns when its slot becomes free.
//!
//! Cost: for a polynomial H there is a table of M entries, so a pick reads the key's digits and two tables. Any other H
//! is a program of a few steps. A pick does not allocate and cannot fail, because all faults of H are found in the
//! options.
//!
//! Invariants: the ring contains all members, eligible or not. So an outage moves only the requests of the unhealthy
//! backends, to the next ones clockwise. The ring is kept while members do not change.

mod expression;
mod request;
mod ring;

use std::sync::{Arc, Mutex, PoisonError};

use lb_strategy::{Backends, Error, Host, LogLevel, Pick, Request, Strategy};
use serde::Deserialize;
use serde_json::{Map, json};

use expression::Expression;
use request::RequestSlots;
pub use ring::Probing;
use ring::{Placing, Ring};

/// The limit of slots.
const SLOTS_MAX: u32 = 1 << 20;
/// The limit of virtual servers of one server.
const VIRTUAL_SERVERS_MAX: u32 = 4096;

pub struct AssignmentRing {
    options: Options,
    host: Host,
    /// The function H.
    requests: RequestSlots,
    /// The function Phi.
    server: Expression,
    /// The last ring, for the next picker. Only the builder thread takes this lock; a pick never does.
    last: Mutex<Option<Arc<Ring>>>,
}

/// `[strategy.config.assignment_ring]`. The two functions may contain non-negative integers, `+ - * / % ^` and
/// parentheses. `^` is the power, `/` and `%` round down, and `2i` means `2*i`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// M, 1 to 1,048,576. Default: 512.
    slots: u32,
    /// K of each server, 1 to 4,096. Default: 9.
    virtual_servers: u32,
    /// H(i), where `i` is the request's number. Default: "i^2 + 2i + 17".
    request: String,
    /// Phi(i, j), where `i` is the server's number and `j` the virtual server's. Default: "i^2 + j^2 + 2j + 25".
    server: String,
    /// The first j. With 0, the default, j is 0 to K-1; with 1, it is 1 to K. The sheet allows both readings.
    first_virtual_index: u32,
    /// The probing for a virtual server whose slot is taken: "linear" (the default) or "quadratic".
    probing: Probing,
}

/// The view of one list: the ring. Pickers share it while only health changes.
pub struct View(Arc<Ring>);

lb_strategy::export!(AssignmentRing);

// === impl AssignmentRing ===

impl Strategy for AssignmentRing {
    const NAME: &'static str = "assignment_ring";
    const WANTS_HASH: bool = true;
    const EXPLAINS: bool = true;
    const EXPECTATION: &'static str = r#"{"balance":"by_options"}"#;
    type Config = Options;
    type Picker = View;

    fn new(options: Options, host: Host) -> Result<Self, Error> {
        options.check()?;
        let requests = RequestSlots::new(&options.request, options.slots)?;
        let server = Expression::of_i_and_j(&options.server)
            .map_err(|mistake| Error::new(format!("server {:?} {mistake}", options.server)))?;
        let strategy = Self { options, host, requests, server, last: Mutex::new(None) };
        // A function that fails for server 1 fails here, and not when a server is added.
        let placing = strategy.placing();
        placing.indexes().try_for_each(|j| placing.slot(1, j).map(drop))?;
        Ok(strategy)
    }

    fn picker(&self, backends: &Backends<'_>) -> Result<View, Error> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = match &*last {
            Some(ring) if ring.members_epoch == backends.members_epoch() => ring.clone(),
            _ => {
                let ring = Arc::new(self.placing().ring(backends)?);
                self.tell_clashes(&ring, backends);
                ring
            }
        };
        *last = Some(ring.clone());
        Ok(View(ring))
    }

    fn pick(&self, view: &View, backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        let Some(slot) = self.requests.slot_of(request) else { return Pick::Fallback };
        let may_serve =
            |owner: usize| backends.get(owner).is_some_and(|backend| backend.is_eligible()) && !request.is_tried(owner);
        view.0.walk(slot, may_serve).map_or(Pick::NoBackend, |(_, owner)| Pick::Backend(owner))
    }

    fn explain(&self, view: &View, backends: &Backends<'_>, request: &Request<'_>) -> String {
        let ring = &view.0;
        let name = |owner: usize| backends.get(owner).map_or("", |backend| backend.name());
        let is_eligible = |owner: usize| backends.get(owner).is_some_and(|backend| backend.is_eligible());
        let clashes: Vec<_> = ring.clashes.iter().map(|&(one, two)| [name(one), name(two)]).collect();
        let shares = self.shares(ring, backends.len(), is_eligible);
        let shares: Map<_, _> =
            shares.iter().enumerate().map(|(owner, share)| (name(owner).to_owned(), json!(share))).collect();
        let Some(slot) = self.requests.slot_of(request) else {
            return json!({
                "pick": "fallback",
                "reason": "the request has no key",
                "shares": shares,
                "clashes": clashes,
                "ring": ring.arcs(self.requests.ids_by_slot()),
            })
            .to_string();
        };
        let found = ring.walk(slot, |owner| is_eligible(owner) && !request.is_tried(owner));
        let mut walked_over: Vec<&str> = Vec::new();
        for passed in 0..found.map_or(0, |(passed, _)| passed) {
            let passed = name(ring.point(slot, passed).1);
            if !walked_over.contains(&passed) {
                walked_over.push(passed);
            }
        }
        json!({
            "number": request::number(request),
            "slot": slot,
            "virtual_server": found.map(|(passed, _)| ring.point(slot, passed).0),
            "backend": found.map(|(_, owner)| name(owner)),
            "walked_over": walked_over,
            "shares": shares,
            "clashes": clashes,
        })
        .to_string()
    }
}

impl AssignmentRing {
    fn placing(&self) -> Placing<'_> {
        let Options { slots, virtual_servers, first_virtual_index, probing, .. } = self.options;
        Placing { slots: slots as usize, virtual_servers, first_virtual_index, probing, server: &self.server }
    }

    /// The exact share of each backend, if all of the course's ids, 100000 to 999999, have the same probability.
    fn shares(&self, ring: &Ring, backends: usize, is_eligible: impl Fn(usize) -> bool) -> Vec<f64> {
        let ids = self.requests.ids_by_slot();
        let mut counts = vec![0_u64; backends];
        for (slot, &count) in ids.iter().enumerate() {
            if let Some((_, owner)) = ring.walk(slot, &is_eligible) {
                counts[owner] += u64::from(count);
            }
        }
        let total: u64 = ids.iter().map(|&count| u64::from(count)).sum();
        counts.into_iter().map(|count| count as f64 / total as f64).collect()
    }

    fn tell_clashes(&self, ring: &Ring, backends: &Backends<'_>) {
        let name = |index: usize| backends.get(index).map_or("", |backend| backend.name());
        for &(one, two) in &ring.clashes {
            let sentence = format!(
                "{:?} and {:?} have the same number, so they have the same slots: probing places the second",
                name(one),
                name(two)
            );
            self.host.log(LogLevel::Warn, &sentence);
        }
    }
}

// === impl Options ===

impl Options {
    fn check(&self) -> Result<(), Error> {
        let checks = [
            ("slots", self.slots, 1, SLOTS_MAX),
            ("virtual_servers", self.virtual_servers, 1, VIRTUAL_SERVERS_MAX),
            ("first_virtual_index", self.first_virtual_index, 0, 1),
        ];
        for (key, value, least, most) in checks {
            if !(least..=most).contains(&value) {
                return Err(format!("{key} is {value}: it may be {least} to {most}").into());
            }
        }
        Ok(())
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            slots: 512,
            virtual_servers: 9,
            request: "i^2 + 2i + 17".to_owned(),
            server: "i^2 + j^2 + 2j + 25".to_owned(),
            first_virtual_index: 0,
            probing: Probing::Linear,
        }
    }
}

#[cfg(test)]
mod tests;

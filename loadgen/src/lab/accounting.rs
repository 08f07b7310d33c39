//! Requests counted in three places: by the client, by the balancer, by the backends themselves.
//!
//! A stretch begins and ends with no request in flight. Over it, the balancer must count the requests that the client
//! sent. A backend must count the attempts that the balancer counted on it. If the numbers disagree, the run is
//! invalid.
//!
//! Some counts are a range, and are reported as one. A request whose connection broke before a response may not have
//! reached the balancer. A failed attempt may not have reached the backend. If a backend died, its count since its last
//! scrape is lost.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::admin::{Admin, AdminError};
use super::mock::Mock;
use super::scrape::{BadScrape, Scrape};
use crate::model::{Accounting, BackendAccount};

/// The client's count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientCount {
    /// Requests that were sent, at least in part.
    pub sent: u64,
    /// The part without a response that may not have reached the balancer completely.
    pub uncertain: u64,
}

/// All scrapes of one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub lb_text: String,
    lb: Scrape,
    /// The backends that responded.
    pub backends: Vec<Scraped>,
}

/// The metrics of one backend.
#[derive(Clone, Debug)]
pub struct Scraped {
    pub id: String,
    pub text: String,
    /// Identifies its process. A replacement under the same name has another value.
    life: String,
    arrived: u64,
}

/// Tracks the counts of the backends through a stretch.
#[derive(Debug)]
pub struct Ledger {
    before: Snapshot,
    /// The first and the last count, by id and process.
    lives: BTreeMap<(String, String), Life>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Life {
    first: u64,
    last: u64,
    is_there: bool,
}

#[derive(Debug, Error)]
pub enum LedgerError {
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error("cannot read lb's metrics: {0}")]
    Scrape(#[from] BadScrape),
    #[error("{in_flight} requests were still in flight {within} s after the last response")]
    NeverQuiet { in_flight: u64, within: u64 },
}

const QUIET_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(10);
const ARRIVED: &str = "mock_requests_total";
/// Attempts that failed with these reasons did not reach their backend.
const NOT_ARRIVED: [&str; 2] = ["connect", "connect_timeout"];

// === impl Snapshot ===

impl Snapshot {
    pub fn take(admin: &Admin) -> Result<Self, LedgerError> {
        let lb_text = admin.metrics()?;
        let lb = Scrape::parse(&lb_text)?;
        let mut backends = Vec::new();
        for state in admin.backends()? {
            // a backend that does not respond, or is not a mock server, has no count of its own
            let Ok(text) = Mock::at(&state.address, admin.web()).metrics() else { continue };
            let Ok(scrape) = Scrape::parse(&text) else { continue };
            if !scrape.has(ARRIVED) {
                continue;
            }
            let seed = scrape.matching("mock_info", &[]).find_map(|info| info.label("seed")).unwrap_or_default();
            let life = format!("{seed} {}", state.pid.unwrap_or_default());
            backends.push(Scraped { id: state.id, life, arrived: scrape.count(ARRIVED, &[]), text });
        }
        Ok(Self { lb_text, lb, backends })
    }

    /// The number of retries since the start of lb.
    pub fn retries(&self) -> u64 {
        self.lb.count("lb_retries_total", &[])
    }

    /// By strategy: the picks since the start of lb that let a request wait while its pool had no queue.
    pub fn waits_without_queue(&self) -> BTreeMap<String, u64> {
        let mut waits = BTreeMap::new();
        for sample in self.lb.matching("lb_strategy_fallbacks_total", &[("reason", "no_queue")]) {
            *waits.entry(sample.label("strategy").unwrap_or_default().to_owned()).or_default() += sample.value as u64;
        }
        waits
    }

    fn in_flight(&self) -> u64 {
        self.lb.count("lb_requests_in_flight", &[]) + self.lb.count("lb_backend_requests_in_flight", &[])
    }
}

// === impl Ledger ===

impl Ledger {
    /// Begins a stretch; no request may be in flight.
    pub fn open(admin: &Admin) -> Result<Self, LedgerError> {
        let before = quiet(admin)?;
        let life = |scraped: &Scraped| {
            let life = Life { first: scraped.arrived, last: scraped.arrived, is_there: true };
            ((scraped.id.clone(), scraped.life.clone()), life)
        };
        let lives = before.backends.iter().map(life).collect();
        Ok(Self { before, lives })
    }

    pub fn before(&self) -> &Snapshot {
        &self.before
    }

    /// Reads the counts of the backends now. Call it before a backend ends.
    pub fn look(&mut self, admin: &Admin) -> Result<Snapshot, LedgerError> {
        let now = Snapshot::take(admin)?;
        self.note(&now);
        Ok(now)
    }

    /// Waits until no request is in flight, then compares the three counts.
    pub fn close(
        mut self,
        admin: &Admin,
        stretch: &str,
        client: ClientCount,
    ) -> Result<(Accounting, Snapshot), LedgerError> {
        let after = quiet(admin)?;
        self.note(&after);
        Ok((account(stretch, client, &self.before.lb, &after.lb, &self.lives), after))
    }

    fn note(&mut self, now: &Snapshot) {
        self.lives.values_mut().for_each(|life| life.is_there = false);
        for scraped in &now.backends {
            let key = (scraped.id.clone(), scraped.life.clone());
            // a process that started within the stretch began at 0
            let life = self.lives.entry(key).or_insert(Life { first: 0, last: 0, is_there: true });
            (life.last, life.is_there) = (scraped.arrived, true);
        }
    }
}

fn quiet(admin: &Admin) -> Result<Snapshot, LedgerError> {
    let deadline = Instant::now() + QUIET_WITHIN;
    loop {
        let snapshot = Snapshot::take(admin)?;
        match snapshot.in_flight() {
            0 => return Ok(snapshot),
            in_flight if Instant::now() > deadline => {
                return Err(LedgerError::NeverQuiet { in_flight, within: QUIET_WITHIN.as_secs() });
            }
            _ => std::thread::sleep(LOOK_EVERY),
        }
    }
}

fn account(
    stretch: &str,
    client: ClientCount,
    before: &Scrape,
    after: &Scrape,
    lives: &BTreeMap<(String, String), Life>,
) -> Accounting {
    let grown =
        |name: &str, labels: &[(&str, &str)]| after.count(name, labels).saturating_sub(before.count(name, labels));
    let balancer = grown("lb_requests_total", &[]);
    let mut wrong = Vec::new();
    let least = client.sent.saturating_sub(client.uncertain);
    if !(least..=client.sent).contains(&balancer) {
        let perhaps = if client.uncertain > 0 { format!(" ({least} at least)") } else { String::new() };
        wrong.push(format!("the client sent {}{perhaps}, the balancer counted {balancer}", client.sent));
    }

    let mut ids: Vec<&str> =
        after.matching("lb_backend_requests_total", &[]).filter_map(|it| it.label("backend")).collect();
    ids.extend(lives.keys().map(|(id, _)| id.as_str()));
    ids.sort_unstable_by_key(|id| natural(id));
    ids.dedup();
    let mut backends = Vec::new();
    for id in ids {
        let of_backend = [("backend", id)];
        let answered = grown("lb_backend_requests_total", &of_backend);
        let failed = grown("lb_backend_errors_total", &of_backend);
        let lost: u64 = NOT_ARRIVED
            .iter()
            .map(|reason| grown("lb_backend_errors_total", &[("backend", id), ("reason", reason)]))
            .sum();
        let of_id: Vec<&Life> = lives.iter().filter(|(key, _)| key.0 == id).map(|(_, life)| life).collect();
        let attempts = answered + failed;
        if of_id.is_empty() {
            continue; // not a mock server: it has no count to compare
        }
        let served: u64 = of_id.iter().map(|life| life.last.saturating_sub(life.first)).sum();
        let is_lower_bound = of_id.iter().any(|life| !life.is_there);
        // each response was an arrival; some of the failed attempts may have arrived
        let most = attempts - lost;
        let agrees = if is_lower_bound { served <= most } else { (answered..=most).contains(&served) };
        if !agrees {
            let bound = if is_lower_bound { " at least" } else { "" };
            wrong.push(format!(
                "{id} counted{bound} {served}, the balancer {attempts} attempts on it ({failed} failed)"
            ));
        }
        backends.push(BackendAccount { id: id.to_owned(), attempts, served, is_lower_bound });
    }
    Accounting {
        stretch: stretch.to_owned(),
        client: client.sent,
        balancer,
        attempts: grown("lb_backend_requests_total", &[]) + grown("lb_backend_errors_total", &[]),
        backends,
        mismatch: (!wrong.is_empty()).then(|| wrong.join("; ")),
    }
}

/// A sort key that puts `Server 10` after `Server 9`.
pub(crate) fn natural(id: &str) -> (String, u64) {
    let digits = id.len() - id.trim_end_matches(|char: char| char.is_ascii_digit()).len();
    let (stem, number) = id.split_at(id.len() - digits);
    (stem.to_owned(), number.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lb(requests: u64, answers: [u64; 2], connect: u64, reset: u64) -> Scrape {
        let text = format!(
            "lb_requests_total{{pool=\"default\",code=\"200\"}} {requests}\n\
             lb_backend_requests_total{{backend=\"S 1\",code=\"200\"}} {}\n\
             lb_backend_requests_total{{backend=\"S 2\",code=\"200\"}} {}\n\
             lb_backend_errors_total{{backend=\"S 2\",reason=\"connect\"}} {connect}\n\
             lb_backend_errors_total{{backend=\"S 2\",reason=\"reset\"}} {reset}\n",
            answers[0], answers[1]
        );
        Scrape::parse(&text).expect("well formed")
    }

    fn lives(of: &[(&str, &str, u64, u64, bool)]) -> BTreeMap<(String, String), Life> {
        let life = |&(id, life, first, last, is_there): &(&str, &str, u64, u64, bool)| {
            ((id.to_owned(), life.to_owned()), Life { first, last, is_there })
        };
        of.iter().map(life).collect()
    }

    fn sent(sent: u64, uncertain: u64) -> ClientCount {
        ClientCount { sent, uncertain }
    }

    #[test]
    fn equal_numbers_agree_and_earlier_counts_do_not_matter() {
        let lives = lives(&[("S 1", "a", 5, 55, true), ("S 2", "b", 5, 55, true)]);
        let found = account("all", sent(100, 0), &lb(10, [5, 5], 0, 0), &lb(110, [55, 55], 0, 0), &lives);
        assert_eq!((found.client, found.balancer, found.attempts, found.mismatch), (100, 100, 100, None));
        assert_eq!(
            found.backends[1],
            BackendAccount { id: "S 2".into(), attempts: 50, served: 50, is_lower_bound: false }
        );
    }

    #[test]
    fn one_missing_request_anywhere_is_reported_with_its_numbers() {
        let before = lb(0, [0, 0], 0, 0);
        let good = [("S 1", "a", 0, 50, true), ("S 2", "b", 0, 50, true)];
        let of = |client, after: &Scrape, of: &[(&str, &str, u64, u64, bool)]| {
            account("all", client, &before, after, &lives(of)).mismatch.unwrap_or_default()
        };
        let after = lb(100, [50, 50], 0, 0);
        assert_eq!(of(sent(101, 0), &after, &good), "the client sent 101, the balancer counted 100");
        assert_eq!(of(sent(101, 1), &after, &good), "", "its connection broke: it may not have arrived");
        assert_eq!(of(sent(99, 5), &after, &good), "the client sent 99 (94 at least), the balancer counted 100");
        let short = [("S 1", "a", 0, 50, true), ("S 2", "b", 0, 49, true)];
        assert_eq!(of(sent(100, 0), &after, &short), "S 2 counted 49, the balancer 50 attempts on it (0 failed)");
    }

    #[test]
    fn a_failed_attempt_may_have_arrived_or_not() {
        let before = lb(0, [0, 0], 0, 0);
        // two were refused a connection, one was reset: 50 or 51 have arrived
        let after = lb(103, [50, 50], 2, 1);
        let of = |arrived| {
            let lives = lives(&[("S 1", "a", 0, 50, true), ("S 2", "b", 0, arrived, true)]);
            account("all", sent(103, 0), &before, &after, &lives).mismatch
        };
        assert_eq!((of(50), of(51)), (None, None));
        assert!(of(49).is_some() && of(52).is_some());
    }

    #[test]
    fn a_dead_backend_is_a_lower_bound_together_with_its_successor() {
        let before = lb(0, [0, 0], 0, 0);
        let after = lb(100, [50, 50], 0, 3);
        let of = |dead: u64| {
            let lives = lives(&[("S 1", "a", 0, 50, true), ("S 2", "b", 0, dead, false), ("S 2", "c", 0, 30, true)]);
            account("all", sent(100, 0), &before, &after, &lives)
        };
        let found = of(15);
        assert_eq!(found.mismatch, None, "up to 8 requests may have been lost with it");
        assert_eq!(
            found.backends[1],
            BackendAccount { id: "S 2".into(), attempts: 53, served: 45, is_lower_bound: true }
        );
        assert!(of(24).mismatch.expect("too many").contains("at least 54"));
    }

    #[test]
    fn ids_are_in_the_order_of_their_numbers() {
        let mut ids = ["Server 10", "Server 9", "a", "Server 1"];
        ids.sort_by_key(|id| natural(id));
        assert_eq!(ids, ["Server 1", "Server 9", "Server 10", "a"]);
    }
}

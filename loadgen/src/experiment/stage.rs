//! The stage of a run: the balancer with its pool, the run's clock, and the collected events, marks and accounts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::arms::Declared;
use super::doubts;
use super::membership::{Change, Membership};
use super::plan::{ArmPlan, LoadPlan, Plan};
use super::run::ExperimentError;
use super::safeguards::Watched;
use crate::lab::{BackendStatus, Balancer, ClientCount, Interrupt, Ledger, Snapshot, natural};
use crate::load::{Outcome, Segment};
use crate::model::{self, Conclusion, Event, EventKind, Folder, Mark};
use crate::view::{Board, Form, Member, View};

#[derive(Debug)]
pub(super) struct Stage {
    pub(super) balancer: Balancer,
    pub(super) folder: Folder,
    pub(super) interrupt: Interrupt,
    pub(super) progress: View,
    /// The start of the run, the zero of `at_ms`.
    pub(super) origin: Instant,
    pub(super) events: Vec<Event>,
    pub(super) marks: Vec<Mark>,
    pub(super) accounting: Vec<crate::model::Accounting>,
    /// By strategy: the requests that it let wait, although the pool had no queue.
    pub(super) waits_without_queue: BTreeMap<String, u64>,
    /// The arm in charge, by label.
    pub(super) in_charge: String,
    pub(super) membership: Membership,
    pub(super) safeguards: Watched,
}

/// The interval between lines of progress.
const LINES_EVERY: Duration = Duration::from_secs(1);

// === impl Stage ===

impl Stage {
    pub(super) fn at_ms(&self, moment: Instant) -> u64 {
        u64::try_from(moment.saturating_duration_since(self.origin).as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.at_ms(Instant::now())
    }

    /// Records an event with the current time and shows it.
    pub(super) fn event(&mut self, kind: EventKind, backend: Option<String>, text: impl Into<String>) {
        let text = text.into();
        self.progress.say(&text);
        self.events.push(Event { at_ms: self.now_ms(), until_ms: None, kind, backend, text });
    }

    /// Records the finding of a check.
    pub(super) fn mark(&mut self, mark: Mark) {
        self.marks.push(mark);
    }

    /// Records the doubts of the load engine about its own numbers.
    pub(super) fn doubt(&mut self, outcome: &Outcome, is_closed_loop: bool) {
        for doubt in &outcome.doubts {
            self.progress.say(&format!("doubtful: {doubt}"));
        }
        self.marks.extend(doubts::marks(outcome, is_closed_loop));
    }

    /// Swaps to an arm, if it is not already in charge. With safeguards it is put in charge again, because lb may
    /// remember failures from its last turn.
    pub(super) fn swap(&mut self, arm: &ArmPlan) -> Result<(), ExperimentError> {
        if self.in_charge == arm.label && !self.safeguards.are_studied() {
            return Ok(());
        }
        self.safeguards.swap(&self.balancer, arm, &self.interrupt)?;
        self.in_charge.clone_from(&arm.label);
        self.progress.board().tell(|facts| facts.strategy.clone_from(&arm.label));
        self.event(EventKind::Swap, None, format!("{} takes over", arm.label));
        Ok(())
    }

    /// Marks the run if lb replaced this arm: lb rolls back a strategy that fails in its first seconds. An error if lb
    /// has other safeguards than the plan gives this arm.
    pub(super) fn check_in_charge(&mut self, arm: &ArmPlan) -> Result<(), ExperimentError> {
        let status = self.balancer.admin.status()?;
        self.safeguards.check(arm, &status)?;
        let found = status.pools.into_iter().find(|pool| pool.name == "default").map(|pool| pool.strategy);
        if let Some(found) = found.filter(|found| *found != arm.strategy) {
            let reason =
                format!("lb replaced {} by {found} while {} was measured (see lb/lb.log)", arm.strategy, arm.label);
            self.mark(Mark::invalid("strategy", reason, &Conclusion::all()));
            self.in_charge.clear();
        }
        Ok(())
    }

    /// An arm in the form of the manifest.
    pub(super) fn arm(&self, declared: &Declared, arm: &ArmPlan) -> model::Arm {
        let digest = self.safeguards.digest(&arm.label).unwrap_or(&self.balancer.config_sha256);
        declared.arm(arm, digest, self.safeguards.of(&arm.label))
    }

    /// The ids of the pool in natural order: `Server 2` before `Server 10`.
    pub(super) fn pool(&mut self) -> Result<Vec<String>, ExperimentError> {
        let states = self.balancer.admin.backends()?;
        self.note_operator(&states);
        let mut ids: Vec<String> = states.iter().map(|backend| backend.id.clone()).collect();
        ids.sort_by_key(|id| natural(id));
        self.tell_pool(states, false);
        Ok(ids)
    }

    /// Updates the view. `is_watched`: the next update comes soon, so requests in flight are shown.
    pub(super) fn tell_pool(&self, states: Vec<BackendStatus>, is_watched: bool) {
        let member = |state: BackendStatus| Member {
            id: state.id,
            in_flight: is_watched.then_some(state.in_flight),
            is_eligible: state.eligible,
        };
        let mut members: Vec<Member> = states.into_iter().map(member).collect();
        members.sort_by_cached_key(|member| natural(&member.id));
        self.progress.board().tell(|facts| facts.pool = members);
    }

    /// Resizes the pool to `n`. New backends get the lowest free numbers. Those with the highest numbers are removed
    /// first.
    pub(super) fn resize(&mut self, n: u32) -> Result<Vec<String>, ExperimentError> {
        let ids = self.pool()?;
        let now = ids.len() as u32;
        if n > now {
            self.balancer.admin.add(n - now)?;
            self.event(EventKind::Add, None, format!("{} added, N = {n}", n - now));
        } else if n < now {
            let surplus = ids[n as usize..].to_vec();
            self.balancer.admin.remove(&surplus)?;
            self.event(EventKind::Remove, None, format!("{} removed, N = {n}", surplus.join(", ")));
        }
        self.adopt()?;
        self.balancer.wait_for_replicas(n, &self.interrupt)?;
        self.pool()
    }

    /// Takes over the members after the run changed the pool.
    pub(super) fn adopt(&mut self) -> Result<(), ExperimentError> {
        self.membership.adopt(&self.balancer.admin.backends()?);
        Ok(())
    }

    /// Records the changes that an operator made since the last poll.
    pub(super) fn note_operator(&mut self, states: &[BackendStatus]) {
        let is_first = !self.membership.has_changed();
        let changes = self.membership.changes(states);
        if let (true, [Change { text, .. }, ..]) = (is_first, changes.as_slice()) {
            let reason = format!(
                "{text} at {:.1} s of the run: from then on the pool is different, and counts are not compared with a strategy's \
                 declaration",
                self.now_ms() as f64 / 1e3
            );
            self.mark(Mark::warning("pool", reason));
        }
        for Change { backend, text } in changes {
            self.event(EventKind::Operator, Some(backend), text);
        }
    }

    /// Shows the end of the measurement.
    pub(super) fn conclude(&self, ended: Option<&ExperimentError>) {
        self.progress.board().tell(|facts| {
            // the reason is printed below
            let phase = match ended {
                None => "done",
                Some(ExperimentError::Interrupted(_)) => "interrupted",
                Some(_) => "ended early",
            };
            facts.phase = phase.to_owned();
            (facts.end, facts.next) = (None, None);
        });
    }

    /// Restores a balancer that loadgen did not start to its own strategy and `n` backends.
    pub(super) fn put_back(&mut self, n: u32) -> Result<(), ExperimentError> {
        if self.balancer.is_ours() {
            return Ok(());
        }
        if !self.in_charge.is_empty() {
            self.balancer.admin.reload()?;
        }
        self.resize(n).map(drop)
    }

    /// Begins a stretch of accounting.
    pub(super) fn open_ledger(&mut self, stretch: &str) -> Result<Ledger, ExperimentError> {
        let ledger = Ledger::open(&self.balancer.admin)?;
        self.keep_scrapes("before", stretch, ledger.before())?;
        Ok(ledger)
    }

    /// Ends the stretch. Returns the number of retries in it.
    pub(super) fn close_ledger(
        &mut self,
        ledger: Ledger,
        stretch: &str,
        client: ClientCount,
    ) -> Result<u64, ExperimentError> {
        let (retries, waits) = (ledger.before().retries(), ledger.before().waits_without_queue());
        let (accounting, after) = ledger.close(&self.balancer.admin, stretch, client)?;
        self.keep_scrapes("after", stretch, &after)?;
        self.accounting.push(accounting);
        for (strategy, now) in after.waits_without_queue() {
            let grown = now.saturating_sub(waits.get(&strategy).copied().unwrap_or_default());
            *self.waits_without_queue.entry(strategy).or_default() += grown;
        }
        Ok(after.retries().saturating_sub(retries))
    }

    fn keep_scrapes(&self, when: &str, stretch: &str, snapshot: &Snapshot) -> Result<(), ExperimentError> {
        let slug = |text: &str| {
            let sign = |char: char| if char.is_ascii_alphanumeric() { char.to_ascii_lowercase() } else { '_' };
            text.chars().map(sign).collect::<String>()
        };
        let name = |of: &str| format!("{when}-{}-{}.txt", slug(stretch), slug(of));
        self.folder.write_scrape(&name("lb"), &snapshot.lb_text)?;
        for backend in &snapshot.backends {
            self.folder.write_scrape(&name(&backend.id), &backend.text)?;
        }
        Ok(())
    }
}

/// Starts the view of a run; `in_charge`: the label of the arm.
pub(super) fn view(plan: &Plan, form: Form, origin: Instant, in_charge: &str) -> View {
    let board = Board::new(plan.title_in_words(), origin);
    board.tell(|facts| {
        facts.phase = "setting up".to_owned();
        facts.strategy = in_charge.to_owned();
        // a closed loop has no known end
        facts.end = matches!(plan.load, LoadPlan::Open { .. }).then(|| (origin + plan.budget, true));
    });
    View::start(board, form, LINES_EVERY)
}

/// The client's counts of these segments.
pub(super) fn client_count<'a>(segments: impl Iterator<Item = &'a Segment>) -> ClientCount {
    let mut count = ClientCount::default();
    for segment in segments {
        count.sent += segment.sent;
        count.uncertain += segment.uncertain;
    }
    count.uncertain = count.uncertain.min(count.sent);
    count
}

//! The actor: the one task that owns the control wing. It receives messages and dispatches them.
//!
//! Why an actor: commands, checks, processes, builds and reloads change the same state. One owner that takes them one
//! after the other needs no lock.
//!
//! Invariants: the actor never blocks and waits only for its next message. Slow work runs elsewhere and reports back.
//! The logic is in [`Membership`], [`Reloads`] and [`Publisher`], which do not name the actor.

mod saver;
mod status;

use std::collections::VecDeque;
use std::time::{Duration, Instant as StdInstant};

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::control::handle::Command;
use crate::control::health::Checked;
use crate::control::launcher::Report;
use crate::control::membership::{BackendKey, Drained, Membership, Resolved};
use crate::control::pools::close;
use crate::control::publish::{Built, Ended, FollowUp, Progress, Publisher};
use crate::control::reload::{PreparationResult, Reloads};
use crate::control::state::StateDir;

pub(super) use saver::Saver;
use saver::Text;

/// Reports of one kind that may wait for the actor. More wait at their sender.
pub(super) const REPORTS_MAX: usize = 1_024;
/// The longest sleep when nothing is due: far away, but arithmetic on it does not overflow.
const FAR: Duration = Duration::from_secs(3600);

/// Everything that the actor receives, a typed channel for each kind.
pub(super) struct Inbox {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) checked: mpsc::Receiver<Checked<BackendKey>>,
    pub(super) reports: mpsc::Receiver<Report>,
    pub(super) resolved: mpsc::Receiver<Resolved>,
    pub(super) drained: mpsc::Receiver<Drained>,
    pub(super) prepared: mpsc::Receiver<PreparationResult>,
}

pub(super) struct Actor {
    inbox: Inbox,
    /// Messages that would change members, held back while a reload's pickers are made.
    held_back: VecDeque<Message>,
    desk: Publisher,
    membership: Membership,
    reloads: Reloads,
    started: StdInstant,
    /// Writes what strategies have learnt, if that is to be kept.
    saver: Option<Saver>,
    /// Held for its lock.
    _state: StateDir,
}

enum Message {
    /// `None`: every [`Handle`](super::Handle) is gone.
    Command(Option<Command>),
    Checked(Checked<BackendKey>),
    Report(Report),
    Resolved(Resolved),
    Drained(Drained),
    Prepared(PreparationResult),
    Progress(Progress),
    /// What strategies have learnt, to be written. `None`: they did not respond.
    Learnt(Option<Text>),
    /// A worker found a backend that fails.
    Alarm,
    /// Something may be due, see `Actor::look`.
    Look,
}

// === impl Message ===

impl Message {
    /// Every message is named, so that a new one does not compile before this is decided.
    fn changes_members(&self) -> bool {
        match self {
            Self::Command(Some(command)) => {
                matches!(command, Command::Add(..) | Command::Remove(..) | Command::Change { .. })
            }
            Self::Resolved(_) => true,
            Self::Command(None) | Self::Checked(_) | Self::Report(_) | Self::Drained(_) => false,
            Self::Prepared(_) | Self::Progress(_) | Self::Learnt(_) | Self::Alarm | Self::Look => false,
        }
    }
}

// === impl Actor ===

impl Actor {
    pub(super) fn new(
        inbox: Inbox,
        desk: Publisher,
        membership: Membership,
        reloads: Reloads,
        (state, saver): (StateDir, Option<Saver>),
    ) -> Self {
        let (held_back, started) = (VecDeque::new(), StdInstant::now());
        Self { inbox, held_back, desk, membership, reloads, started, saver, _state: state }
    }

    /// Runs until it is told to stop, or until no [`Handle`](super::Handle) is left.
    pub(super) async fn run(mut self) {
        loop {
            match self.next().await {
                Message::Command(Some(Command::Stop(answer))) => {
                    self.stop().await;
                    let _ = answer.send(());
                    return;
                }
                Message::Command(None) => return self.stop().await,
                message if self.reloads.is_assembling() && message.changes_members() => {
                    self.held_back.push_back(message);
                }
                message => self.dispatch(message),
            }
            self.look();
            self.reloads.show_progress();
        }
    }

    async fn next(&mut self) -> Message {
        if !self.reloads.is_assembling()
            && let Some(message) = self.held_back.pop_front()
        {
            return message;
        }
        let until = self.next_look();
        let (inbox, hall, hears) = (&mut self.inbox, self.desk.hall.clone(), self.membership.hears_alarms());
        tokio::select! {
            command = inbox.commands.recv() => Message::Command(command),
            Some(checked) = inbox.checked.recv() => Message::Checked(checked),
            Some(report) = inbox.reports.recv() => Message::Report(report),
            Some(resolved) = inbox.resolved.recv() => Message::Resolved(resolved),
            Some(drained) = inbox.drained.recv() => Message::Drained(drained),
            Some(prepared) = inbox.prepared.recv() => Message::Prepared(prepared),
            () = hall.alarm(), if hears => Message::Alarm,
            progress = self.desk.progress() => Message::Progress(progress),
            text = Saver::asked(self.saver.as_mut()) => Message::Learnt(text),
            () = sleep_until(until) => Message::Look,
        }
    }

    fn dispatch(&mut self, message: Message) {
        let desk = &mut self.desk;
        match message {
            Message::Command(None) | Message::Look => {}
            // The look after each message does what follows.
            Message::Progress(Progress::Acknowledged | Progress::Rebuild) => {}
            Message::Command(Some(command)) => self.command(command),
            Message::Checked(checked) => self.membership.checked(desk, checked),
            Message::Report(report) => self.membership.reported(desk, report),
            Message::Resolved(resolved) => self.membership.resolved(desk, resolved),
            Message::Drained(drained) => self.membership.drained(desk, drained),
            Message::Alarm => self.membership.look_at_outliers(desk, true),
            Message::Prepared(prepared) => self.reloads.prepared(desk, prepared),
            Message::Progress(Progress::Ended(ended)) => self.built(ended),
            Message::Learnt(text) => {
                if let Some(saver) = &mut self.saver {
                    saver.take(text);
                }
            }
        }
    }

    fn command(&mut self, command: Command) {
        let desk = &mut self.desk;
        match command {
            Command::Reload { request, by, waits, answer } => self.reloads.reload(desk, request, by, waits, answer),
            Command::RollBack { pool, dry_run: false, answer } => self.reloads.roll_back(desk, pool, answer),
            Command::RollBack { pool, dry_run: true, answer } => drop(answer.send(self.reloads.going_back(desk, pool))),
            Command::Replicas(answer) => drop(answer.send(Membership::replicas(desk))),
            Command::Add(add, answer) => self.membership.add(desk, add, answer),
            Command::Remove(remove, answer) => self.membership.remove(desk, &remove, answer),
            Command::Change { pool, id, change, answer } => self.membership.change(desk, &pool, &id, change, answer),
            Command::AllJoined(answer) => self.membership.wait_for_all(desk, answer),
            Command::Status(answer) => drop(answer.send(self.status())),
            Command::Backends(answer) => drop(answer.send(self.backends())),
            Command::Explain(request, answer) => self.explain(request, answer),
            Command::Strategies(answer) => self.strategies(answer),
            Command::Ring { pool, answer } => self.ring(&pool, answer),
            // Handled in `run`, where the loop ends.
            Command::Stop(answer) => drop(answer),
        }
    }

    fn built(&mut self, ended: Ended) {
        let Ended { covers, built } = ended;
        let (desk, membership) = (&mut self.desk, &mut self.membership);
        let built = match built {
            Some(Built::Reload(built)) => return self.reloads.assembled(desk, membership, Some(built), covers),
            None if self.reloads.is_assembling() => return self.reloads.assembled(desk, membership, None, covers),
            Some(Built::Members(built)) => Some(built),
            None => None,
        };
        for refused in desk.publish_members(covers, built) {
            membership.refused(desk, refused);
        }
        membership.write_overlay(desk);
    }

    /// Does everything that is due now.
    fn look(&mut self) {
        let desk = &mut self.desk;
        self.membership.fail_late_joins(desk);
        self.membership.cut_late_drains(desk);
        self.membership.look_at_outliers(desk, false);
        self.membership.follow_eligibility(desk);
        self.membership.look_at_shares(desk);
        desk.tell_if_stuck();
        if let Some(saver) = &mut self.saver {
            saver.begin_if_due(desk);
        }
        self.reloads.look_at_probation(desk);
        if !desk.is_building() {
            self.reloads.assemble_if_ready(desk);
            desk.build_if_due();
        }
        for follow_up in desk.due() {
            self.follow_up(follow_up);
        }
    }

    /// The next time at which something may be due without a message.
    fn next_look(&self) -> Instant {
        let saver = self.saver.as_ref().and_then(Saver::next_look);
        let looks =
            [self.membership.next_look(&self.desk), self.desk.next_look(), self.reloads.next_look(&self.desk), saver];
        looks.into_iter().flatten().min().unwrap_or_else(|| Instant::now() + FAR)
    }

    fn follow_up(&mut self, follow_up: FollowUp) {
        let desk = &mut self.desk;
        match follow_up {
            FollowUp::Replicas(answer) => drop(answer.send(Ok(Membership::replicas(desk)))),
            FollowUp::Undone { answer, error } => drop(answer.send(Err(error))),
            FollowUp::Change { pool, id, answer } => drop(answer.send(self.membership.changed(desk, pool, &id))),
            FollowUp::AllJoined(answer) => drop(answer.send(Ok(()))),
            FollowUp::Reload { answers, report } => {
                answers.into_iter().for_each(|answer| drop(answer.send(Ok((*report).clone()))));
            }
            FollowUp::Replaced(backends) => backends.iter().for_each(|backend| close(backend)),
            FollowUp::InCharge { pool, instance } => Reloads::in_charge(desk, pool, instance),
            FollowUp::PoolLeft { pool } => desk.pool_left(pool),
            FollowUp::Removed { pool, member, supervisor, deadline } => {
                self.membership.left(desk, pool, &member, supervisor, deadline);
            }
        }
    }

    /// Ends everything that lb started. Commands that arrive later get an error: lb is stopping.
    async fn stop(self) {
        let Self { inbox, held_back, desk, membership, reloads, started: _, saver, _state } = self;
        drop((inbox, held_back));
        if let Some(saver) = saver {
            saver.finish(desk.learnt()).await;
        }
        let ledger = reloads.stop(&desk);
        membership.stop().await;
        ledger.finish().await;
        desk.stop();
    }
}

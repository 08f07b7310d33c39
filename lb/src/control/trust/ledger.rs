//! The ledger: which strategies crashed in earlier runs, and which one was proven last in each pool.
//!
//! A start reads [`Records`] and decides what to load. Then the [`Ledger`] follows the run: it records strategies that
//! were proven, and an operator's reload removes crashes from it. Invariants: disk is written outside of the actor's
//! thread. A strategy whose record is lost is only on probation again. Crashes of proven strategies are reported by one
//! start. They stay in the file while they may be the begin of a loop.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lb_strategy_host::Strategy;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::crash::{Crash, Proven, find_loops};
use crate::control::api::{CrashStatus, RolledBack};
use crate::control::state::{BlameFile, OverlayWriter, StateDir};

/// What a start finds in the state directory.
pub(in crate::control) struct Records {
    crashes: Vec<Crash>,
    /// By pool.
    proven: BTreeMap<String, Proven>,
    blame: BlameFile,
    /// The folder of private copies, which may have bytes that the operator's file no longer has.
    copies: PathBuf,
    pub(in crate::control) warnings: Vec<String>,
}

/// A crash that this start found, with the pool that it is about.
#[derive(Clone, Debug)]
pub(in crate::control) struct Found {
    pub(in crate::control) pool: String,
    pub(in crate::control) crash: Crash,
    pub(in crate::control) status: CrashStatus,
}

pub(in crate::control) struct Ledger {
    /// Those that are on disk, too.
    crashes: Vec<Crash>,
    proven: BTreeMap<String, Proven>,
    /// For `/status`.
    found: Vec<Found>,
    blame: BlameFile,
    writer: OverlayWriter,
    /// The last change of the blame file.
    change: Option<JoinHandle<()>>,
}

// === impl Records ===

impl Records {
    /// Blocks.
    pub(in crate::control) fn read(state: &StateDir) -> Self {
        let (proven, warning) = state.proven().read(parse);
        Self::of(proven, state.blame(), state.plugins(), warning.into_iter().collect())
    }

    /// The same from a directory that another lb may use. Changes nothing. Blocks.
    pub(in crate::control) fn peek(dir: &Path) -> Self {
        let (proven, blame, copies) = StateDir::files_to_look_at(dir);
        Self::of(proven.peek(parse), blame, copies, Vec::new())
    }

    fn of(proven: BTreeMap<String, Proven>, blame: BlameFile, copies: PathBuf, mut warnings: Vec<String>) -> Self {
        let lines = blame.lines().unwrap_or_else(|error| {
            warnings
                .push(format!("crashes of earlier runs in {blame} cannot be read ({error}): starting without them"));
            Vec::new()
        });
        let crashes = lines.iter().filter_map(|line| {
            serde_json::from_str(line)
                .map_err(|error| warnings.push(format!("a line of {blame} is no crash ({error}): it is ignored")))
                .ok()
        });
        let mut crashes: Vec<Crash> = crashes.collect();
        crashes.iter_mut().for_each(|crash| crash.look_at_proven(&proven));
        find_loops(&mut crashes);
        Self { crashes, proven, blame, copies, warnings }
    }

    /// The newest crash of a plugin with these bytes and options in this pool. One that keeps it out goes first.
    /// Others are reported once.
    pub(in crate::control) fn crash_of(&self, pool: &str, sha256: &str, options: &Value) -> Option<&Crash> {
        let of = |keeps_out| {
            let is_meant =
                move |crash: &&Crash| crash.keeps_out() == keeps_out && crash.is_of(pool, Some(sha256), options);
            self.crashes.iter().rev().find(is_meant)
        };
        of(true).or_else(|| of(false).filter(|crash| !crash.is_reported))
    }

    /// The start reports these crashes. Removes those that no later start needs. Blocks, and comes before a plugin runs
    /// here, so that no crash of this run is written at the same time.
    pub(in crate::control) fn settle(&mut self) {
        let now_s = jiff::Timestamp::now().as_second();
        let before = self.crashes.clone();
        self.crashes.retain(|crash| crash.keeps_out() || crash.may_count(now_s));
        self.crashes.iter_mut().for_each(|crash| crash.is_reported = true);
        if self.crashes != before
            && let Err(error) = self.blame.replace(&lines(&self.crashes))
        {
            self.warnings.push(format!("crashes in {} cannot be removed: {error}", self.blame));
        }
    }

    /// Crashes that keep a strategy out and are none of `found`: their strategies are not configured now. One sentence
    /// for each.
    pub(in crate::control) fn others(&self, found: &[Found]) -> Vec<String> {
        let is_told = |crash: &Crash| found.iter().any(|one| one.crash.is_same(crash));
        let crashes = self.crashes.iter().filter(|crash| crash.keeps_out() && !is_told(crash));
        let mut sentences: Vec<String> = crashes
            .map(|crash| {
                let pool = crash.pool.as_deref().unwrap_or("unknown");
                format!(
                    "pool {pool}: strategy {} crashed in an earlier run ({}). The file names another one, which is \
                     loaded. `lb reload` forgets the crash",
                    crash.strategy(),
                    crash.cause()
                )
            })
            .collect();
        sentences.dedup();
        sentences
    }

    /// The last proven strategy of the pool, unless it is to blame as well, and the files that may contain it.
    pub(in crate::control) fn proven_in(&self, pool: &str) -> Option<(&Proven, impl Iterator<Item = PathBuf>)> {
        let proven = self.proven.get(pool)?;
        let is_blamed = self.crash_of(pool, &proven.sha256, &proven.options).is_some_and(Crash::keeps_out);
        let copy = self.copies.join(format!("{}.so", proven.sha256));
        let files = proven.file.clone().into_iter().chain([copy]).filter(|path: &PathBuf| Path::exists(path));
        (!is_blamed).then_some((proven, files))
    }
}

// === impl Ledger ===

impl Ledger {
    /// `found`: what this start has reported.
    pub(in crate::control) fn new(records: Records, found: Vec<Found>, writer: OverlayWriter) -> Self {
        let Records { crashes, proven, blame, .. } = records;
        Self { crashes, proven, found, blame, writer, change: None }
    }

    /// The strategy in charge of the pool has begun, or its standing has changed.
    pub(in crate::control) fn note(&mut self, pool: &str, strategy: &Strategy, options: &Value, is_proven: bool) {
        let Some(now) = Proven::of(strategy, options) else { return };
        let is_recorded = self.proven.get(pool).is_some_and(|recorded| recorded.is_same(&now));
        if is_proven || is_recorded {
            strategy.set_proven();
        }
        if is_proven && !is_recorded {
            self.proven.insert(pool.to_owned(), now);
            match serde_json::to_string(&self.proven) {
                Ok(text) => self.writer.write(text),
                Err(error) => tracing::error!(%error, "the record of proven strategies cannot be written"),
            }
        }
    }

    /// The crash of this candidate, if it may not be loaded without an operator's request.
    pub(in crate::control) fn crash_of(&self, pool: &str, sha256: Option<&str>, options: &Value) -> Option<RolledBack> {
        let crash = self.crashes.iter().find(|crash| crash.keeps_out() && crash.is_of(pool, sha256, options))?;
        Some(crash.rolled_back(pool, options))
    }

    /// An operator's reload has put its strategies in charge: removes the crashes that are `forgiven`, and hangs of
    /// this run.
    pub(in crate::control) fn forgive(&mut self, forgiven: impl Fn(&Crash) -> bool) {
        self.found.retain(|one| !forgiven(&one.crash));
        self.crashes.retain(|crash| !forgiven(crash));
        self.write_crashes();
    }

    /// Another strategy is in charge of the pool: what the start has reported about it is over.
    pub(in crate::control) fn replaced(&mut self, pool: &str) {
        self.found.retain(|one| one.pool != pool);
    }

    /// The crash that the start has reported for this pool.
    pub(in crate::control) fn found_in(&self, pool: &str) -> Option<&CrashStatus> {
        self.found.iter().find(|one| one.pool == pool).map(|one| &one.status)
    }

    /// Waits until everything is on disk.
    pub(in crate::control) async fn finish(self) {
        if let Some(change) = self.change {
            let _ = change.await;
        }
        self.writer.finish().await;
    }

    /// Writes the crashes, after the change before.
    fn write_crashes(&mut self) {
        let (lines, before, blame) = (lines(&self.crashes), self.change.take(), self.blame.clone());
        self.change = Some(tokio::spawn(async move {
            if let Some(before) = before {
                let _ = before.await;
            }
            let written = tokio::task::spawn_blocking(move || {
                blame
                    .replace(&lines)
                    .map_err(|error| tracing::error!(file = %blame, %error, "crashes cannot be removed"))
            });
            let _ = written.await;
        }));
    }
}

fn lines(crashes: &[Crash]) -> Vec<String> {
    crashes.iter().filter_map(|crash| serde_json::to_string(crash).ok()).collect()
}

fn parse(text: &str) -> Result<BTreeMap<String, Proven>, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

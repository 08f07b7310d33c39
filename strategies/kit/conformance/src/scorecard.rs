//! The score card of a plugin: one row for each check, with the measured figure, the required bar and a sentence.
//!
//! Why a stream of [`Event`]s and not a complete card: the plugin is native code in the process that runs the checks.
//! If it crashes or hangs, the earlier rows are still known. The check that began and did not end has failed.
//!
//! Why the time of a pick comes first: the checks with very many picks make fewer of them if one takes long. If it
//! takes longer than `TESTABLE_PICK`, the other checks do not run.
//!
//! Invariants: a check returns a result and does not panic. Requests come from a seed. Each row is reported once.

mod answers;
mod balance;
mod cost;
mod disruption;
mod expectation;
mod explain;
mod history;
mod hooks;
mod leftovers;
mod subject;
mod threads;
mod waits;

use std::path::Path;
use std::time::Duration;

use lb_strategy_host::{Loader, Remains, Wanted};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use expectation::{Balance, Consistent, Expectation};

use subject::Subject;

/// A strategy fails its probation in `lb` if most of its picks take longer.
pub const SLOW_PICK: Duration = Duration::from_micros(250);
/// With longer picks the other checks would take many minutes.
const TESTABLE_PICK: Duration = Duration::from_millis(1);

/// The checks, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    Loads,
    PickTime,
    Expectation,
    Fairness,
    Weights,
    Disruption,
    Determinism,
    Instances,
    Threads,
    Answers,
    Waits,
    DryPicks,
    State,
    Finishes,
    Hooks,
    Explain,
    Memory,
    Leftovers,
}

/// The result of a check. A warning needs attention, but the card still passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Pass,
    Fail,
    Warn,
    NotApplicable,
}

/// One line of the card. Scripts use these field names, so they must not change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub row: Check,
    pub verdict: Verdict,
    /// The measured value.
    pub figure: String,
    /// The required value.
    pub bar: String,
    /// The meaning, in one sentence.
    pub sentence: String,
}

/// A report while the checks run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The plugin was opened. The fields are from its table.
    Plugin {
        name: String,
        version: String,
        build: String,
    },
    Begin {
        row: Check,
    },
    /// Calls have returned since the last event. The runner of the checks sends it, see
    /// [`returned`](crate::pulse::returned).
    Progress,
    Row(Row),
    End,
}

/// A row without the name of its check.
struct Finding {
    verdict: Verdict,
    figure: String,
    bar: String,
    sentence: String,
}

/// The result of a check. An error says why the check could not run to its end; its row then fails.
type Found = Result<Finding, String>;
type CheckFn = fn(&Subject) -> Found;

const CHECKS: [(Check, CheckFn); 17] = [
    (Check::PickTime, cost::pick_time),
    (Check::Expectation, expectation::check),
    (Check::Fairness, balance::fairness),
    (Check::Weights, balance::weights),
    (Check::Disruption, disruption::check),
    (Check::Determinism, history::determinism),
    (Check::Instances, history::instances),
    (Check::Threads, threads::check),
    (Check::Answers, answers::answers),
    (Check::Waits, waits::check),
    (Check::DryPicks, answers::dry_picks),
    (Check::State, answers::state),
    (Check::Finishes, answers::finishes),
    (Check::Hooks, hooks::check),
    (Check::Explain, explain::check),
    (Check::Memory, cost::memory),
    (Check::Leftovers, leftovers::check),
];

/// Runs all checks on the plugin in `file` and reports their rows one by one. `directory` gets the plugin's private
/// copy.
pub fn run(file: &Path, options: &Value, seed: u64, directory: &Path, mut tell: impl FnMut(Event)) {
    tell(Event::Begin { row: Check::Loads });
    match load(file, options, seed, directory) {
        Ok(subject) => {
            let plugin = subject.plugin();
            tell(Event::Plugin {
                name: plugin.name().to_owned(),
                version: plugin.version().to_owned(),
                build: plugin.build().to_owned(),
            });
            tell(Event::Row(
                Finding::pass("all stages", "read to picker", "it loads and accepts its options").row(Check::Loads),
            ));
            for (check, run) in CHECKS {
                if let Some(time) = subject.pick_time.get().filter(|time| **time > TESTABLE_PICK) {
                    tell(Event::Row(Row::not_reached(check, &format!("a pick takes {time:.0?}"))));
                    continue;
                }
                tell(Event::Begin { row: check });
                let finding = run(&subject).unwrap_or_else(|sentence| Finding::fail("", "", sentence));
                tell(Event::Row(finding.row(check)));
            }
        }
        Err((stage, sentence)) => {
            tell(Event::Row(Finding::fail(format!("stage {stage}"), "all stages", sentence).row(Check::Loads)));
        }
    }
    tell(Event::End);
}

/// One row, for a strategy in its own tests. The row `leftovers` is right only if no other test runs in this process.
pub fn row(check: Check, strategy: impl crate::Subject, options: &Value, seed: u64) -> Row {
    let before = Remains::look();
    let found = strategy.plugin().and_then(|plugin| {
        let subject = Subject::new(plugin, options.clone(), seed, before);
        match CHECKS.iter().find(|(known, _)| *known == check) {
            Some((_, run)) => run(&subject),
            None => subject.instance().map(|_| Finding::pass("an instance", "an instance", "it accepts its options")),
        }
    });
    found.unwrap_or_else(|sentence| Finding::fail("", "", sentence)).row(check)
}

/// The rows that did not pass, of all checks that do not depend on the machine: for a strategy in its own tests.
pub fn complaints(strategy: impl crate::Subject, options: &Value, seed: u64) -> Vec<Row> {
    const BY_MACHINE: [Check; 3] = [Check::PickTime, Check::Memory, Check::Leftovers];
    let rows =
        Check::all().filter(|check| !BY_MACHINE.contains(check)).map(|check| row(check, strategy, options, seed));
    rows.filter(|row| matches!(row.verdict, Verdict::Fail | Verdict::Warn)).collect()
}

fn load(file: &Path, options: &Value, seed: u64, directory: &Path) -> Result<Subject, (String, String)> {
    // lb checks which users may change the file before the plugin serves. The user of this check takes that risk.
    let loader = Loader::new(directory.to_owned(), subject::WORKERS as usize).with_group_writable(true);
    let refused = |error: lb_strategy_host::LoadError| (error.stage.to_string(), error.reason);
    let staged = loader.stage(&Wanted { path: file, name: None, sha256: None }).map_err(refused)?;
    let before = Remains::look();
    let plugin = loader.open(staged).map_err(refused)?;
    let subject = Subject::new(plugin, options.clone(), seed, before);
    let instance = subject.instance().map_err(|reason| ("new".to_owned(), reason))?;
    crate::World::labelled(3).picker(&instance).map_err(|reason| ("picker".to_owned(), reason))?;
    Ok(subject)
}

// === impl Check ===

impl Check {
    /// Every row of a card, in its order.
    pub fn all() -> impl Iterator<Item = Self> {
        std::iter::once(Self::Loads).chain(CHECKS.map(|(check, _)| check))
    }

    /// The name of the row in a table.
    pub fn title(self) -> &'static str {
        match self {
            Self::Loads => "loads",
            Self::PickTime => "pick time",
            Self::Expectation => "expectation",
            Self::Fairness => "fairness",
            Self::Weights => "weights",
            Self::Disruption => "disruption",
            Self::Determinism => "determinism",
            Self::Instances => "instances",
            Self::Threads => "threads",
            Self::Answers => "answers",
            Self::Waits => "waits",
            Self::DryPicks => "dry picks",
            Self::State => "state",
            Self::Finishes => "finishes",
            Self::Hooks => "hooks",
            Self::Explain => "explain",
            Self::Memory => "memory",
            Self::Leftovers => "leftovers",
        }
    }
}

// === impl Row ===

impl Row {
    /// A failed row, for a caller that knows how the process with the checks ended.
    pub fn failed(row: Check, figure: impl Into<String>, bar: impl Into<String>, sentence: impl Into<String>) -> Self {
        Finding::fail(figure, bar, sentence).row(row)
    }

    /// A row whose check did not run.
    pub fn not_reached(row: Check, why: &str) -> Self {
        Finding::not_applicable(format!("not reached: {why}")).row(row)
    }
}

// === impl Finding ===

impl Finding {
    fn pass(figure: impl Into<String>, bar: impl Into<String>, sentence: impl Into<String>) -> Self {
        Self { verdict: Verdict::Pass, figure: figure.into(), bar: bar.into(), sentence: sentence.into() }
    }

    fn fail(figure: impl Into<String>, bar: impl Into<String>, sentence: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, ..Self::pass(figure, bar, sentence) }
    }

    fn warn(figure: impl Into<String>, bar: impl Into<String>, sentence: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warn, ..Self::pass(figure, bar, sentence) }
    }

    fn not_applicable(sentence: impl Into<String>) -> Self {
        Self { verdict: Verdict::NotApplicable, ..Self::pass("", "", sentence) }
    }

    /// Passes with the sentence `good` if it `holds`; otherwise fails with `bad`.
    fn judged(holds: bool, figure: impl Into<String>, bar: impl Into<String>, good: &str, bad: &str) -> Self {
        if holds { Self::pass(figure, bar, good) } else { Self::fail(figure, bar, bad) }
    }

    fn row(self, row: Check) -> Row {
        let Self { verdict, figure, bar, sentence } = self;
        Row { row, verdict, figure, bar, sentence }
    }
}

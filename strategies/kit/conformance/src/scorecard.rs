//! The score card of a plugin: one row for each check, with the measured figure, the required bar and a sentence.
//!
//! Why a stream of [`Event`]s and not a complete card: the plugin is native code in the process that runs the checks.
//! If it crashes or hangs, the earlier rows are still known. The check that began and did not end has failed.
//!
//! Invariants: a check returns a result and does not panic. Requests come from a seed. Each row is reported once.

mod answers;
mod balance;
mod cost;
mod disruption;
mod expectation;
mod history;
mod subject;
mod threads;
mod waits;

use std::path::Path;

use lb_strategy_host::{Loader, Wanted};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use expectation::{Balance, Expectation};

use subject::Subject;

/// The checks, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    Loads,
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
    Memory,
    PickTime,
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

const CHECKS: [(Check, CheckFn); 14] = [
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
    (Check::Memory, cost::memory),
    (Check::PickTime, cost::pick_time),
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

fn load(file: &Path, options: &Value, seed: u64, directory: &Path) -> Result<Subject, (String, String)> {
    // lb checks which users may change the file before the plugin serves. The user of this check takes that risk.
    let loader = Loader::new(directory.to_owned(), subject::WORKERS as usize).with_group_writable(true);
    let plugin = loader
        .load(&Wanted { path: file, name: None, sha256: None })
        .map_err(|error| (error.stage.to_string(), error.reason))?;
    let subject = Subject::new(plugin, options.clone(), seed);
    let instance = subject.instance().map_err(|reason| ("new".to_owned(), reason))?;
    crate::World::of(3).picker(&instance).map_err(|reason| ("picker".to_owned(), reason))?;
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
            Self::Memory => "memory",
            Self::PickTime => "pick time",
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

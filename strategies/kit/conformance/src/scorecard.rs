//! The score card: what is checked of a plugin that somebody wrote, one row for each claim, with its figure, its bar and a sentence.
//!
//! Why a stream of [`Event`]s and not a finished card: the plugin is native code in the process that runs the checks. When it crashes
//! or hangs, what was told before still stands, and the check that was begun and not ended is the one that failed. Invariants: a check
//! answers and does not panic; requests come from a seed; a row is told once.

mod answers;
mod balance;
mod cost;
mod disruption;
mod expectation;
mod history;
mod subject;
mod threads;

use std::path::Path;

use lb_strategy_host::{Loader, Wanted};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use expectation::{Balance, Expectation};

use subject::Subject;

/// What is asked, in order.
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
    DryPicks,
    State,
    Finishes,
    Memory,
    PickTime,
}

/// How it went. A warning is something to look at and fails nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Pass,
    Fail,
    Warn,
    NotApplicable,
}

/// One line of the card. These field names are for scripts, and stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub row: Check,
    pub verdict: Verdict,
    /// What was measured.
    pub figure: String,
    /// What it was held to.
    pub bar: String,
    /// What that means, in one sentence.
    pub sentence: String,
}

/// What is told while the checks run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// It was opened, and this is what it says of itself.
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

/// A row before it knows which.
struct Finding {
    verdict: Verdict,
    figure: String,
    bar: String,
    sentence: String,
}

/// A check answers with its finding, or with why it could not be carried through, which fails it.
type Found = Result<Finding, String>;
type CheckFn = fn(&Subject) -> Found;

const CHECKS: [(Check, CheckFn); 13] = [
    (Check::Expectation, expectation::check),
    (Check::Fairness, balance::fairness),
    (Check::Weights, balance::weights),
    (Check::Disruption, disruption::check),
    (Check::Determinism, history::determinism),
    (Check::Instances, history::instances),
    (Check::Threads, threads::check),
    (Check::Answers, answers::answers),
    (Check::DryPicks, answers::dry_picks),
    (Check::State, answers::state),
    (Check::Finishes, answers::finishes),
    (Check::Memory, cost::memory),
    (Check::PickTime, cost::pick_time),
];

/// All rows of the plugin in `file`, told one by one. `directory` gets the private copy that is opened.
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
                Finding::pass("all stages", "read to picker", "it loads and takes its options").row(Check::Loads),
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
    // Who may change the file is asked where it serves; here it is judged by whoever runs it.
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

    /// As a person reads it.
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
    /// A row of the caller's, who saw how the process that ran the check ended.
    pub fn failed(row: Check, figure: impl Into<String>, bar: impl Into<String>, sentence: impl Into<String>) -> Self {
        Finding::fail(figure, bar, sentence).row(row)
    }

    /// A row that nobody came to.
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

    /// `good` where it holds, else `bad`.
    fn judged(holds: bool, figure: impl Into<String>, bar: impl Into<String>, good: &str, bad: &str) -> Self {
        if holds { Self::pass(figure, bar, good) } else { Self::fail(figure, bar, bad) }
    }

    fn row(self, row: Check) -> Row {
        let Self { verdict, figure, bar, sentence } = self;
        Row { row, verdict, figure, bar, sentence }
    }
}

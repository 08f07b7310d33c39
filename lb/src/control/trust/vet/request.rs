//! The request to a vetting child and its output: plain data, one JSON text in, lines of JSON out.
//!
//! Invariant: the child names every step before it takes it, so that the parent knows the step in which it died.

use std::fmt;
use std::path::{Path, PathBuf};

use lb_strategy_host::Staged;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The input of a trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VetRequest {
    /// The private copy to open, by a path that is valid in every process.
    pub plugin: PathBuf,
    /// The operator's file, for messages.
    pub origin: PathBuf,
    /// The digest of the copy's bytes, 64 hexadecimal digits; part of the key of a verdict.
    pub sha256: String,
    /// The name that it must declare.
    pub name: Option<String>,
    pub options: Value,
    pub workers: usize,
    pub backends: Vec<VetBackend>,
    /// Only opens the plugin and reads its description.
    #[serde(default)]
    pub opens_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VetBackend {
    pub id: String,
    pub address: String,
    pub weight: u16,
    /// JSON, or "".
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub labels: String,
}

/// The steps of a trial, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VetStage {
    Start,
    Open,
    New,
    /// An instance was requested and the plugin refused its options.
    Options,
    Picker,
    Pick,
    /// The begins of attempts, by `on_start`.
    Begin,
    Finish,
    /// The ends of probes, by `on_probe`.
    Probe,
    Tick,
    Metrics,
    Explain,
    State,
    Free,
    Leak,
    /// The verdict is written and the process ends.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    Ok,
    Refused,
}

/// The outcome of a complete trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub verdict: Answer,
    /// The stage that refused; the last one for a good plugin.
    pub stage: VetStage,
    /// Why it was refused; "" for a good plugin.
    pub reason: String,
    pub panics: u32,
    pub bad_answers: u32,
    /// Median time of a pick, boundary included.
    pub pick_ns_p50: u64,
    /// The plugin's description of itself, once it was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<About>,
    /// The rights that the process could not give up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<String>,
}

/// A plugin's description of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    pub name: String,
    pub version: String,
    /// The theoretical expectation, JSON; or "".
    pub expectation: String,
}

/// A line of the child's output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Line {
    At { at: VetStage },
    Verdict(Verdict),
}

/// Why a plugin must not be opened in this process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("plugin {}: {reason} [stage vet, {stage}]", path.display())]
pub struct VetError {
    /// The operator's file.
    pub path: PathBuf,
    pub stage: VetStage,
    pub reason: String,
}

// === impl VetRequest ===

impl VetRequest {
    pub fn new(staged: &Staged, options: Value, workers: usize, backends: Vec<VetBackend>) -> Self {
        Self {
            plugin: staged.copy.path().to_owned(),
            origin: staged.origin.clone(),
            sha256: staged.sha256_hex(),
            name: staged.name.clone(),
            options,
            workers,
            backends,
            opens_only: false,
        }
    }

    pub(super) fn origin(&self) -> &Path {
        &self.origin
    }
}

// === impl VetStage ===

impl VetStage {
    /// The activity at this stage, to follow "while".
    pub(super) fn doing(self) -> &'static str {
        match self {
            Self::Start => "starting",
            Self::Open => "being opened",
            Self::New | Self::Options => "making an instance",
            Self::Picker => "making a picker",
            Self::Pick => "picking",
            Self::Begin => "taking begins of requests",
            Self::Finish => "taking finished requests",
            Self::Probe => "taking ends of probes",
            Self::Tick => "ticking",
            Self::Metrics => "writing its metrics",
            Self::Explain => "explaining a pick",
            Self::State => "handing over its state",
            Self::Free => "being freed",
            Self::Leak | Self::End => "ending",
        }
    }
}

impl fmt::Display for VetStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "start",
            Self::Open => "open",
            Self::New => "new",
            Self::Options => "options",
            Self::Picker => "picker",
            Self::Pick => "pick",
            Self::Begin => "begin",
            Self::Finish => "finish",
            Self::Probe => "probe",
            Self::Tick => "tick",
            Self::Metrics => "metrics",
            Self::Explain => "explain",
            Self::State => "state",
            Self::Free => "free",
            Self::Leak => "leak",
            Self::End => "end",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_step_or_the_verdict() {
        let step = r#"{"at":"picker"}"#;
        assert_eq!(serde_json::from_str::<Line>(step).unwrap(), Line::At { at: VetStage::Picker });
        let verdict = r#"{"verdict":"refused","stage":"new","reason":"r","panics":0,"bad_answers":1,"pick_ns_p50":2}"#;
        let Ok(Line::Verdict(read)) = serde_json::from_str(verdict) else { panic!("no verdict") };
        assert_eq!((read.verdict, read.stage, read.bad_answers), (Answer::Refused, VetStage::New, 1));
        assert_eq!(serde_json::to_string(&Line::Verdict(read)).unwrap(), verdict);
        assert!(serde_json::from_str::<Line>("{}").is_err());
    }
}

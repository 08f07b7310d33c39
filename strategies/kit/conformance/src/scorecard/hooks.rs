//! Every optional hook that the plugin offers is called, in the order in which `lb` calls them.
//!
//! Why: a hook that only a rare event calls would otherwise fail in service for the first time. A panic of any hook is
//! a failure here, although `lb` survives it. Invariant: the picks are the instance's own, so finishes and exported
//! state are real ones.

use std::sync::Arc;

use lb_strategy_host::{Hook, HookError};
use serde::Deserialize;

use super::subject::Subject;
use super::{Finding, Found};
use crate::properties;
use crate::{ClosedLoop, Picker, Strategy, World};

/// Requests before the first other hook.
const REQUESTS: usize = 200;
const TICKS: u64 = 3;

/// The longest name of a metric in bytes.
const NAME_MAX: usize = 64;

/// The hooks that were called, and the failures.
#[derive(Default)]
struct Calls {
    called: Vec<&'static str>,
    failed: Vec<String>,
}

/// One line of `metrics`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    name: String,
    #[serde(rename = "type")]
    _kind: Kind,
    #[serde(rename = "help")]
    _help: String,
    #[serde(rename = "value")]
    _value: f64,
    #[serde(rename = "backend")]
    _backend: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Counter,
    Gauge,
}

pub(super) fn check(subject: &Subject) -> Found {
    let (plugin, instance) = (subject.plugin(), subject.instance()?);
    let mut calls = Calls::default();
    let mut pool = ClosedLoop::new(&instance, World::of(3), subject.seed)?.clients(4);
    let run = pool.run(REQUESTS);
    if plugin.wants().start {
        calls.note(Hook::OnStart, Ok(()));
    }
    if plugin.wants().finish {
        calls.note(Hook::OnFinish, Ok(()));
    }
    if plugin.wants().probes {
        calls.note(Hook::OnProbe, properties::probes_do_no_harm(plugin, &subject.options));
    }
    if plugin.tick_ms() > 0 {
        let ms = u64::from(plugin.tick_ms()) * 1_000_000;
        let ticked = (1..=TICKS).try_for_each(|tick| instance.tick(pool.now_ns() + tick * ms).map(drop));
        calls.note(Hook::Tick, ticked.map_err(|error| error.to_string()));
    }
    if plugin.explains() {
        calls.note(Hook::Explain, explain(subject, &World::of(3).picker(&instance)?));
    }
    if let Some(metrics) = instance.metrics() {
        calls.note(Hook::Metrics, metrics.map_err(|error| error.to_string()).and_then(|lines| are_samples(&lines)));
    }
    if let Some((_, version)) = plugin.state_schema() {
        calls.hand_over(subject, version, instance.export_state());
    }
    calls.count_panics(&instance);
    if let Err(sentence) = run
        && calls.failed.is_empty()
    {
        return Err(sentence);
    }
    Ok(calls.judge())
}

fn explain(subject: &Subject, picker: &Picker) -> Result<(), String> {
    let ask = subject.requests(60).ask().dry();
    for ask in [ask.clone(), ask.without_key()] {
        ask.try_explain(picker).transpose().map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Each line must be a sample as the header describes it.
fn are_samples(lines: &[u8]) -> Result<(), String> {
    let lines = std::str::from_utf8(lines).map_err(|error| format!("metrics wrote no text: {error}"))?;
    for line in lines.lines().filter(|line| !line.trim().is_empty()) {
        let sample: Sample =
            serde_json::from_str(line).map_err(|error| format!("metrics wrote the line {line:?}: {error}"))?;
        let mut letters = sample.name.chars();
        let is_name = letters.next().is_some_and(|first| first.is_ascii_lowercase())
            && letters.all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_')
            && sample.name.len() <= NAME_MAX;
        if !is_name {
            return Err(format!("metrics has the name {:?}: it must be [a-z][a-z0-9_]*", sample.name));
        }
    }
    Ok(())
}

// === impl Calls ===

impl Calls {
    fn note(&mut self, hook: Hook, outcome: Result<(), String>) {
        self.called.push(hook.as_str());
        self.failed.extend(outcome.err());
    }

    /// Panics that returned no failure above, for example those of a hook without a status.
    fn count_panics(&mut self, instance: &Strategy) {
        for hook in Hook::ALL {
            let panics = instance.panics().of(hook);
            let is_known = self.failed.iter().any(|failure| failure.contains(hook.as_str()));
            if panics > 0 && !is_known {
                self.failed.push(format!("{} panicked in {panics} calls", hook.as_str()));
            }
        }
    }

    fn hand_over(&mut self, subject: &Subject, version: u32, exported: Option<Result<Vec<u8>, HookError>>) {
        let exported = match exported {
            None => return,
            Some(Ok(bytes)) => bytes,
            Some(Err(error)) => return self.note(Hook::StateExport, Err(error.to_string())),
        };
        self.note(Hook::StateExport, Ok(()));
        // An empty export means that the slots hold everything. Then `lb` calls no import.
        if !exported.is_empty() {
            let import = |new: Arc<Strategy>| new.import_state(version, &exported).map_err(|error| error.to_string());
            self.note(Hook::StateImport, subject.instance().and_then(import));
        }
    }

    fn judge(self) -> Finding {
        if self.called.is_empty() {
            return Finding::not_applicable("it offers no optional hook");
        }
        let (figure, bar) = (format!("{} of {} failed", self.failed.len(), self.called.len()), "every hook returns");
        match self.failed.first() {
            Some(first) => Finding::fail(figure, bar, first.clone()),
            None => Finding::pass(figure, bar, format!("called: {}", self.called.join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_samples_of_the_contract_are_accepted() {
        let sample = r#"{"name":"waits","type":"counter","help":"One.","value":1.5,"backend":"b0"}"#;
        assert_eq!(are_samples(format!("{sample}\n{sample}\n").as_bytes()), Ok(()));
        assert_eq!(are_samples(b""), Ok(()));
        for (old, new) in [("waits", "Waits"), ("counter", "sum"), ("1.5", "\"1\""), ("help", "text"), ("}", "")] {
            let wrong = sample.replace(old, new);
            assert!(are_samples(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(are_samples(&[0xFF]).is_err());
    }
}

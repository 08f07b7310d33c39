//! Every optional hook that the plugin offers is called, in the order in which `lb` calls them.
//!
//! Why: a hook that only a rare event calls would otherwise fail in service for the first time. A panic of any hook is
//! a failure here, although `lb` survives it. Invariant: the picks are the instance's own, so finishes and exported
//! state are real ones.

use std::sync::Arc;

use lb_strategy_host::{Hook, HookError, PluginPage};

use super::subject::Subject;
use super::{Finding, Found};
use crate::properties;
use crate::{ClosedLoop, Picker, Strategy, World};

/// Requests before the first other hook.
const REQUESTS: usize = 200;
const TICKS: u64 = 3;

/// The hooks that were called, and the failures.
#[derive(Default)]
struct Calls {
    called: Vec<&'static str>,
    failed: Vec<(Hook, String)>,
}

pub(super) fn check(subject: &Subject) -> Found {
    let (plugin, instance) = (subject.plugin(), subject.instance()?);
    let mut calls = Calls::default();
    let mut pool = ClosedLoop::new(&instance, World::labelled(3), subject.seed)?.clients(4);
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
        calls.note(Hook::Explain, explain(subject, &World::labelled(3).picker(&instance)?));
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

/// Every line must be valid, by the rules of `lb`, which drops the others.
fn are_samples(lines: &[u8]) -> Result<(), String> {
    PluginPage::read(lines).first_dropped().map_or(Ok(()), |bad| Err(bad.to_string()))
}

// === impl Calls ===

impl Calls {
    fn note(&mut self, hook: Hook, outcome: Result<(), String>) {
        self.called.push(hook.as_str());
        self.failed.extend(outcome.err().map(|failure| (hook, failure)));
    }

    /// Panics that returned no failure above, for example those of a hook without a status.
    fn count_panics(&mut self, instance: &Strategy) {
        for hook in Hook::ALL {
            let panics = instance.panics().of(hook);
            let is_known = self.failed.iter().any(|(failed, _)| *failed == hook);
            if panics > 0 && !is_known {
                let first = instance.panics().first(hook).map_or(String::new(), |text| format!(", first at {text}"));
                self.failed.push((hook, format!("{} panicked in {panics} calls{first}", hook.as_str())));
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
            Some((_, first)) => Finding::fail(figure, bar, first.clone()),
            None => Finding::pass(figure, bar, format!("called: {}", self.called.join(", "))),
        }
    }
}

//! Every optional hook that the plugin offers is called, in the order in which `lb` calls them.
//!
//! Why: a hook that only a rare event calls would otherwise fail in service for the first time. A panic of any hook is
//! a failure here, although `lb` survives it. Invariant: the picks are the instance's own, so finishes and exported
//! state are real ones.

use super::subject::Subject;
use super::{Finding, Found};
use crate::{ClosedLoop, Picker, World};

/// Requests before the first other hook.
const REQUESTS: usize = 200;
const TICKS: u64 = 3;

/// The hooks that were called, and the failures.
#[derive(Default)]
struct Calls {
    called: Vec<&'static str>,
    failed: Vec<String>,
}

pub(super) fn check(subject: &Subject) -> Found {
    let (plugin, instance) = (subject.plugin(), subject.instance()?);
    let mut calls = Calls::default();
    let mut pool = ClosedLoop::new(&instance, World::of(3), subject.seed)?.clients(4);
    let run = pool.run(REQUESTS);
    if plugin.wants_finish() {
        calls.note("on_finish", Ok(()));
    }
    if plugin.tick_ms() > 0 {
        let ms = u64::from(plugin.tick_ms()) * 1_000_000;
        let ticked = (1..=TICKS).try_for_each(|tick| instance.tick(pool.now_ns() + tick * ms).map(drop));
        calls.note("tick", ticked.map_err(|error| error.to_string()));
    }
    if plugin.explains() {
        calls.note("explain", explain(subject, &World::of(3).picker(&instance)?));
    }
    if let Some((_, version)) = plugin.state_schema() {
        calls.hand_over(subject, version, instance.export_state());
    }
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
        ask.explain(picker).ok_or("explain failed")?;
    }
    Ok(())
}

// === impl Calls ===

impl Calls {
    fn note(&mut self, hook: &'static str, outcome: Result<(), String>) {
        self.called.push(hook);
        self.failed.extend(outcome.err());
    }

    fn hand_over(
        &mut self,
        subject: &Subject,
        version: u32,
        exported: Option<Result<Vec<u8>, lb_strategy_host::HookError>>,
    ) {
        let exported = match exported {
            None => return,
            Some(Ok(bytes)) => bytes,
            Some(Err(error)) => return self.note("state_export", Err(error.to_string())),
        };
        self.note("state_export", Ok(()));
        // An empty export means that the slots hold everything. Then `lb` calls no import.
        if !exported.is_empty() {
            let import = |new: std::sync::Arc<crate::Strategy>| {
                new.import_state(version, &exported).map_err(|error| error.to_string())
            };
            self.note("state_import", subject.instance().and_then(import));
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

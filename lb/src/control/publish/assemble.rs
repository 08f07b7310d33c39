//! The pickers of a reload: state is handed over to new instances, then all pools' pickers are made, or none.
//!
//! Invariants: everything here calls into plugins, so it runs on the builder. An instance that refused its
//! predecessor's bytes is not used, because it may have taken a part of them. State is exported as late as possible:
//! pools without a hand-over come first. What the old instance learns between its export and the publish is lost.

use std::sync::Arc;

use lb_strategy_host::{HookError, Strategy};
use serde_json::Value;

use crate::control::api::{ReloadError, StateHandOver};
use crate::control::pools::{Assembled, Assembly};

/// One pool's pickers to be made.
pub(in crate::control) struct PoolJob {
    /// The index of the pool in the reload's target.
    pub(in crate::control) index: usize,
    pub(in crate::control) assembly: Assembly,
    /// Predecessor and options, if the pool gets another instance.
    pub(in crate::control) swap: Option<(Arc<Strategy>, Value)>,
}

/// One pool of a reload with its new picker, ready to be published.
pub(in crate::control) struct BuiltPool {
    pub(in crate::control) index: usize,
    pub(in crate::control) assembled: Assembled,
    pub(in crate::control) state: StateHandOver,
    pub(in crate::control) warning: Option<String>,
}

/// Hands over state and makes the pickers: all pools or none.
pub(super) fn assemble(mut jobs: Vec<PoolJob>) -> Result<Vec<BuiltPool>, ReloadError> {
    let build = |job: PoolJob| {
        let PoolJob { index, mut assembly, swap } = job;
        let name = assembly.name().clone();
        let refused = |stage: &'static str| {
            let name = name.clone();
            move |error: HookError| ReloadError::refused(stage, format!("pool {name:?}: {error}"))
        };
        let (state, warning) = match swap {
            None => (StateHandOver::Kept, None),
            Some((old, options)) => hand_over(&old, &mut assembly, &options).map_err(refused("new"))?,
        };
        let warning = warning.map(|warning| format!("pool {name:?}: {warning}"));
        let assembled = assembly.build().map_err(refused("picker"))?;
        Ok(BuiltPool { index, assembled, state, warning })
    };
    jobs.sort_by_key(PoolJob::hands_over);
    jobs.into_iter().map(build).collect()
}

/// Gives the state of the old instance to the new one, as far as both understand it.
fn hand_over(
    old: &Strategy,
    assembly: &mut Assembly,
    options: &Value,
) -> Result<(StateHandOver, Option<String>), HookError> {
    let new = assembly.strategy().clone();
    let (before, after) = (old.plugin().state_schema(), new.plugin().state_schema());
    let Some(version) = before.filter(|(schema, _)| after.is_some_and(|(other, _)| other == *schema)).map(|(_, v)| v)
    else {
        return Ok((StateHandOver::Fresh, None));
    };
    let in_slots = if before == after { StateHandOver::Kept } else { StateHandOver::Fresh };
    let failed = match old.export_state() {
        // The slots hold the whole state.
        None => return Ok((in_slots, None)),
        Some(Ok(bytes)) if bytes.is_empty() => return Ok((in_slots, None)),
        Some(Ok(bytes)) => match new.import_state(version, &bytes) {
            Ok(()) => return Ok((StateHandOver::Imported, None)),
            Err(error) => error,
        },
        Some(Err(error)) => error,
    };
    assembly.start_fresh(Strategy::for_pool(new.plugin().clone(), options, assembly.name())?);
    Ok((StateHandOver::Fresh, Some(format!("the state could not be handed over and begins anew: {failed}"))))
}

fn schema(strategy: &Strategy) -> Option<&str> {
    strategy.plugin().state_schema().map(|(schema, _)| schema)
}

// === impl PoolJob ===

impl PoolJob {
    /// Whether the new instance may import what the old one exports.
    fn hands_over(&self) -> bool {
        let new = schema(self.assembly.strategy());
        new.is_some() && self.swap.as_ref().is_some_and(|(old, _)| schema(old) == new)
    }
}

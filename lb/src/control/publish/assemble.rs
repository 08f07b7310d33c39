//! The pickers of a reload: state is handed over to new instances, then all pools' pickers are made, or none.
//!
//! Invariants: everything here calls into plugins, so it runs on the builder. An instance that refused its
//! predecessor's bytes is not used, because it may have taken a part of them. State is exported as late as possible:
//! pools without a hand-over come first. What the old instance learns between its export and the publish is lost.

use std::sync::Arc;

use lb_strategy_host::{HookError, Strategy};
use serde_json::Value;

use crate::control::api::{ReloadError, StateHandOver};
use crate::control::pools::{Assembled, Assembly, Learnt};

/// One pool's pickers to be made.
pub(in crate::control) struct PoolJob {
    /// The index of the pool in the reload's target.
    pub(in crate::control) index: usize,
    pub(in crate::control) assembly: Assembly,
    /// Predecessor and options, if the pool gets another instance.
    pub(in crate::control) swap: Option<(Arc<Strategy>, Value)>,
    /// What an earlier strategy of the new one's schema has left, if the predecessor has another schema.
    pub(in crate::control) learnt: Option<Learnt>,
}

/// One pool of a reload with its new picker, ready to be published.
pub(in crate::control) struct BuiltPool {
    pub(in crate::control) index: usize,
    pub(in crate::control) assembled: Assembled,
    pub(in crate::control) state: StateHandOver,
    pub(in crate::control) warning: Option<String>,
    /// The state of the predecessor, if the new one has no use for it.
    pub(in crate::control) left: Option<Vec<u8>>,
}

/// What became of the state in a swap.
struct HandOver {
    state: StateHandOver,
    warning: Option<String>,
    left: Option<Vec<u8>>,
}

/// Hands over state and makes the pickers: all pools or none.
pub(super) fn assemble(mut jobs: Vec<PoolJob>) -> Result<Vec<BuiltPool>, ReloadError> {
    let build = |job: PoolJob| {
        let PoolJob { index, mut assembly, swap, learnt } = job;
        let name = assembly.name().clone();
        let refused = |stage: &'static str| {
            let name = name.clone();
            move |error: HookError| ReloadError::refused(stage, format!("pool {name:?}: {error}"))
        };
        let HandOver { state, warning, left } = match swap {
            None => HandOver { state: StateHandOver::Kept, warning: None, left: None },
            Some((old, options)) => {
                hand_over(&old, &mut assembly, &options, learnt.as_ref()).map_err(refused("new"))?
            }
        };
        let warning = warning.map(|warning| format!("pool {name:?}: {warning}"));
        let mut assembled = assembly.build().map_err(refused("picker"))?;
        if let Some((_, error)) = assembled.refused.pop() {
            return Err(refused("picker")(error));
        }
        Ok(BuiltPool { index, assembled, state, warning, left })
    };
    jobs.sort_by_key(PoolJob::hands_over);
    jobs.into_iter().map(build).collect()
}

/// Gives the new instance the state of the old one, or what an earlier one of its schema has left. If the new one has
/// no use for the state of the old one, that is returned.
fn hand_over(
    old: &Strategy,
    assembly: &mut Assembly,
    options: &Value,
    learnt: Option<&Learnt>,
) -> Result<HandOver, HookError> {
    let new = assembly.strategy().clone();
    let (before, after) = (old.plugin().state_schema(), new.plugin().state_schema());
    let is_heir = schema(old).is_some() && schema(old) == schema(&new);
    let exported = before.and_then(|_| old.export_state());
    let (exported, left) = match exported {
        _ if before.is_none() => (None, None),
        exported if is_heir => (exported, None),
        // The slots hold the whole state.
        None => (None, Some(Vec::new())),
        Some(Ok(bytes)) => (None, Some(bytes)),
        Some(Err(error)) => {
            tracing::warn!(pool = %assembly.name(), "the state of the strategy before is not kept: {error}");
            (None, None)
        }
    };
    let source = match learnt.filter(|_| !is_heir) {
        Some(learnt) => Some((learnt.version, Ok(learnt.bytes.to_vec()))),
        None => before.filter(|_| is_heir).map(|(_, version)| (version, exported.unwrap_or(Ok(Vec::new())))),
    };
    let Some((version, bytes)) = source else {
        return Ok(HandOver { state: StateHandOver::Fresh, warning: None, left });
    };
    let has_slots = after.is_some_and(|(_, after)| after == version);
    let in_slots = if has_slots { StateHandOver::Kept } else { StateHandOver::Fresh };
    let failed = match bytes {
        Ok(bytes) if bytes.is_empty() => return Ok(HandOver { state: in_slots, warning: None, left }),
        Ok(bytes) => match new.import_state(version, &bytes) {
            Ok(()) => return Ok(HandOver { state: StateHandOver::Imported, warning: None, left }),
            Err(error) => error,
        },
        Err(error) => error,
    };
    assembly.start_fresh(Strategy::for_pool(new.plugin().clone(), options, assembly.name())?);
    let warning = format!("the state could not be handed over and begins anew: {failed}");
    Ok(HandOver { state: StateHandOver::Fresh, warning: Some(warning), left })
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

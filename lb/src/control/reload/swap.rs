//! The builder's part of a reload: plugins opened, instances made, state handed over, pickers made.
//!
//! Invariants: everything here calls into plugins, so it runs on the builder; what fails drops all that it has made right there; an
//! instance that refused its predecessor's bytes is not used, because nobody knows what it took of them.

use std::path::PathBuf;
use std::sync::Arc;

use lb_strategy_host::{Loader, Plugin, Strategy};
use serde_json::Value;

use super::trial::{AllStaged, InCharge, refusal};
use super::{PoolReload, ReloadError, StateHandOver, StrategyChange, Target};
use crate::access_log::AccessLog;
use crate::config;
use crate::control::plugins;
use crate::control::pool_state::{Assembled, Assembly, Kept};
use crate::listener::Listener;
use crate::telemetry::SwapKind;

/// Everything that is known before the members are looked at.
pub(in crate::control) struct Prepared {
    pub(in crate::control) target: Target,
    /// One for each pool of the target.
    pub(in crate::control) candidates: Vec<Candidate>,
    /// Open, and in the order of the target's addresses.
    pub(in crate::control) listeners: Vec<Arc<Listener>>,
    pub(in crate::control) access_log: Option<AccessLog>,
}

/// What is to be in charge of a pool.
pub(in crate::control) struct Candidate {
    /// `None`: the instance that is in charge stays.
    pub(in crate::control) strategy: Option<Arc<Strategy>>,
    pub(in crate::control) change: StrategyChange,
    /// It was in charge before and is put back as it was then.
    pub(in crate::control) is_return: bool,
    plugin: Arc<Plugin>,
    file: PathBuf,
}

/// One pool's pickers to be made.
pub(in crate::control) struct PoolJob {
    pub(in crate::control) index: usize,
    pub(in crate::control) assembly: Assembly,
    /// Predecessor and options, where another instance comes in.
    pub(in crate::control) swap: Option<(Arc<Strategy>, Value)>,
}

/// One pool, ready to be published.
pub(in crate::control) struct Handed {
    pub(in crate::control) index: usize,
    pub(in crate::control) assembled: Assembled,
    pub(in crate::control) state: StateHandOver,
    pub(in crate::control) warning: Option<String>,
}

/// Opens every pool's plugin, and makes an instance where plugin or options are others than those `in_charge`.
pub(in crate::control) fn prepare(
    loader: &Loader,
    staged: AllStaged,
    in_charge: &InCharge,
) -> Result<Prepared, ReloadError> {
    let AllStaged { target, plugins: staged } = staged;
    let mut candidates = Vec::with_capacity(staged.len());
    for (pool, staged) in target.config.pools.iter().zip(staged) {
        let file = staged.origin.clone();
        let plugin = plugins::open_plugin(loader, staged, pool).map_err(refusal)?;
        let change = in_charge.get(&pool.name).map_or(StrategyChange::New, |(running, settings)| {
            let has_options = settings.options == pool.strategy.options;
            StrategyChange::between(running.plugin(), &plugin, has_options)
        });
        let strategy = match change {
            StrategyChange::Unchanged => None,
            _ => Some(plugins::instance(plugin.clone(), pool).map_err(refusal)?),
        };
        candidates.push(Candidate { strategy, change, is_return: false, plugin, file });
    }
    Ok(Prepared { target, candidates, listeners: Vec::new(), access_log: None })
}

/// Hands over state and makes the pickers: all pools or none.
pub(in crate::control) fn assemble(jobs: Vec<PoolJob>) -> Result<Vec<Handed>, ReloadError> {
    let build = |job: PoolJob| {
        let PoolJob { index, mut assembly, swap } = job;
        let name = assembly.name().clone();
        let refused = |stage: &'static str| {
            let name = name.clone();
            move |error: lb_strategy_host::HookError| ReloadError::refused(stage, format!("pool {name:?}: {error}"))
        };
        let (state, warning) = match swap {
            None => (StateHandOver::Kept, None),
            Some((old, options)) => hand_over(&old, &mut assembly, &options).map_err(refused("new"))?,
        };
        let warning = warning.map(|warning| format!("pool {name:?}: {warning}"));
        let assembled = assembly.build().map_err(refused("picker"))?;
        Ok(Handed { index, assembled, state, warning })
    };
    jobs.into_iter().map(build).collect()
}

/// Gives the new instance what the old one has learnt, as far as both understand it.
fn hand_over(
    old: &Strategy,
    assembly: &mut Assembly,
    options: &Value,
) -> Result<(StateHandOver, Option<String>), lb_strategy_host::HookError> {
    let new = assembly.strategy().clone();
    let (before, after) = (old.plugin().state_schema(), new.plugin().state_schema());
    let Some(version) = before.filter(|(schema, _)| after.is_some_and(|(other, _)| other == *schema)).map(|(_, v)| v)
    else {
        return Ok((StateHandOver::Fresh, None));
    };
    let in_slots = if before == after { StateHandOver::Kept } else { StateHandOver::Fresh };
    let failed = match old.export_state() {
        // All that there is to know is in the slots.
        None => return Ok((in_slots, None)),
        Some(Ok(bytes)) if bytes.is_empty() => return Ok((in_slots, None)),
        Some(Ok(bytes)) => match new.import_state(version, &bytes) {
            Ok(()) => return Ok((StateHandOver::Imported, None)),
            Err(error) => error,
        },
        Some(Err(error)) => error,
    };
    assembly.start_fresh(Strategy::new(new.plugin().clone(), options)?);
    Ok((StateHandOver::Fresh, Some(format!("the state could not be handed over and begins anew: {failed}"))))
}

// === impl Candidate ===

impl Candidate {
    /// What was in charge before `running`, as it was.
    pub(in crate::control) fn back(kept: &Kept, running: &Strategy, settings: &config::Strategy) -> Self {
        let plugin = kept.strategy.plugin().clone();
        let has_options = settings.options == kept.settings.options;
        let change = StrategyChange::between(running.plugin(), &plugin, has_options);
        let strategy = Some(kept.strategy.clone());
        Self { strategy, change, is_return: true, ..Self::staying(plugin) }
    }

    /// What is in charge stays.
    pub(in crate::control) fn staying(plugin: Arc<Plugin>) -> Self {
        let file = plugin.path().map(ToOwned::to_owned).unwrap_or_default();
        Self { strategy: None, change: StrategyChange::Unchanged, is_return: false, plugin, file }
    }

    pub(in crate::control) fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// As the metrics have it, where another instance comes into charge.
    pub(in crate::control) fn swap_kind(&self) -> Option<SwapKind> {
        match self.change {
            _ if self.is_return => Some(SwapKind::Rollback),
            StrategyChange::Unchanged | StrategyChange::New => None,
            StrategyChange::Options => Some(SwapKind::Options),
            StrategyChange::Plugin => Some(SwapKind::Plugin),
            StrategyChange::Strategy => Some(SwapKind::Strategy),
        }
    }

    pub(in crate::control) fn report(&self, pool: &str, state: StateHandOver) -> PoolReload {
        PoolReload {
            pool: pool.to_owned(),
            strategy: self.plugin.name().to_owned(),
            version: self.plugin.version().to_owned(),
            sha256: self.plugin.sha256_hex(),
            file: Some(self.file.clone()),
            change: self.change,
            state,
        }
    }
}

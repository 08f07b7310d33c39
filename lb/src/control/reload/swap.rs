//! The builder's part of a reload's preparation: opens plugins and makes instances.
//!
//! Invariants: everything here calls into plugins, so it runs on the builder. A step that fails drops everything that
//! it made, here.

use std::path::PathBuf;
use std::sync::Arc;

use lb_strategy_host::{Loader, Plugin, Staged, Strategy};

use super::Target;
use super::trial::{AllStaged, InCharge, refusal};
use crate::access_log::AccessLog;
use crate::config;
use crate::control::api::{PoolReload, ReloadError, StateHandOver, StrategyChange};
use crate::control::pools::{Kept, ShadowChoice};
use crate::control::trust::{Role, plugins};
use crate::control::watch::Attempt;
use crate::listener::Listener;
use crate::telemetry::SwapKind;

/// Everything that is ready before the members are read.
pub(in crate::control) struct Prepared {
    pub(in crate::control) target: Target,
    /// One for each pool of the target.
    pub(in crate::control) candidates: Vec<Candidate>,
    /// Open, in the order of the target's addresses.
    pub(in crate::control) listeners: Vec<Arc<Listener>>,
    pub(in crate::control) access_log: Option<AccessLog>,
    /// As in [`AllStaged`].
    pub(super) files: Option<Attempt>,
}

/// The strategy that is to be in charge of a pool.
pub(in crate::control) struct Candidate {
    /// `None`: the instance in charge stays.
    pub(in crate::control) strategy: Option<Arc<Strategy>>,
    pub(in crate::control) change: StrategyChange,
    /// It was in charge before, and is put back with its state.
    pub(in crate::control) is_return: bool,
    /// The shadows that its pool is to have.
    pub(in crate::control) shadows: Vec<ShadowChoice>,
    plugin: Arc<Plugin>,
    file: PathBuf,
}

/// Opens every pool's plugins. Makes an instance if plugin or options differ from those `in_charge`.
pub(super) fn open(loader: &Loader, staged: AllStaged, in_charge: &InCharge) -> Result<Prepared, ReloadError> {
    let AllStaged { mut target, plugins: staged, files } = staged;
    let mut candidates = Vec::with_capacity(staged.len());
    let mut warnings = Vec::new();
    let mut staged = staged.into_iter();
    for (pool, staged) in target.config.pools.iter().zip(&mut staged) {
        let file = staged.origin.clone();
        let role = Role::in_charge(pool);
        let plugin = plugins::open_plugin(loader, staged, &role).map_err(refusal)?;
        let change = in_charge.get(&pool.name).map_or(StrategyChange::New, |running| {
            let has_same_options = running.settings.options == pool.strategy.options;
            change_between(running.strategy.plugin(), &plugin, has_same_options)
        });
        let strategy = match change {
            StrategyChange::Unchanged => None,
            _ => Some(plugins::instance(plugin.clone(), &role).map_err(refusal)?),
        };
        let had_probes = in_charge.get(&pool.name).is_some_and(|running| running.settings.probe.is_some());
        if strategy.is_some() || had_probes {
            warnings.extend(plugins::unsent_probes(pool, &plugin));
        }
        candidates.push(Candidate { strategy, change, is_return: false, shadows: Vec::new(), plugin, file });
    }
    for (pool, candidate) in target.config.pools.iter().zip(&mut candidates) {
        let running = in_charge.get(&pool.name).map_or(&[][..], |running| &running.shadows);
        for ((role, settings), staged) in Role::shadows(pool).zip(&pool.strategy.shadows).zip(&mut staged) {
            candidate.shadows.push(open_shadow(loader, staged, &role, settings, running)?);
        }
        let key = plugins::key_of(&pool.name, "strategy.shadow");
        let is_new = |choice: &ShadowChoice| !running.iter().any(|old| Arc::ptr_eq(&old.strategy, &choice.strategy));
        // Also if only the bytes of a shadow differ.
        warnings.extend(candidate.shadows.iter().filter(|choice| is_new(choice)).filter_map(|choice| {
            plugins::unsent_probes_of_shadow(&pool.name, &choice.settings.id, choice.strategy.plugin())
        }));
        if candidate.shadows.iter().any(is_new) && !target.applied.contains(&key) {
            target.applied.push(key);
        }
    }
    target.warnings.append(&mut warnings);
    Ok(Prepared { target, candidates, listeners: Vec::new(), access_log: None, files })
}

/// The running instance with the same id, plugin and options, else a new one.
fn open_shadow(
    loader: &Loader,
    staged: Staged,
    role: &Role<'_>,
    settings: &config::Shadow,
    running: &[ShadowChoice],
) -> Result<ShadowChoice, ReloadError> {
    let plugin = plugins::open_plugin(loader, staged, role).map_err(refusal)?;
    let is_same = |old: &&ShadowChoice| {
        old.settings.id == settings.id
            && old.settings.options == settings.options
            && Arc::ptr_eq(old.strategy.plugin(), &plugin)
    };
    let strategy = match running.iter().find(is_same) {
        Some(old) => old.strategy.clone(),
        None => plugins::instance(plugin, role).map_err(refusal)?,
    };
    Ok(ShadowChoice { strategy, settings: settings.clone() })
}

fn change_between(old: &Arc<Plugin>, new: &Arc<Plugin>, has_same_options: bool) -> StrategyChange {
    match () {
        () if old.name() != new.name() => StrategyChange::Strategy,
        () if !Arc::ptr_eq(old, new) => StrategyChange::Plugin,
        () if !has_same_options => StrategyChange::Options,
        () => StrategyChange::Unchanged,
    }
}

// === impl Candidate ===

impl Candidate {
    /// Puts back what was in charge before `running`, unchanged.
    pub(in crate::control) fn back(kept: &Kept, running: &Strategy, settings: &config::Strategy) -> Self {
        let plugin = kept.strategy.plugin().clone();
        let has_same_options = settings.options == kept.settings.options;
        let change = change_between(running.plugin(), &plugin, has_same_options);
        let strategy = Some(kept.strategy.clone());
        Self { strategy, change, is_return: true, ..Self::staying(plugin) }
    }

    /// Leaves the instance in charge.
    pub(in crate::control) fn staying(plugin: Arc<Plugin>) -> Self {
        let file = plugin.path().map(ToOwned::to_owned).unwrap_or_default();
        let (change, shadows) = (StrategyChange::Unchanged, Vec::new());
        Self { strategy: None, change, is_return: false, shadows, plugin, file }
    }

    /// The same, with these shadows.
    pub(in crate::control) fn with_shadows(self, shadows: Vec<ShadowChoice>) -> Self {
        Self { shadows, ..self }
    }

    pub(in crate::control) fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// The kind of swap for the metrics; `None` if the instance stays.
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

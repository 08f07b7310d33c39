//! A reload's plugins before any of them runs in this process: all are staged, and new ones are tried in a child
//! process.
//!
//! Invariant: a plugin that is in charge with the same options is not tried again, so a reload without changes starts
//! no child.

use std::collections::HashMap;
use std::sync::Arc;

use lb_strategy_host::{Loader, Staged, Strategy};

use super::Target;
use crate::config;
use crate::control::api::ReloadError;
use crate::control::pools::ShadowChoice;
use crate::control::trust::vet::{VetBackend, VetStage, Vetter};
use crate::control::trust::{PluginError, Role, plugins};
use crate::control::watch::{Attempt, Taken};

/// What runs in each pool, by its name.
pub(in crate::control) type InCharge = HashMap<String, Running>;

/// The strategies of a pool.
#[derive(Clone)]
pub(in crate::control) struct Running {
    pub(in crate::control) strategy: Arc<Strategy>,
    pub(in crate::control) settings: config::Strategy,
    /// Those that may stay.
    pub(in crate::control) shadows: Vec<ShadowChoice>,
}

/// A target with its staged plugins.
pub(in crate::control) struct AllStaged {
    pub(in crate::control) target: Target,
    /// By pool, then those of all shadows in the order of their pools.
    pub(super) plugins: Vec<Staged>,
    /// For an override: the content of the files that it has read, as a reload without overrides would find it.
    pub(super) files: Option<Attempt>,
}

/// The roles of all strategies: one for each pool, then all shadows.
pub(super) fn roles(config: &config::Config) -> impl Iterator<Item = Role<'_>> {
    config.pools.iter().map(Role::in_charge).chain(config.pools.iter().flat_map(Role::shadows))
}

/// Finds, checks and copies every plugin. Blocks. Notes in `attempt` the content that was read.
pub(in crate::control) fn stage(
    loader: &Loader,
    target: Target,
    attempt: &mut Attempt,
) -> Result<AllStaged, ReloadError> {
    let directories = &target.config.plugin_dirs;
    let mut staged: Result<Vec<Staged>, ReloadError> = Ok(Vec::new());
    let mut taken = Vec::new();
    for role in roles(&target.config) {
        let candidates = plugins::candidates(directories, role.plugin);
        let Ok(plugins) = &mut staged else {
            // An earlier plugin was refused, so this one is not read.
            taken.push(Taken::unread(candidates));
            continue;
        };
        let found = match plugins::stage(loader, directories, &role) {
            Ok(plugin) => {
                let found = (plugin.origin.clone(), plugin.sha256);
                plugins.push(plugin);
                Some(found)
            }
            Err(error) => {
                let found = plugins::refused_bytes(&error);
                staged = Err(refusal(error));
                found
            }
        };
        taken.push(Taken { candidates, found });
    }
    attempt.plugins = Some(taken);
    Ok(AllStaged { plugins: staged?, target, files: None })
}

/// Tries new plugins with the backends that their pools are to have.
pub(in crate::control) async fn vet(
    vetter: Option<&Vetter>,
    staged: &AllStaged,
    in_charge: &InCharge,
    backends: Vec<Vec<VetBackend>>,
) -> Result<(), ReloadError> {
    let Some(vetter) = vetter else { return Ok(()) };
    let AllStaged { target, plugins: all, files: _ } = staged;
    let by_pool: HashMap<&str, Vec<VetBackend>> =
        target.config.pools.iter().map(|pool| pool.name.as_str()).zip(backends).collect();
    for (role, staged) in roles(&target.config).zip(all) {
        let is_known = in_charge.get(role.pool).is_some_and(|running| running.has(staged.sha256, &role));
        if !is_known {
            let backends = by_pool.get(role.pool).cloned().unwrap_or_default();
            plugins::vet(vetter, staged, &role, target.config.proxy.workers, backends).await.map_err(refusal)?;
        }
    }
    Ok(())
}

/// The stages have the same names for a refusal by the child and by this process.
pub(super) fn refusal(error: PluginError) -> ReloadError {
    let stage = match &error {
        PluginError::Load { source, .. } => source.stage.to_string(),
        PluginError::Vet { source, .. } => match source.stage {
            VetStage::Options => "new".to_owned(),
            VetStage::Picker => "picker".to_owned(),
            _ => "vet".to_owned(),
        },
        PluginError::Hook { .. } => "new".to_owned(),
    };
    ReloadError::refused(stage, error)
}

// === impl Running ===

impl Running {
    /// Whether the strategy in charge or a shadow has these bytes and the options of `role`: its trial is done.
    fn has(&self, sha256: [u8; 32], role: &Role<'_>) -> bool {
        let is_same = |strategy: &Strategy, options: &serde_json::Value| {
            strategy.plugin().sha256() == Some(sha256) && options == role.options
        };
        let mut shadows = self.shadows.iter();
        is_same(&self.strategy, &self.settings.options)
            || shadows.any(|shadow| is_same(&shadow.strategy, &shadow.settings.options))
    }
}

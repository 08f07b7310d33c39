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
use crate::control::trust::vet::{VetBackend, VetStage, Vetter};
use crate::control::trust::{PluginError, plugins};
use crate::control::watch::{Attempt, Taken};

/// The strategy and the settings in charge of each pool, by name.
pub(in crate::control) type InCharge = HashMap<String, (Arc<Strategy>, config::Strategy)>;

/// A target with its staged plugins.
pub(in crate::control) struct AllStaged {
    pub(in crate::control) target: Target,
    /// By pool.
    pub(super) plugins: Vec<Staged>,
    /// For an override: the content of the files that it has read, as a reload without overrides would find it.
    pub(super) files: Option<Attempt>,
}

/// Finds, checks and copies every pool's plugin. Blocks. Notes in `attempt` the content that was read.
pub(in crate::control) fn stage(
    loader: &Loader,
    target: Target,
    attempt: &mut Attempt,
) -> Result<AllStaged, ReloadError> {
    let directories = &target.config.plugin_dirs;
    let mut staged: Result<Vec<Staged>, ReloadError> = Ok(Vec::new());
    let mut taken = Vec::new();
    for pool in &target.config.pools {
        let candidates = plugins::candidates(directories, &pool.strategy.plugin);
        let Ok(plugins) = &mut staged else {
            // An earlier plugin was refused, so this one is not read.
            taken.push(Taken::unread(candidates));
            continue;
        };
        let found = match plugins::stage(loader, directories, pool) {
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
    for ((pool, staged), backends) in target.config.pools.iter().zip(all).zip(backends) {
        let is_known = in_charge.get(&pool.name).is_some_and(|(running, settings)| {
            running.plugin().sha256() == Some(staged.sha256) && settings.options == pool.strategy.options
        });
        if !is_known {
            plugins::vet(vetter, staged, pool, target.config.proxy.workers, backends).await.map_err(refusal)?;
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

//! The preparation of a reload: reads, stages, tries, opens. It runs beside everything else and ends with a report to
//! the actor.

use std::sync::Arc;

use lb_strategy_host::Loader;
use tokio::sync::{Notify, mpsc};

use super::listen::Doors;
use super::read::{read, without_overrides};
use super::reloads::PreparationResult;
use super::swap::open;
use super::trial::{AllStaged, InCharge, Running, stage, vet};
use super::{Prepared, Target};
use crate::config::{Config, Source};
use crate::control::api::{Overriding, ReloadError};
use crate::control::membership::{Launched, Overlay, Plan, vet_backends};
use crate::control::pools::{PoolState, Pools, ShadowState};
use crate::control::publish::Builder;
use crate::control::trust::vet::{VetBackend, Vetter};
use crate::control::watch::{Attempt, Reporter};

/// The data that the preparation needs, from the time when the reload begins.
pub(super) struct Preparation {
    pub(super) source: Option<Source>,
    pub(super) overrides: Vec<Overriding>,
    pub(super) running: Config,
    pub(super) reporter: Option<Reporter>,
    pub(super) loader: Arc<Loader>,
    pub(super) vetter: Option<Arc<Vetter>>,
    pub(super) builder: Builder,
    pub(super) in_charge: InCharge,
    pub(super) overlay: Overlay,
    pub(super) launched: Launched,
    pub(super) doors: Doors,
    /// Ends the trial of plugins.
    pub(super) given_up: Arc<Notify>,
}

/// Strategies and settings by pool. `restarts`: shadows that are off are to begin anew.
pub(super) fn in_charge(pools: &Pools, restarts: bool) -> InCharge {
    let one = |pool: &PoolState| {
        let shadows = pool.shadows.iter().filter(|shadow| !(restarts && shadow.is_off()));
        let shadows = shadows.map(ShadowState::choice).collect();
        let (strategy, settings) = (pool.strategy.clone(), pool.settings().clone());
        (pool.name.to_string(), Running { strategy, settings, shadows })
    };
    pools.iter().map(one).collect()
}

// === impl Preparation ===

impl Preparation {
    pub(super) async fn run(self, reports: mpsc::Sender<PreparationResult>) {
        let builder = self.builder.clone();
        // The last owner of an instance drops it, and that must be the builder.
        let in_charge = self.in_charge.clone();
        let prepared = self.prepare().await;
        builder.retire(in_charge);
        if let Err(unsent) = reports.send(Box::new(prepared)).await {
            builder.retire(unsent.0);
        }
    }

    async fn prepare(self) -> Result<Prepared, ReloadError> {
        let staged = self.stage().await?;
        self.vet(&staged).await?;
        let Self { loader, builder, in_charge, doors, .. } = self;
        let prepared = builder.run(move || open(&loader, staged, &in_charge)).await.unwrap_or_else(broke)?;
        doors.open(prepared, &builder).await
    }

    /// Reads the configuration and stages the plugins, on a thread that may block.
    async fn stage(&self) -> Result<AllStaged, ReloadError> {
        let (source, overrides, running) = (self.source.clone(), self.overrides.clone(), self.running.clone());
        let (loader, reporter) = (self.loader.clone(), self.reporter.clone());
        let read = move || {
            let mut attempt = Attempt::default();
            let target = read(source.as_ref(), &overrides, &running, &mut attempt);
            let staged = target.and_then(|target| stage(&loader, target, &mut attempt));
            reporter.iter().for_each(|reporter| reporter.attempted(attempt.clone()));
            let source = source.filter(|_| !overrides.is_empty());
            let files = source.and_then(|source| without_overrides(&source, &overrides, &attempt));
            staged.map(|staged| AllStaged { files, ..staged })
        };
        tokio::task::spawn_blocking(read).await.unwrap_or_else(|_| broke())
    }

    /// Tries new plugins with the members that their pools would have.
    async fn vet(&self, staged: &AllStaged) -> Result<(), ReloadError> {
        let Target { config, .. } = &staged.target;
        let plan = Plan::of(config, &self.overlay, &[&self.launched]);
        let backends: Vec<Vec<VetBackend>> = plan.pools.iter().map(|entries| vet_backends(entries)).collect();
        tokio::select! {
            // First the trial: without plugins to try it ends at once, and then there is nothing to give up.
            biased;
            tried = vet(self.vetter.as_deref(), staged, &self.in_charge, backends) => tried,
            () = self.given_up.notified() => {
                let reason = "its trial was given up, because a rollback came first: reload again if it is still needed";
                Err(ReloadError::refused("vet", reason))
            }
        }
    }
}

fn broke<T>() -> Result<T, ReloadError> {
    Err(ReloadError::refused("builder", "a thread broke: see the log"))
}

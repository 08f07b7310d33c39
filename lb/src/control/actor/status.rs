//! Questions that change nothing. The actor reads its own state; the builder evaluates questions to plugins.

use tokio::sync::oneshot;

use super::Actor;
use crate::config::Policy;
use crate::control::api::{
    AccessLogStatus, BackendStatus, ControlError, LoadedStrategy, OfferedStrategy, PoolStatus, QueueStatus, Safeguards,
    ShadowStatus, Status,
};
use crate::control::inspect::{ExplainRequest, Explanation, Ring, explain};
use crate::control::pools::{PoolKey, PoolState, ShadowState};
use crate::control::trust::PICKS_MIN;
use crate::control::trust::plugins::{self, loaded};
use crate::generation::SILENCE_MAX;
use crate::telemetry::QueueTotals;

// === impl Actor: status ===

impl Actor {
    pub(super) fn status(&self) -> Status {
        let desk = &self.desk;
        Status {
            version: env!("CARGO_PKG_VERSION"),
            generation: desk.hall.current().number,
            listeners: desk.listeners.open().iter().map(|listener| listener.address()).collect(),
            uptime_s: self.started.elapsed().as_secs_f64(),
            overlay: self.membership.overlay_status(),
            pools: desk.pools.keys().into_iter().map(|pool| self.pool_status(pool)).collect(),
            workers: desk.config.proxy.workers,
            images: self.reloads.images(),
            builder_stuck: desk.builder.is_stuck(),
            stuck_workers: desk.hall.stuck_workers(SILENCE_MAX),
            retired_generations: desk.hall.retired(),
            reload: self.reloads.status(),
            watch: self.reloads.watch_status(),
            access_log: self.access_log_status(),
        }
    }

    /// Every backend of every pool.
    pub(super) fn backends(&self) -> Vec<BackendStatus> {
        let pools = self.desk.pools.keys().into_iter();
        pools.flat_map(|pool| self.membership.backends_of(&self.desk, pool)).collect()
    }

    /// Runs on the builder.
    pub(super) fn explain(
        &self,
        request: Box<ExplainRequest>,
        answer: oneshot::Sender<Result<Explanation, ControlError>>,
    ) {
        let (hall, metrics, builder) = (self.desk.hall.clone(), self.desk.metrics.clone(), self.desk.builder.clone());
        tokio::spawn(async move {
            let explained = builder.run(move || explain(&hall, &metrics, &request)).await;
            let broke = || Err(ControlError::Failed("the builder broke: see the log".to_owned()));
            let _ = answer.send(explained.unwrap_or_else(broke));
        });
    }

    /// Reads the plugin folders on another thread.
    pub(super) fn strategies(&self, answer: oneshot::Sender<Vec<OfferedStrategy>>) {
        let directories = self.desk.config.plugin_dirs.clone();
        tokio::task::spawn_blocking(move || drop(answer.send(plugins::offered(&directories))));
    }

    /// Asks the strategy in charge, on the builder.
    pub(super) fn ring(&self, pool: &str, answer: oneshot::Sender<Result<Ring, ControlError>>) {
        match self.desk.pools.named(pool).and_then(PoolState::published) {
            // This job may drop the last reference to the generation, which is allowed on the builder.
            Some(generation) => self.desk.builder.post(move || drop(answer.send(Ok(Ring::of(&generation))))),
            None => drop(answer.send(Err(ControlError::NotFound(format!("there is no pool {pool:?}"))))),
        }
    }

    fn access_log_status(&self) -> Option<AccessLogStatus> {
        let log = self.desk.hall.current().settings.access_log.clone()?;
        let counts = self.desk.metrics.access_log();
        let path = log.config().path.as_ref().map_or("-".into(), |path| path.to_string_lossy().into_owned());
        Some(AccessLogStatus { path, written: counts.written(), dropped: counts.dropped_by_reason().iter().sum() })
    }

    fn pool_status(&self, key: PoolKey) -> PoolStatus {
        let pool = &self.desk.pools[key];
        let LoadedStrategy { pool: name, strategy, version, sha256, file: _ } = loaded(&pool.name, &pool.strategy);
        let published = pool.published();
        let (safeguards, policy) = self.safeguards(&pool.name);
        let probation_picks = pool.tenure().picks(self.desk.metrics.pick_totals(&pool.name));
        PoolStatus {
            strategy_instance: published.as_ref().map_or(0, |pool| pool.picker.strategy().instance()),
            members_epoch: published.as_ref().map_or(0, |pool| pool.picker.backends().members_epoch()),
            name,
            strategy,
            strategy_version: version,
            strategy_sha256: sha256,
            strategy_standing: pool.tenure().as_str(),
            probation_left_ms: pool.tenure().left().map(|left| left.as_millis() as u64),
            probation_picks,
            probation_picks_min: probation_picks.map(|_| PICKS_MIN),
            rollback_to: pool.kept().map(|kept| {
                let plugin = kept.strategy.plugin();
                format!("{} {}", plugin.name(), plugin.version())
            }),
            crash: self.reloads.ledger().found_in(&pool.name).cloned(),
            queue: self.queue_status(&pool.name, safeguards.queue.is_in_use(policy)),
            safeguards,
            shadows: self.shadows(pool),
            backends: self.membership.backends_of(&self.desk, key),
        }
    }

    fn shadows(&self, pool: &PoolState) -> Vec<ShadowStatus> {
        let weights: Vec<_> =
            pool.members.iter().map(|member| (member.backend.id.clone(), member.entry.weight)).collect();
        let of =
            |shadow: &ShadowState| shadow.status(&self.desk.metrics.shadow_totals(&pool.name, &shadow.id), &weights);
        pool.shadows.iter().map(of).collect()
    }

    /// Also if only the strategy lets requests wait, while one does.
    fn queue_status(&self, pool: &str, is_in_use: bool) -> Option<QueueStatus> {
        let QueueTotals { waiting, held, adaptive_limit } = self.desk.metrics.queue_totals(pool);
        (is_in_use || waiting > 0).then_some(QueueStatus { waiting, held, adaptive_limit })
    }

    /// Those of a pool, and its policy for requests without a route of their own.
    fn safeguards(&self, pool: &str) -> (Safeguards, &Policy) {
        let config = &self.desk.config;
        let index = config.pools.iter().position(|one| one.name == *pool).unwrap_or_default();
        let policy = &config.policies[index];
        (Safeguards::of(&config.pools[index], policy), policy)
    }
}

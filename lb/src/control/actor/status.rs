//! What the actor tells of itself.

use tokio::sync::oneshot;

use super::Actor;
use crate::control::command::{AccessLogStatus, BackendStatus, ControlError, OverlayStatus, PoolStatus, Status};
use crate::control::explain::{ExplainRequest, Explanation, explain};
use crate::control::members::{Member, Origin};
use crate::control::overlay::Overlay;
use crate::control::plugins::{self, LoadedStrategy, OfferedStrategy, loaded};
use crate::control::pool_state::PoolState;
use crate::control::pools::PoolKey;
use crate::control::ring::Ring;

impl Actor {
    /// Answered by the builder, and not waited for here.
    pub(super) fn explain(
        &self,
        request: Box<ExplainRequest>,
        answer: oneshot::Sender<Result<Explanation, ControlError>>,
    ) {
        let hall = self.hall.clone();
        let explained = self.builder.clone();
        tokio::spawn(async move {
            let explained = explained.run(move || explain(&hall, &request)).await;
            let broke = || Err(ControlError::Failed("the builder broke: see the log".to_owned()));
            let _ = answer.send(explained.unwrap_or_else(broke));
        });
    }

    pub(super) fn status(&self) -> Status {
        let error = self.writer.as_ref().and_then(|writer| writer.error());
        Status {
            version: env!("CARGO_PKG_VERSION"),
            generation: self.hall.current().number,
            listeners: self.listeners.iter().map(|listener| listener.address()).collect(),
            uptime_s: self.started.elapsed().as_secs_f64(),
            overlay: OverlayStatus { error, ..self.overlay.as_ref().map(Overlay::status).unwrap_or_default() },
            pools: self.pools.keys().into_iter().map(|pool| self.pool_status(pool)).collect(),
            workers: self.config.proxy.workers,
            images: self.loader.images(),
            builder_stuck: self.builder.is_stuck(),
            stuck_workers: self.hall.stuck_workers(crate::generation::SILENCE_MAX),
            retired_generations: self.hall.retired(),
            reload: self.reloads.status(),
            watch: self.watch_status(),
            access_log: self.access_log_status(),
        }
    }

    fn access_log_status(&self) -> Option<AccessLogStatus> {
        let log = self.hall.current().settings.access_log.clone()?;
        let counts = self.metrics.access_log();
        let path = log.config().path.as_ref().map_or("-".into(), |path| path.to_string_lossy().into_owned());
        Some(AccessLogStatus { path, written: counts.written(), dropped: counts.dropped_by_reason().iter().sum() })
    }

    /// Every backend of every pool.
    pub(super) fn backends(&self) -> Vec<BackendStatus> {
        self.pools.keys().into_iter().flat_map(|pool| self.backends_of(pool)).collect()
    }

    /// Reads the plugin folders, elsewhere.
    pub(super) fn tell_strategies(&self, answer: oneshot::Sender<Vec<OfferedStrategy>>) {
        let directories = self.config.plugin_dirs.clone();
        tokio::task::spawn_blocking(move || drop(answer.send(plugins::offered(&directories))));
    }

    /// Asks the strategy in charge, on the builder.
    pub(super) fn tell_ring(&self, pool: &str, answer: oneshot::Sender<Result<Ring, ControlError>>) {
        match self.pools.named(pool).and_then(PoolState::published) {
            // the last to hold the generation may be this job, which is where a generation may end
            Some(generation) => self.builder.post(move || drop(answer.send(Ok(Ring::of(&generation))))),
            None => drop(answer.send(Err(ControlError::NotFound(format!("there is no pool {pool:?}"))))),
        }
    }

    pub(super) fn backend_status(&self, pool: PoolKey, member: &Member) -> BackendStatus {
        use std::sync::atomic::Ordering::Relaxed;
        BackendStatus {
            pool: self.pools[pool].name.to_string(),
            id: member.entry.id.clone(),
            address: member.entry.address.clone(),
            weight: member.entry.weight,
            origin: member.entry.origin.name(),
            eligible: member.backend.is_eligible(),
            healthy: member.standing.is_healthy(),
            draining: member.entry.draining,
            in_flight: member.backend.in_flight(),
            consecutive_errors: member.backend.stats.consecutive_errors.load(Relaxed),
            reason: member.standing.reason().map(str::to_owned),
            pid: self.pid(member),
        }
    }

    fn pid(&self, member: &Member) -> Option<u32> {
        let launcher = self.launcher.as_ref().filter(|_| member.entry.origin == Origin::Launched)?;
        launcher.pid(&member.entry.id)
    }

    fn pool_status(&self, pool: PoolKey) -> PoolStatus {
        let LoadedStrategy { pool: name, strategy, version, sha256, file: _ } =
            loaded(&self.pools[pool].name, &self.pools[pool].strategy);
        let published = self.pools[pool].published();
        PoolStatus {
            strategy_instance: published.as_ref().map_or(0, |pool| pool.picker.strategy().instance()),
            members_epoch: published.as_ref().map_or(0, |pool| pool.picker.backends().members_epoch()),
            name,
            strategy,
            strategy_version: version,
            strategy_sha256: sha256,
            strategy_standing: self.pools[pool].tenure().as_str(),
            probation_left_ms: self.pools[pool].tenure().left().map(|left| left.as_millis() as u64),
            rollback_to: self.pools[pool].kept().map(|kept| {
                let plugin = kept.strategy.plugin();
                format!("{} {}", plugin.name(), plugin.version())
            }),
            backends: self.backends_of(pool).collect(),
        }
    }

    fn backends_of(&self, pool: PoolKey) -> impl Iterator<Item = BackendStatus> {
        self.pools[pool].members.iter().map(move |member| self.backend_status(pool, member))
    }
}

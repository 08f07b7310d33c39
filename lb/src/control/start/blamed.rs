//! What a start loads if a strategy crashed in an earlier run.
//!
//! Rules: a strategy that crashed on probation is not loaded. The last proven one of its pool is loaded instead, from
//! the operator's file or from the private copy of its bytes. If there is none, the built-in fallback picks. A strategy
//! that crashed after it was proven is loaded again, with a warning, unless it ends each run soon after its start.
//!
//! Invariant: the configuration that is returned describes the strategies in force. Their other settings than plugin
//! and options are those of the file.

use lb_strategy_host::{Loader, Staged, Wanted};

use crate::config::{Config, Plugin, PoolConfig};
use crate::control::api::RolledBack;
use crate::control::trust::{Found, Records, Role};
use crate::telemetry::{FilesVerdict, Metrics, ReloadEnd, ReloadKind, ReloadOutcome};

/// What decides if there is nothing to load.
const BUILT_IN: &str = "no proven strategy can be loaded, and the built-in fallback picks";

/// What is to be in charge of a pool.
pub(super) enum Choice {
    /// The plugin of the configuration.
    Wanted(Staged),
    /// The last proven one, because that of the configuration crashed.
    LastProven(Staged),
    /// None of them may be loaded.
    BuiltIn,
}

/// A shadow that a start loads.
pub(super) struct StagedShadow {
    pub(super) staged: Staged,
    /// It crashed in an earlier run, so it is off.
    pub(super) blamed: Option<String>,
}

/// The strategies of a start.
pub(super) struct Chosen {
    /// With the plugins that are chosen.
    pub(super) config: Config,
    /// One for each pool.
    pub(super) choices: Vec<Choice>,
    /// Of all pools, in the order of the pools.
    pub(super) shadows: Vec<StagedShadow>,
    /// The crashes that mattered.
    pub(super) found: Vec<Found>,
    /// The strategies of the files that are not in charge.
    pub(super) rolled_back: Vec<RolledBack>,
}

/// Blocks: reads files.
pub(super) fn choose(mut config: Config, staged: Vec<Staged>, loader: &Loader, records: &Records) -> Chosen {
    let mut choices = Vec::with_capacity(staged.len());
    let (mut found, mut rolled_back) = (Vec::new(), Vec::new());
    for (pool, staged) in config.pools.iter_mut().zip(staged) {
        let sha256 = staged.sha256_hex();
        let Some(crash) = records.crash_of(&pool.name, &sha256, &pool.strategy.options).cloned() else {
            choices.push(Choice::Wanted(staged));
            continue;
        };
        let mut instead = None;
        if !crash.keeps_out() {
            choices.push(Choice::Wanted(staged));
        } else {
            let options = &pool.strategy.options;
            rolled_back.push(RolledBack { sha256: Some(sha256), ..crash.rolled_back(&pool.name, options) });
            let (choice, name) = stand_in(pool, loader, records);
            instead = Some(name);
            choices.push(choice);
        }
        found.push(Found { pool: pool.name.clone(), status: crash.status(&pool.name, instead), crash });
    }
    Chosen { config, choices, shadows: Vec::new(), found, rolled_back }
}

/// Adds the shadows of all pools, in their order. One that crashed is off.
pub(super) fn choose_shadows(mut chosen: Chosen, staged: Vec<Staged>, records: &Records) -> Chosen {
    let Chosen { config, shadows, found, .. } = &mut chosen;
    for (role, staged) in config.pools.iter().flat_map(Role::shadows).zip(staged) {
        let (pool, sha256) = (role.owner(), staged.sha256_hex());
        let crash = records.crash_of(&pool, &sha256, role.options);
        let blamed = crash.map(|crash| format!("it crashed in an earlier run: {}", crash.cause()));
        found.extend(crash.map(|crash| Found {
            status: crash.status(&pool, Some("the shadow is off, and requests need none".to_owned())),
            crash: crash.clone(),
            pool,
        }));
        shadows.push(StagedShadow { staged, blamed });
    }
    chosen
}

/// What a start would say about the strategy of `pool`, if a crash keeps that out. Loads nothing.
pub(super) fn forecast(pool: &PoolConfig, sha256: &str, loader: &Loader, records: &Records) -> Option<String> {
    let crash = records.crash_of(&pool.name, sha256, &pool.strategy.options).filter(|crash| crash.keeps_out())?;
    let (_, instead) = stand_in(&mut pool.clone(), loader, records);
    let said = crash.status(&pool.name, Some(instead)).message;
    Some(format!("a start does not load a strategy of the file: {said}"))
}

/// The choice instead of the strategy that crashed, and a clause about it. Changes plugin and options of `pool`. The
/// digest stays that of the file, because a reload compares it with the file.
fn stand_in(pool: &mut PoolConfig, loader: &Loader, records: &Records) -> (Choice, String) {
    if let Some((proven, files)) = records.proven_in(&pool.name) {
        for path in files {
            let name = Some(proven.strategy.as_str());
            let sha256 = sha256_of(&proven.sha256);
            if let Ok(staged) = loader.stage(&Wanted { path: &path, name, sha256 }) {
                pool.strategy.plugin = Plugin::Path { path, name: Some(proven.strategy.clone()) };
                pool.strategy.options = proven.options.clone();
                return (Choice::LastProven(staged), format!("{}, the last proven one, decides", proven.name()));
            }
        }
    }
    (Choice::BuiltIn, BUILT_IN.to_owned())
}

/// The last proven strategy was refused, too.
pub(super) fn built_in_instead(found: &mut Found) {
    found.status = found.crash.status(&found.pool, Some(BUILT_IN.to_owned()));
}

/// The digest of 64 hexadecimal digits.
fn sha256_of(digits: &str) -> Option<[u8; 32]> {
    let mut sum = [0; 32];
    for (index, byte) in sum.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(sum)
}

// === impl Chosen ===

impl Chosen {
    /// Logs the crashes, and counts strategies of the files that are not in force.
    pub(super) fn reported(self, metrics: &Metrics) -> Self {
        for Found { status, .. } in &self.found {
            if status.is_loaded {
                tracing::warn!("{}", status.message);
            } else {
                tracing::error!("{}", status.message);
            }
        }
        if !self.rolled_back.is_empty() {
            metrics.reload_ended(ReloadEnd {
                kind: ReloadKind::Strategy,
                outcome: ReloadOutcome::RolledBack,
                verdict: FilesVerdict::NotInForce,
                is_change: false,
                took: std::time::Duration::ZERO,
            });
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_has_64_digits() {
        let digits = "0f".repeat(32);
        assert_eq!(sha256_of(&digits), Some([15; 32]));
        assert_eq!([sha256_of(&digits[1..]), sha256_of(""), sha256_of(&"x".repeat(64))], [None; 3]);
    }
}

//! The arms of a plan: the declarations of their strategies, and whether lb accepts each arm.

use std::path::{Path, PathBuf};

use super::plan::{ArmPlan, Plan};
use super::run::ExperimentError;
use crate::lab::{self, Programs, Setup, StrategyFile};
use crate::model::{self, Safeguards};

/// The strategies that lb found, with their declarations.
#[derive(Clone, Debug, Default)]
pub(super) struct Declared(Vec<StrategyFile>);

/// Whether lb accepts every arm of this plan.
pub fn check(plan: &Plan, programs: &Programs, scratch: &Path) -> Result<(), ExperimentError> {
    tried(plan, programs, scratch).map(drop)
}

/// Has lb check the configuration of each arm, then writes that of the first arm into `folder`. So an error in a later
/// arm is found before the measurement.
pub(super) fn tried(plan: &Plan, programs: &Programs, folder: &Path) -> Result<(PathBuf, Declared), ExperimentError> {
    // without the keys of single arms, whose errors name the arm
    let bare = ArmPlan { lb: toml::Table::new(), ..plan.arms[0].clone() };
    let config = lab::write_config(programs, &setup(plan, &bare), folder)?;
    let declared = Declared(lab::strategies(programs, &config)?);
    plan.arms.iter().try_for_each(|arm| declared.check(&arm.strategy))?;
    let mut known: Vec<&ArmPlan> = Vec::new();
    for arm in &plan.arms {
        let same =
            |other: &&ArmPlan| (&other.strategy, &other.options, &other.lb) == (&arm.strategy, &arm.options, &arm.lb);
        if known.iter().any(same) {
            continue;
        }
        lab::write_config(programs, &setup(plan, arm), folder)?;
        if let Err(error) = lab::check(programs, &config) {
            return Err(ExperimentError::Arm { label: arm.label.clone(), reason: error.to_string() });
        }
        known.push(arm);
    }
    lab::write_config(programs, &setup(plan, &plan.arms[0]), folder)?;
    Ok((config, declared))
}

/// The number of backends at the start of a run.
pub(super) fn replicas(plan: &Plan) -> u32 {
    *plan.sizes.first().unwrap_or(&3)
}

/// The configuration of lb for an arm: its keys over those of the plan.
pub(super) fn setup(plan: &Plan, arm: &ArmPlan) -> Setup {
    let mocks = &plan.mocks;
    let mut keys = plan.lb.clone();
    lab::merge(&mut keys, &arm.lb);
    let flags = [
        ("--service-time", mocks.service_time.clone()),
        ("--concurrency", mocks.concurrency.to_string()),
        ("--queue", mocks.queue.to_string()),
    ];
    Setup {
        strategy: arm.strategy.clone(),
        options: arm.options.clone(),
        replicas: replicas(plan),
        mock_flags: flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect(),
        keys,
    }
}

// === impl Declared ===

impl Declared {
    fn check(&self, name: &str) -> Result<(), ExperimentError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let name = name.to_owned();
        match self.file(&name) {
            Some(StrategyFile { error: Some(reason), .. }) => {
                Err(ExperimentError::BrokenStrategy { name, reason: reason.clone() })
            }
            Some(_) => Ok(()),
            None => {
                let known = self.0.iter().map(|file| file.name.clone()).collect();
                Err(ExperimentError::Strategy { name, known })
            }
        }
    }

    fn file(&self, name: &str) -> Option<&StrategyFile> {
        self.0.iter().find(|file| file.name == name)
    }

    /// The declaration of a strategy; "" for none.
    pub(super) fn of(&self, name: &str) -> &str {
        self.file(name).and_then(|file| file.expectation.as_deref()).unwrap_or_default()
    }

    /// Whether the strategy picks by key.
    pub(super) fn is_keyed(&self, name: &str) -> bool {
        let declared: serde_json::Value = serde_json::from_str(self.of(name)).unwrap_or_default();
        let is_consistent = declared["consistent"] == true || declared["consistent"].is_string();
        is_consistent || declared["balance"] == "by_options"
    }

    /// Whether its shares depend on its options, so that only the strategy knows them. The declarations of a running
    /// balancer are unknown, so the result is `true` for it.
    pub(super) fn may_tell_shares(&self, name: &str) -> bool {
        let declared: serde_json::Value = serde_json::from_str(self.of(name)).unwrap_or_default();
        self.0.is_empty() || declared["balance"] == "by_options"
    }

    pub(super) fn arm(&self, arm: &ArmPlan, config_sha256: &str, safeguards: Option<&Safeguards>) -> model::Arm {
        let file = self.file(&arm.strategy);
        model::Arm {
            label: arm.label.clone(),
            strategy: arm.strategy.clone(),
            strategy_sha256: file.and_then(|file| file.sha256.clone()).unwrap_or_default(),
            options: serde_json::to_value(&arm.options).unwrap_or_default(),
            cost_factor: arm.cost_factor,
            config_sha256: config_sha256.to_owned(),
            expectation: self.of(&arm.strategy).to_owned(),
            safeguards: safeguards.cloned(),
        }
    }
}

//! The shadows of a pool in control: their instances, their slots, and whether they were switched off.
//!
//! Invariants: a shadow that is off has no picker, so no worker asks it. It comes back only as another instance. A slot
//! belongs to one instance. A shadow has no tenure: it is watched as long as it runs, and nothing is put back for it.

use std::sync::Arc;

use lb_strategy_host::{BackendList, HookError, Picker, Strategy};

use super::Member;
use super::assembly::{Assembly, spec};
use super::memory::Slots;
use crate::config;
use crate::control::api::ShadowStatus;
use crate::control::trust::fault;
use crate::generation::{PoolGeneration, Shadow};
use crate::telemetry::{PickTotals, ShadowResult, ShadowTotals};

/// All shadows of a pool, in the order of the configuration.
#[derive(Default)]
pub(in crate::control) struct Shadows(Vec<ShadowState>);

/// One shadow.
pub(in crate::control) struct ShadowState {
    pub(in crate::control) id: Arc<str>,
    pub(in crate::control) strategy: Arc<Strategy>,
    pub(in crate::control) settings: config::Shadow,
    slots: Slots,
    /// The counts when every worker had it; `None` before.
    from: Option<ShadowTotals>,
    /// Why it is off, if it is.
    off: Option<String>,
}

/// The instance that a configuration asks for.
#[derive(Clone)]
pub(in crate::control) struct ShadowChoice {
    pub(in crate::control) strategy: Arc<Strategy>,
    pub(in crate::control) settings: config::Shadow,
}

/// A shadow's part of an assembly.
pub(super) struct ShadowAssembly {
    id: Arc<str>,
    strategy: Arc<Strategy>,
    specs: Vec<lb_strategy_host::BackendSpec>,
}

/// The instances that came and went with a reload.
pub(in crate::control) struct ShadowsReplaced {
    pub(in crate::control) came: Vec<ShadowChoice>,
    pub(in crate::control) left: Vec<ShadowState>,
}

// === impl Shadows ===

impl Shadows {
    pub(in crate::control) fn iter(&self) -> impl Iterator<Item = &ShadowState> {
        self.0.iter()
    }

    /// Those that pick.
    pub(in crate::control) fn on(&self) -> impl Iterator<Item = &ShadowState> {
        self.0.iter().filter(|shadow| shadow.off.is_none())
    }

    /// What the configuration in force asks for.
    pub(in crate::control) fn choices(&self) -> Vec<ShadowChoice> {
        self.0.iter().map(ShadowState::choice).collect()
    }

    /// Whether these are the instances, in this order.
    pub(in crate::control) fn are(&self, choices: &[ShadowChoice]) -> bool {
        let instances = self.0.iter().map(|shadow| shadow.strategy.instance());
        instances.eq(choices.iter().map(|choice| choice.strategy.instance()))
    }

    /// The instances of the next list. Off ones are left out.
    pub(in crate::control) fn wanted(&self, choices: &[ShadowChoice]) -> Vec<ShadowChoice> {
        let is_off = |choice: &&ShadowChoice| self.of(choice.strategy.instance()).is_some_and(|own| own.off.is_some());
        choices.iter().filter(|choice| !is_off(choice)).cloned().collect()
    }

    /// Adds the shadows `choices` to `assembly`. One that is here already keeps its slots.
    pub(super) fn join(&mut self, assembly: &mut Assembly, choices: &[ShadowChoice]) {
        for ShadowChoice { strategy, settings } in choices {
            let mut fresh = Slots::new();
            let own = self.0.iter_mut().find(|own| own.strategy.instance() == strategy.instance());
            let slots = own.map_or(&mut fresh, |own| &mut own.slots);
            let slot_of = |member: &Member| spec(member, slots.entry(member.id().clone()).or_default());
            let specs = assembly.members.iter().map(slot_of).collect();
            let (id, strategy) = (settings.id.as_str().into(), strategy.clone());
            assembly.shadows.push(ShadowAssembly { id, strategy, specs });
        }
    }

    /// `choices` are the shadows from now on. `generation` has the pickers of those that are on.
    pub(in crate::control) fn replace(
        &mut self,
        choices: Vec<ShadowChoice>,
        generation: &PoolGeneration,
    ) -> ShadowsReplaced {
        let mut before = std::mem::take(&mut self.0);
        let mut came = Vec::new();
        for choice in choices {
            let instance = choice.strategy.instance();
            match before.iter().position(|own| own.strategy.instance() == instance) {
                Some(index) => self.0.push(ShadowState { settings: choice.settings, ..before.swap_remove(index) }),
                None => {
                    let mut new = ShadowState::new(choice.clone());
                    let built = generation.shadows.iter().find(|one| one.picker.strategy().instance() == instance);
                    let specs = built.into_iter().flat_map(|one| one.picker.backends().specs());
                    new.slots = specs.map(|spec| (spec.name.clone(), spec.slot.clone())).collect();
                    self.0.push(new);
                    came.push(choice);
                }
            }
        }
        ShadowsReplaced { came, left: before }
    }

    /// Forgets slots of backends that no later list has.
    pub(super) fn keep_slots(&mut self, is_kept: impl Fn(&Arc<str>) -> bool) {
        for shadow in &mut self.0 {
            shadow.slots.retain(|id, slot| is_kept(id) || Arc::strong_count(slot) > 1);
        }
    }

    /// Every worker has the instance: its faults count from `counted` on.
    pub(in crate::control) fn begins(&mut self, instance: u64, counted: impl FnOnce(&str) -> ShadowTotals) {
        if let Some(shadow) = self.0.iter_mut().find(|own| own.strategy.instance() == instance) {
            shadow.from.get_or_insert_with(|| counted(&shadow.id));
        }
    }

    /// Switches the instance off. Returns its id, and the name of its strategy, if it was on.
    pub(in crate::control) fn switch_off(&mut self, instance: u64, reason: String) -> Option<(Arc<str>, String)> {
        let mut on = self.0.iter_mut().filter(|own| own.off.is_none());
        let shadow = on.find(|own| own.strategy.instance() == instance)?;
        shadow.off = Some(reason);
        Some((shadow.id.clone(), shadow.strategy.plugin().name().to_owned()))
    }

    fn of(&self, instance: u64) -> Option<&ShadowState> {
        self.0.iter().find(|own| own.strategy.instance() == instance)
    }
}

impl FromIterator<ShadowState> for Shadows {
    fn from_iter<T: IntoIterator<Item = ShadowState>>(states: T) -> Self {
        Self(states.into_iter().collect())
    }
}

// === impl ShadowChoice ===

impl ShadowChoice {
    /// The label `strategy` in the metrics of strategies.
    pub(in crate::control) fn label(&self) -> String {
        label_of(&self.settings.id)
    }
}

// === impl ShadowState ===

impl ShadowState {
    pub(in crate::control) fn new(choice: ShadowChoice) -> Self {
        let ShadowChoice { strategy, settings } = choice;
        Self { id: settings.id.as_str().into(), strategy, settings, slots: Slots::new(), from: None, off: None }
    }

    /// The same, off from the start.
    pub(in crate::control) fn off(self, reason: Option<String>) -> Self {
        Self { off: reason, ..self }
    }

    pub(in crate::control) fn is_off(&self) -> bool {
        self.off.is_some()
    }

    /// The label `strategy` in the metrics of strategies.
    pub(in crate::control) fn label(&self) -> String {
        label_of(&self.id)
    }

    pub(in crate::control) fn choice(&self) -> ShadowChoice {
        ShadowChoice { strategy: self.strategy.clone(), settings: self.settings.clone() }
    }

    /// Why it is to be switched off, if it is on and fails by the rules of probation.
    pub(in crate::control) fn fault(&self, counted: PickTotals) -> Option<String> {
        let from = self.from.as_ref().filter(|_| self.off.is_none())?;
        fault(&counted.since(from.picks), self.strategy.panics())
    }

    pub(in crate::control) fn status(&self, counted: &ShadowTotals, weights: &[(Arc<str>, u16)]) -> ShadowStatus {
        let since = self.from.as_ref().map_or_else(ShadowTotals::default, |from| counted.since(from));
        let of = |result: ShadowResult| since.of(result);
        let plugin = self.strategy.plugin();
        let decided = of(ShadowResult::Same) + of(ShadowResult::Other);
        let counts = |one: fn(&(u64, u64)) -> u64| {
            let of_backend =
                |(id, weight): &(Arc<str>, u16)| (since.backends.get(id).map_or(0, one), f64::from(*weight));
            weights.iter().map(of_backend).collect::<Vec<_>>()
        };
        ShadowStatus {
            id: self.id.to_string(),
            strategy: plugin.name().to_owned(),
            version: plugin.version().to_owned(),
            off: self.off.clone(),
            picks: since.picks.picks,
            same: of(ShadowResult::Same),
            other: of(ShadowResult::Other),
            undecided: of(ShadowResult::Undecided),
            waits: of(ShadowResult::Wait),
            none: of(ShadowResult::None),
            faults: of(ShadowResult::Fault),
            agreement: (decided > 0).then(|| of(ShadowResult::Same) as f64 / decided as f64),
            imbalance: peak_to_mean(&counts(|(picked, _)| *picked)),
            imbalance_in_charge: peak_to_mean(&counts(|(_, routed)| *routed)),
            backends: since.backends.iter().map(|(id, (picked, _))| (id.to_string(), *picked)).collect(),
        }
    }
}

fn label_of(id: &str) -> String {
    format!("shadow:{id}")
}

/// The largest count by weight, as a multiple of the mean; `None` without counts.
fn peak_to_mean(counts: &[(u64, f64)]) -> Option<f64> {
    let (total, weight) = counts.iter().fold((0.0, 0.0), |(sum, all), (count, of)| (sum + *count as f64, all + of));
    let peak = counts.iter().filter(|(_, of)| *of > 0.0).map(|(count, of)| *count as f64 / of).fold(0.0, f64::max);
    (total > 0.0 && weight > 0.0).then(|| peak * weight / total)
}

// === impl ShadowAssembly ===

impl ShadowAssembly {
    /// Makes the picker. Calls into the plugin. The error has the number of the instance.
    pub(super) fn build(self, epoch: u64, members_epoch: u64) -> Result<Shadow, (u64, HookError)> {
        let Self { id, strategy, specs } = self;
        let (instance, wants) = (strategy.instance(), strategy.plugin().wants());
        let picker = Picker::new(strategy, BackendList::new(specs, epoch, members_epoch));
        picker.map(|picker| Shadow { id, picker, wants }).map_err(|error| (instance, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_relative_to_the_weights() {
        assert_eq!(peak_to_mean(&[(5, 1.0), (5, 1.0)]), Some(1.0));
        assert_eq!(peak_to_mean(&[(10, 1.0), (0, 1.0)]), Some(2.0));
        assert_eq!(peak_to_mean(&[(30, 3.0), (10, 1.0)]), Some(1.0));
        assert_eq!(peak_to_mean(&[(4, 0.0), (4, 1.0)]), Some(0.5), "a backend without weight has no share");
        assert_eq!([peak_to_mean(&[]), peak_to_mean(&[(0, 1.0)])], [None, None]);
    }
}

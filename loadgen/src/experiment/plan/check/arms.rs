//! The checks of arms, and of the safeguards of lb that they set.

use toml::{Spanned, Table, Value};

use super::super::words::{did_you_mean, one_line};
use super::super::{ArmPlan, PlanError, bounds, file, place};
use super::Text;
use crate::load::Cost;
use crate::model::Safeguard;

// === impl Text ===

impl Text<'_> {
    /// `lb`: the keys for all arms.
    pub(super) fn arms(
        &self,
        arms: Vec<Spanned<file::Arm>>,
        cost: Cost,
        lb: &Table,
    ) -> Result<Vec<ArmPlan>, PlanError> {
        let mut found: Vec<ArmPlan> = Vec::new();
        for (number, arm) in arms.into_iter().enumerate() {
            let span = arm.span();
            let file::Arm { label, strategy, options, cost_factor, lb: own } = arm.into_inner();
            let label = label.unwrap_or_else(|| strategy.clone());
            if found.iter().any(|other| other.label == label) {
                return Err(self.wrong(span, "arms.label", format!("{label:?} is the label of another arm too")));
            }
            if let Some(factor) = cost_factor.as_ref().filter(|_| cost == Cost::None) {
                let reason = "needs load.cost, the cost of a request, to multiply";
                return Err(self.wrong(factor.span(), "arms.cost_factor", reason));
            }
            let cost_factor = self.number(cost_factor.as_ref(), "arms.cost_factor", 1.0, bounds::COST_FACTOR)?;
            own.iter().try_for_each(|(section, keys)| self.safeguard(number, (section, keys), lb))?;
            found.push(ArmPlan { label, strategy, options, cost_factor, lb: own });
        }
        if found.is_empty() {
            found.push(ArmPlan::plain("round_robin", "round_robin"));
        }
        Ok(found)
    }

    /// Checks a section of an arm's `lb`. lb checks its keys later.
    fn safeguard(&self, arm: usize, (section, keys): (&str, &Value), lb: &Table) -> Result<(), PlanError> {
        let path = format!("arms[{arm}].lb.{section}");
        let entry = place::entries(self.text).into_iter().find(|entry| entry.path == path);
        let at = entry.map_or(0..0, |entry| entry.key);
        let wrong = |reason: String| Err(self.wrong(at.clone(), &format!("arms.lb.{}", one_line(section)), reason));
        let Some(safeguard) = Safeguard::of(section) else {
            let known = Safeguard::sections();
            let near = did_you_mean(section, &known);
            let end = if near.is_empty() { "." } else { "" };
            let all = known.join(", ");
            return wrong(format!(
                "an arm has no such section{near}{end} It may set {all}; other keys belong in [lb], for all arms"
            ));
        };
        let Value::Table(keys) = keys else {
            return wrong(format!("expected a section: write [arms.lb.{section}] and its keys below its arm"));
        };
        let has_switch = |keys: Option<&Value>| keys.is_some_and(|keys| keys.get(safeguard.switch).is_some());
        if keys.contains_key(safeguard.switch) || has_switch(lb.get(section)) {
            return Ok(());
        }
        let (switch, off) = (safeguard.switch, Value::from(safeguard.off));
        wrong(format!("{switch} is missing: without it, loadgen sets {switch} = {off}, which is off"))
    }
}

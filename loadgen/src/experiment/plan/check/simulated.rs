//! The checks of `[simulated]`. The simulator checks the numbers of groups and waves later.

use serde::de::DeserializeOwned;
use toml::{Spanned, Table};

use super::super::{PlanError, SimulatedPlan, bounds, file, words};
use super::Text;

// === impl Text ===

impl Text<'_> {
    pub(super) fn simulated(
        &self,
        said: file::Simulated,
        backends: &file::BackendsTable,
    ) -> Result<SimulatedPlan, PlanError> {
        let file::Simulated { balancers, network, waves, groups } = said;
        let first = groups.first().map(Spanned::span);
        let plan = SimulatedPlan {
            balancers: self.whole(balancers.as_ref(), "simulated.balancers", 1, bounds::BALANCERS)?,
            network: self.parsed(network.as_ref(), "simulated.network", "none")?,
            waves: self.tables(waves, "simulated.waves")?,
            groups: self.tables(groups, "simulated.groups")?,
        };
        let (Some(at), Some(size)) = (first, plan.size()) else { return Ok(plan) };
        if !bounds::IN_GROUPS.contains(&size) {
            let (low, high) = (bounds::IN_GROUPS.start(), bounds::IN_GROUPS.end());
            let reason = format!("all groups together have {size} backends: {low} to {high} are possible");
            return Err(self.wrong(at, "simulated.groups", reason));
        }
        let file::BackendsTable { n, service_time, concurrency, queue } = backends;
        let spans = [
            n.as_ref().map(Spanned::span),
            service_time.as_ref().map(Spanned::span),
            concurrency.as_ref().map(Spanned::span),
            queue.as_ref().map(Spanned::span),
        ];
        match spans.into_iter().flatten().next() {
            Some(at) => Err(self.wrong(at, "backends", "the groups of [simulated] replace this section: remove one")),
            None => Ok(plan),
        }
    }

    /// Tables in the form of the simulator.
    fn tables<T: DeserializeOwned>(&self, said: Vec<Spanned<Table>>, key: &str) -> Result<Vec<T>, PlanError> {
        let read = |table: Spanned<Table>| {
            let at = table.span();
            table
                .into_inner()
                .try_into()
                .map_err(|error: toml::de::Error| self.wrong(at, key, words::one_line(error.message())))
        };
        said.into_iter().map(read).collect()
    }
}

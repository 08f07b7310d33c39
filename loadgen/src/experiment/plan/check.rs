//! From the content of a file to a checked plan. Every error has the line and the key. Defaults are set here.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;

use super::file::{self, File};
use super::words::{self, did_you_mean};
use super::{LoadPlan, MockPlan, Plan, PlanError, SimulatedPlan, bounds, place};
use crate::load::parse_duration;
use crate::model::Scenario;

mod arms;
mod blocks;
mod faults;
mod load;
mod simulated;
#[cfg(test)]
mod tests;

/// The text of the file, for the lines in errors.
struct Text<'a> {
    text: &'a str,
    path: &'a Path,
}

pub(super) fn plan(text: &str, path: &Path) -> Result<Plan, PlanError> {
    let text = Text { text, path };
    let File { scenario, title, world, budget, load, backends, blocks, lb, arms, faults, simulated } = text.file()?;
    let scenario = text.scenario(scenario.as_ref())?;
    let simulated = simulated.map(|said| text.simulated(said, &backends)).transpose()?;
    let sizes = match simulated.as_ref().and_then(SimulatedPlan::size) {
        Some(size) => vec![size],
        None => text.sizes(backends.n.as_ref())?,
    };
    let blocks = blocks.map(|blocks| text.blocks(&blocks)).transpose()?;
    let load_at = load.span();
    let load = load.into_inner();
    let requests = text.requests(&load)?;
    let load = text.load(&load, load_at.clone())?;
    text.check_loop((&load, load_at), blocks.is_some(), (&backends, &sizes), &faults)?;
    let arms = text.arms(arms, requests.cost, &lb)?;
    let end = bounds::end_of_load(&load, blocks.as_ref());
    let faults = text.faults(&faults, end, sizes.iter().copied().min().unwrap_or(1))?;
    let has_budget = budget.is_some();
    let budget = text.time(budget.as_ref(), "budget", Duration::from_secs(60))?;
    let mocks = text.mocks(backends)?;
    let title = title.unwrap_or_default();
    let mut plan = Plan {
        scenario,
        world,
        title,
        budget,
        load,
        requests,
        sizes,
        mocks,
        arms,
        blocks,
        faults,
        lb,
        simulated,
        is_quick: false,
    };
    // a file with the duration of its load needs no budget
    if let (false, LoadPlan::Open { duration: Some(_), .. }, Some(least)) =
        (has_budget, &plan.load, plan.least_budget())
        && plan.blocks.is_none()
    {
        plan.budget = plan.budget.max(least.budget);
    }
    Ok(plan)
}

// === impl Text ===

impl Text<'_> {
    /// The parsed file.
    fn file(&self) -> Result<File, PlanError> {
        let mistake = |(at, key, reason): words::Mistake| self.wrong(at, &key, reason);
        if let Err(error) = toml::de::DeTable::parse(self.text) {
            return Err(mistake(words::of_syntax(self.text, &error)));
        }
        let entries = || place::entries(self.text);
        toml::from_str(self.text).map_err(|error| mistake(words::of_form(self.text, &entries(), &error)))
    }

    fn wrong(&self, at: Range<usize>, key: &str, reason: impl Into<String>) -> PlanError {
        let line = place::line(self.text, at.start);
        PlanError::Wrong { path: self.path.to_owned(), line, key: key.to_owned(), reason: reason.into() }
    }

    fn scenario(&self, said: Option<&Spanned<String>>) -> Result<Scenario, PlanError> {
        let Some(said) = said else { return Ok(Scenario::Own) };
        Ok(match said.get_ref().to_ascii_uppercase().as_str() {
            "A1" => Scenario::A1,
            "A2" => Scenario::A2,
            "A3" => Scenario::A3,
            "A4" => Scenario::A4,
            "B" => Scenario::B,
            "OWN" => Scenario::Own,
            other => {
                let reason = format!("must be A1, A2, A3, A4, B or own, not {:?}", words::one_line(other));
                return Err(self.wrong(said.span(), "scenario", reason));
            }
        })
    }

    fn sizes(&self, said: Option<&Spanned<file::Sizes>>) -> Result<Vec<u32>, PlanError> {
        let Some(said) = said else { return Ok(vec![3]) };
        let sizes = match said.get_ref() {
            file::Sizes::One(n) => std::slice::from_ref(n),
            file::Sizes::Many(many) => many.as_slice(),
        };
        let size = |n: &i64| u32::try_from(*n).ok().filter(|n| bounds::SIZE.contains(n));
        let wrong = |reason: String| self.wrong(said.span(), "backends.n", reason);
        let bad = sizes.iter().find(|n| size(n).is_none());
        let end = bounds::SIZE.end();
        match bad {
            Some(bad) => Err(wrong(format!("must be numbers from 1 to {end}, not {bad}"))),
            None if sizes.is_empty() => Err(wrong(format!("must be numbers from 1 to {end}: there is none"))),
            None => Ok(sizes.iter().filter_map(size).collect()),
        }
    }

    /// Checks that blocks, several sizes and faults have the kind of loop that they need.
    fn check_loop(
        &self,
        (load, load_at): (&LoadPlan, Range<usize>),
        has_blocks: bool,
        (backends, sizes): (&file::BackendsTable, &[u32]),
        faults: &[Spanned<file::Fault>],
    ) -> Result<(), PlanError> {
        let is_closed = matches!(load, LoadPlan::Closed { .. });
        if is_closed && has_blocks {
            let reason = "blocks need an open loop: a closed loop sends fewer requests to a slow arm";
            return Err(self.wrong(load_at, "load.loop", reason));
        }
        if let (false, Some(said), 2..) = (is_closed, &backends.n, sizes.len()) {
            return Err(self.wrong(said.span(), "backends.n", bounds::ONE_SIZE));
        }
        match faults.first() {
            Some(fault) if is_closed => {
                Err(self.wrong(fault.span(), "faults", "need an open loop: each fault has a time"))
            }
            _ => Ok(()),
        }
    }

    fn mocks(&self, backends: file::BackendsTable) -> Result<MockPlan, PlanError> {
        if let Some(said) = &backends.service_time {
            let key = "backends.service_time";
            bounds::service_time(said.get_ref()).map_err(|reason| self.wrong(said.span(), key, reason))?;
        }
        Ok(MockPlan {
            concurrency: self.whole(backends.concurrency.as_ref(), "backends.concurrency", 0, bounds::AT_A_TIME)?,
            queue: self.whole(backends.queue.as_ref(), "backends.queue", 1024, bounds::AT_A_TIME)?,
            service_time: backends.service_time.map_or_else(|| "0".to_owned(), Spanned::into_inner),
        })
    }

    /// Checks that a text is one of these names.
    fn one_of<'a>(&self, said: &Spanned<String>, key: &str, known: &[&'a str]) -> Result<&'a str, PlanError> {
        let typed = said.get_ref().as_str();
        let found = known.iter().find(|name| **name == typed);
        let near = did_you_mean(typed, known);
        let reason = || format!("must be one of {}, not {:?}{near}", known.join(", "), words::one_line(typed));
        found.copied().ok_or_else(|| self.wrong(said.span(), key, reason()))
    }

    fn time(&self, said: Option<&Spanned<String>>, key: &str, default: Duration) -> Result<Duration, PlanError> {
        let Some(said) = said else { return Ok(default) };
        let (text, wrong) = (said.get_ref(), |reason: String| self.wrong(said.span(), key, reason));
        let no_time = || wrong(format!("{text:?} is no time: write a number and a unit, such as \"500ms\" or \"2m\""));
        let time = parse_duration(text).ok_or_else(no_time)?;
        bounds::duration(key, time).map(|()| time).map_err(|reason| wrong(format!("{text:?} {reason}")))
    }

    /// A whole number within bounds, in the type of the plan.
    fn whole<T: TryFrom<i64> + PartialOrd + Copy + std::fmt::Display>(
        &self,
        said: Option<&Spanned<i64>>,
        key: &str,
        default: T,
        range: std::ops::RangeInclusive<T>,
    ) -> Result<T, PlanError> {
        let Some(said) = said else { return Ok(default) };
        let number = T::try_from(*said.get_ref()).ok().filter(|number| range.contains(number));
        let (low, high) = (range.start(), range.end());
        let reason = || format!("must be from {low} to {high}, not {}", said.get_ref());
        number.ok_or_else(|| self.wrong(said.span(), key, reason()))
    }

    fn number<T: PartialOrd + Copy + std::fmt::Display>(
        &self,
        said: Option<&Spanned<T>>,
        key: &str,
        default: T,
        range: std::ops::RangeInclusive<T>,
    ) -> Result<T, PlanError> {
        let Some(said) = said else { return Ok(default) };
        let number = *said.get_ref();
        if range.contains(&number) {
            return Ok(number);
        }
        let (low, high) = (range.start(), range.end());
        Err(self.wrong(said.span(), key, format!("must be from {low} to {high}, not {number}")))
    }

    fn parsed<T>(&self, said: Option<&Spanned<String>>, key: &str, default: &str) -> Result<T, PlanError>
    where
        T: std::str::FromStr,
        T::Err: std::fmt::Display,
    {
        let (text, span) = said.map_or((default, 0..0), |said| (said.get_ref().as_str(), said.span()));
        text.parse().map_err(|error: T::Err| self.wrong(span, key, error.to_string()))
    }
}

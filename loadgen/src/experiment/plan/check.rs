//! From what is written to what is meant. Every error has the line and the key; every default is here.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;

use super::file::{self, File};
use super::{
    ArmPlan, BlockPlan, Fault, FaultKind, Law, LoadPlan, MockPlan, Plan, PlanError, Rate, RequestPlan, bounds,
};
use crate::load::{Cost, parse_duration};
use crate::model::Scenario;

/// The text that is checked, for places in errors.
struct Text<'a> {
    text: &'a str,
    path: &'a Path,
}

pub(super) fn plan(text: &str, path: &Path) -> Result<Plan, PlanError> {
    let text = Text { text, path };
    let file: File = toml::from_str(text.text).map_err(|error| {
        // toml's own sentence; its second line shows the place, which the line number says
        let reason = error.message().lines().collect::<Vec<_>>().join(", ");
        text.wrong(error.span().unwrap_or(0..0), "", reason)
    })?;
    let File { scenario, title, budget, load, backends, blocks, lb, arms, faults } = file;
    let scenario = text.scenario(scenario.as_ref())?;
    let sizes = text.sizes(backends.n.as_ref())?;
    let blocks = blocks.map(|blocks| text.blocks(&blocks)).transpose()?;
    let load_at = load.span();
    let load = load.into_inner();
    let requests = text.requests(&load)?;
    let load = text.load(&load, load_at.clone())?;
    if let (LoadPlan::Closed { .. }, Some(_)) = (&load, &blocks) {
        return Err(text.wrong(load_at, "load.loop", "blocks need an open loop: a closed one asks a slow arm less"));
    }
    if let (LoadPlan::Open { .. }, Some(said), 2..) = (&load, &backends.n, sizes.len()) {
        return Err(text.wrong(said.span(), "backends.n", bounds::ONE_SIZE));
    }
    if let (Some(fault), true) = (faults.first(), blocks.is_some() || matches!(load, LoadPlan::Closed { .. })) {
        return Err(text.wrong(fault.span(), "faults", "need an open loop without blocks: they come by the clock"));
    }
    let arms = text.arms(arms, requests.cost)?;
    let smallest = sizes.iter().copied().min().unwrap_or(1);
    let said = faults;
    let mut faults: Vec<Fault> =
        said.iter().map(|fault| text.fault(fault, smallest)).collect::<Result<_, PlanError>>()?;
    if let LoadPlan::Open { duration: Some(duration), .. } = load
        && let Some((_, said)) = faults.iter().zip(&said).find(|(fault, _)| fault.at >= duration)
    {
        return Err(text.wrong(said.get_ref().at.span(), "faults.at", "the load has ended by then"));
    }
    if let Some((first, second)) = bounds::overlap(&faults) {
        return Err(text.wrong(
            said[second].get_ref().at.span(),
            "faults.at",
            bounds::overlap_in_words(&faults[first]),
        ));
    }
    faults.sort_by_key(|fault| fault.at);
    let budget = text.time(budget.as_ref(), "budget", Duration::from_secs(60))?;
    let mocks = MockPlan {
        service_time: backends.service_time.unwrap_or_else(|| "0".to_owned()),
        concurrency: backends.concurrency.unwrap_or(0),
        queue: backends.queue.unwrap_or(1024),
    };
    Ok(Plan {
        scenario,
        title: title.unwrap_or_default(),
        budget,
        load,
        requests,
        sizes,
        mocks,
        arms,
        blocks,
        faults,
        lb,
    })
}

fn arm_default() -> ArmPlan {
    ArmPlan::plain("round_robin", "round_robin")
}

// === impl Text ===

impl Text<'_> {
    fn wrong(&self, at: Range<usize>, key: &str, reason: impl Into<String>) -> PlanError {
        let before = &self.text.as_bytes()[..at.start.min(self.text.len())];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
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
            _ => return Err(self.wrong(said.span(), "scenario", "must be A1, A2, A3, A4, B or own")),
        })
    }

    fn sizes(&self, said: Option<&Spanned<file::Sizes>>) -> Result<Vec<u32>, PlanError> {
        let Some(said) = said else { return Ok(vec![3]) };
        let sizes = match said.get_ref() {
            file::Sizes::One(n) => vec![*n],
            file::Sizes::Many(many) => many.clone(),
        };
        let is_sound = !sizes.is_empty() && sizes.iter().all(|n| bounds::SIZE.contains(n));
        if is_sound {
            return Ok(sizes);
        }
        Err(self.wrong(said.span(), "backends.n", format!("must be numbers from 1 to {}", bounds::SIZE.end())))
    }

    fn load(&self, load: &file::Load, at: Range<usize>) -> Result<LoadPlan, PlanError> {
        let stray = |key: &str, span: Option<Range<usize>>, kind: &str| match span {
            Some(span) => Err(self.wrong(span, &format!("load.{key}"), format!("belongs to {kind} loop"))),
            None => Ok(()),
        };
        if load.kind == file::Kind::Closed {
            for (key, span) in [
                ("arrivals", load.arrivals.as_ref().map(Spanned::span)),
                ("rate_rps", load.rate_rps.as_ref().map(Spanned::span)),
                ("of_capacity", load.of_capacity.as_ref().map(Spanned::span)),
                ("capacity_p99", load.capacity_p99.as_ref().map(Spanned::span)),
                ("outstanding_max", load.outstanding_max.as_ref().map(Spanned::span)),
                ("warm_up", load.warm_up.as_ref().map(Spanned::span)),
                ("duration", load.duration.as_ref().map(Spanned::span)),
            ] {
                stray(key, span, "an open")?;
            }
            return Ok(LoadPlan::Closed {
                connections: self.number(load.connections.as_ref(), "load.connections", 64, bounds::CONNECTIONS)?,
                requests: self.number(load.requests.as_ref(), "load.requests", 10_000, bounds::REQUESTS)?,
                repeats: self.number(load.repeats.as_ref(), "load.repeats", 1, bounds::REPEATS)?,
            });
        }
        stray("connections", load.connections.as_ref().map(Spanned::span), "a closed")?;
        stray("requests", load.requests.as_ref().map(Spanned::span), "a closed")?;
        stray("repeats", load.repeats.as_ref().map(Spanned::span), "a closed")?;
        let rate = match (&load.rate_rps, &load.of_capacity) {
            (Some(rate), None) => Rate::Rps(self.number(Some(rate), "load.rate_rps", 1.0, bounds::RATE_RPS)?),
            (None, Some(part)) => {
                Rate::OfCapacity(self.number(Some(part), "load.of_capacity", 0.7, bounds::OF_CAPACITY)?)
            }
            (None, None) => return Err(self.wrong(at, "load", "an open loop needs rate_rps or of_capacity")),
            (Some(_), Some(part)) => {
                return Err(self.wrong(part.span(), "load.of_capacity", "rate_rps is given too; one of them"));
            }
        };
        let law = match load.arrivals.as_ref().map(Spanned::get_ref) {
            None | Some(file::Arrivals::Poisson) => Law::Poisson,
            Some(file::Arrivals::Constant) => Law::Constant,
        };
        let duration = load.duration.as_ref();
        Ok(LoadPlan::Open {
            law,
            rate,
            outstanding: self.number(
                load.outstanding_max.as_ref(),
                "load.outstanding_max",
                10_000,
                bounds::CONNECTIONS,
            )?,
            warm_up: self.time(load.warm_up.as_ref(), "load.warm_up", Duration::from_secs(2))?,
            duration: duration.map(|it| self.time(Some(it), "load.duration", Duration::ZERO)).transpose()?,
        })
    }

    fn requests(&self, load: &file::Load) -> Result<RequestPlan, PlanError> {
        let path = load.path.as_ref().map_or("/home", |path| path.get_ref());
        if let Some(said) = load.path.as_ref().filter(|said| !said.get_ref().starts_with('/')) {
            return Err(self.wrong(said.span(), "load.path", "must begin with /"));
        }
        Ok(RequestPlan {
            path: path.to_owned(),
            keys: self.parsed(load.keys.as_ref(), "load.keys", "uniform")?,
            cost: self.parsed(load.cost.as_ref(), "load.cost", "none")?,
            timeout: self.time(load.timeout.as_ref(), "load.timeout", Duration::from_secs(10))?,
            calm_p99: self.time(load.capacity_p99.as_ref(), "load.capacity_p99", Duration::from_millis(250))?,
        })
    }

    fn blocks(&self, blocks: &file::Blocks) -> Result<BlockPlan, PlanError> {
        let primary = blocks.primary.as_ref().map_or("latency_p99", |it| it.get_ref());
        if let Some(said) = blocks.primary.as_ref().filter(|said| !bounds::MEASURES.contains(&said.get_ref().as_str()))
        {
            return Err(self.wrong(
                said.span(),
                "blocks.primary",
                format!("must be one of {}", bounds::MEASURES.join(", ")),
            ));
        }
        Ok(BlockPlan {
            segment: self.time(blocks.segment.as_ref(), "blocks.segment", Duration::from_secs(4))?,
            wash_out: self.time(blocks.wash_out.as_ref(), "blocks.wash_out", Duration::from_secs(1))?,
            half_width: self.number(blocks.half_width.as_ref(), "blocks.half_width", 0.05, bounds::WIDTH)?,
            equivalence: self.number(blocks.equivalence.as_ref(), "blocks.equivalence", 0.05, bounds::WIDTH)?,
            confidence: self.number(blocks.confidence.as_ref(), "blocks.confidence", 0.95, bounds::CONFIDENCE)?,
            primary: primary.to_owned(),
            verdicts: super::verdicts(),
        })
    }

    fn arms(&self, arms: Vec<Spanned<file::Arm>>, cost: Cost) -> Result<Vec<ArmPlan>, PlanError> {
        let mut found: Vec<ArmPlan> = Vec::new();
        for arm in arms {
            let span = arm.span();
            let file::Arm { label, strategy, options, cost_factor } = arm.into_inner();
            let label = label.unwrap_or_else(|| strategy.clone());
            if found.iter().any(|other| other.label == label) {
                return Err(self.wrong(span, "arms.label", format!("{label:?} is the label of another arm too")));
            }
            if let Some(factor) = cost_factor.as_ref().filter(|_| cost == Cost::None) {
                let reason = "has nothing to multiply: say what a request costs with load.cost";
                return Err(self.wrong(factor.span(), "arms.cost_factor", reason));
            }
            let cost_factor = self.number(cost_factor.as_ref(), "arms.cost_factor", 1.0, bounds::COST_FACTOR)?;
            found.push(ArmPlan { label, strategy, options, cost_factor });
        }
        if found.is_empty() {
            found.push(arm_default());
        }
        Ok(found)
    }

    fn fault(&self, fault: &Spanned<file::Fault>, smallest: u32) -> Result<Fault, PlanError> {
        let (span, fault) = (fault.span(), fault.get_ref());
        let missing = |key: &str| self.wrong(span.clone(), &format!("faults.{key}"), "is missing for this kind");
        let kind = match fault.kind {
            file::FaultKind::Slow => {
                let factor = fault.factor.as_ref().ok_or_else(|| missing("factor"))?;
                FaultKind::Slow { factor: self.number(Some(factor), "faults.factor", 1.0, bounds::SLOW_FACTOR)? }
            }
            file::FaultKind::Delay => {
                let extra = fault.extra.as_ref().ok_or_else(|| missing("extra"))?;
                FaultKind::Delay { extra: self.time(Some(extra), "faults.extra", Duration::ZERO)? }
            }
            file::FaultKind::Stall => FaultKind::Stall,
            file::FaultKind::Kill => FaultKind::Kill,
            file::FaultKind::Errors => {
                FaultKind::Errors { rate: self.number(fault.rate.as_ref(), "faults.rate", 1.0, bounds::SHARE)? }
            }
            file::FaultKind::Add => FaultKind::Add { n: self.number(fault.n.as_ref(), "faults.n", 1, bounds::SIZE)? },
            file::FaultKind::Remove => FaultKind::Remove,
            file::FaultKind::HotKey => {
                let share = fault.share.as_ref().ok_or_else(|| missing("share"))?;
                FaultKind::HotKey { share: self.number(Some(share), "faults.share", 1.0, bounds::SHARE)? }
            }
        };
        let at = self.time(Some(&fault.at), "faults.at", Duration::ZERO)?;
        let lasts = fault.lasts.as_ref().map(|it| self.time(Some(it), "faults.for", Duration::ZERO)).transpose()?;
        if let Some(said) = fault.lasts.as_ref().filter(|_| !kind.goes_on()) {
            return Err(self.wrong(said.span(), "faults.for", "this kind cannot be undone"));
        }
        if let Some(said) = fault.lasts.as_ref().filter(|_| lasts.is_some_and(|lasts| lasts.is_zero())) {
            return Err(self.wrong(said.span(), "faults.for", "must be longer than 0"));
        }
        if let Some(said) = fault.backend.as_ref().filter(|_| !kind.befalls_one()) {
            return Err(self.wrong(said.span(), "faults.backend", "this kind befalls the whole pool"));
        }
        for (key, said, of) in [
            ("factor", fault.factor.as_ref().map(Spanned::span), file::FaultKind::Slow),
            ("extra", fault.extra.as_ref().map(Spanned::span), file::FaultKind::Delay),
            ("rate", fault.rate.as_ref().map(Spanned::span), file::FaultKind::Errors),
            ("share", fault.share.as_ref().map(Spanned::span), file::FaultKind::HotKey),
            ("n", fault.n.as_ref().map(Spanned::span), file::FaultKind::Add),
        ] {
            if let Some(span) = said.filter(|_| fault.kind != of) {
                return Err(self.wrong(span, &format!("faults.{key}"), "says nothing to this kind"));
            }
        }
        let backend = self.number(fault.backend.as_ref(), "faults.backend", 1, 1..=smallest)?;
        Ok(Fault { at, until: lasts.map(|lasts| at + lasts), kind, backend })
    }

    fn time(&self, said: Option<&Spanned<String>>, key: &str, default: Duration) -> Result<Duration, PlanError> {
        let Some(said) = said else { return Ok(default) };
        let (text, wrong) = (said.get_ref(), |reason: String| self.wrong(said.span(), key, reason));
        let no_time = || wrong(format!("{text:?} is no time: write a number and a unit, such as \"500ms\" or \"2m\""));
        let time = parse_duration(text).ok_or_else(no_time)?;
        bounds::duration(key, time).map(|()| time).map_err(|reason| wrong(format!("{text:?} {reason}")))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        plan(text, Path::new("x.toml")).expect_err(text).to_string()
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let found = plan("[load]\nloop = \"closed\"\n", Path::new("x.toml")).expect("sound");
        assert_eq!(found.load, LoadPlan::Closed { connections: 64, requests: 10_000, repeats: 1 });
        assert_eq!((found.sizes, found.arms, found.scenario), (vec![3], vec![arm_default()], Scenario::Own));
    }

    #[test]
    fn mistakes_are_one_line_with_line_and_key() {
        for (text, wanted) in [
            ("scenario = \"A9\"\n[load]\nloop = \"closed\"", "x.toml, line 1: scenario: must be A1"),
            ("[load]\nloop = \"open\"", "x.toml, line 1: load: an open loop needs rate_rps or of_capacity"),
            ("[load]\nloop = \"open\"\nrate_rps = 0", "line 3: load.rate_rps: must be from 0.001 to 1000000"),
            ("[load]\nloop = \"closed\"\nrate_rps = 5", "line 3: load.rate_rps: belongs to an open loop"),
            ("[load]\nloop = \"open\"\nrate_rps = 5\nconnections = 3", "line 4: load.connections: belongs to a closed"),
            ("[load]\nloop = \"sideways\"", "line 2: unknown variant `sideways`"),
            ("[load]\nloop = \"closed\"\ncost = \"10ms\"", "line 3: load.cost: \"10ms\" is no law of cost"),
            ("[load]\nloop = \"closed\"\ntimeout = \"5\"", "line 3: load.timeout: \"5\" is no time"),
            ("[load]\nloop = \"closed\"\ntimeout = \"1000001h\"", "line 3: load.timeout: \"1000001h\" is too long"),
            ("[load]\nloop = \"closed\"\nreqests = 5", "line 3: unknown field `reqests`"),
            ("[load]\nloop = \"closed\"\n[backends]\nn = [0]", "line 4: backends.n: must be numbers from 1 to 64"),
            ("[load]\nloop = \"closed\"\n[blocks]", "blocks need an open loop"),
            (
                "[load]\nloop = \"closed\"\n[[arms]]\nstrategy = \"a\"\n[[arms]]\nstrategy = \"a\"",
                "label of another arm",
            ),
            (
                "[load]\nloop = \"closed\"\n[[arms]]\nstrategy = \"a\"\ncost_factor = 1.15",
                "line 5: arms.cost_factor: has nothing to multiply",
            ),
            (
                "[load]\nloop = \"closed\"\ncost = \"constant:1ms\"\n[[arms]]\nstrategy = \"a\"\ncost_factor = 0",
                "line 6: arms.cost_factor: must be from 0.01 to 100",
            ),
            (
                "[load]\nloop = \"open\"\nrate_rps = 5\n[[faults]]\nat = \"1s\"\nkind = \"slow\"",
                "line 4: faults.factor: is missing",
            ),
            (
                "[load]\nloop = \"open\"\nrate_rps = 5\n[[faults]]\nat = \"1s\"\nkind = \"kill\"\nbackend = 4",
                "must be from 1 to 3, not 4",
            ),
            (
                "[load]\nloop = \"closed\"\n[[faults]]\nat = \"1s\"\nkind = \"kill\"",
                "line 3: faults: need an open loop",
            ),
            ("[load]\nloop = \"open\"\nrate_rps = 5\n[[faults]]\nat = \"1s\"\nkind = \"kill\"\nfor = \"1s\"", "undone"),
            (
                "[load]\nloop = \"open\"\nrate_rps = 5\n[[faults]]\nat = \"1s\"\nkind = \"kill\"\nfactor = 2",
                "line 7: faults.factor: says nothing to this kind",
            ),
            (
                "[load]\nloop = \"open\"\nrate_rps = 5\n[[faults]]\nat = \"1s\"\nkind = \"hot_key\"\nshare = 1\nbackend = 2",
                "line 8: faults.backend: this kind befalls the whole pool",
            ),
            (
                "[load]\nloop = \"open\"\nrate_rps = 5\n[[faults]]\nat = \"1s\"\nkind = \"hot_key\"\nshare = 1.5",
                "line 7: faults.share: must be from 0 to 1, not 1.5",
            ),
            (
                "[load]\nloop = \"open\"\nrate_rps = 5\nduration = \"9s\"\n[[faults]]\nat = \"9s\"\nkind = \"kill\"",
                "line 6: faults.at: the load has ended by then",
            ),
            (
                "[load]\nloop = \"open\"\nrate_rps = 5\n[[faults]]\nat = \"1s\"\nkind = \"stall\"\nfor = \"0s\"",
                "line 7: faults.for: must be longer than 0",
            ),
            ("[load\nloop", "x.toml, line 1: "),
        ] {
            let error = error(text);
            assert!(error.contains(wanted) && error.lines().count() == 1, "{text:?} gave {error:?}, not {wanted:?}");
        }
    }
}

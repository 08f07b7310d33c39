//! The checks of the load and of its requests.

use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::super::{Law, LoadPlan, PlanError, Rate, RequestPlan, bounds, file};
use super::Text;

// === impl Text ===

impl Text<'_> {
    pub(super) fn load(&self, load: &file::Load, at: Range<usize>) -> Result<LoadPlan, PlanError> {
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
                connections: self.whole(load.connections.as_ref(), "load.connections", 64, bounds::CONNECTIONS)?,
                requests: self.whole(load.requests.as_ref(), "load.requests", 10_000, bounds::REQUESTS)?,
                repeats: self.whole(load.repeats.as_ref(), "load.repeats", 1, bounds::REPEATS)?,
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
            outstanding: self.whole(
                load.outstanding_max.as_ref(),
                "load.outstanding_max",
                10_000,
                bounds::CONNECTIONS,
            )?,
            warm_up: self.time(load.warm_up.as_ref(), "load.warm_up", Duration::from_secs(2))?,
            duration: duration.map(|it| self.time(Some(it), "load.duration", Duration::ZERO)).transpose()?,
        })
    }

    pub(super) fn requests(&self, load: &file::Load) -> Result<RequestPlan, PlanError> {
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
}

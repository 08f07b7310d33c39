//! The checks of faults.

use std::time::Duration;

use toml::Spanned;

use super::super::{Fault, FaultKind, PlanError, bounds, file};
use super::Text;

// === impl Text ===

impl Text<'_> {
    /// The faults in order of their times. `end`: the end of the load, and whether each segment is a load.
    pub(super) fn faults(
        &self,
        said: &[Spanned<file::Fault>],
        end: Option<(Duration, bool)>,
        smallest: u32,
    ) -> Result<Vec<Fault>, PlanError> {
        let mut faults: Vec<Fault> = said.iter().map(|fault| self.fault(fault, smallest)).collect::<Result<_, _>>()?;
        let at = |number: usize| said[number].get_ref().at.span();
        if let Some((end, in_blocks)) = end {
            if let Some(late) = faults.iter().position(|fault| fault.at >= end) {
                let what = if in_blocks { "segment" } else { "load" };
                return Err(self.wrong(at(late), "faults.at", format!("is after the end of the {what}")));
            }
            if let Some(stays) = faults.iter().position(|fault| in_blocks && !fault.kind.goes_on()) {
                return Err(self.wrong(said[stays].span(), "faults.kind", bounds::NOT_IN_BLOCKS));
            }
        }
        if let Some((first, second)) = bounds::overlap(&faults) {
            return Err(self.wrong(at(second), "faults.at", bounds::overlap_in_words(&faults[first])));
        }
        faults.sort_by_key(|fault| fault.at);
        Ok(faults)
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
            file::FaultKind::Add => FaultKind::Add { n: self.whole(fault.n.as_ref(), "faults.n", 1, bounds::SIZE)? },
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
        if let Some(said) = fault.backend.as_ref().filter(|_| !kind.affects_one()) {
            return Err(self.wrong(said.span(), "faults.backend", "this kind affects the whole pool"));
        }
        for (key, said, of) in [
            ("factor", fault.factor.as_ref().map(Spanned::span), file::FaultKind::Slow),
            ("extra", fault.extra.as_ref().map(Spanned::span), file::FaultKind::Delay),
            ("rate", fault.rate.as_ref().map(Spanned::span), file::FaultKind::Errors),
            ("share", fault.share.as_ref().map(Spanned::span), file::FaultKind::HotKey),
            ("n", fault.n.as_ref().map(Spanned::span), file::FaultKind::Add),
        ] {
            if let Some(span) = said.filter(|_| fault.kind != of) {
                return Err(self.wrong(span, &format!("faults.{key}"), "does not belong to this kind"));
            }
        }
        let backend = self.whole(fault.backend.as_ref(), "faults.backend", 1, 1..=smallest)?;
        Ok(Fault { at, until: lasts.map(|lasts| at + lasts), kind, backend })
    }
}

//! The checks of blocks: times, precision, and the measures with a verdict.

use std::time::Duration;

use toml::Spanned;

use super::super::{BlockPlan, PlanError, bounds, file};
use super::Text;
use crate::model::GOOD_SHARE;

// === impl Text ===

impl Text<'_> {
    pub(super) fn blocks(&self, blocks: &file::Blocks) -> Result<BlockPlan, PlanError> {
        let (verdicts, primary, asked) = self.measures(blocks)?;
        Ok(BlockPlan {
            segment: self.time(blocks.segment.as_ref(), "blocks.segment", Duration::from_secs(4))?,
            wash_out: self.time(blocks.wash_out.as_ref(), "blocks.wash_out", Duration::from_secs(1))?,
            half_width: self.number(blocks.half_width.as_ref(), "blocks.half_width", 0.05, bounds::WIDTH)?,
            equivalence: self.number(blocks.equivalence.as_ref(), "blocks.equivalence", 0.05, bounds::WIDTH)?,
            confidence: self.number(blocks.confidence.as_ref(), "blocks.confidence", 0.95, bounds::CONFIDENCE)?,
            primary,
            verdicts,
            asked,
        })
    }

    /// The measures with a verdict, the primary one of them, and those that the file names.
    fn measures(&self, blocks: &file::Blocks) -> Result<(Vec<String>, String, Vec<String>), PlanError> {
        let mut verdicts: Vec<String> = Vec::new();
        for said in blocks.verdicts.iter().flat_map(Spanned::get_ref) {
            let name = self.one_of(said, "blocks.verdicts", &bounds::MEASURES)?;
            if verdicts.iter().any(|other| other == name) {
                return Err(self.wrong(said.span(), "blocks.verdicts", format!("{name} is there twice")));
            }
            verdicts.push(name.to_owned());
        }
        if let Some(said) = blocks.verdicts.as_ref().filter(|said| said.get_ref().is_empty()) {
            let reason = format!("must name one of {} at least", bounds::MEASURES.join(", "));
            return Err(self.wrong(said.span(), "blocks.verdicts", reason));
        }
        if let Some(said) = blocks.verdicts.as_ref().filter(|_| verdicts.len() > 1)
            && verdicts.iter().any(|name| name == GOOD_SHARE)
        {
            return Err(self.wrong(said.span(), "blocks.verdicts", bounds::ALONE));
        }
        let said = blocks.primary.as_ref();
        let primary = said.map(|said| self.one_of(said, "blocks.primary", &bounds::MEASURES)).transpose()?;
        if let (Some(said), Some(primary)) = (said, primary)
            && !verdicts.is_empty()
            && !verdicts.iter().any(|name| name == primary)
        {
            let reason = format!("must be one of blocks.verdicts, which are {}", verdicts.join(", "));
            return Err(self.wrong(said.span(), "blocks.primary", reason));
        }
        let mut asked = verdicts.clone();
        if let Some(primary) = primary.filter(|primary| !asked.iter().any(|name| name == primary)) {
            asked.push(primary.to_owned());
        }
        if verdicts.is_empty() && primary == Some(GOOD_SHARE) {
            verdicts.push(GOOD_SHARE.to_owned());
        }
        if verdicts.is_empty() {
            verdicts = super::super::verdicts();
            let more = asked.iter().find(|name| !verdicts.contains(name)).cloned();
            verdicts.extend(more);
        }
        let primary = primary.map_or_else(|| super::super::verdict::primary_of(&verdicts), str::to_owned);
        Ok((verdicts, primary, asked))
    }
}

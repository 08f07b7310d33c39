//! The text form: `cpu_utilization=0.3, named_metrics.queue=4`. The older form has colons in place of equals signs.
//!
//! Why unknown names are skipped: a later version of the message may have more fields. An old lb should still read the
//! fields that it knows. Invariant: each entry has a name and a value, whether it is used or not.

use super::Malformed;
use super::draft::{Draft, Map, Scalar};

pub(super) fn read(text: &[u8], draft: &mut Draft<'_>) -> Result<(), Malformed> {
    for entry in text.split(|byte| *byte == b',') {
        let entry = entry.trim_ascii();
        if entry.is_empty() {
            continue;
        }
        let (name, value) = split(entry).ok_or(Malformed::Entry)?;
        if let Some(scalar) = Scalar::of(name) {
            draft.scalar(scalar, number(value)?)?;
        } else if let Some(place) = Map::split(name).and_then(|(map, key)| draft.place(map, key)) {
            draft.named(place, number(value)?)?;
        }
    }
    Ok(())
}

/// The name and the value. The name may have colons if the entry has an equals sign.
fn split(entry: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = entry.iter().position(|byte| *byte == b'=').or_else(|| entry.iter().rposition(|byte| *byte == b':'))?;
    let (name, value) = (entry[..at].trim_ascii_end(), entry[at + 1..].trim_ascii_start());
    (!name.is_empty() && !value.is_empty()).then_some((name, value))
}

fn number(value: &[u8]) -> Result<f64, Malformed> {
    let text = std::str::from_utf8(value).map_err(|_| Malformed::Value)?;
    text.parse().map_err(|_| Malformed::Value)
}

//! The explanation is JSON and agrees with the pick.
//!
//! Why: `lb explain` and the live page show it to operators. A wrong explanation is worse than none. The keys that have
//! a meaning are `backend` and `ring`; a strategy may add others.

use lb_strategy::RING_ARCS_MAX;
use serde_json::Value;

use super::subject::Subject;
use super::{Finding, Found};
use crate::{Ask, Decision, Picker, World};

const ASKS: usize = 20;
/// A longer text is cut in a sentence.
const QUOTED_MAX: usize = 60;

pub(super) fn check(subject: &Subject) -> Found {
    if !subject.plugin().explains() {
        return Ok(Finding::not_applicable("it does not explain its picks"));
    }
    let instance = subject.instance()?;
    let mut requests = subject.requests(61);
    let (mut asked, mut wrong, mut first) = (0_u64, 0_u64, None);
    let worlds = [
        World::labelled(3),
        World::labelled(3).up(&[false, true, true]),
        World::labelled(3).up(&[false; 3]),
        World::labelled(1),
        World::labelled(0),
    ];
    for world in worlds {
        let picker = world.picker(&instance)?;
        for _ in 0..ASKS {
            let ask = requests.ask().dry();
            for ask in [ask.clone(), ask.clone().without_key(), if world.len() > 1 { ask.tried(&[1]) } else { ask }] {
                asked += 1;
                if let Err(reason) = judge(&ask, &picker, &world) {
                    wrong += 1;
                    first.get_or_insert(reason);
                }
            }
        }
    }
    let (figure, bar) = (format!("{wrong} wrong of {asked}"), "JSON that fits the pick");
    Ok(match first {
        None => Finding::pass(figure, bar, "each explanation is a JSON object that agrees with the dry pick"),
        Some(first) => Finding::fail(figure, bar, format!("first: {first}")),
    })
}

fn judge(ask: &Ask, picker: &Picker, world: &World) -> Result<(), String> {
    let decision = ask.pick(picker);
    // A strategy may have nothing to say about a request.
    let Some(text) = ask.try_explain(picker).transpose().map_err(|error| error.to_string())? else { return Ok(()) };
    let said: Value =
        serde_json::from_str(&text).map_err(|error| format!("{:?} is no JSON: {error}", quoted(&text)))?;
    let said = said.as_object().ok_or_else(|| format!("{:?} is no JSON object", quoted(&text)))?;
    if let Some(backend) = said.get("backend") {
        agrees(backend, decision, world)?;
    }
    said.get("ring").map_or(Ok(()), |ring| is_ring(ring, world.len()))
}

fn agrees(backend: &Value, decision: Decision, world: &World) -> Result<(), String> {
    let picked = match decision {
        Decision::Backend { index, .. } => Some(index),
        _ => None,
    };
    let is_same = match backend {
        Value::Null => picked.is_none(),
        Value::String(name) => picked.is_some_and(|index| world.name(index) == name),
        Value::Number(number) => picked.is_some_and(|index| number.as_u64() == Some(index as u64)),
        _ => return Err(format!("`backend` is {}: it must be a name, an index or null", quoted(&backend.to_string()))),
    };
    let picked = picked.map_or("no backend".to_owned(), |index| world.name(index).to_owned());
    if is_same { Ok(()) } else { Err(format!("`backend` is {backend}, but the dry pick was {picked}")) }
}

/// Arcs in order, each `[end, backend]` or `[end, backend, requests]`.
fn is_ring(ring: &Value, backends: usize) -> Result<(), String> {
    let arcs = ring.as_array().ok_or("`ring` is no list of arcs")?;
    if arcs.len() > RING_ARCS_MAX {
        return Err(format!("`ring` has {} arcs: at most {RING_ARCS_MAX} are shown", arcs.len()));
    }
    let mut before = 0.0;
    for arc in arcs {
        let wrong = || format!("`ring` has the arc {}: see RING_ARCS_MAX and `explain`", quoted(&arc.to_string()));
        let parts = arc.as_array().filter(|parts| (2..=3).contains(&parts.len())).ok_or_else(wrong)?;
        let (end, backend) = (parts[0].as_f64().ok_or_else(wrong)?, parts[1].as_u64().ok_or_else(wrong)?);
        if !(before..=1.0).contains(&end) || backend >= backends as u64 || !parts[parts.len() - 1].is_number() {
            return Err(wrong());
        }
        before = end;
    }
    Ok(())
}

fn quoted(text: &str) -> String {
    let cut: String = text.chars().take(QUOTED_MAX).collect();
    if cut.len() < text.len() { format!("{cut}…") } else { cut }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_explanation_must_name_the_picked_backend() {
        let world = World::of(2);
        let first = Decision::Backend { index: 0, token: 0 };
        for right in [json!("b0"), json!(0)] {
            assert_eq!(agrees(&right, first, &world), Ok(()));
        }
        assert_eq!(agrees(&Value::Null, Decision::NoBackend, &world), Ok(()));
        for wrong in [json!("b1"), json!(1), json!(-1), Value::Null, json!(true)] {
            assert!(agrees(&wrong, first, &world).is_err(), "{wrong}");
        }
        assert!(agrees(&json!("b0"), Decision::NoBackend, &world).is_err());
    }

    #[test]
    fn a_ring_must_have_ordered_arcs_with_owners() {
        for right in [json!([]), json!([[0.25, 1], [0.5, 0], [1, 1]]), json!([[0.5, 0, 0.9], [0.5, 1, 0.1]])] {
            assert_eq!(is_ring(&right, 2), Ok(()), "{right}");
        }
        for wrong in [json!({}), json!([[0.5]]), json!([[0.5, 2]]), json!([[0.5, 0], [0.4, 1]]), json!([[1.5, 0]])] {
            assert!(is_ring(&wrong, 2).is_err(), "{wrong}");
        }
    }
}

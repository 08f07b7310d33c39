//! The line of a shadow in `lb status`.

use serde_json::Value;

use super::running::{counted, text};

/// How the picks of a shadow compare with those of the strategy in charge.
pub(super) fn shadow_line(shadow: &Value) -> String {
    let [id, strategy, version] = ["id", "strategy", "version"].map(|key| text(&shadow[key]));
    let name = format!("shadow {id}: {strategy} {version}");
    if let Some(reason) = shadow["off"].as_str() {
        return format!("{name}, switched off: {reason}; `lb reload` begins it anew");
    }
    let picks = counted(shadow["picks"].as_u64().unwrap_or_default(), "pick");
    let agreement = shadow["agreement"].as_f64().map(|share| format!(", {:.1} % the same", 100.0 * share));
    let peak = |key: &str| shadow[key].as_f64();
    let peaks = peak("imbalance").zip(peak("imbalance_in_charge"));
    let peaks = peaks.map(|(own, in_charge)| format!(", peak to mean {own:.2}, in charge {in_charge:.2}"));
    let bad = |(key, word): (&str, &str)| {
        let count = shadow[key].as_u64().unwrap_or_default();
        (count > 0).then(|| format!(", {count} {word}"))
    };
    let few =
        [("undecided", "undecided"), ("waits", "would wait"), ("none", "without a backend"), ("faults", "faults")];
    let few: String = few.into_iter().filter_map(bad).collect();
    format!("{name}, {picks}{}{}{few}", agreement.unwrap_or_default(), peaks.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_compares_the_shadow_with_the_strategy_in_charge() {
        let mut shadow = json!({ "id": "ring", "strategy": "consistent_hash", "version": "1", "picks": 0 });
        assert_eq!(shadow_line(&shadow), "shadow ring: consistent_hash 1, 0 picks");
        shadow["picks"] = json!(200);
        shadow["undecided"] = json!(2);
        (shadow["agreement"], shadow["imbalance"], shadow["imbalance_in_charge"]) =
            (json!(0.25), json!(1.5), json!(1.0));
        let line = "shadow ring: consistent_hash 1, 200 picks, 25.0 % the same, peak to mean 1.50, in charge 1.00, 2 undecided";
        assert_eq!(shadow_line(&shadow), line);
        shadow["off"] = json!("it panicked in 4 of 4 picks");
        let line =
            "shadow ring: consistent_hash 1, switched off: it panicked in 4 of 4 picks; `lb reload` begins it anew";
        assert_eq!(shadow_line(&shadow), line);
    }
}

//! The format of numbers: the same in words, tables and pictures.

/// 10000 → 10,000
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three significant digits, with thousands: 0.0123, 1.23, 12.3, 1,230.
pub(crate) fn significant(value: f64) -> String {
    if !value.is_finite() {
        return "–".into();
    }
    let digits = match value.abs() {
        0.0 => return "0".into(),
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.9995 => 2,
        size if size >= 0.09995 => 3,
        _ => 4,
    };
    if digits == 0 {
        let whole = count(value.abs().round() as u64);
        return if value < 0.0 { format!("−{whole}") } else { whole };
    }
    minus(format!("{value:.digits$}"))
}

/// A number with this many decimals.
pub(crate) fn decimals(value: f64, digits: usize) -> String {
    if value.is_finite() { minus(format!("{value:.digits$}")) } else { "–".into() }
}

/// 0.8437 → 84.4 %, with a space that does not break lines.
pub(crate) fn percent(share: f64) -> String {
    format!("{}\u{a0}%", decimals(share * 100.0, if share.abs() < 0.0995 && share != 0.0 { 2 } else { 1 }))
}

/// The label of a tick of counts: 0, 500, 2k, 12.5k, 3M.
pub(crate) fn short(value: f64) -> String {
    let (scaled, suffix) = match value.abs() {
        size if size >= 999_999.5 => (value / 1e6, "M"),
        size if size >= 9_999.5 => (value / 1e3, "k"),
        size if size >= 999.5 => return count(value.round() as u64),
        _ => (value, ""),
    };
    format!("{}{suffix}", plain(scaled))
}

/// A number without trailing zeros: 1, 1.5, 0.02.
pub(crate) fn plain(value: f64) -> String {
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    minus(if text == "-0" || text.is_empty() { "0".into() } else { text.to_owned() })
}

fn minus(text: String) -> String {
    text.replace('-', "−")
}

/// A p-value in readable form.
pub(crate) fn p_value(p: f64) -> String {
    if p < 0.0001 { "< 0.0001".into() } else { decimals(p, if p < 0.01 { 4 } else { 2 }) }
}

/// Milliseconds with their unit; from ten thousand on in seconds.
pub(crate) fn milliseconds(value: f64) -> String {
    if value >= 9_999.5 {
        format!("{}\u{a0}s", significant(value / 1e3))
    } else {
        format!("{}\u{a0}ms", significant(value))
    }
}

/// a, b and c
pub(crate) fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// The words with a capital letter at the beginning.
pub(crate) fn upper(words: &str) -> String {
    let mut chars = words.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// 1 block, 2 blocks
pub(crate) fn plural(number: u64, thing: &str) -> String {
    format!("{} {thing}{}", count(number), if number == 1 { "" } else { "s" })
}

/// The most readable unit for times up to `top_ms`, and its length in milliseconds.
pub(crate) fn time_unit(top_ms: f64) -> (&'static str, f64) {
    match top_ms {
        top if top >= 10_000.0 => ("s", 1e3),
        top if top < 0.5 => ("µs", 1e-3),
        _ => ("ms", 1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_readable_forms() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0.0, 0.01234, 0.5, 1.0, 12.34, 99.96, 1234.5].map(significant),
            ["0", "0.0123", "0.500", "1.00", "12.3", "100", "1,235"]
        );
        assert_eq!(
            [0.8437, 0.0469, 0.0, 1.0].map(percent),
            ["84.4\u{a0}%", "4.69\u{a0}%", "0.0\u{a0}%", "100.0\u{a0}%"]
        );
        assert_eq!([0.0, 250.0, 2_000.0, 12_500.0, 3e6].map(short), ["0", "250", "2,000", "12.5k", "3M"]);
        assert_eq!([0.31, 0.0042, 1e-9].map(p_value), ["0.31", "0.0042", "< 0.0001"]);
        assert_eq!(list(&["a".into(), "b".into(), "c".into()]), "a, b and c");
        assert_eq!(decimals(-0.5, 2), "−0.50");
    }
}

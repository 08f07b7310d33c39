//! Whole numbers that are too large for lb, found before any other check.
//!
//! Why: TOML allows numbers of any length, and the parser complains of them in terms of its own types. Invariant: after
//! [`first_too_large`] has found nothing, every whole number of the file fits in 64 bits with a sign.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::one_line;
use super::key_path::KeyPath;

/// A number that does not fit, with its key and its place in the text.
pub(super) struct TooLarge {
    pub(super) key: KeyPath,
    pub(super) span: Range<usize>,
    pub(super) what: String,
}

/// The first such number of the document.
pub(super) fn first_too_large(root: &DeTable<'_>) -> Option<TooLarge> {
    in_table(root, &KeyPath::default())
}

/// What is wrong with the number that is written as `digits`.
pub(super) fn too_large(digits: &str) -> String {
    one_line(&format!("{digits} is too large: lb takes whole numbers from {} to {}", i64::MIN, i64::MAX))
}

/// Whether the text is a whole number that does not fit.
pub(super) fn is_too_large(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<i64>().is_err()
}

fn in_table(table: &DeTable<'_>, path: &KeyPath) -> Option<TooLarge> {
    table.iter().find_map(|(name, value)| in_value(value, path.key(name.get_ref())))
}

fn in_value(value: &Spanned<DeValue<'_>>, key: KeyPath) -> Option<TooLarge> {
    match value.get_ref() {
        DeValue::Integer(number) if i64::from_str_radix(number.as_str(), number.radix()).is_err() => {
            Some(TooLarge { key, span: value.span(), what: too_large(&number.to_string()) })
        }
        DeValue::Table(table) => in_table(table, &key),
        DeValue::Array(array) => {
            array.iter().enumerate().find_map(|(index, element)| in_value(element, key.index(index)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_numbers_beyond_64_bits_are_too_large() {
        for fits in
            ["0", "-9223372036854775808", "9223372036854775807", "+1", "", "-", "a", "1.5", "99999999999999999999.0"]
        {
            assert!(!is_too_large(fits), "{fits}");
        }
        for beyond in ["9223372036854775808", "-9223372036854775809", "99999999999999999999"] {
            assert!(is_too_large(beyond), "{beyond}");
        }
    }
}

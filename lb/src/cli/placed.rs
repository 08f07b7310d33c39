//! The place in the configuration that an error of a start is about: file and line, variable or flag.
//!
//! A start finds mistakes that the text alone does not show: a strategy that is not there, a refused option, a port in
//! use. Their errors name a key, and this module finds the place that set it.

use serde_json::Value;

use super::CliError;
use crate::config::Loaded;

/// How serde_json ends its complaints about options. Options are one line of JSON, so the line says nothing.
const JSON_PLACE: &str = " at line 1 column ";

/// `error` with the place of its key, if one is known.
pub(super) fn placed(loaded: &Loaded, error: CliError) -> CliError {
    let key = match &error {
        CliError::Start(start) => start.key(),
        CliError::Run(run) => run.key(),
        _ => None,
    };
    let Some(key) = key else { return error };
    let text = error.to_string();
    let option = refused_option(loaded, key, &text);
    let (key, text) = option.unwrap_or_else(|| (key.to_owned(), text.clone()));
    match loaded.place_of(&key) {
        Some(place) => CliError::Placed { place, what: text, code: error.exit_code() },
        None => error,
    }
}

/// If `text` complains about a part of the options of `key`, the key of that part and the text without the column.
fn refused_option(loaded: &Loaded, key: &str, text: &str) -> Option<(String, String)> {
    let at = text.rfind(JSON_PLACE)?;
    let rest = &text[at + JSON_PLACE.len()..];
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let column: usize = rest[..digits].parse().ok()?;
    let (section, _) = key.split_once("strategy.config.")?;
    let pool = section.strip_prefix("pools.").map_or("default", |name| name.trim_end_matches('.'));
    let pool = loaded.config.pools.iter().find(|one| one.name == pool)?;
    let inner = format!("{key}{}", option_at(&pool.strategy.options, column.checked_sub(1)?));
    let text = format!("{}{}", &text[..at], &rest[digits..]).replacen(key, &inner, 1);
    Some((inner, text))
}

/// The path of the innermost member of `value` around the byte at `offset` of its text. Empty: `value` itself.
fn option_at(value: &Value, offset: usize) -> String {
    let Value::Object(members) = value else { return String::new() };
    let mut begin = 1;
    for (name, member) in members {
        let value_begin = begin + Value::from(name.as_str()).to_string().len() + 1;
        let end = value_begin + member.to_string().len();
        if (begin..end).contains(&offset) {
            return format!(".{name}{}", option_at(member, offset.saturating_sub(value_begin)));
        }
        begin = end + 1;
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_column_leads_to_the_innermost_option() {
        let options = json!({ "a": 1, "b": { "c": "x", "d": true } });
        let text = options.to_string();
        for (part, expected) in [("\"a\"", ".a"), ("\"x\"", ".b.c"), ("true", ".b.d"), ("\"d\"", ".b.d")] {
            assert_eq!(option_at(&options, text.find(part).unwrap()), expected, "{part}");
        }
        assert_eq!(option_at(&options, text.len() - 1), "");
        assert_eq!(option_at(&options, 9_999), "");
    }
}

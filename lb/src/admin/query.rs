//! A strict parser for the query of a request to the admin port.
//!
//! A lenient decoder would turn `%zz`, or bytes that are not UTF-8, into another key or name than the one meant. The
//! response would then be about another thing. Invariant: every pair is exactly as sent, or the request is refused.

use percent_encoding::percent_decode_str;

/// Names and values in their order. A missing value is empty.
pub(super) fn pairs(query: Option<&str>) -> Result<Vec<(String, String)>, String> {
    let parts = query.unwrap_or_default().split('&').filter(|part| !part.is_empty());
    let pair = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        Ok((decoded(name)?, decoded(value)?))
    };
    parts.map(pair).collect()
}

fn decoded(part: &str) -> Result<String, String> {
    let is_hex = |rest: &str| matches!(rest.as_bytes(), [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
    if let Some(rest) = part.split('%').skip(1).find(|rest| !is_hex(rest)) {
        let shown: String = rest.chars().take(2).collect();
        return Err(format!(
            "the query has %{shown}: two hexadecimal digits follow %, and %25 is the character itself"
        ));
    }
    let spaced = part.replace('+', " ");
    let text = percent_decode_str(&spaced).decode_utf8().map(|text| text.into_owned());
    text.map_err(|_| format!("the query has {part:?}, which is no UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_exactly_as_sent_or_refused() {
        let read = |query: &str| pairs(Some(query));
        let owned = |pairs: &[(&str, &str)]| {
            Ok(pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect::<Vec<_>>())
        };
        assert_eq!(
            read("a=b%20c&d=e+f&&g&h=%C3%A9=%25"),
            owned(&[("a", "b c"), ("d", "e f"), ("g", ""), ("h", "é=%")])
        );
        assert_eq!(pairs(None), owned(&[]));
        for (query, part) in [("a=%zz", "%zz:"), ("a=%", "%:"), ("%4=1", "%4:"), ("a=%é", "%é:"), ("a=%ff", "no UTF-8")]
        {
            assert!(read(query).unwrap_err().contains(part), "{query}");
        }
    }
}

//! Fields with lists, and Connection in particular (RFC 9110 §5.6.1 and §7.6.1).

use super::classes::is_end_to_end;
use crate::http1::Fields;

/// The items of all fields of this name, without the empty ones.
pub(super) fn list<'a>(fields: &'a Fields, name: &'static [u8]) -> impl Iterator<Item = &'a [u8]> {
    fields.all(name).flat_map(items)
}

/// The items of one value.
pub(super) fn items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
}

/// Whether Connection has this token, in any case.
pub(super) fn has_token(fields: &Fields, token: &[u8]) -> bool {
    list(fields, b"connection").any(|own| own.eq_ignore_ascii_case(token))
}

/// The existing fields that Connection names, in lower case; they end at this hop. A sender must not be able to remove
/// fields that the receiver relies on. Allocates only if one is named.
pub(super) fn named(fields: &Fields) -> Vec<Vec<u8>> {
    const OWN: [&[u8]; 3] = [b"keep-alive", b"close", b"upgrade"];
    let is = |name: &[u8], token: &[u8]| name.eq_ignore_ascii_case(token);
    let mut named: Vec<Vec<u8>> = Vec::new();
    for token in list(fields, b"connection") {
        if OWN.iter().any(|own| is(own, token)) || named.iter().any(|name| is(name, token)) {
            continue;
        }
        if let Some((name, _)) = fields.iter().find(|(name, _)| is(name, token))
            && !is_end_to_end(name)
        {
            named.push(name.to_vec());
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_of_all_fields_and_has_no_empty_items() {
        let fields: Fields = [("Connection", "a,, \tB ,"), ("x", "c"), ("connection", "d")].into_iter().collect();
        assert_eq!(list(&fields, b"connection").collect::<Vec<_>>(), [&b"a"[..], b"B", b"d"]);
        assert!(has_token(&fields, b"b") && has_token(&fields, b"D") && !has_token(&fields, b"c"));
        assert_eq!(items(b"").chain(items(b" , ,")).next(), None);
    }

    #[test]
    fn named_fields_exist_in_the_head_and_no_backend_relies_on_them() {
        let named_by = |tokens: &str| {
            let fields = ["host", "x-hop", "x-two", "cookie", "keep-alive", "x-forwarded-for", "content-type"];
            let fields = fields.iter().map(|name| (*name, "1")).chain([("connection", tokens)]).collect();
            named(&fields).into_iter().map(|name| String::from_utf8(name).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(named_by("close, X-Hop, x-two, x-hop"), ["x-hop", "x-two"]);
        for none in ["", "keep-alive", "Close", "UPGRADE", "x-other", "(x), \"y\", z z", "x-hop x-two", "x-ho"] {
            assert!(named_by(none).is_empty(), "{none}");
        }
        for relied_on in ["host", "Cookie", "X-Forwarded-For", "content-type"] {
            assert!(named_by(relied_on).is_empty(), "{relied_on}");
        }
    }
}

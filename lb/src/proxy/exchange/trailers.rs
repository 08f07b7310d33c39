//! Trailers pass in both directions, without the fields that must not be trailers.
//!
//! A receiver may merge trailers into the head. Two kinds of fields are therefore dropped here (RFC 9110 §6.5.1). One
//! must be known before the body; the other is set or removed in the head by lb itself. Invariant: no field reaches a
//! backend as a trailer that could not reach it in a head.

use super::classes::{Classes, dashed, has_other_mark};
use crate::http1::Fields;

/// Routing, request modifiers, authentication, response control, cookies (RFC 9110 §6.5.1 names the kinds), and lb's
/// own fields.
const FORBIDDEN: [&[u8]; 35] = [
    b"accept",
    b"accept-charset",
    b"accept-encoding",
    b"accept-language",
    b"age",
    b"authorization",
    b"cache-control",
    b"date",
    b"expires",
    b"from",
    b"host",
    b"if-match",
    b"if-modified-since",
    b"if-none-match",
    b"if-range",
    b"if-unmodified-since",
    b"location",
    b"max-forwards",
    b"origin",
    b"pragma",
    b"proxy-authentication-info",
    b"range",
    b"referer",
    b"retry-after",
    b"set-cookie",
    b"set-cookie2",
    b"trailer",
    b"user-agent",
    b"vary",
    b"via",
    b"warning",
    b"www-authenticate",
    b"x-lb-error",
    b"x-lb-explain",
    b"x-request-id",
];

/// Removes from a trailer section the fields that must not pass.
pub(in crate::proxy) fn forward_trailers(trailers: &mut Fields) {
    trailers.retain(|name, _| may_pass(name));
}

/// A receiver that makes variables of fields may take any mark for `-`, so a name is checked in both spellings.
fn may_pass(name: &[u8]) -> bool {
    if !has_other_mark(name) {
        return !is_forbidden(name);
    }
    let dashed: Vec<u8> = dashed(name).collect();
    Classes::of_name(name) == Classes::NONE && !is_forbidden(&dashed)
}

fn is_forbidden(name: &[u8]) -> bool {
    // Of all fields about the content, only its digest is meant for trailers (RFC 9530, section 2).
    let is_of_content = name.starts_with(b"content-") && name != b"content-digest";
    Classes::of_name(name) != Classes::NONE || is_of_content || FORBIDDEN.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::exchange::classes::tests::{ALIASES, CLASSED};

    const CONTENT: [&str; 7] = [
        "content-type",
        "content-encoding",
        "content-language",
        "content-location",
        "content-range",
        "content-disposition",
        "content-",
    ];

    fn passes(name: &str) -> bool {
        let before = [("x-before", "1"), (name, "2"), ("x-behind", "3")];
        let mut trailers: Fields = before.into_iter().collect();
        forward_trailers(&mut trailers);
        let around: Fields = [before[0], before[2]].into_iter().collect();
        assert!(trailers == before.into_iter().collect() || trailers == around, "{name}: {trailers:?}");
        trailers.len() == 3
    }

    #[test]
    fn no_field_that_must_stand_in_the_head_passes_as_a_trailer() {
        let forbidden = FORBIDDEN.iter().map(|name| std::str::from_utf8(name).unwrap());
        let classed = CLASSED.iter().flat_map(|(_, names)| *names);
        for name in forbidden.chain(classed.copied()).chain(ALIASES).chain(CONTENT) {
            for spelled in [name.to_owned(), name.to_uppercase(), name.replace('-', "_")] {
                assert!(!passes(&spelled), "{spelled}");
            }
        }
    }

    #[test]
    fn every_other_trailer_passes() {
        for name in [
            "grpc-status",
            "grpc-message",
            "server-timing",
            "etag",
            "digest",
            "content-digest",
            "x-checksum",
            "x-amz-checksum-crc32",
            "proxy-status",
            "authentication-info",
            "my_field",
            "contents",
            "hosts",
        ] {
            assert!(passes(name) && passes(&name.to_uppercase()), "{name}");
        }
    }

    #[test]
    fn the_list_is_sorted_without_duplicates() {
        assert!(FORBIDDEN.is_sorted_by(|a, b| a < b));
    }
}

//! The fields of a head that a proxy must treat: found in one pass over the names instead of a look-up for each.
//!
//! Most heads have none of them, and then no other rule runs. Invariant: a name gets its class here and nowhere else,
//! so the fields that are found are the fields that are removed.

use crate::http1::Fields;

/// The classes of fields that a head has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct Classes(u8);

impl Classes {
    pub(super) const NONE: Self = Self(0);
    /// Names fields that end at this hop. Also in HOP.
    pub(super) const CONNECTION: Self = Self(1);
    /// Ends at this hop whatever Connection says (RFC 9110 §7.6.1; HTTP2-Settings by RFC 7540 §3.2.1; lb itself
    /// responds to Expect).
    pub(super) const HOP: Self = Self(1 << 1);
    /// Also in HOP.
    pub(super) const UPGRADE: Self = Self(1 << 2);
    /// Also in HOP.
    pub(super) const TRANSFER_ENCODING: Self = Self(1 << 3);
    pub(super) const CONTENT_LENGTH: Self = Self(1 << 4);
    pub(super) const COOKIE: Self = Self(1 << 5);
    /// States the origin of a request. Only trusted proxies are believed.
    pub(super) const CLAIM: Self = Self(1 << 6);
    /// A backend that makes variables of fields takes it for another field. It has `_` for `-` (CGI, RFC 3875 §4.1.18);
    /// some servers take any other mark so. Also Proxy, which becomes HTTP_PROXY.
    pub(super) const ALIAS: Self = Self(1 << 7);

    /// The classes of all fields.
    pub(in crate::proxy) fn of(fields: &Fields) -> Self {
        fields.iter().fold(Self::NONE, |found, (name, _)| found | Self::of_name(name))
    }

    /// The classes of one field. `name` is in lower case.
    pub(super) fn of_name(name: &[u8]) -> Self {
        match (name.len(), name) {
            (2, b"te") | (6, b"expect") | (10, b"keep-alive") | (14, b"http2-settings") => Self::HOP,
            (16, b"proxy-connection") | (18, b"proxy-authenticate") | (19, b"proxy-authorization") => Self::HOP,
            (5, b"proxy") => Self::ALIAS,
            (6, b"cookie") => Self::COOKIE,
            (7, b"upgrade") => Self::UPGRADE | Self::HOP,
            (9, b"forwarded" | b"x-real-ip") => Self::CLAIM,
            (10, b"connection") => Self::CONNECTION | Self::HOP,
            (14, b"content-length") => Self::CONTENT_LENGTH,
            (17, b"transfer-encoding") => Self::TRANSFER_ENCODING | Self::HOP,
            // Most requests have it, so it is not compared with the aliases.
            (12, b"x-request-id") => Self::NONE,
            _ if name.starts_with(b"x-forwarded-") && !has_other_mark(name) => Self::CLAIM,
            _ if is_alias(name) && has_other_mark(name) => Self::ALIAS,
            _ => Self::NONE,
        }
    }

    pub(super) const fn have(self, any: Self) -> bool {
        self.0 & any.0 != 0
    }
}

impl std::ops::BitOr for Classes {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Whether a name has more in it than letters, digits and `-`.
pub(super) fn has_other_mark(name: &[u8]) -> bool {
    name.iter().any(|byte| *byte != b'-' && !byte.is_ascii_alphanumeric())
}

/// The name that a backend may take `name` for: `-` for every mark.
pub(super) fn dashed(name: &[u8]) -> impl Iterator<Item = u8> {
    name.iter().map(|byte| if byte.is_ascii_alphanumeric() { *byte } else { b'-' })
}

/// Whether `name` is a field that backends believe, whatever marks it has for its `-`. Mostly the first byte tells.
fn is_alias(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 4] = [b"x-request-id", b"x-real-ip", b"content-length", b"transfer-encoding"];
    let is = |prefix: &[u8]| name.len() >= prefix.len() && dashed(name).zip(prefix).all(|(own, other)| own == *other);
    is(b"x-forwarded-") || NAMES.iter().any(|other| other.len() == name.len() && is(other))
}

/// Whether a backend relies on the field, so that Connection must not remove it: origin, destination and body of the
/// request.
pub(super) fn is_end_to_end(name: &[u8]) -> bool {
    matches!(name, b"host" | b"cookie" | b"authorization" | b"origin" | b"forwarded" | b"x-real-ip" | b"x-request-id")
        || [&b"content-"[..], b"x-forwarded-", b"sec-websocket-"].iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Every name that has a class, and some names of the open classes.
    pub(in crate::proxy::exchange) const CLASSED: [(Classes, &[&str]); 7] = [
        (
            Classes::HOP,
            &[
                "te",
                "expect",
                "keep-alive",
                "http2-settings",
                "proxy-connection",
                "proxy-authenticate",
                "proxy-authorization",
                "connection",
                "upgrade",
                "transfer-encoding",
            ],
        ),
        (Classes::CONNECTION, &["connection"]),
        (Classes::UPGRADE, &["upgrade"]),
        (Classes::TRANSFER_ENCODING, &["transfer-encoding"]),
        (Classes::CONTENT_LENGTH, &["content-length"]),
        (Classes::COOKIE, &["cookie"]),
        (
            Classes::CLAIM,
            &[
                "forwarded",
                "x-real-ip",
                "x-forwarded-for",
                "x-forwarded-host",
                "x-forwarded-proto",
                "x-forwarded-port",
                "x-forwarded-",
            ],
        ),
    ];

    pub(in crate::proxy::exchange) const ALIASES: [&str; 13] = [
        "proxy",
        "x_forwarded_for",
        "x_forwarded-for",
        "x-forwarded_port",
        "x-forwarded-a_b",
        "x-real_ip",
        "x_real_ip",
        "x_request-id",
        "content_length",
        "transfer_encoding",
        "x.real-ip",
        "x-forwarded!for",
        "content~length",
    ];

    const PLAIN: [&str; 15] = [
        "t",
        "host",
        "proxies",
        "accept",
        "user-agent",
        "x-forwarded",
        "x-request-id",
        "my_field",
        "x_real_ip_2",
        "x_forwarded",
        "x.forwarded",
        "content-type",
        "content_type",
        "set-cookie",
        "connections",
    ];

    fn alone(name: &str) -> Classes {
        Classes::of(&[("host", "a"), (name, "1"), ("accept", "*/*")].into_iter().collect())
    }

    #[test]
    fn every_name_is_found_in_its_classes_and_in_no_other() {
        let names = CLASSED.iter().flat_map(|(_, names)| *names).chain(&ALIASES).chain(&PLAIN);
        for name in names {
            let mut expected = Classes::NONE;
            for (class, names) in CLASSED.iter().copied().chain([(Classes::ALIAS, &ALIASES[..])]) {
                expected = if names.contains(name) { expected | class } else { expected };
            }
            assert_eq!(Classes::of_name(name.as_bytes()), expected, "{name}");
            assert_eq!((alone(name), alone(&name.to_uppercase())), (expected, expected), "{name}");
        }
    }

    #[test]
    fn a_head_has_the_classes_of_all_its_fields() {
        let fields: Fields = [("Cookie", "a=1"), ("x", "y"), ("Upgrade", "websocket")].into_iter().collect();
        let found = Classes::of(&fields);
        assert_eq!(found, Classes::COOKIE | Classes::UPGRADE | Classes::HOP);
        assert!(found.have(Classes::COOKIE | Classes::CLAIM) && !found.have(Classes::CLAIM | Classes::ALIAS));
        assert_eq!(Classes::of(&Fields::new()), Classes::NONE);
    }

    #[test]
    fn fields_that_a_backend_relies_on_are_end_to_end() {
        for name in ["host", "cookie", "authorization", "origin", "forwarded", "x-real-ip", "x-request-id"] {
            assert!(is_end_to_end(name.as_bytes()), "{name}");
        }
        for name in ["content-length", "content-type", "x-forwarded-for", "x-forwarded-any", "sec-websocket-key"] {
            assert!(is_end_to_end(name.as_bytes()), "{name}");
        }
        for name in ["connection", "transfer-encoding", "x-hop", "hosts", "te", "keep-alive", "content"] {
            assert!(!is_end_to_end(name.as_bytes()), "{name}");
        }
    }
}

//! Which fields of a request's head a proxy has to look at: one pass over the names instead of a look-up for each.
//!
//! Mostly a head has none of them, and the rest of the rules costs nothing. Invariant: a name is put in its class here and nowhere
//! else, so what is found is what is removed.

use http::{HeaderMap, HeaderName};

use super::request_id::X_REQUEST_ID;

/// The classes of fields that a head has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fields(u8);

impl Fields {
    const NONE: Self = Self(0);
    /// Names what ends at this hop.
    pub(super) const CONNECTION: Self = Self(1);
    /// Ends at this hop whatever Connection says (RFC 9110 §7.6.1; HTTP2-Settings by RFC 7540 §3.2.1; Expect is answered here).
    pub(super) const HOP: Self = Self(1 << 1);
    pub(super) const UPGRADE: Self = Self(1 << 2);
    pub(super) const TRANSFER_ENCODING: Self = Self(1 << 3);
    pub(super) const COOKIE: Self = Self(1 << 4);
    /// Where a request comes from; believed of trusted proxies alone.
    pub(super) const CLAIM: Self = Self(1 << 5);
    /// What a backend that makes variables of fields takes for another field: `_` for `-` (CGI, RFC 3875 §4.1.18), for which some
    /// servers take any other mark, and Proxy, which becomes HTTP_PROXY.
    pub(super) const ALIAS: Self = Self(1 << 6);

    /// Those of `headers`.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        headers.keys().fold(Self::NONE, |found, name| found | class(name))
    }

    pub(super) fn have(self, any: Self) -> bool {
        self.0 & any.0 != 0
    }
}

impl std::ops::BitOr for Fields {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The class of one field.
fn class(name: &HeaderName) -> Fields {
    let name = name.as_str();
    match (name.len(), name) {
        (2, "te") | (6, "expect") | (10, "keep-alive") | (14, "http2-settings") => Fields::HOP,
        (16, "proxy-connection") | (18, "proxy-authenticate") | (19, "proxy-authorization") => Fields::HOP,
        (5, "proxy") => Fields::ALIAS,
        (6, "cookie") => Fields::COOKIE,
        (7, "upgrade") => Fields::UPGRADE | Fields::HOP,
        (9, "forwarded" | "x-real-ip") => Fields::CLAIM,
        (10, "connection") => Fields::CONNECTION,
        (17, "transfer-encoding") => Fields::TRANSFER_ENCODING | Fields::HOP,
        _ if name.starts_with("x-forwarded-") && !has_other_mark(name) => Fields::CLAIM,
        _ if is_alias(name) && has_other_mark(name) => Fields::ALIAS,
        _ => Fields::NONE,
    }
}

/// Whether there is more in it than letters, digits and `-`.
fn has_other_mark(name: &str) -> bool {
    name.bytes().any(|byte| byte != b'-' && !byte.is_ascii_alphanumeric())
}

/// Whether `name` is a field that is believed, whatever marks it has for its `-`. Mostly the first byte tells.
fn is_alias(name: &str) -> bool {
    let names = [X_REQUEST_ID.as_str(), "x-real-ip", "content-length", "transfer-encoding"];
    let is = |prefix: &str| {
        let dashed = |byte: u8| if byte.is_ascii_alphanumeric() { byte } else { b'-' };
        name.len() >= prefix.len() && name.bytes().map(dashed).zip(prefix.bytes()).all(|(own, other)| own == other)
    };
    is("x-forwarded-") || names.iter().any(|other| other.len() == name.len() && is(other))
}

/// Takes out every field of these classes.
pub(super) fn remove(headers: &mut HeaderMap, classes: Fields) {
    let found: Vec<HeaderName> = headers.keys().filter(|name| class(name).have(classes)).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

/// Whether a backend relies on the field, so that Connection must not name it away: whom the request is for and from, what its body is.
pub(super) fn is_end_to_end(name: &str) -> bool {
    matches!(name, "host" | "cookie" | "authorization" | "origin" | "forwarded" | "x-real-ip")
        || name == X_REQUEST_ID.as_str()
        || ["content-", "x-forwarded-", "sec-websocket-"].iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class_of(name: &str) -> Fields {
        class(&name.parse().unwrap())
    }

    #[test]
    fn names_have_their_class_in_any_case() {
        for name in ["TE", "Expect", "Keep-Alive", "HTTP2-Settings", "Proxy-Connection", "Proxy-Authorization"] {
            assert_eq!(class_of(name), Fields::HOP, "{name}");
        }
        for name in ["X-Forwarded-For", "x-forwarded-anything", "Forwarded", "X-Real-IP"] {
            assert_eq!(class_of(name), Fields::CLAIM, "{name}");
        }
        for name in [
            "Proxy",
            "x_forwarded_for",
            "X-Forwarded_Port",
            "x-real_ip",
            "X_Request-Id",
            "Transfer_Encoding",
            "X.Real-IP",
            "x-forwarded!for",
            "content~length",
        ] {
            assert_eq!(class_of(name), Fields::ALIAS, "{name}");
        }
        for name in [
            "host",
            "content-length",
            "proxies",
            "x-forwarded",
            "my_field",
            "x_real_ip_2",
            "x-request-id",
            "t",
            "x.forwarded",
        ] {
            assert_eq!(class_of(name), Fields::NONE, "{name}");
        }
    }
}

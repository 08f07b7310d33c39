//! Upgrade: which protocols a client may ask for, and whether a backend switched to one of them (RFC 9110 §7.8).
//!
//! Invariant: only the protocols of `proxy.upgrades` pass, so no tunnel carries requests past the routes.

use super::connection::{has_token, items, list};
use crate::http1::Fields;

/// The allowed protocols that a request asks to switch to: a value of Upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct Upgrade(Vec<u8>);

/// Whether a backend may switch protocols: there was a request for it (`asked`), and `response` names one of its
/// protocols.
pub(in crate::proxy) fn is_asked(asked: Option<&Upgrade>, response: &Fields) -> bool {
    let Some(asked) = asked else { return false };
    let mut named = list(response, b"upgrade").peekable();
    named.peek().is_some()
        && named.all(|protocol| items(&asked.0).any(|one| name_of(one).eq_ignore_ascii_case(name_of(protocol))))
}

/// Names to the next hop the protocols to which it may switch.
pub(super) fn put(fields: &mut Fields, protocols: &[u8]) {
    fields.push(b"connection", b"upgrade");
    fields.push(b"upgrade", protocols);
}

/// A protocol's name without its version. If the version is not a number, the whole is another name: a name may be
/// hidden in it.
fn name_of(protocol: &[u8]) -> &[u8] {
    let Some(slash) = protocol.iter().position(|byte| *byte == b'/') else { return protocol };
    let is_number = protocol[slash + 1..].iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    if is_number { &protocol[..slash] } else { protocol }
}

// === impl Upgrade ===

impl Upgrade {
    /// The protocols that a client asks for and that are `allowed`.
    pub(super) fn of(fields: &Fields, allowed: &[String]) -> Option<Self> {
        if !has_token(fields, b"upgrade") {
            return None;
        }
        let is_allowed = |name: &[u8]| allowed.iter().any(|other| other.as_bytes().eq_ignore_ascii_case(name));
        let mut passing = Vec::new();
        for protocol in list(fields, b"upgrade").filter(|one| one.is_ascii() && is_allowed(name_of(one))) {
            if !passing.is_empty() {
                passing.extend_from_slice(b", ");
            }
            passing.extend_from_slice(protocol);
        }
        (!passing.is_empty()).then_some(Self(passing))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(connection: &str, protocols: &[&str]) -> Option<String> {
        let fields = protocols.iter().map(|value| ("upgrade", *value)).chain([("connection", connection)]).collect();
        let upgrade = Upgrade::of(&fields, &["websocket".to_owned(), "echo".to_owned()])?;
        Some(String::from_utf8(upgrade.0).unwrap())
    }

    #[test]
    fn only_protocols_that_are_listed_pass_and_as_they_came() {
        for (protocols, passing) in [
            (&["websocket"][..], "websocket"),
            (&["WebSocket/13"], "WebSocket/13"),
            (&["h2c, websocket"], "websocket"),
            (&["h2c", ",\techo\t,,h2c", "websocket"], "echo, websocket"),
        ] {
            assert_eq!(asked("x, Upgrade", protocols).as_deref(), Some(passing), "{protocols:?}");
        }
        for none in [
            "h2c",
            "",
            "websockets, xwebsocket, web socket",
            "\"websocket\"",
            "h2c;websocket",
            "websocket/é",
            "websocket/h2c",
        ] {
            assert_eq!(asked("upgrade", &[none]), None, "{none}");
        }
        for connection in ["", "x-upgrade, upgrades", "close"] {
            assert_eq!(asked(connection, &["websocket"]), None, "{connection}");
        }
    }

    #[test]
    fn a_switch_to_a_protocol_that_was_not_requested_is_refused() {
        let upgrade = Upgrade(b"websocket, echo/2".to_vec());
        let named = |values: &[&str]| {
            let response = values.iter().map(|value| ("upgrade", *value)).collect();
            (is_asked(Some(&upgrade), &response), is_asked(None, &response))
        };
        for good in [&["websocket"][..], &["WEBSOCKET/13"], &["echo"], &["echo, websocket"], &["echo", "websocket"]] {
            assert_eq!(named(good), (true, false), "{good:?}");
        }
        for bad in [&[][..], &[""], &["h2c"], &["websocket, h2c"], &["websocket", "h2c"], &["web"], &["/13"]] {
            assert_eq!(named(bad), (false, false), "{bad:?}");
        }
    }
}

//! `X-Forwarded-For`, `-Proto` and `-Host`: the client's data for a backend.
//!
//! Invariant: a client's statement about its own address counts only if the client is a trusted proxy. Otherwise such
//! fields are removed before anything is added here.

use crate::http1::Fields;
use crate::proxy::peer::Peer;

const FOR: &[u8] = b"x-forwarded-for";
const PROTO: &[u8] = b"x-forwarded-proto";
const HOST: &[u8] = b"x-forwarded-host";

/// Adds the fields to a request of `peer`. `is_trusted`: existing fields are kept and continued; otherwise the request
/// has none.
pub(super) fn add(fields: &mut Fields, peer: &Peer, is_trusted: bool) {
    debug_assert!(is_trusted || ![FOR, PROTO, HOST].iter().any(|name| fields.has(name)), "claims are removed first");
    if is_trusted {
        fields.set(FOR, &chain(fields, peer));
        if !fields.has(PROTO) {
            fields.push(PROTO, b"http");
        }
    } else {
        fields.append(&peer.forwarded);
    }
    if !(is_trusted && fields.has(HOST)) {
        fields.push_copy(HOST, b"host");
    }
}

/// The proxies before this one, and the peer.
fn chain(fields: &Fields, peer: &Peer) -> Vec<u8> {
    let mut chain = Vec::new();
    for before in fields.all(FOR).filter(|value| value.is_ascii() && !value.is_empty()) {
        chain.extend_from_slice(before);
        chain.extend_from_slice(b", ");
    }
    chain.extend_from_slice(peer.text.as_bytes());
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(is_trusted: bool, fields: &[(&str, &str)]) -> String {
        let mut fields: Fields = fields.iter().copied().collect();
        add(&mut fields, &Peer::new("[::ffff:10.0.0.9]:5000".parse().unwrap(), 0), is_trusted);
        let mut out = Vec::new();
        fields.write(&mut out);
        String::from_utf8(out).unwrap().replace("\r\n", "|")
    }

    #[test]
    fn a_request_tells_the_clients_address_protocol_and_host() {
        let told = "host: a:1|x: y|x-forwarded-for: 10.0.0.9|x-forwarded-proto: http|x-forwarded-host: a:1|";
        for is_trusted in [false, true] {
            assert_eq!(added(is_trusted, &[("host", "a:1"), ("x", "y")]), told);
            assert_eq!(added(is_trusted, &[]), "x-forwarded-for: 10.0.0.9|x-forwarded-proto: http|");
            let empty = "host: |x-forwarded-for: 10.0.0.9|x-forwarded-proto: http|x-forwarded-host: |";
            assert_eq!(added(is_trusted, &[("host", "")]), empty);
        }
    }

    #[test]
    fn fields_of_a_trusted_proxy_are_kept_and_continued() {
        let given = [
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-host", "c"),
            ("host", "a"),
            ("x-forwarded-for", "é"),
            ("x-forwarded-for", ""),
            ("x-forwarded-for", "7.7.7.7"),
            ("x-forwarded-proto", "https"),
        ];
        let told = "x-forwarded-for: 6.6.6.6, 7.7.7.7, 10.0.0.9|x-forwarded-host: c|host: a|x-forwarded-proto: https|";
        assert_eq!(added(true, &given), told);
        let empty = "x-forwarded-for: 10.0.0.9|x-forwarded-proto: http|";
        assert_eq!(added(true, &[("x-forwarded-for", "é"), ("x-forwarded-for", "")]), empty);
    }
}

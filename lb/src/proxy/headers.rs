//! Header rules of a reverse proxy: what must be there, what ends at this hop (RFC 9110 §7.6.1, and our own cookies), what we add.
//!
//! Invariant: what a client says of its own address counts only from a trusted proxy.

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version};

use super::client::Client;
use super::cookies;
use super::error::Failure;
use super::request_id::X_REQUEST_ID;
use crate::config::IpNetwork;
use crate::generation::without_port;
use crate::telemetry::ErrorReason;

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Checks a request's head against what every backend may rely on.
pub(super) fn check(parts: &Parts) -> Result<(), Failure> {
    const fn bad(sentence: &'static str) -> Failure {
        Failure::new(ErrorReason::BadRequest, sentence)
    }
    if parts.method == Method::CONNECT {
        return Err(bad("CONNECT is for forward proxies; this is a reverse proxy"));
    }
    // "GET home HTTP/1.1" parses as the form that CONNECT has.
    if parts.uri.authority().is_some() && parts.uri.scheme().is_none() {
        return Err(bad("the request's target begins with neither / nor a scheme"));
    }
    // A coding that we do not undo would be lost with the header, which ends at this hop (RFC 9112 §6.1).
    let mut codings = parts.headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next()
        && (codings.next().is_some() || !coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"))
    {
        return Err(bad("the request has a transfer coding other than chunked"));
    }
    let mut hosts = parts.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => Err(bad("the request has more than one Host header")),
        (Some(host), None) if !host.as_bytes().iter().all(|byte| is_of_host(*byte)) => {
            Err(bad("the Host header holds something else than a host"))
        }
        (None, _) if parts.version == Version::HTTP_11 && parts.uri.authority().is_none() => {
            Err(bad("an HTTP/1.1 request needs a Host header"))
        }
        _ => Ok(()),
    }
}

/// A byte that host and port may have (RFC 3986 §3.2.2 and §3.2.3).
fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(&byte)
}

/// The host that a request is for, without port; "" when it names none.
pub(super) fn host(parts: &Parts) -> &str {
    if let Some(host) = parts.uri.host() {
        return host;
    }
    without_port(parts.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or(""))
}

/// Makes a client's head one for a backend. Answers whether it asks for an upgrade.
pub(super) fn forward_request(parts: &mut Parts, client: &Client, trusted: &[IpNetwork]) -> bool {
    let upgrade = take_upgrade(&parts.headers, parts.version);
    // With both, the body was chunked and the length a lie (RFC 9112 §6.3).
    if parts.headers.contains_key(TRANSFER_ENCODING) {
        parts.headers.remove(CONTENT_LENGTH);
    }
    end_hop(&mut parts.headers);
    cookies::strip(&mut parts.headers);
    parts.headers.remove(EXPECT);
    // The absolute form is for proxies; its authority outranks Host (RFC 9112 §3.2.2), but a name and password are no host's.
    if let Some(authority) = parts.uri.authority() {
        let host = authority.as_str().rsplit_once('@').map_or(authority.as_str(), |(_, host)| host);
        if let Ok(host) = HeaderValue::from_str(host) {
            parts.headers.insert(HOST, host);
        }
        let path = parts.uri.path_and_query().cloned();
        parts.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    }
    parts.version = Version::HTTP_11;
    let trusted = !trusted.is_empty() && trusted.iter().any(|network| network.contains(client.peer.ip()));
    add_forwarded(&mut parts.headers, client, trusted);
    match upgrade {
        Some(protocol) => {
            parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            parts.headers.insert(UPGRADE, protocol);
            true
        }
        None => false,
    }
}

/// Makes a backend's head one for a client. 101 and 426 name protocols; these are said anew at each hop (RFC 9110 §7.8).
pub(super) fn forward_response(status: StatusCode, headers: &mut HeaderMap) {
    let names_protocols = status == StatusCode::SWITCHING_PROTOCOLS || status == StatusCode::UPGRADE_REQUIRED;
    let protocols = names_protocols.then(|| headers.get(UPGRADE).cloned()).flatten();
    end_hop(headers);
    if let Some(protocols) = protocols {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocols);
    }
}

fn take_upgrade(headers: &HeaderMap, version: Version) -> Option<HeaderValue> {
    let asked = headers.get(UPGRADE)?;
    let named = tokens(headers).any(|token| token.eq_ignore_ascii_case("upgrade"));
    (version == Version::HTTP_11 && named).then(|| asked.clone())
}

/// The tokens of all Connection headers.
fn tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

/// Takes out what is meant for this hop alone. One pass finds out whether there is anything to take out; mostly there is not.
fn end_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> =
            tokens(headers).filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok()).collect();
        for name in named {
            // A client must not be able to take these away from the backend.
            let is_ours = name.as_str().starts_with("x-forwarded-") || name == X_REQUEST_ID;
            if name != HOST && name != CONTENT_LENGTH && !is_ours {
                headers.remove(name);
            }
        }
        headers.remove(CONNECTION);
    }
    let hop =
        [&KEEP_ALIVE, &PROXY_CONNECTION, &PROXY_AUTHENTICATE, &PROXY_AUTHORIZATION, &TE, &TRANSFER_ENCODING, &UPGRADE];
    let mut found = [false; 7];
    let mut any = false;
    for name in headers.keys() {
        if let Some(at) = hop.iter().position(|hop| *hop == name) {
            (found[at], any) = (true, true);
        }
    }
    if any {
        hop.iter().zip(found).filter(|(_, found)| *found).for_each(|(name, _)| {
            headers.remove(*name);
        });
    }
}

fn add_forwarded(headers: &mut HeaderMap, client: &Client, trusted: bool) {
    let mut chain = client.peer_text.clone();
    if trusted {
        let before = headers.get_all(&X_FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
        let before = before.collect::<Vec<_>>().join(", ");
        if !before.is_empty()
            && let Ok(longer) = HeaderValue::try_from(format!("{before}, {}", chain.to_str().unwrap_or("")))
        {
            chain = longer;
        }
    }
    headers.insert(&X_FORWARDED_FOR, chain);
    if !(trusted && headers.contains_key(&X_FORWARDED_PROTO)) {
        headers.insert(&X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if !(trusted && headers.contains_key(&X_FORWARDED_HOST)) {
        match headers.get(HOST).cloned() {
            Some(host) => headers.insert(&X_FORWARDED_HOST, host),
            None => headers.remove(&X_FORWARDED_HOST),
        };
    }
}

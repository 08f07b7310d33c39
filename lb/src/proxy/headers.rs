//! Header rules of a reverse proxy: what must be there, what ends at this hop (RFC 9110 §7.6.1, and our own cookies), what we add.
//!
//! Invariant: what a client says of its own address counts only from a trusted proxy.

use std::borrow::Cow;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderName, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version};

use super::client::Client;
use super::cookies;
use super::error::Failure;
use super::fields::{self, Fields};
use crate::config::normal_path;
use crate::generation::{Settings, without_port};
use crate::telemetry::ErrorReason;

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Checks a request's head against what every backend may rely on. `length`: its body's, where it says one.
pub(super) fn check(parts: &Parts, fields: Fields, length: Option<u64>, settings: &Settings) -> Result<(), Failure> {
    const fn bad(sentence: &'static str) -> Failure {
        Failure::new(ErrorReason::BadRequest, sentence)
    }
    if parts.method == Method::CONNECT {
        return Err(bad("CONNECT is for forward proxies; this is a reverse proxy"));
    }
    // Methods have a case, but not to every backend.
    if !settings.allow_trace && parts.method.as_str().eq_ignore_ascii_case("trace") {
        return Err(Failure::new(ErrorReason::MethodNotAllowed, "TRACE is not allowed here"));
    }
    // "GET home HTTP/1.1" parses as the form that CONNECT has.
    if parts.uri.authority().is_some() && parts.uri.scheme().is_none() {
        return Err(bad("the request's target begins with neither / nor a scheme"));
    }
    if parts.uri.authority().is_some_and(|authority| !is_host(host_and_port(authority.as_str()).as_bytes())) {
        return Err(bad("the request's target names something else than a host"));
    }
    if length.is_some_and(|length| length > LENGTH_MAX) {
        return Err(bad("the request's Content-Length is above 2^53, to which not every server can count"));
    }
    // A coding that we do not undo would be lost with the header, which ends at this hop (RFC 9112 §6.1).
    if fields.have(Fields::TRANSFER_ENCODING) {
        let mut codings = parts.headers.get_all(TRANSFER_ENCODING).iter();
        let is_chunked =
            codings.next().is_some_and(|coding| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
        if !is_chunked || codings.next().is_some() {
            return Err(bad("the request has a transfer coding other than chunked"));
        }
    }
    let mut hosts = parts.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => Err(bad("the request has more than one Host header")),
        (Some(host), None) if !is_host(host.as_bytes()) => Err(bad("the Host header holds something else than a host")),
        (None, _) if parts.version == Version::HTTP_11 && parts.uri.authority().is_none() => {
            Err(bad("an HTTP/1.1 request needs a Host header"))
        }
        _ => Ok(()),
    }
}

/// The longest body that a number of JavaScript, or of any language's floating point, can count.
pub(super) const LENGTH_MAX: u64 = 1 << 53;

/// Whether it is a host, and a port or none (RFC 3986 §3.2.2 and §3.2.3).
fn is_host(host: &[u8]) -> bool {
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(byte);
    let is_of_address = |byte: &u8| byte.is_ascii_hexdigit() || b":.".contains(byte);
    let behind = match host.strip_prefix(b"[") {
        Some(rest) => match rest.iter().position(|byte| !is_of_address(byte)) {
            Some(end) if rest[end] == b']' => &rest[end + 1..],
            _ => return false,
        },
        None => &host[host.iter().position(|byte| !is_of_name(byte)).unwrap_or(host.len())..],
    };
    match behind {
        [] => true,
        [b':', port @ ..] => port.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// An authority without the name and password that may stand before its host.
fn host_and_port(authority: &str) -> &str {
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// Whether an answer to this HTTP/1.0 request may leave the connection open, if it says its length.
pub(super) fn asks_to_stay(headers: &HeaderMap) -> bool {
    let asks = |word: &str| tokens(headers).any(|token| token.eq_ignore_ascii_case(word));
    asks("keep-alive") && !asks("close")
}

/// The host that a request is for, without port; "" when it names none.
pub(super) fn host(parts: &Parts) -> &str {
    if let Some(host) = parts.uri.host() {
        return host;
    }
    without_port(parts.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or(""))
}

/// The path that routes are matched by: in normal form, or the `*` of OPTIONS.
pub(super) fn path(parts: &Parts) -> Result<Cow<'_, str>, Failure> {
    match parts.uri.path() {
        "*" if parts.method == Method::OPTIONS => Ok(Cow::Borrowed("*")),
        path => normal_path(path).map_err(|sentence| Failure::new(ErrorReason::BadRequest, sentence)),
    }
}

/// Makes a client's head one for a backend. Answers the protocols that it asks to switch to, as far as they may pass: never with a
/// body, which a backend would have to read before it knows what follows.
pub(super) fn forward_request(
    parts: &mut Parts,
    fields: Fields,
    has_body: bool,
    client: &Client,
    settings: &Settings,
) -> Option<HeaderValue> {
    let asks_upgrade = fields.have(Fields::UPGRADE) && !has_body && parts.version == Version::HTTP_11;
    let upgrade = asks_upgrade.then(|| take_upgrade(&parts.headers, &settings.upgrades)).flatten();
    let trusted = &settings.trusted_proxies;
    let trusted = !trusted.is_empty() && trusted.iter().any(|network| network.contains(client.peer.ip()));
    // With both, the body was chunked and the length a lie (RFC 9112 §6.3).
    if fields.have(Fields::TRANSFER_ENCODING) {
        parts.headers.remove(CONTENT_LENGTH);
    }
    if fields.have(Fields::CONNECTION) {
        remove_named(&mut parts.headers);
    }
    let dropped = if trusted { Fields::HOP | Fields::ALIAS } else { Fields::HOP | Fields::ALIAS | Fields::CLAIM };
    if fields.have(dropped) {
        fields::remove(&mut parts.headers, dropped);
    }
    if fields.have(Fields::COOKIE) {
        cookies::strip(&mut parts.headers);
    }
    // The absolute form is for proxies; its authority outranks Host (RFC 9112 §3.2.2), but a name and password are no host's.
    if let Some(authority) = parts.uri.authority() {
        if let Ok(host) = HeaderValue::from_str(host_and_port(authority.as_str())) {
            parts.headers.insert(HOST, host);
        }
        let path = parts.uri.path_and_query().cloned();
        parts.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    }
    parts.version = Version::HTTP_11;
    add_forwarded(&mut parts.headers, client, trusted);
    if let Some(protocols) = &upgrade {
        parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(UPGRADE, protocols.clone());
    }
    upgrade
}

/// Whether a backend that switches protocols was asked to, by `asked`, and to the one that it names.
pub(super) fn is_asked(asked: Option<&HeaderValue>, answer: &HeaderMap) -> bool {
    let Some(asked) = asked else { return false };
    let mut named = list(answer, UPGRADE).peekable();
    named.peek().is_some()
        && named.all(|protocol| items(asked).any(|one| name_of(one).eq_ignore_ascii_case(name_of(protocol))))
}

/// Makes a backend's head one for a client. 101 and 426 name protocols; these are said anew at each hop (RFC 9110 §7.8).
pub(super) fn forward_response(status: StatusCode, headers: &mut HeaderMap) {
    let names_protocols = status == StatusCode::SWITCHING_PROTOCOLS || status == StatusCode::UPGRADE_REQUIRED;
    let protocols = names_protocols.then(|| headers.get(UPGRADE).cloned()).flatten();
    let fields = Fields::of(headers);
    if fields.have(Fields::CONNECTION) {
        remove_named(headers);
    }
    if fields.have(Fields::HOP) {
        fields::remove(headers, Fields::HOP);
    }
    if let Some(protocols) = protocols {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocols);
    }
}

/// The protocols that a client asks for, without those that may not pass (RFC 9110 §7.8).
fn take_upgrade(headers: &HeaderMap, allowed: &[String]) -> Option<HeaderValue> {
    if !tokens(headers).any(|token| token.eq_ignore_ascii_case("upgrade")) {
        return None;
    }
    let passes = |protocol: &str| allowed.iter().any(|name| name.eq_ignore_ascii_case(name_of(protocol)));
    let mut passing = list(headers, UPGRADE).filter(|protocol| passes(protocol));
    let first = passing.next()?.to_owned();
    let all = passing.fold(first, |all, next| all + ", " + next);
    HeaderValue::try_from(all).ok()
}

/// A protocol's name without its version. What has no number for a version is another name: one may be hidden in it.
fn name_of(protocol: &str) -> &str {
    let is_version = |version: &str| version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    protocol.split_once('/').filter(|(_, version)| is_version(version)).map_or(protocol, |(name, _)| name)
}

/// The tokens of all Connection headers.
fn tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    list(headers, CONNECTION)
}

/// The items of all fields of this name, which hold lists.
fn list(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers.get_all(name).iter().flat_map(items)
}

fn items(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or_default().split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// Takes out what Connection names, and Connection itself.
fn remove_named(headers: &mut HeaderMap) {
    let is_of_connection =
        |token: &str| ["keep-alive", "close", "upgrade"].iter().any(|own| own.eq_ignore_ascii_case(token));
    let named: Vec<HeaderName> = tokens(headers)
        .filter(|token| !is_of_connection(token))
        .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
        // A client must not be able to take these away from the backend.
        .filter(|name| !fields::is_end_to_end(name.as_str()))
        .collect();
    for name in named {
        headers.remove(name);
    }
    headers.remove(CONNECTION);
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

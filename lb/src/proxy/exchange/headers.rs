//! Header rules of a reverse proxy. They say which fields a request needs, which are added, and which end at this hop
//! (RFC 9110 §7.6.1, and lb's own cookies).
//!
//! Invariants: a client's statement about its own address counts only from a trusted proxy. Fields that pass keep their
//! order. The connection decides the framing of bodies: a head leaves here with at most one Content-Length and without
//! Transfer-Encoding.

use std::borrow::Cow;

use http::{Method, StatusCode, Version};

use super::classes::Classes;
use super::connection::named;
use super::upgrade::{self, Upgrade};
use super::{cookies, forwarded};
use crate::config::normal_path;
use crate::generation::{Settings, without_port};
use crate::http1::{Fields, Form, RequestHead, ResponseHead, is_host};
use crate::proxy::fault::Fault;
use crate::proxy::peer::Peer;

/// Checks a request's head against the rules that every backend may rely on.
pub(in crate::proxy) fn check(head: &RequestHead, settings: &Settings) -> Result<(), Fault> {
    if head.method == Method::CONNECT {
        return Err(Fault::Connect);
    }
    // Methods are case-sensitive, but not in every backend.
    if !settings.allow_trace && head.method.as_str().eq_ignore_ascii_case("trace") {
        return Err(Fault::MethodNotAllowed);
    }
    match head.target.form() {
        // "GET home HTTP/1.1" parses as the form that CONNECT has.
        Form::Authority => {
            return Err(Fault::BadRequest("the request's target begins with neither / nor a scheme"));
        }
        Form::Asterisk if head.method != Method::OPTIONS => return Err(STAR),
        Form::Origin | Form::Absolute | Form::Asterisk => {}
    }
    let mut hosts = head.fields.all(b"host");
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => Err(Fault::BadRequest("the request has more than one Host header")),
        (Some(host), None) if !is_host(host) => {
            Err(Fault::BadRequest("the Host header holds something else than a host"))
        }
        (None, _) if head.version == Version::HTTP_11 && head.target.authority().is_none() => {
            Err(Fault::BadRequest("an HTTP/1.1 request needs a Host header"))
        }
        _ => Ok(()),
    }
}

const STAR: Fault = Fault::BadRequest("the request's target is *, which only OPTIONS may have");

/// The host of a request, without port; "" if it names none.
pub(in crate::proxy) fn host(head: &RequestHead) -> &str {
    let host = || std::str::from_utf8(head.fields.get(b"host")?).ok();
    without_port(head.target.authority().or_else(host).unwrap_or_default())
}

/// The path for the routes: in normal form, or the `*` of OPTIONS.
pub(in crate::proxy) fn path(head: &RequestHead) -> Result<Cow<'_, str>, Fault> {
    match (head.target.form(), &head.method) {
        (Form::Asterisk, &Method::OPTIONS) => Ok(Cow::Borrowed("*")),
        (Form::Asterisk, _) => Err(STAR),
        _ => normal_path(head.target.path()).map_err(Fault::BadRequest),
    }
}

/// Makes the fields of a client's request those for a backend. Returns the protocols that the client asks to switch to,
/// if they are allowed. With a body there are none, because a backend would have to read the body before it knows the
/// next protocol. Method, target and version stay.
pub(in crate::proxy) fn forward_request(
    head: &mut RequestHead,
    classes: Classes,
    has_body: bool,
    peer: &Peer,
    settings: &Settings,
) -> Option<Upgrade> {
    let RequestHead { target, fields, version, .. } = head;
    let may_upgrade = classes.have(Classes::UPGRADE) && !has_body && *version == Version::HTTP_11;
    let upgrade = may_upgrade.then(|| Upgrade::of(fields, &settings.upgrades)).flatten();
    let trusted = &settings.trusted_proxies;
    let is_trusted = !trusted.is_empty() && trusted.iter().any(|network| network.contains(peer.address.ip()));
    let claims = if is_trusted { Classes::NONE } else { Classes::CLAIM };
    remove(fields, classes, Classes::HOP | Classes::ALIAS | claims);
    if classes.have(Classes::COOKIE) {
        cookies::strip(fields);
    }
    // The absolute form is for proxies; its authority outranks Host (RFC 9112 §3.2.2).
    if let Some(host) = target.authority() {
        fields.set(b"host", host.as_bytes());
    }
    forwarded::add(fields, peer, is_trusted);
    if let Some(upgrade) = &upgrade {
        upgrade::put(fields, upgrade.as_bytes());
    }
    upgrade
}

/// Makes the fields of a backend's response those for a client. 101 and 426 name protocols, which each hop must name
/// again (RFC 9110 §7.8).
pub(in crate::proxy) fn forward_response(head: &mut ResponseHead) {
    let names_protocols = matches!(head.status, StatusCode::SWITCHING_PROTOCOLS | StatusCode::UPGRADE_REQUIRED);
    let protocols = names_protocols.then(|| head.fields.get(b"upgrade").map(<[u8]>::to_vec)).flatten();
    let classes = Classes::of(&head.fields);
    remove(&mut head.fields, classes, Classes::HOP);
    if let Some(protocols) = protocols {
        upgrade::put(&mut head.fields, &protocols);
    }
}

/// Makes the fields of an interim response (1xx, but not 101) those for a client. It has no body, so it has no framing.
pub(in crate::proxy) fn forward_interim(head: &mut ResponseHead) {
    let classes = Classes::of(&head.fields);
    remove(&mut head.fields, classes, Classes::HOP | Classes::CONTENT_LENGTH);
}

/// Removes the fields of the classes `dropped`, which include HOP, and the fields that Connection names. Content-Length
/// is removed beside Transfer-Encoding, because the body was chunked and the length is wrong (RFC 9112 §6.3). Of
/// several equal ones the first stays.
fn remove(fields: &mut Fields, classes: Classes, dropped: Classes) {
    let is_chunked = classes.have(Classes::TRANSFER_ENCODING);
    let dropped = if is_chunked { dropped | Classes::CONTENT_LENGTH } else { dropped };
    let repeats_length = classes.have(Classes::CONTENT_LENGTH) && fields.all(b"content-length").nth(1).is_some();
    if !classes.have(dropped) && !repeats_length {
        return;
    }
    let named = if classes.have(Classes::CONNECTION) { named(fields) } else { Vec::new() };
    let mut has_length = false;
    fields.retain(|name, _| {
        let class = Classes::of_name(name);
        let is_repeated = class.have(Classes::CONTENT_LENGTH) && has_length;
        has_length |= class.have(Classes::CONTENT_LENGTH);
        !(class.have(dropped) || is_repeated || named.iter().any(|other| other == name))
    });
}

#[cfg(test)]
mod tests;

//! The content of a head, independent of the protocol: an exchange uses these types for HTTP/1.1 and for HTTP/2.
//!
//! Invariant: a target is one of the four forms of RFC 9112, section 3.2, and its parts lie in one text.

use http::{Method, StatusCode, Version};

use super::Fields;
use super::class::{InTarget, in_target, is_in_host};

/// A request's head. Cleared, it keeps its memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    pub method: Method,
    pub target: Target,
    /// The version that the client speaks.
    pub version: Version,
    pub fields: Fields,
}

/// A response's head. The reason phrase is not kept: it means nothing (RFC 9112, section 4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    pub status: StatusCode,
    pub version: Version,
    pub fields: Fields,
}

/// The target of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// As it came, without a fragment.
    text: String,
    form: Form,
    /// Where the authority lies, with name and password if it has them.
    authority: (u32, u32),
    /// Where path and query begin; they go to the end.
    path: u32,
    /// Where the path ends: at the `?`, or at the end.
    query: u32,
}

/// The forms of a target (RFC 9112, section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `/path?query`
    Origin,
    /// `http://host/path?query`
    Absolute,
    /// `host:port`, for CONNECT
    Authority,
    /// `*`, for OPTIONS
    Asterisk,
}

// === impl RequestHead ===

impl Default for RequestHead {
    /// `GET / HTTP/1.1` without fields.
    fn default() -> Self {
        Self { method: Method::GET, target: Target::default(), version: Version::HTTP_11, fields: Fields::new() }
    }
}

// === impl ResponseHead ===

impl Default for ResponseHead {
    /// 200 without fields.
    fn default() -> Self {
        Self { status: StatusCode::OK, version: Version::HTTP_11, fields: Fields::new() }
    }
}

// === impl Target ===

impl Target {
    /// Replaces the target by the one that `text` is. The error says in one sentence why it is none; the target is `/`
    /// then.
    pub fn set(&mut self, text: &str) -> Result<(), &'static str> {
        self.text.clear();
        let parsed = ends(text.as_bytes()).and_then(|(query, end)| Ok((parse(&text[..end])?, query.min(end), end)));
        let (parts, query, end) = parsed.unwrap_or(((Form::Origin, (0, 0), 0), 1, 1));
        self.text.push_str(if parsed.is_ok() { &text[..end] } else { "/" });
        (self.form, self.authority, self.path) = parts;
        self.query = query as u32;
        parsed.map(|_| ())
    }

    /// The bytes of memory that are kept when another target is set.
    pub fn memory(&self) -> usize {
        self.text.capacity()
    }

    pub fn form(&self) -> Form {
        self.form
    }

    /// All of it, as it came.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Host and port of the absolute form and of the authority form, without name and password.
    pub fn authority(&self) -> Option<&str> {
        if self.authority.1 == 0 {
            return None;
        }
        let authority = &self.text[self.authority.0 as usize..self.authority.1 as usize];
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        (!host.is_empty()).then_some(host)
    }

    /// The path, without the query: `/` where the absolute form has none, `*` of the asterisk form.
    pub fn path(&self) -> &str {
        match &self.text[self.path as usize..self.query as usize] {
            "" => "/",
            path => path,
        }
    }

    /// What is behind the `?`.
    pub fn query(&self) -> Option<&str> {
        self.text[self.query as usize..].strip_prefix('?')
    }

    /// Path and query as one text; without the `/` that [`path`](Self::path) stands in with.
    pub fn path_and_query(&self) -> &str {
        &self.text[self.path as usize..]
    }

    /// Whether it is an absolute form without path and query. With OPTIONS that means the server itself (RFC 9112,
    /// section 3.2.4).
    pub fn is_server(&self) -> bool {
        self.form == Form::Absolute && self.path as usize == self.text.len()
    }

    /// Path and query as they go to a backend.
    pub fn write(&self, out: &mut Vec<u8>) {
        if self.path == self.query {
            out.push(b'/');
        }
        out.extend_from_slice(&self.text.as_bytes()[self.path as usize..]);
    }
}

impl Default for Target {
    fn default() -> Self {
        Self { text: "/".to_owned(), form: Form::Origin, authority: (0, 0), path: 0, query: 1 }
    }
}

/// Form, place of the authority, begin of the path.
type Parts = (Form, (u32, u32), u32);

/// The offsets of the first `?` and of the first `#`; the length of `text` where there is none.
fn ends(text: &[u8]) -> Result<(usize, usize), &'static str> {
    let (mut query, mut end) = (text.len(), text.len());
    for (at, byte) in text.iter().enumerate() {
        match in_target(*byte) {
            InTarget::Plain => {}
            InTarget::Query => query = query.min(at),
            InTarget::Fragment => end = end.min(at),
            InTarget::Invalid => return Err("the request's target contains an invalid byte"),
        }
    }
    Ok((query, end))
}

/// `text` has no fragment.
fn parse(text: &str) -> Result<Parts, &'static str> {
    if text.starts_with('/') {
        return Ok((Form::Origin, (0, 0), 0));
    }
    if text == "*" {
        return Ok((Form::Asterisk, (0, 0), 0));
    }
    let end = text.len() as u32;
    let Some((scheme, rest)) = text.split_once("://") else {
        return if is_authority(text) {
            Ok((Form::Authority, (0, end), end))
        } else {
            Err("the request's target begins with neither / nor a scheme")
        };
    };
    if !["http", "https"].iter().any(|known| known.eq_ignore_ascii_case(scheme)) {
        return Err("the request's target has a scheme other than http and https");
    }
    let begin = scheme.len() + 3;
    let path = begin + rest.find(['/', '?']).unwrap_or(rest.len());
    if !is_authority(&text[begin..path]) {
        return Err("the request's target names no host");
    }
    Ok((Form::Absolute, (begin as u32, path as u32), path as u32))
}

/// Whether it is a host, a port or none, and before them a name and password or none (RFC 3986, section 3.2).
fn is_authority(text: &str) -> bool {
    let host = text.rsplit_once('@').map_or(text, |(_, host)| host);
    is_host(host.as_bytes()) && !host.is_empty() && !host.starts_with(':') && !text.contains(['/', '?', '\\'])
}

/// Whether it is a host, and a port or none (RFC 3986, sections 3.2.2 and 3.2.3). May be empty.
pub fn is_host(host: &[u8]) -> bool {
    let is_of_address = |byte: &u8| byte.is_ascii_hexdigit() || b":.".contains(byte);
    let behind = match host.strip_prefix(b"[") {
        Some(rest) => match rest.iter().position(|byte| !is_of_address(byte)) {
            Some(end) if rest[end] == b']' => &rest[end + 1..],
            _ => return false,
        },
        None => &host[host.iter().position(|byte| !is_in_host(*byte)).unwrap_or(host.len())..],
    };
    match behind {
        [] => true,
        [b':', port @ ..] => port.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Form, authority, path, query, and path and query as they go out.
    type Read = (Form, Option<String>, String, Option<String>, String);

    fn target(text: &str) -> Result<Read, &'static str> {
        let mut target = Target::default();
        target.set(text)?;
        let mut out = Vec::new();
        target.write(&mut out);
        let owned = |part: Option<&str>| part.map(str::to_owned);
        let out = String::from_utf8(out).unwrap();
        Ok((target.form(), owned(target.authority()), target.path().to_owned(), owned(target.query()), out))
    }

    #[test]
    fn a_target_has_one_of_four_forms_and_goes_on_as_path_and_query() {
        use Form::{Absolute, Asterisk, Authority, Origin};
        for (text, form, authority, path, query, out) in [
            ("/", Origin, None, "/", None, "/"),
            ("/a/b?c?d", Origin, None, "/a/b", Some("c?d"), "/a/b?c?d"),
            ("/x?", Origin, None, "/x", Some(""), "/x?"),
            ("//evil.test/x", Origin, None, "//evil.test/x", None, "//evil.test/x"),
            ("/http://b.test/", Origin, None, "/http://b.test/", None, "/http://b.test/"),
            ("/x#y?z", Origin, None, "/x", None, "/x"),
            ("http://b/p?q", Absolute, Some("b"), "/p", Some("q"), "/p?q"),
            ("HTTPS://u:p@[::1]:80?q", Absolute, Some("[::1]:80"), "/", Some("q"), "/?q"),
            ("http://b", Absolute, Some("b"), "/", None, "/"),
            ("a:443", Authority, Some("a:443"), "/", None, "/"),
            ("home", Authority, Some("home"), "/", None, "/"),
            ("*", Asterisk, None, "*", None, "*"),
        ] {
            let owned = |part: Option<&str>| part.map(str::to_owned);
            let expected = (form, owned(authority), path.to_owned(), owned(query), out.to_owned());
            assert_eq!(target(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_target_is_refused_and_leaves_the_root() {
        for text in [
            "",
            "../b",
            "?q",
            "a/b",
            "http:///p",
            "http://",
            "http://a b/",
            "/\u{7f}",
            "/ ",
            "ftp://a/",
            "http://:80/",
            "#",
            "/#\r",
            "/x#y z",
            "/<",
        ] {
            let mut target = Target::default();
            assert!(target.set(text).is_err(), "{text:?}");
            assert_eq!((target.path(), target.as_str(), target.form()), ("/", "/", Form::Origin), "{text:?}");
        }
    }
}

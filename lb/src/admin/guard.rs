//! Access rules of the admin port: Host, token, site and Origin.
//!
//! Any web page in the operator's browser can send requests to loopback. With a name of its own that resolves to
//! 127.0.0.1, such a page could read the responses, too. So a Host that a foreign DNS server could resolve is refused,
//! and a change from another origin is refused. Accepted hosts are IP addresses, `localhost`, this machine's own name,
//! and names that public DNS does not have. Those are names of one label (a container's service name) and names below
//! `.localhost` and `.internal`.
//!
//! The course's routes on the proxy's port have the same rules, except for the token ([`Guard::check_visitor`]).
//!
//! Invariant: the token is compared by its digest, so the time taken reveals nothing about the token.

use http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue, ORIGIN};
use http::uri::Authority;
use http::{Method, StatusCode, Version, request};
use sha2::{Digest, Sha256};

use super::answer::Answer;
use super::session::Sessions;
use crate::config::Secret;
use crate::generation::CallAnswer;

/// The rules, and the values that they compare with.
pub(super) struct Guard {
    /// SHA-256 of the token.
    token: Option<[u8; 32]>,
    /// This machine's name, lower case.
    hostname: Option<String>,
    /// Sessions of browsers that have signed in with the token.
    sessions: Sessions,
}

/// The routes without a token: those of probes, and the sign-in.
pub(super) const OPEN_ROUTES: [&str; 3] = ["/healthz", "/readyz", "/login"];

/// The rules without the token, for the course's routes on the proxy's port.
pub fn visitors_only() -> impl Fn(&request::Parts) -> Result<(), CallAnswer> + Send + Sync + 'static {
    let guard = Guard::new(None, 0);
    move |head| {
        guard.check_visitor(head).map_err(|Answer { status, body, .. }| CallAnswer { status, body, allow: None })
    }
}

// === impl Guard ===

impl Guard {
    /// `port` is the admin port. It distinguishes the cookies of several lb processes on one host.
    pub(super) fn new(token: Option<&Secret>, port: u16) -> Self {
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let hostname = hostname.map(|name| name.trim().to_ascii_lowercase()).filter(|name| !name.is_empty());
        let token = token.map(|token| Sha256::digest(token.expose()).into());
        Self { token, hostname, sessions: Sessions::new(port) }
    }

    /// Refuses a request that breaks a rule.
    pub(super) fn check(&self, head: &request::Parts) -> Result<(), Answer> {
        let host = self.check_host(head)?;
        self.check_token(head)?;
        check_site(head)?;
        check_origin(head, host.as_ref())
    }

    /// Like [`check`](Self::check), without the token.
    pub(super) fn check_visitor(&self, head: &request::Parts) -> Result<(), Answer> {
        let host = self.check_host(head)?;
        check_site(head)?;
        check_origin(head, host.as_ref())
    }

    /// Whether a token is required.
    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// The name of the session cookie.
    pub(super) fn cookie_name(&self) -> &str {
        self.sessions.name()
    }

    /// A session cookie for the right token; `None` for a wrong token.
    pub(super) fn sign_in(&self, token: &str) -> Option<std::io::Result<HeaderValue>> {
        let given: [u8; 32] = Sha256::digest(token.trim_ascii()).into();
        self.token.as_ref().is_some_and(|wanted| is_equal(&given, wanted)).then(|| self.sessions.begin())
    }

    /// Ends the request's session. Returns the cookie that deletes the old one.
    pub(super) fn sign_out(&self, headers: &HeaderMap) -> HeaderValue {
        self.sessions.end(headers);
        self.sessions.no_cookie()
    }

    /// The request's authority, if it has one (HTTP/1.0 need not).
    fn check_host(&self, head: &request::Parts) -> Result<Option<Authority>, Answer> {
        let bad = |sentence: &str| Answer::failure(StatusCode::BAD_REQUEST, sentence);
        let mut fields = head.headers.get_all(HOST).iter();
        let header = match (fields.next(), fields.next()) {
            (None, _) if head.version >= Version::HTTP_11 => return Err(bad("the request has no Host header")),
            (None, _) => None,
            (Some(_), Some(_)) => return Err(bad("the request has more than one Host header")),
            (Some(field), None) => {
                let authority = Authority::try_from(field.as_bytes());
                Some(authority.map_err(|_| bad("the Host header is not a host with an optional port"))?)
            }
        };
        // With an absolute-form target, both names must pass.
        let target = head.uri.authority().cloned();
        for authority in target.iter().chain(&header) {
            if !is_host_and_port(authority) {
                return Err(bad("the host is not a host with an optional port"));
            }
            if !self.is_own(authority.host()) {
                let sentence = format!(
                    "this is not {:?}: use an IP address, localhost or this machine's own name as the host",
                    authority.host()
                );
                return Err(Answer::failure(StatusCode::MISDIRECTED_REQUEST, &sentence));
            }
        }
        Ok(target.or(header))
    }

    fn is_own(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&host);
        let out_of_public_dns = !host.contains('.') || host.ends_with(".localhost") || host.ends_with(".internal");
        bare.parse::<std::net::IpAddr>().is_ok()
            || (!host.is_empty() && out_of_public_dns)
            || self.hostname.as_ref() == Some(&host)
    }

    fn check_token(&self, head: &request::Parts) -> Result<(), Answer> {
        let Some(wanted) = &self.token else { return Ok(()) };
        let has_token = || bearer(&head.headers).is_some_and(|given| is_equal(&given, wanted));
        if OPEN_ROUTES.contains(&head.uri.path()) || has_token() || self.sessions.has(&head.headers) {
            return Ok(());
        }
        Err(Answer::failure(
            StatusCode::UNAUTHORIZED,
            "this needs the admin token: send Authorization: Bearer TOKEN; the commands of lb take it from LB_ADMIN_TOKEN, or \
             admin.token_file of their configuration",
        ))
    }
}

/// Refuses an authority with user information before the host, or with text after an address in brackets.
fn is_host_and_port(authority: &Authority) -> bool {
    let behind = authority.as_str().strip_prefix(authority.host());
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    behind.is_some_and(|behind| behind.is_empty() || behind.strip_prefix(':').is_some_and(is_port))
}

/// Refuses requests that a page of another site sends, except a link to the live page. A GET can take a viewer's place
/// or run a plugin's code. The address of an image is requested without an Origin, so Origin alone is not enough.
/// Browsers name the sender in Sec-Fetch-Site; `none` means the user.
fn check_site(head: &request::Parts) -> Result<(), Answer> {
    let says = |name: &str, wanted: &[&str]| {
        head.headers.get_all(name).iter().all(|value| wanted.iter().any(|wanted| value.as_bytes() == wanted.as_bytes()))
    };
    let is_link = head.headers.contains_key("sec-fetch-mode") && says("sec-fetch-mode", &["navigate"]);
    let is_to_the_page = matches!(head.method, Method::GET | Method::HEAD) && head.uri.path() == "/";
    match says("sec-fetch-site", &["same-origin", "none"]) || is_link && is_to_the_page {
        true => Ok(()),
        false => {
            Err(Answer::failure(StatusCode::FORBIDDEN, "a page of another origin gets nothing here but a link to /"))
        }
    }
}

/// Refuses a change that a page of another origin sends. Programs send no Origin; a browser sends it with every change.
/// A browser also sends it with a cross-origin request to `/events`; that is refused because it would take a viewer's
/// place.
fn check_origin(head: &request::Parts, host: Option<&Authority>) -> Result<(), Answer> {
    if matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS) && head.uri.path() != "/events" {
        return Ok(());
    }
    let is_own = |origin: &[u8]| {
        let origin = std::str::from_utf8(origin).ok()?;
        let (_, authority) = origin.split_once("://")?;
        Some(authority.eq_ignore_ascii_case(host?.as_str()))
    };
    match head.headers.get_all(ORIGIN).iter().all(|origin| is_own(origin.as_bytes()) == Some(true)) {
        true => Ok(()),
        false => Err(Answer::failure(StatusCode::FORBIDDEN, "a page of another origin may not change anything here")),
    }
}

/// The digest of the token in the request.
fn bearer(headers: &HeaderMap) -> Option<[u8; 32]> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| Sha256::digest(token.trim_ascii()).into())
}

pub(super) fn is_equal(a: &[u8; 32], b: &[u8; 32]) -> bool {
    // `black_box` keeps the compiler from stopping at the first byte that differs.
    a.iter().zip(b).fold(0, |different, (a, b)| std::hint::black_box(different | (a ^ b))) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(token: Option<&str>) -> Guard {
        Guard {
            hostname: Some("balancer.example.org".into()),
            ..Guard::new(token.map(|t| Secret::new(t.into())).as_ref(), 8081)
        }
    }

    /// The status of the response to a request with these header fields; 200 when it passes.
    fn check(guard: &Guard, method: &str, uri: &str, fields: &[(&str, &str)]) -> u16 {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        guard.check(&head).map_or_else(|answer| answer.status.as_u16(), |()| 200)
    }

    #[test]
    fn only_hosts_outside_public_dns_and_this_machine_s_name_pass() {
        let own = [
            "127.0.0.1:8081",
            "127.0.0.1",
            "[::1]:8081",
            "[::1]",
            "10.1.2.3",
            "localhost:8081",
            "LOCALHOST",
            "localhost.",
        ];
        let names = [
            "balancer.example.org:8081",
            "Balancer.Example.Org",
            "lb:8081",
            "host.docker.internal:8081",
            "a.localhost",
        ];
        for host in own.iter().chain(&names) {
            assert_eq!(check(&guard(None), "GET", "/rep", &[("host", host)]), 200, "{host}");
        }
        for host in
            ["evil.example", "127.0.0.1.evil.example:8081", "localhost.evil.example", "my.local", "internal.com"]
        {
            assert_eq!(check(&guard(None), "GET", "/rep", &[("host", host)]), 421, "{host}");
        }
        for host in
            ["", "a b", "a/b", "evil.example@127.0.0.1", "[::1]evil.example", "localhost:80x", "localhost:80:81"]
        {
            assert_ne!(check(&guard(None), "GET", "/rep", &[("host", host)]), 200, "{host:?}");
        }
    }

    #[test]
    fn a_missing_or_doubled_host_is_a_bad_request() {
        assert_eq!(check(&guard(None), "GET", "/rep", &[]), 400);
        assert_eq!(check(&guard(None), "GET", "/rep", &[("host", "localhost"), ("host", "evil.example")]), 400);
    }

    #[test]
    fn the_host_in_the_target_is_checked_like_the_header() {
        assert_eq!(check(&guard(None), "GET", "http://evil.example/rep", &[("host", "localhost")]), 421);
        assert_eq!(check(&guard(None), "GET", "http://localhost/rep", &[("host", "localhost")]), 200);
    }

    #[test]
    fn a_change_may_not_come_from_another_origin() {
        let post = |origin| check(&guard(None), "POST", "/add", &[("host", "127.0.0.1:8081"), ("origin", origin)]);
        assert_eq!(post("http://127.0.0.1:8081"), 200);
        // Another port is another origin: the proxy's port serves pages of backends.
        for origin in ["http://127.0.0.1:8080", "http://127.0.0.1", "http://evil.example", "null", ""] {
            assert_eq!(post(origin), 403, "{origin}");
        }
        assert_eq!(check(&guard(None), "POST", "/add", &[("host", "localhost")]), 200);
        let reading = [("host", "localhost"), ("origin", "http://evil.example")];
        assert_eq!(check(&guard(None), "GET", "/rep", &reading), 200, "reading changes nothing");
        assert_eq!(check(&guard(None), "DELETE", "/rm", &reading), 403);
        assert_eq!(check(&guard(None), "GET", "/events", &reading), 403, "it would take a viewer's place");
    }

    #[test]
    fn a_page_of_another_site_may_only_link_to_the_live_page() {
        let from = |method: &str, path: &str, site: &str, mode: &str| {
            let fields = [("host", "localhost"), ("sec-fetch-site", site), ("sec-fetch-mode", mode)];
            check(&guard(None), method, path, &fields)
        };
        for site in ["cross-site", "same-site", "", "nonsense"] {
            for path in ["/events", "/ring", "/explain?key=a", "/metrics", "/status"] {
                for mode in ["no-cors", "cors", "navigate"] {
                    assert_eq!(from("GET", path, site, mode), 403, "{path} by {mode} from {site}");
                }
            }
            assert_eq!(from("POST", "/reload", site, "navigate"), 403, "a form");
            assert_eq!((from("GET", "/", site, "navigate"), from("GET", "/", site, "no-cors")), (200, 403), "{site}");
            assert_eq!(from("POST", "/", site, "navigate"), 403, "{site}");
        }
        for site in ["same-origin", "none"] {
            assert_eq!((from("GET", "/events", site, "cors"), from("POST", "/reload", site, "cors")), (200, 200));
        }
    }

    #[test]
    fn with_a_token_only_probes_and_the_sign_in_need_none() {
        let with = |path, value| {
            check(&guard(Some("s3cret")), "GET", path, &[("host", "localhost"), ("authorization", value)])
        };
        assert_eq!(with("/rep", "Bearer s3cret"), 200);
        assert_eq!(with("/rep", "bearer s3cret"), 200);
        for value in ["Bearer s3cre", "Bearer s3cret2", "Basic s3cret", "s3cret", ""] {
            assert_eq!(with("/metrics", value), 401, "{value}");
        }
        for path in OPEN_ROUTES {
            assert_eq!(check(&guard(Some("s3cret")), "GET", path, &[("host", "localhost")]), 200);
        }
        assert_eq!(check(&guard(Some("s3cret")), "GET", "/", &[("host", "localhost")]), 401);
    }

    #[test]
    fn digests_are_equal_only_if_every_byte_is() {
        let one = [7; 32];
        assert!(is_equal(&one, &one));
        for at in 0..32 {
            let mut other = one;
            other[at] ^= 0x80;
            assert!(!is_equal(&one, &other) && !is_equal(&other, &one), "byte {at}");
        }
    }

    #[test]
    fn a_visitor_needs_no_token_but_every_other_rule_applies() {
        let visits = |fields: &[(&str, &str)]| {
            let mut request = http::Request::builder().method("POST").uri("/add");
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            let (head, ()) = request.body(()).unwrap().into_parts();
            guard(Some("s3cret")).check_visitor(&head).map_or_else(|answer| answer.status.as_u16(), |()| 200)
        };
        assert_eq!(visits(&[("host", "127.0.0.1:5000")]), 200);
        assert_eq!(visits(&[("host", "evil.example")]), 421);
        assert_eq!(visits(&[("host", "localhost"), ("origin", "http://evil.example")]), 403);
        assert_eq!(visits(&[("host", "localhost"), ("sec-fetch-site", "cross-site")]), 403);
    }

    #[test]
    fn a_session_cookie_replaces_the_token_until_it_is_signed_out() {
        let guard = guard(Some("s3cret"));
        assert!(guard.sign_in("s3cre").is_none() && guard.sign_in("").is_none());
        let cookie = guard.sign_in("s3cret").unwrap().unwrap();
        let cookie = cookie.to_str().unwrap().split(';').next().unwrap();
        let with = |cookie: &str| check(&guard, "POST", "/reload", &[("host", "localhost"), ("cookie", cookie)]);
        assert_eq!(with(cookie), 200);
        assert_eq!(with(&format!("theme=dark; {cookie}")), 200);
        let (name, id) = cookie.split_once('=').unwrap();
        for wrong in
            [format!("{name}="), format!("{name}=s3cret"), format!("other={id}"), format!("{cookie}0"), id.into()]
        {
            assert_eq!(with(&wrong), 401, "{wrong}");
        }
        let fields = [("host", "localhost"), ("cookie", cookie), ("origin", "http://localhost:8080")];
        assert_eq!(check(&guard, "POST", "/reload", &fields), 403, "a page on the proxy's port has the cookie too");
        let mut headers = HeaderMap::new();
        headers.insert("cookie", cookie.parse().unwrap());
        guard.sign_out(&headers);
        assert_eq!(with(cookie), 401);
        assert!(self::guard(None).sign_in("").is_none(), "without a token there is no sign-in");
    }
}

//! Sessions: cookies that browsers send in place of the token, which no page may hold.
//!
//! A cookie is a random number, not derived from the token. A browser sends it to every port of the host, so other
//! servers there may see it, and it must be possible to end it. (The proxy removes it from requests to backends.) The
//! cookie's name contains the admin port, so two lb processes on one host do not end each other's sessions.
//! Invariants: only digests are stored. A lookup compares with all of them, so its time reveals nothing about them. At
//! most [`SESSIONS_MAX`] sessions live; the oldest is dropped first.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use http::header::{COOKIE, HeaderMap, HeaderValue};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::guard::is_equal;
use crate::config::random_digits;
use crate::generation::ADMIN_COOKIE;

const SESSIONS_MAX: usize = 64;
/// A session ends after this time, used or not: about a working day.
const TIME_MAX: Duration = Duration::from_secs(12 * 60 * 60);

pub(super) struct Sessions {
    /// The cookie's name.
    name: String,
    /// The live sessions, oldest first.
    live: Mutex<VecDeque<Session>>,
}

struct Session {
    digest: [u8; 32],
    began: Instant,
}

// === impl Sessions ===

impl Sessions {
    /// The sessions of the admin port `port`.
    pub(super) fn new(port: u16) -> Self {
        Self { name: format!("{ADMIN_COOKIE}{port}"), live: Mutex::default() }
    }

    /// The cookie's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Begins a session and returns its cookie.
    pub(super) fn begin(&self) -> std::io::Result<HeaderValue> {
        let id = random_digits()?;
        let mut sessions = self.live.lock();
        while sessions.len() >= SESSIONS_MAX {
            sessions.pop_front();
        }
        sessions.push_back(Session { digest: Sha256::digest(&id).into(), began: Instant::now() });
        Ok(self.cookie(&id, TIME_MAX))
    }

    /// A cookie that replaces the previous one and expires at once.
    pub(super) fn no_cookie(&self) -> HeaderValue {
        self.cookie("", Duration::ZERO)
    }

    /// Whether the request carries the cookie of a live session.
    pub(super) fn has(&self, headers: &HeaderMap) -> bool {
        let mut sessions = self.live.lock();
        sessions.retain(|session| session.began.elapsed() < TIME_MAX);
        let has = |digest: &[u8; 32]| sessions.iter().fold(false, |has, one| has | is_equal(&one.digest, digest));
        self.digests(headers).any(|digest| has(&digest))
    }

    /// Ends the sessions whose cookies the request carries.
    pub(super) fn end(&self, headers: &HeaderMap) {
        let mut sessions = self.live.lock();
        for digest in self.digests(headers) {
            sessions.retain(|session| !is_equal(&session.digest, &digest));
        }
    }

    fn cookie(&self, id: &str, age: Duration) -> HeaderValue {
        let cookie = format!("{}={id}; Path=/; Max-Age={}; HttpOnly; SameSite=Strict", self.name, age.as_secs());
        HeaderValue::try_from(cookie).expect("all of it is printable ASCII")
    }

    /// The digests of all cookies with our name. Another server on this host may have set one for another path.
    fn digests(&self, headers: &HeaderMap) -> impl Iterator<Item = [u8; 32]> {
        let fields = headers.get_all(COOKIE).into_iter().filter_map(|field| field.to_str().ok());
        let pairs = fields.flat_map(|field| field.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.filter(|(name, _)| *name == self.name).map(|(_, id)| Sha256::digest(id).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carrying(cookie: &HeaderValue) -> HeaderMap {
        let pair = cookie.to_str().unwrap().split(';').next().unwrap();
        HeaderMap::from_iter([(COOKIE, pair.parse().unwrap())])
    }

    #[test]
    fn a_cookie_is_random_and_invisible_to_scripts() {
        let sessions = Sessions::new(8081);
        let [one, other] = [sessions.begin().unwrap(), sessions.begin().unwrap()];
        assert_ne!(one, other);
        for part in ["lb_session_8081=", "; HttpOnly", "; SameSite=Strict", "; Max-Age=43200", "; Path=/"] {
            assert!(one.to_str().unwrap().contains(part), "{part}");
        }
        assert!(sessions.has(&carrying(&one)) && sessions.has(&carrying(&other)));
        sessions.end(&carrying(&one));
        assert!(!sessions.has(&carrying(&one)) && sessions.has(&carrying(&other)));
        assert!(!sessions.has(&carrying(&sessions.no_cookie())) && !sessions.has(&HeaderMap::new()));
        let other_lb = Sessions::new(8082);
        assert!(!other_lb.has(&carrying(&other)), "two on one host have separate sessions");
        assert!(other_lb.no_cookie().to_str().unwrap().starts_with("lb_session_8082=; "));
    }

    #[test]
    fn the_oldest_session_is_dropped_when_there_are_too_many() {
        let sessions = Sessions::new(8081);
        let cookies: Vec<_> = (0..=SESSIONS_MAX).map(|_| sessions.begin().unwrap()).collect();
        let live = cookies.iter().filter(|cookie| sessions.has(&carrying(cookie))).count();
        assert_eq!(live, SESSIONS_MAX);
        assert!(!sessions.has(&carrying(&cookies[0])));
    }
}

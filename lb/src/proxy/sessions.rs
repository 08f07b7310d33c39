//! Sticky sessions: a cookie names the backend that served a client before, whatever the pool's strategy is.
//!
//! The value of the cookie is a signature of the pool and of the backend's id: HMAC-SHA-256 (RFC 2104), the first 128
//! bits. Why not the id: a client could choose its backend, and would learn its name. A balancer with the same secret
//! and the same ids gives the same values.
//!
//! Invariants: a backend gets a request by its cookie only if it could get one by a pick. Else the strategy picks, and
//! the response names the new backend. A value belongs to one backend of one pool.

use std::collections::HashMap;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::config::StickySessions;
use crate::http1::Fields;

const VALUE_BYTES: usize = 32;
/// Hexadecimal digits.
type Value = [u8; VALUE_BYTES];

/// The sessions of one pool in one worker.
pub(super) struct Sessions {
    rules: Arc<StickySessions>,
    /// Of the pool's backends, in their order.
    ids: Vec<Arc<str>>,
    values: Vec<Value>,
    places: HashMap<Value, usize>,
}

/// The cookie of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Session {
    /// The place of its backend among those of the pool.
    Of(usize),
    None,
}

// === impl Sessions ===

impl Sessions {
    /// The sessions of a pool with backends of these ids. Takes `old` if nothing has changed: each value costs two
    /// hashes.
    pub(super) fn new(rules: &Arc<StickySessions>, pool: &str, ids: Vec<Arc<str>>, old: Option<Sessions>) -> Sessions {
        if let Some(old) = old.filter(|old| old.rules == *rules && old.ids == ids) {
            return old;
        }
        let values: Vec<_> = ids.iter().map(|id| value(rules, pool, id)).collect();
        let places = values.iter().enumerate().map(|(place, value)| (*value, place)).collect();
        Self { rules: rules.clone(), ids, values, places }
    }

    /// The session of a request. If it has several cookies of this name, the first valid one counts: a browser sends
    /// one for each path and domain.
    pub(super) fn of(&self, fields: &Fields) -> Session {
        let name = self.rules.cookie.as_bytes();
        let pairs = fields.all(b"cookie").flat_map(|value| value.split(|byte| *byte == b';'));
        let values = pairs.filter_map(|pair| pair.trim_ascii().strip_prefix(name)?.strip_prefix(b"="));
        let mut places = values.filter_map(|value| self.places.get(value).copied());
        places.next().map_or(Session::None, Session::Of)
    }

    /// The field Set-Cookie that names the backend at `place`.
    pub(super) fn set_cookie(&self, place: usize) -> Box<[u8]> {
        let StickySessions { cookie, secret: _, max_age_s, secure } = &*self.rules;
        let mut field = [cookie.as_bytes(), b"=", &self.values[place], b"; Path=/; HttpOnly; SameSite=Lax"].concat();
        if *max_age_s > 0 {
            field.extend_from_slice(format!("; Max-Age={max_age_s}").as_bytes());
        }
        if *secure {
            field.extend_from_slice(b"; Secure");
        }
        field.into()
    }
}

fn value(rules: &StickySessions, pool: &str, id: &str) -> Value {
    let mut mac = Hmac::<Sha256>::new_from_slice(rules.secret.expose().as_bytes()).expect("a key may have any length");
    // Neither a pool's name nor an id has a line feed.
    [pool, "\n", id].iter().for_each(|part| mac.update(part.as_bytes()));
    let signature = mac.finalize().into_bytes();
    let digit = |half: u8| b"0123456789abcdef"[usize::from(half)];
    let mut value = [0; VALUE_BYTES];
    for (pair, byte) in value.chunks_exact_mut(2).zip(signature) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::generation::ADMIN_COOKIE;

    fn rules(secret: &str) -> Arc<StickySessions> {
        let (cookie, secret) = ("lb".to_owned(), Secret::new(secret.to_owned()));
        Arc::new(StickySessions { cookie, secret, max_age_s: 0, secure: false })
    }

    fn sessions(secret: &str, pool: &str, ids: &[&str]) -> Sessions {
        Sessions::new(&rules(secret), pool, ids.iter().map(|id| Arc::from(*id)).collect(), None)
    }

    fn of(sessions: &Sessions, cookies: &[&str]) -> Session {
        sessions.of(&cookies.iter().map(|cookie| ("cookie", *cookie)).collect())
    }

    fn text(value: Value) -> String {
        String::from_utf8(value.to_vec()).unwrap()
    }

    #[test]
    fn a_value_is_the_hmac_of_pool_and_id() {
        // printf 'default\nb1' | openssl dgst -sha256 -hmac secret
        let sessions = sessions("secret", "default", &["b1"]);
        assert_eq!(text(sessions.values[0]), "b251543a400f617c403a0bab52a06bf6");
    }

    #[test]
    fn a_cookie_leads_to_its_backend_only_in_its_pool_and_with_its_secret() {
        let one = sessions("secret", "a", &["b1", "b2", "b3"]);
        for place in 0..3 {
            let cookie = format!("lb={}", text(one.values[place]));
            assert_eq!(of(&one, &[&cookie]), Session::Of(place));
            assert_eq!(of(&sessions("secret", "b", &["b1", "b2", "b3"]), &[&cookie]), Session::None);
            assert_eq!(of(&sessions("other", "a", &["b1", "b2", "b3"]), &[&cookie]), Session::None);
        }
        let moved = sessions("secret", "a", &["b3", "b0"]);
        assert_eq!(of(&moved, &[&format!("lb={}", text(one.values[2]))]), Session::Of(0), "another place, the same id");
        assert_eq!(of(&moved, &[&format!("lb={}", text(one.values[0]))]), Session::None, "it is gone");
    }

    #[test]
    fn the_first_valid_cookie_of_the_name_counts() {
        let sessions = sessions("secret", "a", &["b1", "b2"]);
        let (first, second) = (text(sessions.values[0]), text(sessions.values[1]));
        for (cookies, wanted) in [
            (&[format!("a=1; lb={first}; b=2")][..], Session::Of(0)),
            (&[format!("lb=x;lb={second} ;lb={first}")], Session::Of(1)),
            (&["a=1".to_owned(), format!("lb={second}")], Session::Of(1)),
            (&[format!("xlb={first}; lb2={first}; LB={first}; lb ={first}")], Session::None),
            (&[format!("lb={}", &first[1..]), format!("lb={first}0"), format!("lb=\"{first}\"")], Session::None),
            (&["lb".to_owned(), "lb=".to_owned(), String::new()], Session::None),
        ] {
            let cookies: Vec<&str> = cookies.iter().map(String::as_str).collect();
            assert_eq!(of(&sessions, &cookies), wanted, "{cookies:?}");
        }
    }

    #[test]
    fn the_field_has_the_attributes_of_the_rules() {
        let mut sessions = sessions("secret", "a", &["b1"]);
        let field = |sessions: &Sessions| String::from_utf8(sessions.set_cookie(0).to_vec()).unwrap();
        let plain = format!("lb={}; Path=/; HttpOnly; SameSite=Lax", text(sessions.values[0]));
        assert_eq!(field(&sessions), plain);
        let rules = StickySessions { max_age_s: 60, secure: true, ..(*sessions.rules).clone() };
        sessions.rules = Arc::new(rules);
        assert_eq!(field(&sessions), plain + "; Max-Age=60; Secure");
    }

    #[test]
    fn unchanged_backends_keep_their_values() {
        let rules = rules("secret");
        let ids: Vec<Arc<str>> = vec!["b1".into()];
        let mut old = Sessions::new(&rules, "a", ids.clone(), None);
        old.values[0] = [b'0'; VALUE_BYTES];
        let next = Sessions::new(&rules, "a", ids, Some(old));
        assert_eq!(text(next.values[0]), "0".repeat(32), "not computed again");
        let next = Sessions::new(&rules, "a", vec!["b2".into()], Some(next));
        assert_ne!(text(next.values[0]), "0".repeat(32));
    }

    #[test]
    fn the_cookies_of_the_admin_page_cannot_be_taken() {
        let config = format!("[sticky]\ncookie = \"{ADMIN_COOKIE}8081\"\n");
        let source = crate::config::Source { path: "/nowhere/lb.toml".into(), ..Default::default() };
        let error = crate::config::load_text(&source, &config).unwrap_err().to_string();
        assert!(error.contains("sticky.cookie") && error.contains("admin page"), "{error}");
    }
}

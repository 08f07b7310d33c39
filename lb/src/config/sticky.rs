//! The section `[sticky]`, also of pools: its file form and its check.
//!
//! The secret is in a file, as the admin token is, so that a configuration can be shown to others. Several lbs with the
//! same secret keep each other's sessions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::Fault;
use super::key_path::KeyPath;
use super::section::{Scope, section};
use super::token::secret_in_file;
use super::validate::{Surroundings, absolute, within};
use super::validated::StickySessions;

const OF_BACKENDS: &str = "a session belongs to a backend of a pool";
/// Browsers keep no cookie longer than 400 days (RFC 6265bis, section 5.5).
const MAX_AGE_MAX_S: i64 = 400 * 86_400;
const NAME_BYTES_MAX: usize = 64;
/// The beginning of the names of the admin page's cookies, which lb forwards to no backend.
const ADMIN_COOKIE: &str = "lb_session_";

section! {
    Sticky, PartialSticky {
        /// The name of the cookie; empty: off.
        cookie: String = String::new(), Scope::Pool(OF_BACKENDS);
        secret_file: String = String::new(), Scope::Pool(OF_BACKENDS);
        /// 0: until the browser ends.
        max_age_s: i64 = 0, Scope::Pool(OF_BACKENDS);
        secure: bool = false, Scope::Pool(OF_BACKENDS);
    }
}

// === impl Sticky ===

impl Sticky {
    /// Checks the section at `section` and reads its secret.
    pub(super) fn check(
        &self,
        section: &KeyPath,
        around: &Surroundings,
        warnings: &mut Vec<String>,
    ) -> Result<Option<StickySessions>, Fault> {
        let Self { cookie, secret_file, max_age_s, secure } = self;
        let max_age_s = within(section.key("max_age_s"), *max_age_s, 0, MAX_AGE_MAX_S)?;
        if cookie.is_empty() {
            return Ok(None);
        }
        check_name(cookie, *secure).map_err(|what| Fault::new(section.key("cookie"), what))?;
        let key = section.key("secret_file");
        if secret_file.is_empty() {
            let what = "is missing; a secret signs the cookies. Make one: (umask 077; lb token > sticky.secret)";
            return Err(Fault::new(key, what));
        }
        let path = absolute(secret_file.as_ref(), key.clone(), around)?;
        let secret = secret_in_file(&path, &key, warnings)?;
        let (cookie, max_age_s) = (cookie.clone(), max_age_s.unsigned_abs());
        Ok(Some(StickySessions { cookie, secret, max_age_s, secure: *secure }))
    }
}

/// A name that needs no quotes in any cookie parser: a token (RFC 9110, section 5.6.2) of the usual characters.
fn check_name(name: &str, is_secure: bool) -> Result<(), String> {
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if name.len() > NAME_BYTES_MAX || !name.bytes().all(is_usual) {
        return Err(format!("must be a name of at most {NAME_BYTES_MAX} letters, digits, `_`, `-` and `.`"));
    }
    if name.starts_with(ADMIN_COOKIE) {
        return Err("begins like the cookies of the admin page, which no backend may see; take another name".to_owned());
    }
    if !is_secure && ["__Host-", "__Secure-"].iter().any(|prefix| name.starts_with(prefix)) {
        return Err("is a name that browsers accept only with `secure = true`".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_some_parser_would_not_read_is_refused() {
        for good in ["lb", "SERVERID", "__Host-lb", "a.b-c_1"] {
            assert_eq!(check_name(good, true), Ok(()), "{good}");
        }
        for bad in ["a b", "a=b", "a;b", "\"a\"", "é", "a,b", &"x".repeat(65), "lb_session_8081"] {
            assert!(check_name(bad, true).is_err(), "{bad}");
        }
        assert!(check_name("__Host-lb", false).is_err() && check_name("__Secure-lb", false).is_err());
        assert_eq!(check_name("_Host-lb", false), Ok(()));
    }
}

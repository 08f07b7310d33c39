//! The key of an HTTP request: finds each source of a key in the target, the fields or the client's address.

use lb_balance::{HashFunction, Key, KeySource, KeyedRequest};

use crate::http1::{Fields, Target};

pub use lb_balance::key::hash;

/// The parts of a request that a key can come from.
struct Parts<'a> {
    target: &'a Target,
    fields: &'a Fields,
    peer: &'a str,
}

/// The key of a request: the first source of `sources` that the request has; `None` if it has none. `peer` is the
/// client's address as text.
pub fn of(
    sources: &[KeySource],
    function: HashFunction,
    target: &Target,
    fields: &Fields,
    peer: &str,
    random: &mut fastrand::Rng,
) -> Option<Key> {
    lb_balance::key::of(sources, function, &Parts { target, fields, peer }, random)
}

// === impl Parts ===

impl KeyedRequest for Parts<'_> {
    #[inline]
    fn header<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.fields.all(name)
    }

    #[inline]
    fn path(&self) -> &str {
        self.target.path()
    }

    #[inline]
    fn query(&self) -> Option<&str> {
        self.target.query()
    }

    #[inline]
    fn client(&self) -> &str {
        self.peer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(source: KeySource, target: &str, fields: &[(&str, &str)]) -> Option<String> {
        let mut set = Target::default();
        set.set(target).unwrap();
        let fields = fields.iter().copied().collect();
        let mut random = fastrand::Rng::with_seed(1);
        let key = of(&[source], HashFunction::Xxh3, &set, &fields, "10.1.2.3", &mut random)?;
        Some(String::from_utf8(key.bytes().to_vec()).unwrap())
    }

    #[test]
    fn the_path_is_that_of_the_target_in_any_form() {
        for (target, path) in [("/a/b?c=d", "/a/b"), ("http://b?c", "/"), ("http://b/x", "/x"), ("*", "*")] {
            assert_eq!(key(KeySource::Path, target, &[]).unwrap(), path);
        }
    }

    #[test]
    fn query_address_and_fields_in_any_case_give_keys() {
        assert_eq!(key(KeySource::Query("user".into()), "/p?x=1&user=u1", &[]).unwrap(), "u1");
        assert_eq!(key(KeySource::Query("user".into()), "/p", &[]), None);
        assert_eq!(key(KeySource::ClientIp, "/", &[]).unwrap(), "10.1.2.3");
        let name = http::HeaderName::from_static("x-key");
        assert_eq!(key(KeySource::Header(name), "/", &[("X-Key", "k"), ("x-key", "l")]).unwrap(), "k");
        assert_eq!(key(KeySource::Cookie("sid".into()), "/", &[("Cookie", "a=1"), ("cookie", "sid=s")]).unwrap(), "s");
    }
}

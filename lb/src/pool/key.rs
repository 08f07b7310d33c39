//! The key that a request is hashed by, and its hash; taken once per request, only for strategies that want it.
//!
//! Invariant: the key's bytes are borrowed from the request or lie on the stack; nothing is allocated.

use std::ops::Range;

use http::header::COOKIE;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Uri};
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::xxh3_64;

use crate::config::{HashFunction, KeySource};

/// A request's key.
pub struct Key {
    whole: Whole,
    part: Range<usize>,
    pub hash: u64,
}

/// Owns, by a reference count, what the key is a part of: the request itself is changed on its way.
enum Whole {
    Header(HeaderValue),
    Path(PathAndQuery),
    Id([u8; 6]),
}

/// The key of a request: the first source of `sources` that it has; `None` without any. `peer` is the client's address as text.
pub fn of(
    sources: &[KeySource],
    function: HashFunction,
    uri: &Uri,
    headers: &HeaderMap,
    peer: &HeaderValue,
    random: &mut fastrand::Rng,
) -> Option<Key> {
    let (whole, part) = sources.iter().find_map(|source| match source {
        KeySource::Header(name) => whole_header(headers.get(name)?),
        KeySource::Cookie(name) => headers.get_all(COOKIE).iter().find_map(|cookies| {
            let part = find_pair(cookies.as_bytes(), b';', name.as_bytes())?;
            Some((Whole::Header(cookies.clone()), part))
        }),
        KeySource::Query(name) => {
            let path = uri.path_and_query()?;
            let begin = path.path().len() + 1;
            let part = find_pair(path.query()?.as_bytes(), b'&', name.as_bytes())?;
            Some((Whole::Path(path.clone()), begin + part.start..begin + part.end))
        }
        KeySource::Path => {
            let path = uri.path_and_query()?;
            Some((Whole::Path(path.clone()), 0..path.path().len()))
        }
        KeySource::ClientIp => whole_header(peer),
        KeySource::RandomId => Some((Whole::Id(digits(random.u32(100_000..=999_999))), 0..6)),
    })?;
    let mut key = Key { whole, part, hash: 0 };
    key.hash = hash(function, key.bytes());
    Some(key)
}

fn whole_header(value: &HeaderValue) -> Option<(Whole, Range<usize>)> {
    let length = value.as_bytes().len();
    (length > 0).then(|| (Whole::Header(value.clone()), 0..length))
}

/// Where the value of `name` lies in `name=value` pairs.
fn find_pair(text: &[u8], separator: u8, name: &[u8]) -> Option<Range<usize>> {
    let mut begin = 0;
    for pair in text.split(|byte| *byte == separator) {
        let trimmed = pair.iter().take_while(|byte| **byte == b' ').count();
        if let Some(value) = pair[trimmed..].strip_prefix(name).and_then(|rest| rest.strip_prefix(b"=")) {
            let start = begin + pair.len() - value.len();
            return Some(start..begin + pair.len());
        }
        begin += pair.len() + 1;
    }
    None
}

fn digits(mut number: u32) -> [u8; 6] {
    let mut text = [b'0'; 6];
    for place in text.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
    }
    text
}

/// What the configured function makes of a key.
pub fn hash(function: HashFunction, bytes: &[u8]) -> u64 {
    match function {
        HashFunction::Xxh3 => xxh3_64(bytes),
        // The first 8 bytes, big-endian: how the ring places its points, too.
        HashFunction::Sha256 => {
            let digest = Sha256::digest(bytes);
            u64::from_be_bytes(digest[..8].try_into().expect("32 bytes have 8"))
        }
    }
}

// === impl Key ===

impl Key {
    /// Parts of the request, or drawn.
    pub fn bytes(&self) -> &[u8] {
        let whole = match &self.whole {
            Whole::Header(value) => value.as_bytes(),
            Whole::Path(path) => path.as_str().as_bytes(),
            Whole::Id(id) => id,
        };
        &whole[self.part.clone()]
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn key(sources: &[KeySource], uri: &str, headers: &[(&'static str, &'static str)]) -> Option<String> {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let peer = HeaderValue::from_static("10.1.2.3");
        let mut random = fastrand::Rng::with_seed(1);
        of(sources, HashFunction::Xxh3, &uri.parse().unwrap(), &headers, &peer, &mut random).map(|key| {
            assert_eq!(key.hash, xxh3_64(key.bytes()));
            String::from_utf8(key.bytes().to_vec()).unwrap()
        })
    }

    #[test]
    fn the_first_source_that_the_request_has_gives_the_key() {
        let sources = [
            KeySource::Header(HeaderName::from_static("x-key")),
            KeySource::Cookie("sid".into()),
            KeySource::Query("user".into()),
        ];
        let cookie = ("cookie", "a=1; sid=s-7; b=2");
        assert_eq!(key(&sources, "/p?user=u1", &[("x-key", "k"), cookie]).unwrap(), "k");
        assert_eq!(key(&sources, "/p?user=u1", &[cookie]).unwrap(), "s-7");
        assert_eq!(key(&sources, "/p?x=1&user=u1&y", &[]).unwrap(), "u1");
        assert_eq!(key(&sources, "/p?superuser=u1", &[("cookie", "xsid=1")]), None);
    }

    #[test]
    fn path_address_and_random_id_are_always_there() {
        assert_eq!(key(&[KeySource::Path], "/a/b?c=d", &[]).unwrap(), "/a/b");
        assert_eq!(key(&[KeySource::ClientIp], "/", &[]).unwrap(), "10.1.2.3");
        let id = key(&[KeySource::RandomId], "/", &[]).unwrap();
        assert!((100_000..=999_999).contains(&id.parse::<u32>().unwrap()) && id.len() == 6);
    }

    #[test]
    fn sha256_takes_the_first_eight_bytes() {
        // SHA-256("abc") begins ba7816bf 8f01cfea (FIPS 180-2, appendix B.1).
        assert_eq!(hash(HashFunction::Sha256, b"abc"), 0xba78_16bf_8f01_cfea);
    }
}

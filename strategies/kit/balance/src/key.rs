//! The key of a request, and its hash. Both are computed once per request, and only if the strategy wants them.
//!
//! Invariant: a key is a copy, because lb changes the request before it sends it. A short key needs no allocation.

use http::HeaderName;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::xxh3_64;

/// Longer keys are allocated.
const INLINE_BYTES: usize = 64;

/// A source of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    Header(HeaderName),
    Cookie(String),
    Query(String),
    Path,
    ClientIp,
    /// A random 6-digit id, as the course uses.
    RandomId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HashFunction {
    Xxh3,
    Sha256,
}

/// The parts of a request that can be its key.
pub trait KeyedRequest {
    /// All values of the header `name` in order. `name` is in lower case.
    fn header<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]>;
    fn path(&self) -> &str;
    /// The part after the `?`.
    fn query(&self) -> Option<&str>;
    /// The client's address as text.
    fn client(&self) -> &str;
}

/// A request's key.
#[derive(Clone)]
pub struct Key {
    text: Text,
    pub hash: u64,
}

#[derive(Clone)]
enum Text {
    Inline([u8; INLINE_BYTES], u8),
    Allocated(Box<[u8]>),
}

/// The key of a request, from the first of `sources` that the request has; `None` if it has none.
pub fn of(
    sources: &[KeySource],
    function: HashFunction,
    request: &impl KeyedRequest,
    random: &mut fastrand::Rng,
) -> Option<Key> {
    let key = |bytes: &[u8]| Key::new(function, bytes);
    let some = |bytes: &[u8]| (!bytes.is_empty()).then(|| key(bytes));
    sources.iter().find_map(|source| match source {
        KeySource::Header(name) => some(request.header(name.as_str().as_bytes()).next()?),
        KeySource::Cookie(name) => {
            let mut values = request.header(b"cookie").filter_map(|pairs| find_value(pairs, b';', name.as_bytes()));
            values.next().map(key)
        }
        KeySource::Query(name) => find_value(request.query()?.as_bytes(), b'&', name.as_bytes()).map(key),
        KeySource::Path => Some(key(request.path().as_bytes())),
        KeySource::ClientIp => some(request.client().as_bytes()),
        KeySource::RandomId => Some(key(&digits(random.u32(100_000..=999_999)))),
    })
}

/// The value of `name` in `name=value` pairs.
#[inline]
fn find_value<'a>(pairs: &'a [u8], separator: u8, name: &[u8]) -> Option<&'a [u8]> {
    pairs.split(|byte| *byte == separator).find_map(|pair| {
        let spaces = pair.iter().take_while(|byte| **byte == b' ').count();
        pair[spaces..].strip_prefix(name)?.strip_prefix(b"=")
    })
}

#[inline]
fn digits(mut number: u32) -> [u8; 6] {
    let mut text = [b'0'; 6];
    for place in text.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
    }
    text
}

/// The hash of a key by the configured function.
#[inline]
pub fn hash(function: HashFunction, bytes: &[u8]) -> u64 {
    match function {
        HashFunction::Xxh3 => xxh3_64(bytes),
        // The first 8 bytes, big-endian. The ring of `consistent_hash` places its points in the same way.
        HashFunction::Sha256 => {
            let digest = Sha256::digest(bytes);
            u64::from_be_bytes(digest[..8].try_into().expect("32 bytes have 8"))
        }
    }
}

// === impl Key ===

impl Key {
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        match &self.text {
            Text::Inline(bytes, length) => &bytes[..usize::from(*length)],
            Text::Allocated(bytes) => bytes,
        }
    }

    #[inline]
    fn new(function: HashFunction, bytes: &[u8]) -> Self {
        let mut inline = [0; INLINE_BYTES];
        let text = match inline.get_mut(..bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                Text::Inline(inline, bytes.len() as u8)
            }
            None => Text::Allocated(bytes.into()),
        };
        Self { text, hash: hash(function, bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Request {
        path: &'static str,
        query: Option<&'static str>,
        headers: Vec<(&'static str, String)>,
    }

    impl KeyedRequest for Request {
        fn header<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
            self.headers.iter().filter(move |(own, _)| own.as_bytes() == name).map(|(_, value)| value.as_bytes())
        }

        fn path(&self) -> &str {
            self.path
        }

        fn query(&self) -> Option<&str> {
            self.query
        }

        fn client(&self) -> &str {
            "10.1.2.3"
        }
    }

    fn key(sources: &[KeySource], target: &'static str, headers: &[(&'static str, &str)]) -> Option<String> {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let mut random = fastrand::Rng::with_seed(1);
        of(sources, HashFunction::Xxh3, &Request { path, query, headers }, &mut random).map(|key| {
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
        assert_eq!(
            key(&sources, "/p", &[("x-key", ""), ("cookie", "a=1"), cookie]).unwrap(),
            "s-7",
            "an empty header is no key"
        );
        assert_eq!(key(&sources, "/p", &[("cookie", "sid=")]).unwrap(), "");
    }

    #[test]
    fn path_address_and_random_id_always_exist() {
        assert_eq!(key(&[KeySource::Path], "/a/b?c=d", &[]).unwrap(), "/a/b");
        assert_eq!(key(&[KeySource::ClientIp], "/", &[]).unwrap(), "10.1.2.3");
        let id = key(&[KeySource::RandomId], "/", &[]).unwrap();
        assert!((100_000..=999_999).contains(&id.parse::<u32>().unwrap()) && id.len() == 6);
    }

    #[test]
    fn a_key_of_any_length_is_complete() {
        for length in [1, 63, 64, 65, 255, 256, 257, 5_000] {
            let value = "v".repeat(length);
            let header = KeySource::Header(HeaderName::from_static("x-key"));
            assert_eq!(key(&[header], "/", &[("x-key", &value)]).unwrap(), value);
        }
    }

    #[test]
    fn sha256_takes_the_first_eight_bytes() {
        // SHA-256("abc") begins ba7816bf 8f01cfea (FIPS 180-2, appendix B.1).
        assert_eq!(hash(HashFunction::Sha256, b"abc"), 0xba78_16bf_8f01_cfea);
    }
}

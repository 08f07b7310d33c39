//! `x-request-id`: the name of a request, the same at the client, here and at the backend.
//!
//! A client's own is kept where it is fit to be copied into logs and headers, else replaced: 128 random bits in hexadecimal. They come
//! from the worker's generator, so they are unique and not secret. Invariant: making one allocates at most every hundredth time.

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue};

pub(super) static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longer ones are not kept.
const KEPT_BYTES_MAX: usize = 128;
const MADE_BYTES: usize = 32;
/// Room for so many is allocated at once.
const MADE_AT_ONCE: usize = 128;

/// Makes the ids of one worker.
#[derive(Default)]
pub(super) struct RequestIds {
    room: BytesMut,
}

// === impl RequestIds ===

impl RequestIds {
    /// Sees to it that the request has exactly one id, and answers it.
    pub(super) fn settle(&mut self, headers: &mut HeaderMap, random: &mut fastrand::Rng) -> HeaderValue {
        let mut given = headers.get_all(&X_REQUEST_ID).iter();
        if let (Some(one), None) = (given.next(), given.next())
            && is_kept(one.as_bytes())
        {
            return one.clone();
        }
        let made = self.make(random.u128(..));
        headers.insert(&X_REQUEST_ID, made.clone());
        made
    }

    fn make(&mut self, number: u128) -> HeaderValue {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        if self.room.capacity() < MADE_BYTES {
            self.room = BytesMut::with_capacity(MADE_BYTES * MADE_AT_ONCE);
        }
        let bytes = number.to_be_bytes();
        let digits: [u8; MADE_BYTES] = std::array::from_fn(|place| {
            let byte = usize::from(bytes[place / 2]);
            DIGITS[if place % 2 == 0 { byte >> 4 } else { byte & 15 }]
        });
        self.room.extend_from_slice(&digits);
        HeaderValue::from_maybe_shared(self.room.split().freeze()).expect("hexadecimal digits are a header value")
    }
}

/// Whether it can stand in a log and a header as it is: visible ASCII, and not too much of it.
fn is_kept(id: &[u8]) -> bool {
    (1..=KEPT_BYTES_MAX).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn settled(given: &[&[u8]]) -> (String, HeaderMap) {
        let mut headers = HeaderMap::new();
        for one in given {
            headers.append(&X_REQUEST_ID, HeaderValue::from_bytes(one).unwrap());
        }
        let id = RequestIds::default().settle(&mut headers, &mut fastrand::Rng::with_seed(1));
        (id.to_str().unwrap().to_owned(), headers)
    }

    #[test]
    fn one_that_is_fit_is_kept_and_any_other_replaced() {
        for fit in [&b"a"[..], b"4bf92f3577b34da6a3ce929d0e0e4736", b"{\"a\":1}", &[b'x'; 128]] {
            let (id, headers) = settled(&[fit]);
            assert_eq!((id.as_bytes(), headers.get_all(&X_REQUEST_ID).iter().count()), (fit, 1));
        }
        for unfit in [&[][..], &[&b""[..]], &[b"a b"], &[b"a\tb"], &["é".as_bytes()], &[&[b'x'; 129]], &[b"a", b"a"]] {
            let (id, headers) = settled(unfit);
            assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{unfit:?}: {id}");
            assert_eq!(headers.get_all(&X_REQUEST_ID).iter().collect::<Vec<_>>(), [&*id], "{unfit:?}");
        }
    }

    #[test]
    fn what_is_made_is_all_of_the_number_and_never_the_same() {
        let mut ids = RequestIds::default();
        assert_eq!(ids.make(0x0123_4567_89ab_cdef_0011_2233_4455_66ff), "0123456789abcdef00112233445566ff");
        let mut random = fastrand::Rng::with_seed(815);
        let made: HashSet<_> = (0..10_000).map(|_| ids.settle(&mut HeaderMap::new(), &mut random)).collect();
        assert_eq!(made.len(), 10_000);
    }
}

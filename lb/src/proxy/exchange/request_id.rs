//! `x-request-id`: the name of a request, the same at the client, here and at the backend.
//!
//! A client's own id is kept if logs and headers can contain it unchanged, else replaced by 128 random bits in
//! hexadecimal. The bits are from the worker's generator, so they are unique and not secret. Invariant: an id is
//! visible ASCII, and making one allocates nothing but its field.

use crate::http1::Fields;

const NAME: &[u8] = b"x-request-id";
/// Longer ones are not kept.
const BYTES_MAX: usize = 128;
const MADE_BYTES: usize = 32;

/// The two digits of each byte.
static HEX: [[u8; 2]; 256] = hex();

const fn hex() -> [[u8; 2]; 256] {
    let digits = b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    table
}

/// Gives the request exactly one id.
pub(super) fn ensure(fields: &mut Fields, random: &mut fastrand::Rng) {
    let mut given = fields.all(NAME);
    let (first, second) = (given.next(), given.next());
    drop(given);
    match (first, second) {
        (Some(one), None) if is_kept(one) => {}
        (None, _) => fields.push(NAME, &made_of(random.u128(..))),
        _ => fields.set(NAME, &made_of(random.u128(..))),
    }
}

/// Puts the request's id on the response, instead of any that a backend sent.
pub(super) fn copy(request: &Fields, response: &mut Fields) {
    match request.get(NAME) {
        Some(id) if response.has(NAME) => response.set(NAME, id),
        Some(id) => response.push(NAME, id),
        None => {}
    }
}

/// Whether a log and a header can contain it unchanged: visible ASCII, and not too long.
fn is_kept(id: &[u8]) -> bool {
    (1..=BYTES_MAX).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

fn made_of(number: u128) -> [u8; MADE_BYTES] {
    let mut id = [0; MADE_BYTES];
    for (pair, byte) in id.as_chunks_mut::<2>().0.iter_mut().zip(number.to_be_bytes()) {
        *pair = HEX[usize::from(byte)];
    }
    id
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn ensured(given: &[&[u8]]) -> (Vec<u8>, Fields) {
        let mut fields: Fields = [("host", "a")].into_iter().collect();
        given.iter().for_each(|one| fields.push(b"X-Request-Id", one));
        ensure(&mut fields, &mut fastrand::Rng::with_seed(1));
        (fields.get(NAME).unwrap().to_vec(), fields)
    }

    #[test]
    fn a_valid_id_is_kept_and_any_other_is_replaced() {
        for fit in [&b"a"[..], b"4bf92f3577b34da6a3ce929d0e0e4736", b"{\"a\":1}", &[b'x'; 128]] {
            let (id, fields) = ensured(&[fit]);
            assert_eq!((&id[..], fields.all(NAME).collect::<Vec<_>>()), (fit, vec![fit]));
        }
        for unfit in [&[][..], &[&b""[..]], &[b"a b"], &[b"a\tb"], &["é".as_bytes()], &[&[b'x'; 129]], &[b"a", b"a"]] {
            let (id, fields) = ensured(unfit);
            assert!(id.len() == 32 && id.iter().all(u8::is_ascii_hexdigit), "{unfit:?}: {}", id.escape_ascii());
            assert_eq!(fields.all(NAME).collect::<Vec<_>>(), [id], "{unfit:?}");
        }
    }

    #[test]
    fn a_generated_id_has_all_128_bits_and_is_unique() {
        let made = made_of(0x0123_4567_89ab_cdef_0011_2233_4455_66ff);
        assert_eq!(&made, b"0123456789abcdef00112233445566ff");
        let mut random = fastrand::Rng::with_seed(815);
        let made: HashSet<_> = (0..10_000).map(|_| made_of(random.u128(..))).collect();
        assert_eq!(made.len(), 10_000);
    }

    #[test]
    fn a_response_has_the_id_of_its_request_alone() {
        let request: Fields = [("x-request-id", "own")].into_iter().collect();
        for backend in [&[][..], &[("x-request-id", "other")], &[("x-request-id", "a"), ("X-Request-Id", "b")]] {
            let mut response: Fields = backend.iter().copied().collect();
            copy(&request, &mut response);
            assert_eq!(response.all(NAME).collect::<Vec<_>>(), [b"own"]);
        }
    }
}

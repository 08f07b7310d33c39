//! Base64 of the standard alphabet, with or without padding, into a buffer of the caller.
//!
//! gRPC leaves the padding out, other servers add it. Invariant: the bits behind the last whole byte are 0, so that
//! one message has one spelling.

/// No digit of the alphabet.
const NONE: u8 = 0xff;

/// The value of each digit.
const VALUES: [u8; 256] = {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut values, mut value) = ([NONE; 256], 0);
    while value < ALPHABET.len() {
        values[ALPHABET[value] as usize] = value as u8;
        value += 1;
    }
    values
};

/// The most bytes that so many digits decode to.
pub(super) const fn decoded_max(digits: usize) -> usize {
    digits / 4 * 3 + 3
}

/// The bytes, at the start of `buffer`, which has room for [`decoded_max`]. `None` if the text is no base64.
pub(super) fn decode<'b>(text: &[u8], buffer: &'b mut [u8]) -> Option<&'b [u8]> {
    let digits = match text {
        [digits @ .., b'=', b'='] | [digits @ .., b'='] if text.len().is_multiple_of(4) => digits,
        _ => text,
    };
    let mut len = 0;
    for group in digits.chunks(4) {
        let (mut bits, mut found) = (0_u32, 0);
        for digit in group {
            let value = VALUES[usize::from(*digit)];
            found |= value;
            bits = bits << 6 | u32::from(value);
        }
        if found == NONE || group.len() == 1 {
            return None;
        }
        bits <<= 6 * (4 - group.len());
        let [_, bytes @ ..] = bits.to_be_bytes();
        let (whole, rest) = bytes.split_at(group.len() - 1);
        if rest.iter().any(|byte| *byte != 0) {
            return None;
        }
        buffer.get_mut(len..len + whole.len())?.copy_from_slice(whole);
        len += whole.len();
    }
    buffer.get(..len)
}

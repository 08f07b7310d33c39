//! Classes of bytes. They are tables, or tests of eight bytes at a time, because every byte of every head is tested
//! here.

/// A 1 in each byte.
const ONES: u64 = u64::MAX / 255;

/// A token's byte in lower case, or 0 for a byte that tokens cannot contain (RFC 9110, section 5.6.2).
static LOWER: [u8; 256] = lower();
/// The value of a hexadecimal digit, or 255 for other bytes.
static HEX: [u8; 256] = hex();
/// Whether a byte may be part of a host's name (RFC 3986, section 3.2.2).
static IN_HOST: [bool; 256] = in_host();
/// The meaning of each byte in a target.
static TARGET: [InTarget; 256] = target();

/// The meaning of a byte in a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InTarget {
    Plain,
    /// `?`
    Query,
    /// `#`
    Fragment,
    Invalid,
}

const fn lower() -> [u8; 256] {
    let others = b"!#$%&'*+-.^_`|~";
    let mut table = [0; 256];
    let mut index = 0;
    while index < others.len() {
        table[others[index] as usize] = others[index];
        index += 1;
    }
    let mut byte = 0;
    while byte < 128 {
        if (byte as u8).is_ascii_alphanumeric() {
            table[byte] = (byte as u8).to_ascii_lowercase();
        }
        byte += 1;
    }
    table
}

const fn hex() -> [u8; 256] {
    let mut table = [255; 256];
    let mut value = 0;
    while value < 16 {
        table[b"0123456789abcdef"[value] as usize] = value as u8;
        table[b"0123456789ABCDEF"[value] as usize] = value as u8;
        value += 1;
    }
    table
}

const fn in_host() -> [bool; 256] {
    let others = b"-._~%!$&'()*+,;=";
    let mut table = [false; 256];
    let mut index = 0;
    while index < others.len() {
        table[others[index] as usize] = true;
        index += 1;
    }
    let mut byte = 0;
    while byte < 128 {
        table[byte] |= (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    table
}

/// RFC 3986 allows fewer bytes, but clients send these, and servers agree on them.
const fn target() -> [InTarget; 256] {
    let mut table = [InTarget::Plain; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'?' => InTarget::Query,
            b'#' => InTarget::Fragment,
            0..=b' ' | 0x7f | b'<' | b'>' => InTarget::Invalid,
            _ => InTarget::Plain,
        };
        byte += 1;
    }
    table
}

#[inline]
pub(super) fn in_target(byte: u8) -> InTarget {
    TARGET[byte as usize]
}

/// Whether the name of a host may contain this byte. A colon begins the port.
#[inline]
pub(super) fn is_in_host(byte: u8) -> bool {
    IN_HOST[byte as usize]
}

/// Whether tokens may contain this byte.
#[inline]
pub(super) fn is_token_byte(byte: u8) -> bool {
    LOWER[byte as usize] != 0
}

/// Whether `name` may name a field or a method (RFC 9110, section 5.6.2).
#[inline]
pub(super) fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| is_token_byte(*byte))
}

/// Converts the token at the start of `bytes` to lower case and returns its length; 0 if there is none.
///
/// Letters and hyphens are converted eight at a time, other bytes one by one.
#[inline(always)]
pub(super) fn lower_token(bytes: &mut [u8]) -> usize {
    const HIGH: u64 = ONES * 0x80;
    let mut length = 0;
    for word in bytes.as_chunks_mut::<8>().0 {
        let old = u64::from_le_bytes(*word);
        // No sum carries into the next byte, because the highest bit of each addend's byte is clear.
        let low = (old | (ONES * 0x20)) & !HIGH;
        let is_letter = (low + ONES * (0x80 - b'a' as u64)) & !(low + ONES * (0x7f - b'z' as u64)) & !old & HIGH;
        let other = old ^ (ONES * b'-' as u64);
        let is_hyphen = !(((other & !HIGH) + !HIGH) | other) & HIGH;
        let stop = !(is_letter | is_hyphen) & HIGH;
        if stop != 0 {
            let good = stop.trailing_zeros() / 8;
            *word = (old | (is_letter >> 2 & ((1 << (good * 8)) - 1))).to_le_bytes();
            length += good as usize;
            break;
        }
        *word = (old | is_letter >> 2).to_le_bytes();
        length += 8;
    }
    for byte in &mut bytes[length..] {
        let lower = LOWER[*byte as usize];
        if lower == 0 {
            break;
        }
        *byte = lower;
        length += 1;
    }
    length
}

/// The value of a hexadecimal digit.
#[inline]
pub(super) fn hex_value(byte: u8) -> Option<u8> {
    let value = HEX[byte as usize];
    (value < 16).then_some(value)
}

/// Whether `value` is a valid field value (RFC 9110, section 5.5): visible bytes, bytes from 0x80 on, spaces and tabs.
pub(super) fn is_value(value: &[u8]) -> bool {
    value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..))
}

/// The offset of the first byte below 0x20 or equal to 0x7f, or the length of `bytes`.
///
/// Eight bytes at a time. Source: "Determine if a word has a byte less than n", Sean Eron Anderson, Bit Twiddling
/// Hacks. A byte above a match may be marked falsely, so only the lowest mark counts.
#[inline]
pub(super) fn first_control(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let delete = word ^ (ONES * 0x7f);
        let below = word.wrapping_sub(ONES * 0x20) & !word;
        let marks = (below | (delete.wrapping_sub(ONES) & !delete)) & (ONES * 0x80);
        if marks != 0 {
            return index * 8 + marks.trailing_zeros() as usize / 8;
        }
    }
    bytes.len() - rest.len() + rest.iter().position(u8::is_ascii_control).unwrap_or(rest.len())
}

/// Whether the byte is a space or a tab.
#[inline]
pub(super) fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// `value` without spaces and tabs at both ends.
#[inline]
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_say_what_the_grammar_says() {
        for byte in 0..=255_u8 {
            let is_token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            assert_eq!(is_token_byte(byte), is_token, "{byte:#x}");
            let is_of_uri = matches!(byte, b'!'..=b'~' | 0x80..) && byte != b'<' && byte != b'>';
            assert_eq!(in_target(byte) != InTarget::Invalid, is_of_uri, "{byte:#x}");
            let is_in_name = byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte);
            assert_eq!(is_in_host(byte), is_in_name, "{byte:#x}");
            assert_eq!(hex_value(byte).map(u32::from), (byte as char).to_digit(16), "{byte:#x}");
        }
    }

    #[test]
    fn a_token_is_lowered_up_to_its_end_wherever_that_is() {
        for end in 0..=255_u8 {
            for filler in [b'A', b'z', b'-', b'Z', b'a', b'9', b'_'] {
                for at in 0..20 {
                    let mut bytes = vec![filler; at];
                    bytes.extend_from_slice(&[end, b'X', b':', b'X']);
                    let expected = at + if is_token_byte(end) { 2 } else { 0 };
                    let lower = [&bytes[..expected].to_ascii_lowercase()[..], &bytes[expected..]].concat();
                    assert_eq!(
                        (lower_token(&mut bytes), &bytes),
                        (expected, &lower),
                        "{end:#x} at {at} behind {filler:#x}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_first_control_byte_is_found_wherever_it_stands() {
        for byte in 0..=255_u8 {
            for filler in [b'a', b' ', 0x80, 0xff, b'~'] {
                for length in 1..20 {
                    for at in 0..length {
                        let mut value = vec![filler; length];
                        value[at] = byte;
                        // A second one must not hide the first.
                        value.extend_from_slice(b"x\x01");
                        let expected = if byte.is_ascii_control() { at } else { length + 1 };
                        assert_eq!(first_control(&value), expected, "{byte:#x} at {at} of {length} among {filler:#x}");
                    }
                }
            }
        }
    }
}

//! Which bytes are copied to a line unchanged: printable ASCII except `"` and `\`. Both formats escape the same bytes,
//! each in its own way.

/// A 1 in each byte.
const ONES: u64 = u64::MAX / 255;

/// The number of bytes before the first byte to escape, or the length of `bytes`.
///
/// Eight bytes at a time. Source: "Determine if a word has a byte less than n", Sean Eron Anderson, Bit Twiddling
/// Hacks. A byte above a match may be marked falsely, so only the lowest mark counts.
#[inline]
pub(super) fn plain_length(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // `^ 2` swaps `"` with the space and keeps control bytes below 0x20.
        let control_or_quote = (word ^ (ONES * 2)).wrapping_sub(ONES * 0x21);
        let backslash = (word ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
        let delete = word.wrapping_add(ONES);
        let marks = (control_or_quote | backslash | delete | word) & (ONES * 0x80);
        if marks != 0 {
            return index * 8 + marks.trailing_zeros() as usize / 8;
        }
    }
    bytes.len() - rest.len() + rest.iter().position(|byte| !is_plain(*byte)).unwrap_or(rest.len())
}

/// Whether a line contains the byte unchanged.
#[inline]
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

/// The two digits of a byte.
#[inline]
pub(super) fn hex(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_to_escape_is_found_wherever_it_stands() {
        for byte in 0..=255_u8 {
            let is_kept = (0x20..0x7f).contains(&byte) && !b"\"\\".contains(&byte);
            for filler in [b' ', b'!', b'#', b'[', b']', b'~'] {
                for (length, at) in (1..20).flat_map(|length| (0..length).map(move |at| (length, at))) {
                    let mut bytes = vec![filler; length];
                    bytes[at] = byte;
                    // A second one must not hide the first.
                    bytes.extend_from_slice(b"x\x01");
                    let expected = if is_kept { length + 1 } else { at };
                    assert_eq!(plain_length(&bytes), expected, "{byte:#x} at {at} of {length} among {filler:#x}");
                }
            }
        }
        assert_eq!(plain_length(b""), 0);
    }

    #[test]
    fn a_byte_has_two_digits() {
        assert!((0..=255).all(|byte| hex(byte) == *format!("{byte:02x}").as_bytes()));
    }
}

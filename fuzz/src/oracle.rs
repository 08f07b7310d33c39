//! A second decoder of the chunked coding, as simple as possible: for whole inputs only, without states.

use lb::http1::Fields;

/// Body, trailers and length of a complete chunked body; `None` if it is malformed or incomplete.
pub fn decode(data: &[u8]) -> Option<(Vec<u8>, Option<Fields>, usize)> {
    let (mut rest, mut body) = (data, Vec::new());
    loop {
        let line = line(&mut rest)?;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (number, extension) = line.split_at(digits);
        if number.is_empty() || line.len() > 16_384 || !is_extension(extension) {
            return None;
        }
        let number = std::str::from_utf8(number).ok()?.trim_start_matches('0');
        let size = if number.is_empty() { 0 } else { u64::from_str_radix(number, 16).ok()? };
        if size > 1 << 53 {
            return None;
        }
        if size == 0 {
            break;
        }
        let (chunk, behind) = rest.split_at_checked(usize::try_from(size).ok()?)?;
        body.extend_from_slice(chunk);
        rest = behind.strip_prefix(b"\r\n")?;
    }
    let before = rest.len();
    let mut trailers = Fields::new();
    loop {
        let line = line(&mut rest)?;
        if before - rest.len() > 16_384 {
            return None;
        }
        if line.is_empty() {
            break;
        }
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii_blank());
        let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        if name.is_empty() || !name.iter().all(is_name) || !value.iter().all(is_visible) || trailers.len() == 100 {
            return None;
        }
        trailers.push(name, value);
    }
    Some((body, (!trailers.is_empty()).then_some(trailers), data.len() - rest.len()))
}

/// Removes a line from the front of `rest`, and returns it without its CR LF.
fn line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let line = &rest[..end];
    *rest = &rest[end + 2..];
    (!line.contains(&b'\r') && !line.contains(&b'\n')).then_some(line)
}

fn is_extension(extension: &[u8]) -> bool {
    extension.is_empty() || (extension[0] == b';' && extension.iter().all(is_visible))
}

fn is_visible(byte: &u8) -> bool {
    !byte.is_ascii_control() || *byte == b'\t'
}

trait TrimBlank {
    fn trim_ascii_blank(&self) -> &[u8];
}

impl TrimBlank for [u8] {
    /// Without spaces and tabs at the ends; other white space stays.
    fn trim_ascii_blank(&self) -> &[u8] {
        let is_text = |byte: &u8| *byte != b' ' && *byte != b'\t';
        let begin = self.iter().position(is_text).unwrap_or(self.len());
        let end = self.iter().rposition(is_text).map_or(begin, |last| last + 1);
        &self[begin..end]
    }
}

//! The normal form of a request's path, which is matched with routes.
//!
//! Why: `/api`, `//api`, `/%61pi` and `/x/../api` are one resource to most backends. A route that treated them as four
//! could be bypassed. Source: RFC 3986, sections 6.2.2 and 5.2.4; in addition, double slashes are merged. Invariants: a
//! path in normal form is borrowed, so mostly nothing is allocated. A path that servers may read as different resources
//! has no normal form and is refused.

use std::borrow::Cow;

/// The meaning of a byte for [`is_plain`]. A slash precedes the next byte, which must not be one that changes behind a
/// slash.
const BEHIND_SLASH: u8 = 1;
const SLASH: u8 = BEHIND_SLASH << 1;
const NEVER_PLAIN: u8 = 4;
static MARKS: [u8; 256] = {
    let mut marks = [0; 256];
    marks[b'/' as usize] = SLASH | BEHIND_SLASH;
    marks[b'.' as usize] = BEHIND_SLASH;
    marks[b'%' as usize] = NEVER_PLAIN;
    marks[b'\\' as usize] = NEVER_PLAIN;
    marks
};

/// The normal form of `path`: percent-encoded unreserved characters decoded, other triplets in upper case, no dot
/// segments, no empty segments. The error says why there is none.
pub fn normal_path(path: &str) -> Result<Cow<'_, str>, &'static str> {
    if is_plain(path.as_bytes()) {
        return Ok(Cow::Borrowed(path));
    }
    let Some(segments) = path.strip_prefix('/') else {
        return Err("the path does not begin with /");
    };
    let mut normal = String::with_capacity(path.len());
    let mut segments = segments.split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        let start = normal.len();
        normal.push('/');
        decode(segment, &mut normal)?;
        match &normal[start + 1..] {
            "" | "." if is_last => normal.truncate(start + 1),
            "" | "." => normal.truncate(start),
            ".." => {
                normal.truncate(start);
                normal.truncate(normal.rfind('/').unwrap_or(0));
                if is_last {
                    normal.push('/');
                }
            }
            decoded if is_ambiguous(decoded) => {
                return Err("the path has . or .. beside an encoded separator, which servers read in different ways");
            }
            _ => {}
        }
    }
    Ok(if normal == path { Cow::Borrowed(path) } else { Cow::Owned(normal) })
}

/// Whether no byte of it needs a change.
fn is_plain(path: &[u8]) -> bool {
    let (mut found, mut before) = (0, 0);
    for byte in path {
        let marks = MARKS[*byte as usize];
        found |= marks & (NEVER_PLAIN | before);
        before = marks >> 1;
    }
    found == 0 && path.first() == Some(&b'/')
}

/// Adds `segment` with its triplets in normal form.
fn decode(segment: &str, normal: &mut String) -> Result<(), &'static str> {
    let mut rest = segment;
    while let Some(at) = rest.find('%') {
        normal.push_str(&rest[..at]);
        let digit = |place: usize| rest.as_bytes().get(at + place).and_then(|byte| char::from(*byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(1), digit(2)) else {
            return Err("the path has a % without two hexadecimal digits behind it");
        };
        match char::from_u32(high * 16 + low) {
            Some('\0') => return Err("the path has a zero byte (%00) in it"),
            Some(plain) if plain.is_ascii_alphanumeric() || "-._~".contains(plain) => normal.push(plain),
            _ => {
                normal.push('%');
                normal.extend(
                    [high, low]
                        .iter()
                        .filter_map(|digit| char::from_digit(*digit, 16))
                        .map(|digit| digit.to_ascii_uppercase()),
                );
            }
        }
        rest = &rest[at + 3..];
    }
    normal.push_str(rest);
    Ok(())
}

/// Some servers decode `%2F` or `%5C` first, take `\` for `/`, or drop `;parameters`. They would see a dot segment
/// here.
fn is_ambiguous(segment: &str) -> bool {
    let is_dots = |part: &str| matches!(part.split(';').next(), Some("." | ".."));
    segment.split('\\').flat_map(|part| part.split("%2F")).flat_map(|part| part.split("%5C")).any(is_dots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_resource_have_one_form() {
        for (path, normal) in [
            ("/", "/"),
            ("/api", "/api"),
            ("//api", "/api"),
            ("/api//x///y", "/api/x/y"),
            ("/api/", "/api/"),
            ("/api//", "/api/"),
            ("//", "/"),
            ("/%61pi", "/api"),
            ("/a%2Db%2e%5f%7E", "/a-b._~"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/a%20b", "/a%20b"),
            ("/group%2fproject", "/group%2Fproject"),
            ("/a%5cb", "/a%5Cb"),
            ("/a\\b", "/a\\b"),
            ("/%252e", "/%252e"),
            ("/./api", "/api"),
            ("/x/../api", "/api"),
            ("/x/y/../../api", "/api"),
            ("/x/%2e%2E/api", "/api"),
            ("/x/.%2e/api", "/api"),
            ("/../../api", "/api"),
            ("/api/.", "/api/"),
            ("/api/..", "/"),
            ("/api/x/..", "/api/"),
            ("/x//../api", "/api"),
            ("/.well-known/x", "/.well-known/x"),
            ("/...", "/..."),
            ("/a..b/..c", "/a..b/..c"),
            ("/a;p=.", "/a;p=."),
        ] {
            assert_eq!(normal_path(path).as_deref(), Ok(normal), "{path}");
            assert!(matches!(normal_path(normal), Ok(Cow::Borrowed(_))), "{normal} is its own form");
        }
    }

    #[test]
    fn paths_that_servers_read_differently_have_no_normal_form() {
        for path in [
            "",
            "*",
            "api",
            "/%",
            "/%2",
            "/%zz",
            "/%2g",
            "/a%",
            "/%00",
            "/a%00b",
            "/x/..%2fapi",
            "/x/..%2Fapi",
            "/%2e%2e%2fapi",
            "/x%2f..",
            "/x/..%5capi",
            "/x/..\\api",
            "/x\\..\\api",
            "/x/..;/api",
            "/x/.;a=b/api",
            "/x/%2e%2e;/api",
            "/.\\",
        ] {
            assert!(normal_path(path).is_err(), "{path}");
        }
    }
}

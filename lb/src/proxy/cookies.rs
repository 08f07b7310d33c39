//! The cookies of the admin page, which no backend may see.
//!
//! Why there are any: a browser sends a cookie to every port of its host, so whoever is signed in at the admin port and calls up a page
//! through the proxy sends it along, and on the admin port it is as good as the token. Invariants: all other cookies stay byte for byte
//! and in their order; where there is none of ours, nothing is copied.

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

use crate::generation::ADMIN_COOKIE;

/// Takes the admin page's cookies out; a header that has no others goes whole.
pub(super) fn strip(headers: &mut HeaderMap) {
    if !headers.get_all(COOKIE).iter().any(|field| pairs(field).any(is_ours)) {
        return;
    }
    let kept: Vec<HeaderValue> = headers.get_all(COOKIE).iter().filter_map(without_ours).collect();
    headers.remove(COOKIE);
    for field in kept {
        headers.append(COOKIE, field);
    }
}

fn pairs(field: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    field.as_bytes().split(|byte| *byte == b';')
}

/// By its name, with any port: of another lb on this host it opens that one's admin port.
fn is_ours(pair: &[u8]) -> bool {
    let Some(rest) = pair.trim_ascii_start().strip_prefix(ADMIN_COOKIE.as_bytes()) else { return false };
    let port = rest.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii_end();
    !port.is_empty() && port.iter().all(u8::is_ascii_digit)
}

/// `None` when nothing is left.
fn without_ours(field: &HeaderValue) -> Option<HeaderValue> {
    let others: Vec<&[u8]> = pairs(field).filter(|pair| !is_ours(pair)).collect();
    let kept = others.join(&b';');
    let begins_with_ours = pairs(field).next().is_some_and(is_ours);
    let kept = if begins_with_ours { kept.trim_ascii_start() } else { &kept };
    if kept.trim_ascii().is_empty() { None } else { HeaderValue::from_bytes(kept).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(fields: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(COOKIE, HeaderValue::from_bytes(field).unwrap());
        }
        strip(&mut headers);
        headers.get_all(COOKIE).iter().map(|field| field.as_bytes().to_vec()).collect()
    }

    #[test]
    fn ours_goes_wherever_it_stands_and_the_rest_stays_byte_for_byte() {
        let cases: [(&[u8], Option<&[u8]>); 13] = [
            (b"lb_session_8081=f00", None),
            (b"lb_session_8081 = f00", None),
            (b"lb_session=f00; lb_session_id=1", Some(b"lb_session=f00; lb_session_id=1")),
            (b" lb_session_8081=f00; ", None),
            (b"lb_session_8081=f00;lb_session_9=1", None),
            (b"lb_session_8081=f00; a=1", Some(b"a=1")),
            (b"a=1; lb_session_8081=f00", Some(b"a=1")),
            (b"a=1; lb_session_8081=f00; b=\"2 \xe9\"", Some(b"a=1; b=\"2 \xe9\"")),
            (b"a=1;lb_session_8081=f00;  b=2;", Some(b"a=1;  b=2;")),
            (b" a ; xlb_session=1", Some(b" a ; xlb_session=1")),
            (b"a=lb_session_8081=f00", Some(b"a=lb_session_8081=f00")),
            (b"LB_SESSION=1", Some(b"LB_SESSION=1")),
            (b"", Some(b"")),
        ];
        for (field, wanted) in cases {
            assert_eq!(stripped(&[field]), Vec::from_iter(wanted), "{}", field.escape_ascii());
        }
    }

    #[test]
    fn each_of_several_headers_is_looked_at() {
        let several: &[&[u8]] = &[b"a=1", b"lb_session_8081=f00", b"b=2; lb_session_9=1", b"c=3"];
        assert_eq!(stripped(several), [&b"a=1"[..], b"b=2", b"c=3"]);
        assert!(stripped(&[]).is_empty());
    }
}

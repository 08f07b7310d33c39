//! The cookies of the admin page, which no backend may see.
//!
//! A browser sends a cookie to every port of its host. So a browser that is signed in at the admin port also sends that
//! cookie through the proxy. At the admin port it is equal to the token. Invariants: all other cookies stay byte for
//! byte and in their order. A head without a cookie of the admin page is not changed, and nothing is copied.

use crate::generation::ADMIN_COOKIE;
use crate::http1::Fields;

/// Removes the admin page's cookies. A field without other cookies is removed whole.
pub(super) fn strip(fields: &mut Fields) {
    if !fields.all(b"cookie").any(|value| pairs(value).any(is_ours)) {
        return;
    }
    let mut kept = Fields::new();
    for (name, value) in fields.iter() {
        if name != b"cookie" {
            kept.push(name, value);
        } else if let Some(value) = without_ours(value) {
            kept.push(name, &value);
        }
    }
    *fields = kept;
}

fn pairs(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b';')
}

/// Compares the name, with any port: another lb on this host has a cookie that opens its admin port.
fn is_ours(pair: &[u8]) -> bool {
    let Some(rest) = pair.trim_ascii_start().strip_prefix(ADMIN_COOKIE.as_bytes()) else { return false };
    let port = rest.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii_end();
    !port.is_empty() && port.iter().all(u8::is_ascii_digit)
}

/// `None` if nothing is left.
fn without_ours(value: &[u8]) -> Option<Vec<u8>> {
    if !pairs(value).any(is_ours) {
        return Some(value.to_vec());
    }
    let others: Vec<&[u8]> = pairs(value).filter(|pair| !is_ours(pair)).collect();
    let kept = others.join(&b';').trim_ascii().to_vec();
    (!kept.is_empty()).then_some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(values: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut fields = Fields::new();
        values.iter().for_each(|value| fields.push(b"Cookie", value));
        strip(&mut fields);
        fields.all(b"cookie").map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn our_cookie_is_removed_at_any_place_and_the_rest_stays_byte_for_byte() {
        let cases: [(&[u8], Option<&[u8]>); 14] = [
            (b"lb_session_8081=f00", None),
            (b"lb_session_8081 = f00", None),
            (b"lb_session=f00; lb_session_id=1", Some(b"lb_session=f00; lb_session_id=1")),
            (b"lb_session_8081=f00;", None),
            (b"lb_session_8081=f00;lb_session_9=1", None),
            (b"lb_session_8081=f00; a=1", Some(b"a=1")),
            (b"a=1; lb_session_8081=f00", Some(b"a=1")),
            (b"a=1 ;lb_session_8081=f00", Some(b"a=1")),
            (b"a=1; lb_session_8081=f00; b=\"2 \xe9\"", Some(b"a=1; b=\"2 \xe9\"")),
            (b"a=1;lb_session_8081=f00;  b=2;", Some(b"a=1;  b=2;")),
            (b"a ; xlb_session=1", Some(b"a ; xlb_session=1")),
            (b"a=lb_session_8081=f00", Some(b"a=lb_session_8081=f00")),
            (b"LB_SESSION=1", Some(b"LB_SESSION=1")),
            (b"", Some(b"")),
        ];
        for (value, wanted) in cases {
            assert_eq!(stripped(&[value]), Vec::from_iter(wanted), "{}", value.escape_ascii());
        }
    }

    #[test]
    fn each_of_several_fields_is_looked_at_and_stays_in_its_place() {
        let several: &[&[u8]] = &[b"a=1", b"lb_session_8081=f00", b"b=2; lb_session_9=1", b"c=3"];
        assert_eq!(stripped(several), [&b"a=1"[..], b"b=2", b"c=3"]);
        assert!(stripped(&[]).is_empty());
        let fields = |cookie| [("host", "a"), ("cookie", cookie), ("x", "y")].into_iter().collect::<Fields>();
        let mut given = fields("a=1; lb_session_8081=f00");
        strip(&mut given);
        assert_eq!(given, fields("a=1"));
    }
}

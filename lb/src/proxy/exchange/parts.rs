//! A request's head in the form of the crate `http`, for the three course routes: the admin port's guard works on that
//! form.

use http::{HeaderName, HeaderValue, Request, Uri, request};

use crate::http1::RequestHead;
use crate::proxy::fault::Fault;

/// Copies a head. If the crate `http` is stricter than the parser, the request is refused.
pub(in crate::proxy) fn parts_of(head: &RequestHead) -> Result<request::Parts, Fault> {
    let uri = Uri::try_from(head.target.as_str())
        .map_err(|_| Fault::BadRequest("the request's target is not one that a course route can have"))?;
    let (mut parts, ()) = Request::new(()).into_parts();
    (parts.method, parts.uri, parts.version) = (head.method.clone(), uri, head.version);
    for (name, value) in head.fields.iter() {
        let name = HeaderName::from_bytes(name).map_err(|_| Fault::BadRequest("a header's name is not a token"))?;
        let value = HeaderValue::from_bytes(value)
            .map_err(|_| Fault::BadRequest("a header's value has a byte that none may have"))?;
        parts
            .headers
            .try_append(name, value)
            .map_err(|_| Fault::BadRequest("the request has too many headers for a course route"))?;
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use http::{Method, Version};

    use super::*;
    use crate::http1::Target;

    fn head(target: &str) -> RequestHead {
        let mut set = Target::default();
        set.set(target).unwrap();
        let fields = [("Host", "a:1"), ("x", "1"), ("y", "é"), ("X", "2")].into_iter().collect();
        RequestHead { method: Method::POST, target: set, version: Version::HTTP_10, fields }
    }

    #[test]
    fn all_of_a_head_is_copied() {
        let parts = parts_of(&head("http://b/rep?x=1")).unwrap();
        assert_eq!((parts.method, parts.version), (Method::POST, Version::HTTP_10));
        assert_eq!(parts.uri, "http://b/rep?x=1");
        let fields: Vec<_> = parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(fields, [("host", &b"a:1"[..]), ("x", b"1"), ("x", b"2"), ("y", "é".as_bytes())]);
    }

    #[test]
    fn a_target_that_the_guard_cannot_read_is_refused() {
        let fault = parts_of(&head(&format!("/rep?{}", "x".repeat(1 << 16)))).unwrap_err();
        assert_eq!(fault.status(), 400);
    }
}

//! `GET /explain`: parses the query into the request to explain.
//!
//! Invariant: a parameter that is unknown or malformed is refused with a sentence, never ignored. Otherwise the
//! response would explain another request than the one meant.

use http::{HeaderName, HeaderValue, StatusCode};

use super::answer::Answer;
use super::query::pairs;
use crate::control::{ExplainRequest, Handle};
use crate::http1::is_host;

pub(super) async fn answer(handle: &Handle, query: Option<&str>) -> Answer {
    match parse(query) {
        Ok(request) => handle.explain(request).await.map_or_else(Answer::from, |explained| Answer::json(&explained)),
        Err(sentence) => Answer::failure(StatusCode::BAD_REQUEST, &sentence),
    }
}

/// `key`, `pool`, `host`, `path`, `body` and `client_ip` at most once each, `header=NAME:VALUE` any number of times.
fn parse(query: Option<&str>) -> Result<ExplainRequest, String> {
    let mut request = ExplainRequest::default();
    let mut seen = Vec::new();
    for (name, value) in pairs(query)? {
        if name != "header" && seen.contains(&name) {
            return Err(format!("{name} is given twice"));
        }
        match name.as_str() {
            "key" => request.key = Some(value.into_bytes()),
            "pool" => request.pool = Some(value),
            "host" => {
                if !is_host(value.as_bytes()) {
                    return Err(format!("{value:?} is no host"));
                }
                request.fields.set(b"host", value.as_bytes());
            }
            "path" => {
                if !value.starts_with('/') {
                    return Err(format!("path is {value:?}: it begins with / and may have a query"));
                }
                request.target.set(&value).map_err(|sentence| format!("path is {value:?}: {sentence}"))?;
            }
            "body" => request.body = value.into_bytes(),
            "client_ip" => {
                request.client_ip = value.parse().map_err(|_| format!("client_ip is {value:?}: no IP address"))?;
            }
            "header" => {
                let pair = value.split_once(':').and_then(|(name, value)| {
                    let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
                    Some((name, HeaderValue::from_str(value.trim()).ok()?))
                });
                let (name, value) = pair.ok_or_else(|| format!("header is {value:?}: write NAME:VALUE"))?;
                request.fields.push(name.as_str().as_bytes(), value.as_bytes());
            }
            other => {
                return Err(format!(
                    "unknown parameter {other:?}; known here: key, pool, host, path, body, client_ip, header (NAME:VALUE)"
                ));
            }
        }
        seen.push(name);
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_describes_an_imagined_request() {
        let query = "key=a%20b&pool=p&host=a.test&path=/x%3Fuser%3D1&client_ip=10.1.2.3&body=%7B%0A%7D&\
                     header=x-key:%20k&header=x-key:l";
        let request = parse(Some(query)).unwrap();
        assert_eq!((request.key.as_deref(), request.pool.as_deref()), (Some(&b"a b"[..]), Some("p")));
        assert_eq!((request.target.as_str(), request.client_ip), ("/x?user=1", [10, 1, 2, 3].into()));
        assert_eq!(request.fields.get(b"host"), Some(&b"a.test"[..]));
        assert_eq!(request.fields.all(b"x-key").collect::<Vec<_>>(), [b"k", b"l"]);
        assert_eq!(request.body, b"{\n}");
        assert_eq!(parse(None).unwrap().key, None);
    }

    #[test]
    fn an_unknown_or_malformed_parameter_is_refused() {
        for (query, part) in [
            ("keey=a", "\"keey\""),
            ("key=a&key=b", "twice"),
            ("path=x", "begins with /"),
            ("path=http://a/b", "begins with /"),
            ("path=/a%20b", "an invalid byte"),
            ("host=a/b", "no host"),
            ("client_ip=a.b", "no IP address"),
            ("header=x", "NAME:VALUE"),
            ("header=x%20y:z", "NAME:VALUE"),
            ("host=a%0ab", "no host"),
            ("key=%zz", "%zz"),
        ] {
            assert!(parse(Some(query)).unwrap_err().contains(part), "{query}");
        }
    }
}

//! `/openapi.json` over a real socket, held to what the admin port serves.

use serde_json::Value;

use lb_test_support::{Balancer, backends, get, mock, send};

const STRATEGY: &str = "[strategy]\nname = \"round_robin\"\n";

#[test]
fn a_method_is_served_if_and_only_if_the_document_has_it() {
    let server = mock("1");
    let balancer = Balancer::start(&(STRATEGY.to_owned() + &backends(&[("b1", server.addr)])));
    let answer = get(balancer.admin, "/openapi.json");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let document = answer.json();
    assert_eq!(
        (&document["openapi"], &document["info"]["version"]),
        (&"3.1.1".into(), &env!("CARGO_PKG_VERSION").into())
    );
    let paths = document["paths"].as_object().unwrap();
    for (path, item) in paths {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"] {
            let is_described = item.get(method.to_ascii_lowercase()).is_some();
            // The event stream has no end. Its other methods show that the route exists.
            if path == "/events" && is_described {
                continue;
            }
            let answer = send(balancer.admin, method, &path.replace("{id}", "b1"), &[], "");
            assert_eq!(answer.status != 405, is_described, "{method} {path}: {}", answer.status);
            let is_known =
                |status: u16| item[method.to_ascii_lowercase()]["responses"].get(status.to_string()).is_some();
            assert!(!is_described || is_known(answer.status), "{method} {path}: {} is not described", answer.status);
        }
    }
    // The index is written by hand, and names the same routes.
    let index = get(balancer.admin, "/").body;
    let named = index.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    for path in named.filter(|word| !word.contains('…')) {
        assert!(paths.contains_key(path), "{path} is in the index and not in the document");
    }
}

#[test]
fn responses_have_no_key_that_the_document_lacks() {
    let server = mock("1");
    let balancer = Balancer::start(&(STRATEGY.to_owned() + &backends(&[("b1", server.addr)])));
    let document = get(balancer.admin, "/openapi.json").json();
    for path in ["/status", "/backends", "/strategies", "/ring", "/explain", "/rep"] {
        let schema = &document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        compare(&document, schema, &get(balancer.admin, path).json(), path);
    }
}

/// Fails at a key of `value` that `schema` does not name.
fn compare(document: &Value, schema: &Value, value: &Value, place: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        return compare(document, document.pointer(&reference[1..]).unwrap(), value, place);
    }
    // `Option` of a definition.
    if let Some(other) = schema["anyOf"].as_array().and_then(|list| list.iter().find(|one| one.get("$ref").is_some())) {
        if !value.is_null() {
            compare(document, other, value, place);
        }
        return;
    }
    if let (Some(object), Some(properties)) = (value.as_object(), schema["properties"].as_object()) {
        for (key, value) in object {
            let place = format!("{place}.{key}");
            compare(document, properties.get(key).unwrap_or_else(|| panic!("{place} is not described")), value, &place);
        }
    }
    for value in value.as_array().into_iter().flatten() {
        compare(document, &schema["items"], value, place);
    }
}

//! Ids of requests: lb creates a missing `x-request-id`, and never creates or changes `traceparent`.

use std::collections::HashSet;

use lb_test_support::{closed_address, mock, request};

use crate::support::Setup;

#[test]
fn every_request_has_one_id_at_client_and_backend() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).with(|setup| setup.settings.request_id = true).start();
    let mut client = lb.client();
    let mut made = HashSet::new();
    for _ in 0..300 {
        let answer = client.get("/headers");
        let id = answer.field("x-request-id").unwrap();
        assert_eq!(answer.seen("x-request-id"), Some(id.clone()), "the backend gets the same id");
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        assert!(made.insert(id));
    }
    lb.comes_to_rest();
}

#[test]
fn a_valid_id_from_a_client_is_kept() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).with(|setup| setup.settings.request_id = true).start();
    let longest = "x".repeat(128);
    for own in ["a", "Root=1-67891233-abcdef012345678912345678", &longest] {
        let answer = lb.client().ask("GET", "/headers", &[&format!("X-Request-ID: {own}")]);
        assert_eq!(
            (answer.field("x-request-id").as_deref(), answer.seen("x-request-id").as_deref()),
            (Some(own), Some(own))
        );
    }
    // A client may declare its own headers as hop-by-hop. lb sets this header itself, so Connection cannot remove it.
    let answer = lb.client().ask("GET", "/headers", &["x-request-id: mine", "connection: x-request-id"]);
    assert_eq!(answer.seen("x-request-id").as_deref(), Some("mine"));
    let too_long = format!("x-request-id: {}", "x".repeat(129));
    for unfit in [
        &["x-request-id: a b"][..],
        &["x-request-id:"],
        &["x-request-id: é"],
        &[&too_long],
        &["x-request-id: a", "x-request-id: b"],
    ] {
        let answer = lb.client().ask("GET", "/headers", unfit);
        let id = answer.field("x-request-id").unwrap();
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{unfit:?}: {id}");
        assert_eq!(answer.seen("x-request-id"), Some(id), "{unfit:?}");
    }
    lb.comes_to_rest();
}

#[test]
fn responses_made_by_lb_have_the_id() {
    let lb = Setup::new(&[closed_address()]).with(|setup| setup.settings.request_id = true).start();
    let answer = lb.client().ask("GET", "/", &["x-request-id: mine"]);
    answer.is_own(502, "connect");
    assert_eq!(answer.field("x-request-id").as_deref(), Some("mine"));
    let mut client = lb.client();
    client.send(&request("POST", "/", &["transfer-encoding: gzip, chunked"]));
    assert!(client.answer().field("x-request-id").is_some());
}

#[test]
fn without_the_option_no_id_is_made_or_changed() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    let answer = lb.client().get("/headers");
    assert_eq!((answer.field("x-request-id"), answer.seen("x-request-id")), (None, None));
    let answer = lb.client().ask("GET", "/headers", &["x-request-id: a b"]);
    assert_eq!(answer.seen("x-request-id").as_deref(), Some("a b"));
}

#[test]
fn a_traceparent_passes_unchanged_and_is_never_made() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    for given in ["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "nonsense", "00-0-0-0"] {
        let fields = [&*format!("traceparent: {given}"), "tracestate: a=1,b=2"];
        let answer = lb.client().ask("GET", "/headers", &fields);
        assert_eq!(answer.seen("traceparent").as_deref(), Some(given));
        assert_eq!(answer.seen("tracestate").as_deref(), Some("a=1,b=2"));
        assert_eq!(answer.field("traceparent"), None);
    }
    let mut client = lb.client();
    client.send(&request("GET", "/headers", &[]));
    assert_eq!(client.answer().seen("traceparent"), None);
}

//! `x-lb-explain: 1`: the response says which backend was picked and why, if the option is on.

use lb::config::KeySource;
use lb_test_support::{closed_address, mock};

use crate::support::{DOWN, Setup, strategy};

const ASK: &str = "x-lb-explain: 1";

#[test]
fn only_a_request_with_the_header_gets_an_explanation() {
    let servers = ["1", "2"].map(mock);
    let lb = Setup::of(&servers.each_ref()).with(|setup| setup.settings.explain_header = true).start();
    let mut client = lb.client();
    let said = client.ask("GET", "/home", &[ASK]).field("x-lb-explain").unwrap();
    assert!(
        ["b1", "b2"]
            .map(|backend| format!(
                "pool=default; strategy=round_robin; backend={backend}; generation=1; attempt=1; reason=strategy"
            ))
            .contains(&said),
        "{said}"
    );
    assert_eq!(client.get("/home").field("x-lb-explain"), None);
    assert_eq!(client.ask("GET", "/home", &["x-lb-explain: yes"]).field("x-lb-explain"), None);
    lb.comes_to_rest();
}

#[test]
fn without_the_option_no_request_gets_an_explanation() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    assert_eq!(lb.client().ask("GET", "/home", &[ASK]).field("x-lb-explain"), None);
}

#[test]
fn the_explanation_names_the_key_and_the_reason_of_a_fallback() {
    let servers = ["1", "2"].map(mock);
    let lb = Setup::of(&servers.each_ref())
        .with(|setup| {
            setup.settings.explain_header = true;
            setup.pools[0].strategy = strategy("consistent_hash");
            setup.pools[0].hash_on = vec![KeySource::Header("x-key".parse().unwrap())];
        })
        .start();
    let said = lb.client().ask("GET", "/home", &[ASK, "x-key: a;\"é"]).field("x-lb-explain").unwrap();
    assert!(said.contains("; key=a%3B%22%C3%A9; reason=strategy"), "{said}");
    let said = lb.client().ask("GET", "/home", &[ASK]).field("x-lb-explain").unwrap();
    assert!(!said.contains("key=") && said.ends_with("; reason=fallback no_key"), "{said}");
    // The picker still uses its old list and picks b1 for some keys. The live flag refuses that pick.
    lb.backends[0].set_eligibility(DOWN);
    let picked = (0..20).find_map(|key| {
        let said = lb.client().ask("GET", "/home", &[ASK, &format!("x-key: {key}")]).field("x-lb-explain").unwrap();
        assert!(said.contains("backend=b2;"), "{said}");
        said.ends_with("reason=fallback not_eligible").then_some(())
    });
    assert!(picked.is_some(), "none of 20 keys belongs to the backend that is down");
    lb.backends[1].set_eligibility(DOWN);
    let answer = lb.client().ask("GET", "/home", &[ASK]);
    answer.is_own(503, "no_backend");
    let said = answer.field("x-lb-explain").unwrap();
    assert_eq!(said, "pool=default; strategy=consistent_hash; generation=1; attempt=0; reason=no_backend");
}

#[test]
fn a_failure_and_a_second_attempt_are_explained() {
    let server = mock("1");
    let lb = Setup::new(&[closed_address(), server.addr]).with(|setup| setup.settings.explain_header = true).start();
    let said: Vec<_> = (0..2).map(|_| lb.client().ask("GET", "/home", &[ASK]).field("x-lb-explain").unwrap()).collect();
    assert!(said.iter().any(|said| said.contains("backend=b2; generation=1; attempt=2")), "{said:?}");
    drop(server);
    let answer = lb.client().ask("GET", "/home", &[ASK]);
    answer.is_own(502, "connect");
    let said = answer.field("x-lb-explain").unwrap();
    assert!(said.contains("attempt=2") && said.ends_with("reason=connect"), "{said}");
}

//! `GET /explain` and `lb explain`: where a request would go, without sending it.

use std::collections::BTreeSet;

use lb_test_support::{Balancer, Client, backends, finish, get, mock, send, wait_until};
use mock_server::Change;
use serde_json::Value;

const RING: &str = "[strategy]\nname = \"consistent_hash\"\nhash_on = [\"header:x-key\", \"path\"]\n";

fn explained(balancer: &Balancer, query: &str) -> Value {
    let answer = get(balancer.admin, &format!("/explain?{query}"));
    assert_eq!(answer.status, 200, "{query}: {}", answer.body);
    answer.json()
}

/// The lines of the metrics that a real request would change.
fn counts(balancer: &Balancer) -> Vec<String> {
    let counted =
        ["lb_strategy_picks_total", "lb_strategy_fallbacks_total", "lb_requests_total", "lb_backend_requests"];
    let page = get(balancer.admin, "/metrics").body;
    page.lines().filter(|line| counted.iter().any(|name| line.starts_with(name))).map(str::to_owned).collect()
}

#[test]
fn explain_names_the_backend_that_serves_the_request() {
    let servers = ["1", "2", "3"].map(mock);
    let ids = ["b1", "b2", "b3"];
    let addresses: Vec<_> = ids.into_iter().zip(servers.each_ref().map(|server| server.addr)).collect();
    let config = format!("{RING}{}[proxy]\nexplain_header = true\n", backends(&addresses));
    let balancer = Balancer::start(&config);
    let mut seen = BTreeSet::new();
    for key in 0..40 {
        let answer = explained(&balancer, &format!("key={key}"));
        let backend = answer["backend"].as_str().unwrap().to_owned();
        let fields = [&*format!("x-key: {key}"), "x-lb-explain: 1"];
        let sent = send(balancer.proxy, "GET", "/home", &fields, "");
        let told = sent.header("x-lb-explain").unwrap();
        assert!(told.contains(&format!("; backend={backend}; ")), "{key}: {told}");
        assert_eq!(answer["strategy_says"]["backend"], *backend, "{answer}");
        assert_eq!(answer["strategy_says"]["position"], answer["hash"], "{answer}");
        assert_eq!((&answer["picked_by"], &answer["reason"]), (&"strategy".into(), &Value::Null));
        seen.insert(backend);
    }
    assert_eq!(seen.len(), 3, "forty keys reach all three backends");
    // From the parts of a request, lb computes the same key as from a real request.
    let by_header = explained(&balancer, "header=x-key:17&path=/other");
    assert_eq!(by_header["hash"], explained(&balancer, "key=17")["hash"]);
    let by_path = explained(&balancer, "path=/a/b?c%3Dd");
    assert_eq!((by_path["key"].as_str(), &by_path["hash"]), (Some("/a/b"), &explained(&balancer, "key=/a/b")["hash"]));

    let owner = explained(&balancer, "key=17")["backend"].as_str().unwrap().to_owned();
    assert_eq!(send(balancer.admin, "POST", &format!("/backends/{owner}/drain"), &[], "").status, 200);
    let after = explained(&balancer, "key=17");
    assert_ne!(after["backend"], *owner);
    assert_eq!(after["strategy_says"]["walked_over"], serde_json::json!([owner]));
    let eligible: Vec<&str> = ids.into_iter().filter(|id| *id != owner).collect();
    assert_eq!(after["eligible"], serde_json::json!(eligible));
}

#[test]
fn explain_takes_a_body_for_a_strategy_that_picks_by_it() {
    let servers = ["1", "2", "3"].map(mock);
    let addresses: Vec<_> = ["b1", "b2", "b3"].into_iter().zip(servers.each_ref().map(|server| server.addr)).collect();
    let strategy = "[strategy]\nname = \"prefix_affinity\"\n[proxy]\nexplain_header = true\n";
    let balancer = Balancer::start(&format!("{strategy}{}", backends(&addresses)));
    let mut seen = BTreeSet::new();
    for number in 0..30 {
        let body = format!("body{number}").repeat(number + 1);
        let backend = explained(&balancer, &format!("body={body}"))["backend"].as_str().unwrap().to_owned();
        let sent = send(balancer.proxy, "POST", "/home", &["x-lb-explain: 1"], &body);
        let told = sent.header("x-lb-explain").unwrap();
        assert!(told.contains(&format!("; backend={backend}; ")), "{number}: {told}");
        seen.insert(backend);
    }
    assert_eq!(seen.len(), 3, "thirty bodies reach all three backends");
    let without = explained(&balancer, "");
    assert_eq!((&without["picked_by"], &without["reason"]), (&"fallback".into(), &"undecided".into()));
}

#[test]
fn explain_uses_the_limit_of_the_pool() {
    let server = mock("1");
    let pool = format!("[[pools.api.backends]]\nid = \"a1\"\naddress = \"{}\"\n", server.addr);
    let limit = "[pools.api.limits]\nrequests_in_flight_per_backend = 1\n";
    let route = "[[routes]]\nhost = \"api.test\"\npool = \"api\"\n";
    let balancer = Balancer::start(&format!("{}{pool}{limit}{route}", backends(&[("b1", server.addr)])));
    server.change(&Change { stall: Some(true), ..Change::default() }).unwrap();
    let mut client = Client::connect(balancer.proxy);
    client.send(b"GET /home HTTP/1.1\r\nhost: api.test\r\n\r\n");
    wait_until("the request to be at the server", || server.stats().in_progress == 1);
    for query in ["pool=api", "host=api.test"] {
        let answer = explained(&balancer, query);
        assert_eq!((&answer["backend"], &answer["reason"]), (&Value::Null, &"overload".into()), "{query}");
    }
    assert_eq!(explained(&balancer, "path=/")["backend"], "b1", "the pool default has no limit");
}

#[test]
fn explain_changes_no_state() {
    let servers = ["1", "2", "3"].map(mock);
    let addresses: Vec<_> = ["b1", "b2", "b3"].into_iter().zip(servers.each_ref().map(|server| server.addr)).collect();
    let balancer = Balancer::start(&format!("[strategy]\nname = \"round_robin\"\n{}", backends(&addresses)));
    assert_eq!(get(balancer.proxy, "/home").status, 200);
    let before = counts(&balancer);
    let next = explained(&balancer, "key=a")["backend"].as_str().unwrap().to_owned();
    for _ in 0..10 {
        let answer = explained(&balancer, "");
        assert_eq!(answer["backend"], *next, "only a real request advances the turn");
        assert_eq!((&answer["hash"], &answer["strategy_says"]), (&Value::Null, &Value::Null));
        assert!(answer["backends"].as_array().unwrap().iter().all(|backend| backend["in_flight"] == 0), "{answer}");
    }
    assert_eq!(counts(&balancer), before);
    let served = get(balancer.proxy, "/home");
    let number = next.trim_start_matches('b');
    assert!(served.body.contains(&format!("Server: {number}")), "{next}: {}", served.body);
}

#[test]
fn explain_finds_pools_by_name_or_by_route_and_refuses_mistakes() {
    let server = mock("1");
    let config = format!(
        "[strategy]\nname = \"round_robin\"\n[pools.api.strategy]\nname = \"least_connections\"\n[[pools.api.backends]]\n\
         id = \"a1\"\naddress = \"{}\"\n[[routes]]\nhost = \"api.test\"\npath = \"/v1\"\npool = \"api\"\n",
        server.addr
    );
    let balancer = Balancer::start(&config);
    let routed = explained(&balancer, "host=api.test:80&path=/v1/x");
    assert_eq!((&routed["pool"], &routed["backend"]), (&"api".into(), &"a1".into()), "{routed}");
    assert_eq!(explained(&balancer, "pool=api")["backend"], "a1");
    let empty = explained(&balancer, "host=api.test&path=/v2");
    assert_eq!(
        (&empty["pool"], &empty["backend"], &empty["reason"]),
        (&"default".into(), &Value::Null, &"no_backend".into())
    );
    let missing = get(balancer.admin, "/explain?pool=none");
    assert_eq!((missing.status, missing.body.contains("there is no pool")), (404, true), "{}", missing.body);
    assert_eq!(get(balancer.admin, "/explain?keey=1").status, 400);
    assert_eq!(send(balancer.admin, "POST", "/explain", &[], "").status, 405);
}

#[test]
fn a_path_that_no_request_may_have_is_not_explained() {
    let server = mock("1");
    let config = format!("{RING}{}[[routes]]\npath = \"/v1\"\npool = \"default\"\n", backends(&[("b1", server.addr)]));
    let balancer = Balancer::start(&config);
    // In the query, %25 stands for the path's own %.
    for (path, says) in [
        ("/v1/..%252fx", "beside an encoded separator"),
        ("/v1/..;/x", "beside an encoded separator"),
        ("/v1/%2500", "zero byte"),
        ("/100%25", "two hexadecimal digits"),
    ] {
        let answer = get(balancer.admin, &format!("/explain?path={path}"));
        assert!(answer.status == 400 && answer.body.contains(says), "{path}: {} {}", answer.status, answer.body);
        let request = path.replace("%25", "%");
        assert_eq!(get(balancer.proxy, &request).status, 400, "{request}: the proxy refuses the same path");
    }
    assert_eq!(explained(&balancer, "path=//v1/./x")["backend"], "b1");
}

#[test]
fn the_explain_command_asks_the_running_lb() {
    let server = mock("1");
    let balancer = Balancer::start(&format!("{RING}{}", backends(&[("b1", server.addr)])));
    let admin = balancer.admin.to_string();
    let ask = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lb"));
        command.env_clear().args(["--config", "none.toml", "--admin-listen", &admin, "explain"]).args(arguments);
        finish(command)
    };
    let said = ask(&["some key"]);
    let page = String::from_utf8(said.stdout).unwrap();
    assert!(said.status.success() && page.starts_with("a request with key \"some key\" (hash "), "{page}");
    assert!(page.lines().next().unwrap().ends_with("would go to b1") && page.contains("consistent_hash"), "{page}");
    let json: Value = serde_json::from_slice(&ask(&["--path", "/x", "--json"]).stdout).unwrap();
    assert_eq!((&json["key"], &json["backend"]), (&"/x".into(), &"b1".into()));
    let refused = ask(&["--pool", "none"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("there is no pool \"none\""));
    let mut unheard = std::process::Command::new(env!("CARGO_BIN_EXE_lb"));
    unheard.env_clear().args(["--config", "none.toml", "--admin-listen", &admin, "explain", "key"]);
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let ended = unheard.stdout(full).output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(String::from_utf8(ended.stderr).unwrap().starts_with("lb: cannot write to stdout: "));
}

//! The course's routes, byte for byte, on both ports.

use std::net::SocketAddr;

use lb_test_support::{Balancer, Reply, backends, get, mock, send};

const STRATEGY: &str = "[strategy]\nname = \"round_robin\"\n";

fn course_answers_golden_bytes(address: SocketAddr) {
    let fourth = mock("Server 4");
    let check = |answer: Reply, status: u16, body: &str| {
        assert_eq!((answer.status, answer.body.as_str()), (status, body));
        assert_eq!(answer.header("content-type"), Some("application/json"));
    };
    let post = |body: &str| send(address, "POST", "/add", &[], body);
    let delete = |body: &str| send(address, "DELETE", "/rm", &[], body);

    let three = r#"{"message":{"N":3,"replicas":["Server 1","Server 2","Server 3"]},"status":"successful"}"#;
    check(get(address, "/rep"), 200, three);
    let head = send(address, "HEAD", "/rep", &[], "");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.header("content-length"), Some(three.len().to_string().as_str()));

    let attach = format!(r#"{{"backends":[{{"id":"Server 4","address":"{}"}}]}}"#, fourth.addr);
    let four = r#"{"message":{"N":4,"replicas":["Server 1","Server 2","Server 3","Server 4"]},"status":"successful"}"#;
    check(post(&attach), 200, four);
    check(
        post(r#"{"n":1,"hostnames":["a","b"]}"#),
        400,
        r#"{"message":"<Error> Length of hostname list is more than newly added instances","status":"failure"}"#,
    );
    check(
        delete(r#"{"n":1,"hostnames":["a","b"]}"#),
        400,
        r#"{"message":"<Error> Length of hostname list is more than removable instances","status":"failure"}"#,
    );
    check(
        delete(r#"{"n":10}"#),
        400,
        r#"{"message":"<Error> At most 4 replicas can be removed, not 10","status":"failure"}"#,
    );
    check(post(r#"{"n":0}"#), 400, r#"{"message":"<Error> n must be at least 1, not 0","status":"failure"}"#);
    check(
        delete(r#"{"hostname":["Server 1"]}"#),
        400,
        r#"{"message":"<Error> unknown key \"hostname\"; known here: n, hostnames, deadline_ms","status":"failure"}"#,
    );
    for body in ["", "{", "[]", r#"{"n":"1"}"#, r#"{"n":1,"hostnames":"x"}"#] {
        let answer = delete(body);
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.body.starts_with(r#"{"message":"<Error> "#), "{}", answer.body);
        assert!(answer.body.ends_with(r#"","status":"failure"}"#), "{}", answer.body);
    }
    let without_launcher = post(r#"{"n":1}"#);
    assert_eq!(without_launcher.status, 400, "{}", without_launcher.body);
    check(get(address, "/rep"), 200, four);

    check(delete(r#"{"n":1,"hostnames":["Server 4"]}"#), 200, three);
    let two = delete(r#"{"n":1,"hostnames":["Server 2"]}"#);
    check(two, 200, r#"{"message":{"N":2,"replicas":["Server 1","Server 3"]},"status":"successful"}"#);

    for (method, path, allow) in [("DELETE", "/rep", "GET, HEAD"), ("GET", "/add", "POST"), ("POST", "/rm", "DELETE")] {
        let answer = send(address, method, path, &[], "");
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{method} {path}");
        assert_eq!(answer.body, format!(r#"{{"message":"<Error> {path} takes {allow}","status":"failure"}}"#));
    }
}

#[test]
fn the_course_routes_return_the_bytes_of_the_course_sheet_on_the_admin_port() {
    let servers = ["Server 1", "Server 2", "Server 3"].map(|id| (id, mock(id)));
    let config = STRATEGY.to_owned() + &backends(&servers.each_ref().map(|(id, server)| (*id, server.addr)));
    course_answers_golden_bytes(Balancer::start(&config).admin);
}

#[test]
fn the_course_routes_return_the_same_bytes_on_the_proxy_port_if_configured() {
    let servers = ["Server 1", "Server 2", "Server 3"].map(|id| (id, mock(id)));
    let config = STRATEGY.to_owned()
        + "[course]\non_proxy_port = true\n"
        + &backends(&servers.each_ref().map(|(id, server)| (*id, server.addr)));
    let balancer = Balancer::start(&config);
    course_answers_golden_bytes(balancer.proxy);
    assert_eq!(get(balancer.proxy, "/home").status, 200, "other paths go to the backends");
}

#[test]
fn without_the_option_the_proxy_port_forwards_the_course_routes() {
    let server = mock("1");
    let balancer = Balancer::start(&(STRATEGY.to_owned() + &backends(&[("b1", server.addr)])));
    assert_eq!(get(balancer.proxy, "/rep").header("x-server-id"), Some("1"));
}

//! The live page over real sockets: access to it, the content of its events, and the cookie in place of the token.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use lb_test_support::{Balancer, PATIENCE, Reply, TOKEN, backends, get, mock, send, wait_until};
use serde_json::Value;

const CONFIG: &str = "[strategy]\nname = \"round_robin\"\n";
const BROWSER: &str = "accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

/// A stream of events.
pub(crate) struct Events(BufReader<TcpStream>);

// === impl Events ===

impl Events {
    pub(crate) fn open(admin: SocketAddr, headers: &[&str]) -> Self {
        let stream = TcpStream::connect(admin).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        // An HTTP/1.0 response has no chunked encoding.
        write!(&stream, "GET /events HTTP/1.0\r\nhost: {admin}\r\n{lines}\r\n").unwrap();
        Self(BufReader::new(stream))
    }

    /// The next line, without its line end; `None` at the end of the stream.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.0.read_line(&mut line).unwrap();
        (read > 0).then(|| line.trim_end().to_owned())
    }

    /// The next event's data; `None` at the end of the stream.
    fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(data) = self.line()?.strip_prefix("data: ") {
                return Some(serde_json::from_str(data).unwrap());
            }
        }
    }

    /// The next event's number and data.
    fn numbered(&mut self) -> (u64, Value) {
        loop {
            if let Some(number) = self.line().expect("the stream goes on").strip_prefix("id: ") {
                return (number.parse().unwrap(), self.next().unwrap());
            }
        }
    }

    /// Reads events until `is_wanted` accepts one, and returns it.
    pub(crate) fn until(&mut self, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let event = self.next().unwrap_or_else(|| panic!("the stream ended before {what}"));
            if is_wanted(&event) {
                return event;
            }
            assert!(std::time::Instant::now() < deadline, "{what} did not come; the last event: {event}");
        }
    }
}

fn with_token(config: &str) -> Balancer {
    let folder = lb_test_support::folder(config);
    std::fs::write(folder.path().join("token"), format!("{TOKEN}\n")).unwrap();
    Balancer::start_in(folder, &["--set", "admin.token_file=token"])
}

/// `name=value` of the cookie that a response sets.
fn cookie(answer: &Reply) -> String {
    answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
}

#[test]
fn a_browser_gets_the_page_and_a_program_gets_the_text() {
    let balancer = Balancer::start(CONFIG);
    let page = send(balancer.admin, "GET", "/", &[BROWSER], "");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
    assert!(page.body.starts_with("<!doctype html>") && page.body.contains("EventSource"));
    for accept in ["accept: */*", "accept: text/plain", "x-none: 1"] {
        let text = send(balancer.admin, "GET", "/", &[accept], "");
        assert_eq!((text.status, text.header("content-type")), (200, Some("text/plain; charset=utf-8")), "{accept}");
        assert!(text.body.contains("GET  /events") && text.header("vary") == Some("accept"));
    }
    assert_eq!(send(balancer.admin, "HEAD", "/events", &[], "").status, 405);
}

#[test]
fn events_have_the_labels_of_backends_that_have_some() {
    let server = mock("a");
    let list =
        backends(&[("a", server.addr)]) + "labels = { zone = \"z\", n = 1 }\n" + &backends(&[("b", server.addr)]);
    let balancer = Balancer::start(&format!("{CONFIG}{list}"));
    let mut events = Events::open(balancer.admin, &[]);
    let told = events.until("the backends", |event| event["pools"][0]["backends"].as_array().unwrap().len() == 2);
    let labels = |index: usize| told["pools"][0]["backends"][index].get("labels");
    assert_eq!((labels(0), labels(1)), (Some(&"n=1 zone=z".into()), None));
}

#[test]
fn events_report_requests_and_a_swap() {
    let servers = [mock("a"), mock("b")];
    let list = backends(&[("a", servers[0].addr), ("b", servers[1].addr)]);
    let balancer = Balancer::start(&format!("{CONFIG}{list}"));
    let mut events = Events::open(balancer.admin, &[]);
    events.until("the backends", |event| event["pools"][0]["backends"].as_array().unwrap().len() == 2);
    for _ in 0..6 {
        assert_eq!(get(balancer.proxy, "/home").status, 200);
    }
    let told = events.until("six requests", |event| event["requests"] == 6);
    let pool = &told["pools"][0];
    assert_eq!((&pool["strategy"], &told["errors"], &told["in_flight"]), (&"round_robin".into(), &0.into(), &0.into()));
    for backend in pool["backends"].as_array().unwrap() {
        assert_eq!((&backend["responses"], &backend["weight"]), (&3.into(), &1.into()), "{backend}");
        assert!(backend["p50_ms"].as_f64() <= backend["p99_ms"].as_f64() && backend["p50_ms"].is_f64(), "{backend}");
    }
    assert!(told["p50_ms"].as_f64() > Some(0.0), "{told}");
    assert!(get(balancer.admin, "/metrics").body.contains("code=\"200\"} 6\n"), "the metrics have the same number");

    let other = r#"{"strategy":{"name":"least_connections"}}"#;
    assert_eq!(send(balancer.admin, "POST", "/reload", &[], other).status, 200);
    let told = events.until("the swap", |event| event["pools"][0]["strategy"] == "least_connections");
    assert_eq!(
        (&told["pools"][0]["swaps"]["strategy"], &told["reload"]["overridden"][0]),
        (&1.into(), &"default".into())
    );
    let refused = send(balancer.admin, "POST", "/reload", &[], r#"{"strategy":{"name":"none"}}"#);
    assert_eq!(refused.status, 422);
    let told = events.until("the refusal", |event| event["reload"]["refused"] == 1);
    assert_eq!(told["reload"]["last"]["stage"], "find");

    // A stream that opens later begins with the first event of the history.
    let first = Events::open(balancer.admin, &[]).next().unwrap();
    assert_eq!(first["requests"], 0, "{first}");
    let after = Events::open(balancer.admin, &["last-event-id: 1"]).until("the events after id 1", |_| true);
    assert!(after["at"].as_u64() > first["at"].as_u64());
    assert!(after["uptime_s"].as_f64() > first["uptime_s"].as_f64(), "the uptime tells new events from old ones");
    assert!(after["run"].is_u64() && after["run"] == first["run"]);
}

#[test]
fn with_more_than_256_backends_lb_records_only_for_viewers() {
    let server = mock("a");
    let ids: Vec<_> = (0..257).map(|number| format!("b{number}")).collect();
    let list: Vec<_> = ids.iter().map(|id| (id.as_str(), server.addr)).collect();
    let quiet = "[health]\ninterval_ms = 86400000\n";
    let balancer = Balancer::start(&format!("{CONFIG}{quiet}{}", backends(&list)));
    let uptime = || get(balancer.admin, "/status").json()["uptime_s"].as_f64().unwrap();
    // The first look finds how many there are, and the second one is a second later.
    wait_until("some seconds without a page", || uptime() > 4.0);
    let mut events = Events::open(balancer.admin, &[]);
    let (number, first) = events.numbered();
    assert!(first["uptime_s"].as_f64() > Some(4.0), "no past was recorded: {}", first["uptime_s"]);
    assert!(number <= 2, "event {number}");
    assert_eq!(first["pools"][0]["backends"].as_array().unwrap().len(), ids.len());
    assert_eq!(get(balancer.proxy, "/home").status, 200);
    events.until("the request", |event| event["requests"] == 1);
    let (again, past) = Events::open(balancer.admin, &[]).numbered();
    assert_eq!((again, &past["uptime_s"]), (number, &first["uptime_s"]), "while a page is open, there is a past");
}

#[test]
fn events_end_when_lb_stops() {
    let mut balancer = Balancer::start(CONFIG);
    let mut events = Events::open(balancer.admin, &[]);
    assert!(events.next().is_some());
    balancer.signal("TERM");
    while events.next().is_some() {}
    assert!(balancer.end().success());
}

#[test]
fn a_browser_signs_in_with_the_token_and_signs_out() {
    let balancer = with_token(CONFIG);
    let form = send(balancer.admin, "GET", "/", &[BROWSER], "");
    assert_eq!((form.status, form.header("content-type")), (401, Some("text/html; charset=utf-8")));
    assert!(form.body.contains("action=\"/login\"") && !form.body.contains(TOKEN));
    assert_eq!(
        get(balancer.admin, "/").header("content-type"),
        Some("application/json"),
        "a program gets the error as JSON"
    );

    let origin = format!("origin: http://{}", balancer.admin);
    let wrong = send(balancer.admin, "POST", "/login", &[&origin], "token=wrong");
    assert_eq!((wrong.status, wrong.header("set-cookie")), (401, None));
    assert!(wrong.body.contains("This is not the token."));
    assert_eq!(
        get(balancer.admin, "/login").header("location"),
        Some("/"),
        "a reload of the login page leads to the page"
    );
    let foreign = send(balancer.admin, "POST", "/login", &["origin: http://evil.example"], &format!("token={TOKEN}"));
    assert_eq!((foreign.status, foreign.header("set-cookie")), (403, None));

    let right = send(balancer.admin, "POST", "/login", &[&origin], &format!("token={TOKEN}"));
    assert_eq!((right.status, right.header("location")), (303, Some("/")));
    let attributes = right.header("set-cookie").unwrap();
    assert!(attributes.contains("; HttpOnly; SameSite=Strict") && !attributes.contains(TOKEN), "{attributes}");
    let carried = format!("cookie: {}", cookie(&right));
    assert!(send(balancer.admin, "GET", "/", &[BROWSER, &carried], "").body.contains("EventSource"));
    assert_eq!(Events::open(balancer.admin, &[&carried]).next().unwrap()["guarded"], true);
    assert_eq!(send(balancer.admin, "POST", "/reload", &[&origin, &carried], "").status, 200);
    let foreign = ["origin: http://evil.example", carried.as_str()];
    assert_eq!(send(balancer.admin, "POST", "/reload", &foreign, "").status, 403);

    let out = send(balancer.admin, "POST", "/logout", &[&origin, &carried], "");
    assert_eq!(out.status, 303);
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!(send(balancer.admin, "GET", "/metrics", &[&carried], "").status, 401);
    let mut refused = Events::open(balancer.admin, &[&carried]);
    assert!(refused.line().unwrap().contains(" 401 "));
    let mut rest = String::new();
    refused.0.read_to_string(&mut rest).unwrap();
    assert!(!rest.contains("event: tick"));
}

#[test]
fn the_admin_port_accepts_a_session_and_no_backend_sees_it() {
    let server = mock("a");
    let balancer = with_token(&format!("{CONFIG}{}", backends(&[("a", server.addr)])));
    let signed_in = send(balancer.admin, "POST", "/login", &[], &format!("token={TOKEN}"));
    let session = cookie(&signed_in);
    assert!(session.starts_with(&format!("lb_session_{}=", balancer.admin.port())), "{session}");
    let seen = |fields: &[&str]| {
        let answer = send(balancer.proxy, "GET", "/headers", fields, "");
        assert_eq!(answer.status, 200);
        assert!(!answer.body.contains("lb_session"), "{}", answer.body);
        answer.body
    };
    let alone = seen(&[&format!("cookie: {session}")]);
    assert!(!alone.contains("cookie"), "{alone}");
    let among = seen(&[&format!("cookie: theme=dark; {session}; id=7"), "cookie: lb_session_1=2", "cookie: last=1"]);
    assert!(among.contains("theme=dark; id=7") && among.contains("last=1"), "{among}");
}

#[test]
fn the_ring_route_returns_arcs_for_strategies_with_a_ring() {
    let servers = [mock("a"), mock("b")];
    let list = backends(&[("a", servers[0].addr), ("b", servers[1].addr)]);
    let balancer = Balancer::start(&format!("{CONFIG}{list}"));
    let ring = |query: &str| -> Value {
        let answer = get(balancer.admin, &format!("/ring{query}"));
        assert_eq!(answer.status, 200, "{}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    };
    let none = ring("");
    assert_eq!((&none["strategy"], &none["arcs"]), (&"round_robin".into(), &Value::Null), "{none}");

    for (name, points) in [("consistent_hash", 320), ("assignment_ring", 18)] {
        let body = format!(r#"{{"strategy":{{"name":"{name}"}}}}"#);
        assert_eq!(send(balancer.admin, "POST", "/reload", &[], &body).status, 200);
        let told = ring("?pool=default");
        assert_eq!((&told["strategy"], &told["backends"]), (&name.into(), &serde_json::json!(["a", "b"])));
        assert_eq!((told["arcs"].as_array().unwrap().len(), &told["problem"]), (points, &Value::Null));
        let before = Events::open(balancer.admin, &[]).until("the epoch of the ring", |event| {
            event["pools"][0]["picker"] == serde_json::json!([told["strategy_instance"], told["members_epoch"]])
        });
        assert_eq!(before["pools"][0]["strategy"], name);
    }
    let heavier = send(balancer.admin, "POST", "/backends/a/weight", &[], r#"{"weight":2}"#);
    assert_eq!(heavier.status, 200);
    assert_eq!(send(balancer.admin, "POST", "/reload", &[], r#"{"strategy":{"name":"consistent_hash"}}"#).status, 200);
    assert_eq!(ring("")["arcs"].as_array().unwrap().len(), 480, "the points grow with the weight");

    for (query, status) in [("?pool=none", 404), ("?pol=default", 400)] {
        assert_eq!(get(balancer.admin, &format!("/ring{query}")).status, status, "{query}");
    }
}

#[test]
fn the_strategies_route_lists_each_strategy_that_can_be_named() {
    let folder = lb_test_support::folder(CONFIG);
    let plugins = folder.path().join("plugins");
    std::fs::create_dir(&plugins).unwrap();
    for name in ["round_robin", "least_connections"] {
        let built = lb_strategy_built::library(name);
        std::fs::copy(&built, plugins.join(built.file_name().unwrap())).unwrap();
    }
    // An ELF file that is no strategy, and text files with the name of a library.
    std::fs::copy("/proc/self/exe", plugins.join("other.so")).unwrap();
    std::fs::write(plugins.join("libtext.so"), "lb_strategy_entry").unwrap();
    std::fs::write(plugins.join("libbroken.so"), "lb_strategy_entry_v1 and nothing more").unwrap();
    let balancer = Balancer::start_in(folder, &["--set", &format!("plugin_dirs=[{plugins:?}]")]);
    let told: Value = serde_json::from_str(&get(balancer.admin, "/strategies").body).unwrap();
    let named: Vec<_> = told["strategies"].as_array().unwrap().iter().collect();
    let in_folder = |one: &&&Value| one["path"].as_str().unwrap().starts_with(plugins.to_str().unwrap());
    let names: Vec<_> = named.iter().filter(in_folder).map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["broken", "least_connections", "round_robin"],
        "lb opens none of them for the list, so it refuses none"
    );
    assert_eq!(told["in_charge"][0]["name"], "round_robin");
    let refused = send(balancer.admin, "POST", "/reload", &[], r#"{"strategy":{"name":"broken"}}"#);
    assert_eq!(refused.status, 422);
}

//! Load reports of backends: from their responses to strategies and to people.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use lb_test_support::{
    Balancer, Client, Hostile, Reply, backends, compile, finish, folder, get, metrics, mock_with, send, wait_until,
};
use mock_server::ReportForm;
use serde_json::{Value, json};
use tempfile::TempDir;

/// No check decides during a test.
const QUIET: &str = "[health]\ninterval_ms = 86400000\n";
const REPORTS: &str = "[strategy.load_reports]\nenabled = true\n";
/// `cpu_utilization` 0.5, `rps_fractional` 100, `eps` 2, `named_metrics.rif` 4.
const BINARY: &str = "CQAAAAAAAOA/MQAAAAAAAFlAOQAAAAAAAABAQg4KA3JpZhEAAAAAAAAQQA";

/// A backend that responds with the field in the request's field `x-head`, or with the trailer in `x-trailer`.
fn reporter() -> Hostile {
    Hostile::start(|_, wire| {
        while let Some(head) = wire.head() {
            let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
            let answer = match (field("x-head: "), field("x-trailer: ")) {
                (Some(field), _) => format!("content-length: 0\r\n{field}\r\n\r\n"),
                (None, Some(field)) => format!("transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n{field}\r\n\r\n"),
                (None, None) => "content-length: 0\r\n\r\n".to_owned(),
            };
            wire.write(format!("HTTP/1.1 200 OK\r\n{answer}").as_bytes());
        }
    })
}

fn start(strategy: &str, address: SocketAddr) -> Balancer {
    Balancer::start(&format!("{strategy}{QUIET}{}", backends(&[("b1", address)])))
}

/// Has the backend respond with this field in the head, or as a trailer.
fn respond(lb: &Balancer, place: &str, field: &str) -> Reply {
    let reply = send(lb.proxy, "GET", "/", &[&format!("x-{place}: {field}")], "");
    assert_eq!(reply.status, 200);
    reply
}

fn report_of(lb: &Balancer, id: &str) -> Value {
    let listed = get(lb.admin, "/backends").json();
    listed.as_array().unwrap().iter().find(|one| one["id"] == id).unwrap()["load_report"].clone()
}

/// The report of a backend that has sent none.
fn never() -> Value {
    json!({ "age_ms": null })
}

/// The values without the age.
fn values(mut report: Value) -> Value {
    assert!(report["age_ms"].as_u64().is_some(), "{report}");
    report.as_object_mut().unwrap().remove("age_ms");
    report
}

/// How many reports of all backends were taken, and how many were malformed.
fn counts(lb: &Balancer) -> [f64; 2] {
    ["ok", "malformed"].map(|result| count(lb, &[&format!("result=\"{result}\"")]))
}

fn count(lb: &Balancer, labels: &[&str]) -> f64 {
    metrics::sum(&get(lb.admin, "/metrics").body, "lb_load_reports_total", labels)
}

/// What `lb backends` prints.
fn table(lb: &Balancer) -> String {
    let mut list = Command::new(env!("CARGO_BIN_EXE_lb"));
    list.env_clear().args(["--config", "none.toml", "--admin-listen", &lb.admin.to_string(), "backends"]);
    String::from_utf8(finish(list).stdout).unwrap()
}

/// An lb whose log is the file `log` in its folder.
fn start_with_a_log(config: &str) -> Balancer {
    let folder = folder(config);
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    Balancer::start_logging_to(log, folder, &[])
}

fn reload(lb: &Balancer, from: &str, to: &str) {
    let file = lb.path("lb.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(&file, text.replace(from, to)).unwrap();
    assert_eq!(send(lb.admin, "POST", "/reload", &[], "").status, 200);
}

#[test]
fn reports_of_every_form_in_heads_and_trailers_are_taken_and_reach_the_client_too() {
    let server = reporter();
    let lb =
        start(&format!("{REPORTS}metrics = [\"rif\", \"utilization.gpu\"]\n[reload]\nwatch = false\n"), server.addr);
    assert_eq!(report_of(&lb, "b1"), never());
    let expected = |utilization: f64, qps: f64, eps: f64, rif: f64, gpu: f64| {
        json!({
            "utilization": utilization, "qps": qps, "eps": eps, "metrics": { "rif": rif, "utilization.gpu": gpu },
        })
    };
    let name = "endpoint-load-metrics";
    for (place, field, report) in [
        (
            "head",
            format!("{name}: TEXT cpu_utilization=0.25, eps=1, named_metrics.rif=7"),
            expected(0.25, 0.0, 1.0, 7.0, 0.0),
        ),
        (
            "head",
            format!("{name}: JSON {{\"rps_fractional\":3,\"utilization\":{{\"gpu\":0.5}}}}"),
            expected(0.0, 3.0, 0.0, 0.0, 0.5),
        ),
        ("head", format!("{name}: BIN {BINARY}"), expected(0.5, 100.0, 2.0, 4.0, 0.0)),
        ("head", format!("{name}: cpu_utilization:0.75,rps:9"), expected(0.75, 9.0, 0.0, 0.0, 0.0)),
        ("head", format!("{name}-bin: {BINARY}"), expected(0.5, 100.0, 2.0, 4.0, 0.0)),
        ("trailer", format!("{name}: TEXT application_utilization=1.5"), expected(1.5, 0.0, 0.0, 0.0, 0.0)),
    ] {
        let reply = respond(&lb, place, &field);
        assert_eq!(values(report_of(&lb, "b1")), report, "{place} {field}");
        let (field, value) = field.split_once(": ").unwrap();
        match place {
            "head" => assert_eq!(reply.header(field), Some(value)),
            _ => assert!(reply.body.contains(value), "{}", reply.body),
        }
    }
    assert_eq!(counts(&lb), [6.0, 0.0]);
    // A refused report changes nothing but a counter, and the response passes.
    let before = values(report_of(&lb, "b1"));
    for bad in ["TEXT cpu_utilization=nan", "JSON {", "BIN !", "TEXT eps=-1", "TEXT x=1", "XML <a>"] {
        respond(&lb, "head", &format!("{name}: {bad}"));
    }
    respond(&lb, "head", &format!("{name}: TEXT {}", "eps=1,".repeat(1000)));
    respond(&lb, "head", "x-other: 1");
    assert_eq!((counts(&lb), values(report_of(&lb, "b1"))), ([6.0, 7.0], before));
    assert!(table(&lb).contains("150 % in use"), "{}", table(&lb));
}

#[test]
fn a_refused_report_is_logged_once_with_its_backend_and_counted_by_backend() {
    let (server, other) = (reporter(), reporter());
    let list = backends(&[("b1", server.addr), ("b2", other.addr)]);
    let lb = start_with_a_log(&format!("{REPORTS}{QUIET}{list}"));
    // Round robin: half of them go to each backend.
    (0..20).for_each(|_| drop(respond(&lb, "head", "endpoint-load-metrics: TEXT eps=-1")));
    for id in ["b1", "b2"] {
        assert_eq!(count(&lb, &["result=\"malformed\"", &format!("backend=\"{id}\"")]), 10.0);
        let said = lb
            .printed("log")
            .lines()
            .filter(|line| {
                line.contains("a load report of a backend was refused") && line.contains(&format!("backend=\"{id}\""))
            })
            .map(str::to_owned)
            .collect::<Vec<_>>();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("a value is negative") && said[0].contains("pool=\"default\""), "{said:?}");
    }
    assert_eq!(table(&lb).matches("up, load never reported").count(), 2, "{}", table(&lb));
}

#[test]
fn a_poll_that_brings_no_report_is_counted_and_its_reason_is_logged() {
    let missing = mock_with("1", |options| options.load_report = None);
    let lb = start_with_a_log(&format!(
        "{REPORTS}poll_path = \"/wrong\"\npoll_every_ms = 10\n{QUIET}{}",
        backends(&[("b1", missing.addr)])
    ));
    let reason = "the response, with status 404, has no field endpoint-load-metrics";
    wait_until("a line", || lb.printed("log").contains(reason));
    wait_until("three polls", || count(&lb, &["backend=\"b1\"", "result=\"no_report\""]) >= 3.0);
    let log = lb.printed("log");
    let said: Vec<_> = log.lines().filter(|line| line.contains("a poll brought no load report")).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("path=\"/wrong\"") && said[0].contains("backend=\"b1\""), "{said:?}");
    assert!(table(&lb).contains("up, load never reported"), "{}", table(&lb));
}

#[test]
fn polls_of_a_backend_that_does_not_respond_are_counted() {
    let silent = Hostile::closing_after(b"");
    let poll = format!("{REPORTS}poll_path = \"/load\"\npoll_every_ms = 10\n");
    let lb = start(&poll, silent.addr);
    wait_until("two polls", || count(&lb, &["backend=\"b1\"", "result=\"no_response\""]) >= 2.0);
}

#[test]
fn without_the_key_reports_are_not_read_and_with_other_metrics_they_are_forgotten() {
    let server = reporter();
    let lb = start(&format!("{REPORTS}metrics = [\"a\"]\n[reload]\nwatch = false\n"), server.addr);
    let report = "endpoint-load-metrics: TEXT cpu_utilization=0.5,named_metrics.a=1,named_metrics.b=2";
    respond(&lb, "head", report);
    assert_eq!(report_of(&lb, "b1")["metrics"], json!({ "a": 1.0 }));
    // Another strategy, and settings that leave the list as it is.
    reload(&lb, "watch = false", "watch = false\nsettle_ms = 251");
    reload(&lb, REPORTS, &format!("[strategy]\nname = \"least_connections\"\n{REPORTS}request_header = true\n"));
    assert_eq!(report_of(&lb, "b1")["metrics"], json!({ "a": 1.0 }));
    reload(&lb, "[\"a\"]", "[\"b\", \"a\"]");
    assert_eq!(report_of(&lb, "b1"), never());
    respond(&lb, "head", report);
    assert_eq!(report_of(&lb, "b1")["metrics"], json!({ "b": 2.0, "a": 1.0 }));
    reload(&lb, "enabled = true", "enabled = false");
    respond(&lb, "head", report);
    assert_eq!((report_of(&lb, "b1"), counts(&lb)), (Value::Null, [2.0, 0.0]));
    reload(&lb, "enabled = false", "enabled = true");
    assert_eq!(report_of(&lb, "b1"), never());
}

#[test]
fn requests_ask_for_reports_only_if_that_is_configured_and_not_against_the_client() {
    let asked = |strategy: &str, fields: &[&str]| {
        let server = reporter();
        let lb = start(strategy, server.addr);
        assert_eq!(send(lb.proxy, "GET", "/asked", fields, "").status, 200);
        let heads = server.heads();
        let head = heads.iter().find(|head| head.starts_with("GET /asked ")).unwrap().clone();
        head.lines()
            .filter(|line| line.starts_with("endpoint-load-metrics-format"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let asks = format!("{REPORTS}request_header = true\n");
    assert_eq!(asked("", &[]), Vec::<String>::new());
    assert_eq!(asked(REPORTS, &[]), Vec::<String>::new());
    assert_eq!(asked(&asks, &[]), ["endpoint-load-metrics-format: text"]);
    let json = "endpoint-load-metrics-format: json";
    assert_eq!(asked(&asks, &[json]), [json]);
    assert_eq!(asked("", &[json]), [json]);
}

/// The example `least_utilized` in C and in Rust, and the folder of the first one.
fn examples() -> (TempDir, [PathBuf; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let c = folder.path().join("libleast_utilized.so");
    compile("examples/least_utilized.c", &[], &c);
    (folder, [c, lb_strategy_built::library("least_utilized")])
}

#[test]
fn strategies_in_c_and_in_rust_see_every_number_of_a_report() {
    let (_folder, files) = examples();
    for file in files {
        let server = reporter();
        let strategy = format!("[strategy]\npath = {file:?}\n{REPORTS}metrics = [\"a\", \"b\", \"c\", \"d\"]\n");
        let lb = start(&strategy, server.addr);
        let says = || get(lb.admin, "/explain").json()["strategy_says"]["reports"].clone();
        assert_eq!(says(), json!([{ "backend": "b1" }]), "no report yet");
        let report =
            "cpu_utilization=0.1,rps=2,eps=0.3,named_metrics.a=4,named_metrics.b=5,named_metrics.c=6,named_metrics.d=7";
        respond(&lb, "head", &format!("endpoint-load-metrics: TEXT {report}"));
        let said = says()[0].clone();
        let values = ["utilization", "qps", "eps"].map(|key| said[key].as_f64());
        assert_eq!(values, [Some(0.1), Some(2.0), Some(0.3)], "{said}");
        let metrics: Vec<_> = said["metrics"].as_array().unwrap().iter().filter_map(Value::as_f64).collect();
        assert_eq!(metrics, [4.0, 5.0, 6.0, 7.0], "{said}");
        // The clock of the report is that of the requests.
        let shown = report_of(&lb, "b1")["age_ms"].as_u64().unwrap();
        assert!(said["age_ms"].as_u64().unwrap() <= shown, "{said} {shown}");
    }
}

#[test]
fn strategies_in_c_and_in_rust_pick_by_reports() {
    let (_folder, files) = examples();
    for file in files {
        // One worker, which is busy with the request itself, and a hundred.
        let servers = [(1, ReportForm::Text), (100, ReportForm::Binary)].map(|(concurrency, form)| {
            mock_with(&format!("b{concurrency}"), |options| {
                (options.concurrency, options.load_report) = (concurrency, Some(form));
            })
        });
        let list = backends(&[("b1", servers[0].addr), ("b100", servers[1].addr)]);
        let lb = Balancer::start(&format!("[strategy]\npath = {file:?}\n{REPORTS}{QUIET}{list}"));
        let mut client = Client::connect(lb.proxy);
        (0..400).for_each(|_| assert_eq!(client.get("/home").status(), 200));
        // The first is full by its report, and keeps a twentieth of 1.04.
        let [full, idle] = servers.each_ref().map(|server| server.stats().served);
        assert!((1..80).contains(&full) && full + idle == 400, "{full} and {idle} by {}", file.display());
        assert_eq!(counts(&lb), [400.0, 0.0]);
        let used = ["b1", "b100"].map(|id| report_of(&lb, id)["utilization"].as_f64());
        assert_eq!(used, [Some(1.0), Some(0.01)]);
    }
}

#[test]
fn backends_without_requests_are_polled_and_polls_count_nowhere() {
    let server = mock_with("1", |options| {
        (options.load_report, options.probe_path) = (Some(ReportForm::Json), Some("/probe".to_owned()));
    });
    let polls = || server.stats().by_path["probe"];
    let poll = format!("{REPORTS}metrics = [\"queued\"]\npoll_path = \"/probe\"\npoll_every_ms = 10\n");
    let lb = start(&format!("{poll}[reload]\nwatch = false\n"), server.addr);
    wait_until("a report", || report_of(&lb, "b1") != never());
    assert_eq!(values(report_of(&lb, "b1"))["metrics"], json!({ "queued": 0.0 }));
    // The polls follow the list of metrics and the path.
    reload(&lb, "\"queued\"", "\"in_flight\"");
    wait_until("a report", || report_of(&lb, "b1")["metrics"]["in_flight"].is_f64());
    let page = get(lb.admin, "/metrics").body;
    assert!(counts(&lb)[0] > 1.0 && server.stats().requests == 0);
    assert_eq!(
        metrics::sum(&page, "lb_backend_requests_total", &[]) + metrics::sum(&page, "lb_requests_total", &[]),
        0.0
    );
    // A member that joins is polled too.
    let other = mock_with("2", |options| options.probe_path = Some("/probe".to_owned()));
    let attach = format!(r#"{{"backends":[{{"id":"b2","address":"{}"}}]}}"#, other.addr);
    assert_eq!(send(lb.admin, "POST", "/add", &[], &attach).status, 200);
    wait_until("a poll", || other.stats().by_path["probe"] > 0);
    // Without a path no poll begins. At most one was on its way.
    reload(&lb, "poll_path", "#poll_path");
    wait_until("the end of the polls", || server.stats().open_connections == 0);
    let before = polls();
    (0..20).for_each(|_| assert_eq!(get(server.addr, "/home").status, 200));
    assert!(polls() <= before + 1, "{} and {before}", polls());
}

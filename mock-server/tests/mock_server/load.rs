//! Load reports and probes: the figures of a busy server, at the places where a balancer looks for them.

use std::time::Duration;

use lb_test_support::{Answer, Client, request, wait_until};
use mock_server::{Options, ReportForm, Running};

use crate::client::{control, get, send_get_for, start};

const HOUR: Duration = Duration::from_secs(3600);

fn report(answer: &Answer) -> &str {
    answer.header("endpoint-load-metrics").expect("a report")
}

fn probe(server: &Running) -> serde_json::Value {
    serde_json::from_slice(&get(server.addr, "/probe").body).expect("JSON")
}

/// Keeps workers busy, and requests waiting behind them, until the clients are dropped.
fn busy(server: &Running, requests: u64) -> Vec<Client> {
    let clients: Vec<_> = (0..requests)
        .map(|_| {
            let mut client = Client::connect(server.addr);
            send_get_for(&mut client, HOUR);
            client
        })
        .collect();
    wait_until("all have arrived", || server.stats().in_service + server.stats().queued == requests);
    clients
}

#[test]
fn a_report_has_the_share_of_busy_workers_in_each_form() {
    for (form, prefix) in [(ReportForm::Text, "TEXT "), (ReportForm::Json, "JSON {"), (ReportForm::Binary, "BIN ")] {
        let server = start(Options { concurrency: 4, load_report: Some(form), ..Options::default() });
        let _busy = busy(&server, 2);
        let answer = get(server.addr, "/home");
        assert!(report(&answer).starts_with(prefix), "{}", report(&answer));
        if form == ReportForm::Text {
            // Two requests wait for their hour, and the third one is this.
            assert!(report(&answer).contains("application_utilization=0.75,"), "{}", report(&answer));
            assert!(report(&answer).contains("named_metrics.in_flight=3,"), "{}", report(&answer));
        }
        assert!(get(server.addr, "/status/503").header("endpoint-load-metrics").is_some());
        assert_eq!(get(server.addr, "/stats").header("endpoint-load-metrics"), None);
    }
    let server = start(Options::default());
    assert_eq!(get(server.addr, "/home").header("endpoint-load-metrics"), None);
}

#[test]
fn a_chunked_response_has_its_report_in_the_trailers_if_that_is_asked_for() {
    let options = Options { load_report: Some(ReportForm::Text), load_report_trailer: true, ..Options::default() };
    let server = start(options);
    let mut client = Client::connect(server.addr);
    client.send(&request("GET", "/stream?bytes=100", &["te: trailers", "connection: te"]));
    let answer = client.answer();
    assert_eq!(
        (answer.header("trailer"), answer.header("endpoint-load-metrics")),
        (Some("endpoint-load-metrics"), None)
    );
    assert_eq!(answer.body.len(), 100);
    let trailers = client.trailers.concat();
    assert!(trailers.starts_with("endpoint-load-metrics: TEXT application_utilization="), "{trailers}");
    for path in ["/home", "/stream?bytes=100&length=1"] {
        report(&get(server.addr, path));
    }
}

#[test]
fn probes_get_the_load_at_once_and_move_no_count_of_requests() {
    let options = Options { concurrency: 1, probe_path: Some("/probe".to_owned()), ..Options::default() };
    let server = start(options);
    let idle = probe(&server);
    assert_eq!((&idle["in_flight"], &idle["queued"], &idle["latency_ms"]), (&0.into(), &0.into(), &0.0.into()));
    let _busy = busy(&server, 3);
    let loaded = probe(&server);
    assert_eq!((&loaded["in_flight"], &loaded["queued"]), (&1.into(), &2.into()));
    assert_eq!(loaded["utilization"], 3.0);
    let answer = get(server.addr, "/probe");
    let headers = ["x-in-flight", "x-latency-ms"].map(|name| answer.header(name).map(str::to_owned));
    assert_eq!(headers, [Some("3".to_owned()), Some("0".to_owned())]);
    let stats = server.stats();
    assert_eq!((stats.requests, stats.by_path["probe"], stats.by_path["other"]), (3, 3, 0));
}

#[test]
fn a_stalled_server_responds_to_no_probe() {
    let server = start(Options { probe_path: Some("/probe".to_owned()), ..Options::default() });
    assert_eq!(control(server.addr, r#"{"stall":true}"#).status(), 200);
    let mut client = Client::connect(server.addr);
    client.send(&request("GET", "/probe", &[]));
    wait_until("the probe has arrived", || server.stats().by_path["probe"] == 1);
    assert_eq!(control(server.addr, r#"{"stall":false}"#).status(), 200);
    assert_eq!(client.answer().status(), 200);
}

#[test]
fn without_a_probe_path_a_probe_is_an_unknown_path() {
    let server = start(Options::default());
    assert_eq!(get(server.addr, "/probe").status(), 404);
    assert_eq!((server.stats().refused, server.stats().by_path["other"]), (1, 1));
}

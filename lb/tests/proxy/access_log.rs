//! The access log over real sockets: the content of a line, one line for each request, and no request that waits for
//! it.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc;

use jiff::{RoundMode, Timestamp, TimestampRound};
use lb::access_log::AccessLog;
use lb::config::{self, LogFormat};
use lb::telemetry::AccessLogCounts;
use lb_test_support::{Hostile, PATIENCE, closed_address, mock, parse, request, wait_until};
use mock_server::Change;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Balancer, Setup, WORKERS};

const SEED: u64 = 815;

/// An access log in its own folder.
pub(crate) struct Log {
    folder: TempDir,
    pub(crate) log: AccessLog,
    counts: Arc<AccessLogCounts>,
}

// === impl Log ===

impl Log {
    pub(crate) fn new(change: impl FnOnce(&mut config::AccessLog)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = Some(folder.path().join("access.log"));
        Self::in_folder(folder, |log| {
            log.path = path;
            change(log);
        })
    }

    fn in_folder(folder: TempDir, change: impl FnOnce(&mut config::AccessLog)) -> Self {
        let mut config =
            config::AccessLog { format: LogFormat::Json, path: None, sample: 1.0, always_errors: true, query: true };
        change(&mut config);
        let counts = Arc::<AccessLogCounts>::default();
        let log = AccessLog::open_seeded(&config, WORKERS, counts.clone(), SEED).unwrap();
        Self { folder, log, counts }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("access.log")
    }

    pub(crate) fn start(&self, setup: Setup) -> Balancer {
        setup.with(|setup| setup.settings.access_log = Some(self.log.clone())).start()
    }

    /// The lines of the file after all of them are written.
    fn lines(&self, lb: &Balancer) -> Vec<String> {
        lb.comes_to_rest();
        assert!(self.log.flush(PATIENCE), "the log was not written in time");
        std::fs::read_to_string(self.path()).unwrap().lines().map(str::to_owned).collect()
    }

    pub(crate) fn objects(&self, lb: &Balancer) -> Vec<Value> {
        self.lines(lb).iter().map(|line| parse(line.as_bytes())).collect()
    }

    fn dropped(&self) -> u64 {
        self.counts.dropped_by_reason().iter().sum()
    }
}

#[test]
fn a_line_has_the_request_and_its_outcome() {
    let server = mock("1");
    let log = Log::new(|_| {});
    let lb = log.start(Setup::of(&[&server]).with(|setup| setup.settings.request_id = true));
    let mut client = lb.client();
    let trace = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let peer = client.stream.local_addr().unwrap();
    let answer = client.ask("GET", "/home?x=1", &["user-agent: test/1", "x-request-id: mine", trace]);
    assert_eq!(client.post("/upload", &[], &[b'x'; 100_000]).status(), 200);
    assert_eq!(client.ask("HEAD", "/home", &[]).status(), 200);
    let [got, posted, headed] = log.objects(&lb).try_into().unwrap();

    let text = |key: &str| got[key].as_str().unwrap_or_else(|| panic!("{key}: {got}")).to_owned();
    assert_eq!([text("method"), text("path"), text("protocol")], ["GET", "/home?x=1", "HTTP/1.1"]);
    assert_eq!([text("host"), text("user_agent"), text("request_id")], ["lb.test", "test/1", "mine"]);
    assert_eq!([text("trace_id"), text("client")], ["4bf92f3577b34da6a3ce929d0e0e4736".to_owned(), peer.to_string()]);
    assert_eq!([text("pool"), text("backend"), text("strategy")], ["default", "b1", "round_robin"]);
    assert_eq!(text("listener"), lb.address.to_string());
    let numbers = ["status", "bytes_in", "bytes_out", "attempts", "generation"].map(|key| got[key].as_u64().unwrap());
    assert_eq!(numbers, [200, 0, answer.body.len() as u64, 1, 1]);
    let times = ["total_ms", "connect_ms", "head_ms"].map(|key| got[key].as_f64().unwrap());
    assert!(times[0] > 0.0 && times[0] >= times[2] && times[2] >= times[1], "{got}");
    assert!(got["pick_ns"].as_u64().unwrap() > 0 && got.get("error").is_none(), "{got}");
    assert!(text("ts").ends_with('Z') && text("ts").len() == "2026-01-01T00:00:00.000Z".len(), "{got}");

    assert_eq!((&posted["method"], &posted["bytes_in"]), (&"POST".into(), &100_000.into()));
    assert!(posted.get("connect_ms").is_none(), "the backend connection was reused: {posted}");
    assert!(posted.get("user_agent").is_none() && posted.get("trace_id").is_none(), "{posted}");
    assert_eq!(posted["request_id"].as_str().unwrap().len(), 32, "made");
    assert_eq!((&headed["method"], &headed["bytes_out"], &headed["status"]), (&"HEAD".into(), &0.into(), &200.into()));
}

#[test]
fn a_line_of_a_failed_request_has_the_reason_and_the_backend_that_was_tried() {
    let server = mock("1");
    let log = Log::new(|_| {});
    // With one worker, lines come in the order of requests.
    let lb = log.start(Setup::new(&[closed_address(), server.addr]).with(|setup| setup.workers = 1));
    assert_eq!(lb.client().get("/home").status(), 200, "from the second backend");
    drop(server);
    lb.client().get("/home").is_own(502, "connect");
    lb.client().ask("CONNECT", "/x", &[]);
    let [repeated, failed, refused] = log.objects(&lb).try_into().unwrap();
    assert_eq!((&repeated["attempts"], &repeated["backend"]), (&2.into(), &"b2".into()), "{repeated}");
    assert_eq!((&failed["status"], &failed["error"], &failed["bytes_in"]), (&502.into(), &"connect".into(), &0.into()));
    assert_eq!(failed["attempts"], 2, "{failed}");
    assert!(failed["connect_ms"].as_f64().is_some() && failed.get("head_ms").is_none(), "{failed}");
    assert_eq!((&refused["error"], &refused["attempts"]), (&"bad_request".into(), &0.into()), "{refused}");
    assert!(refused.get("backend").is_none() && refused.get("generation").is_none(), "{refused}");
}

#[test]
fn a_client_that_leaves_has_a_line() {
    let server = Hostile::start(|_, wire| {
        wire.head();
        wire.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nsome");
        wire.head();
    });
    let log = Log::new(|_| {});
    let lb = log.start(Setup::new(&[server.addr]));
    let mut client = lb.client();
    client.send(&request("GET", "/", &[]));
    assert_eq!(client.head().unwrap().status, 200);
    client.reset();
    let [line] = log.objects(&lb).try_into().unwrap();
    assert_eq!(
        (&line["status"], &line["error"], &line["backend"]),
        (&499.into(), &"client_abort".into(), &"b1".into())
    );
}

#[test]
fn the_text_format_has_the_same_data_in_one_line() {
    let server = mock("1");
    let log = Log::new(|log| (log.format, log.query) = (LogFormat::Text, false));
    let lb = log.start(Setup::of(&[&server]));
    let answer = lb.client().ask("GET", "/home?secret=1", &["user-agent: test/1"]);
    let [line] = log.lines(&lb).try_into().unwrap();
    let (begin, rest) = line.split_once(" [").unwrap();
    assert_eq!(begin, "127.0.0.1 - -");
    let (_, rest) = rest.split_once("] ").unwrap();
    let wanted =
        format!(r#""GET /home HTTP/1.1" 200 {} "-" "test/1" host="lb.test" pool="default""#, answer.body.len());
    assert!(rest.starts_with(&wanted), "{line}");
    assert!(rest.contains(r#" backend="b1" strategy="round_robin" attempts=1 hedge=- generation=1 "#), "{line}");
    assert!(rest.contains(" error=- ") && !line.contains("secret"), "{line}");
}

#[test]
fn a_line_has_the_time_of_its_request_also_if_its_record_is_reused() {
    const ISO: &str = "%Y-%m-%dT%H:%M:%S%.3f%z";
    const CLF: &str = "%d/%b/%Y:%H:%M:%S %z";
    for (format, pattern, gap_ms) in [(LogFormat::Json, ISO, 50.0), (LogFormat::Text, CLF, 1100.0)] {
        let server = mock("1");
        let log = Log::new(|log| log.format = format);
        // One worker reuses its records in a fixed order.
        let lb = log.start(Setup::of(&[&server]).with(|setup| setup.workers = 1));
        let mut clients = [lb.client(), lb.client()];
        server.change(&Change { stall: Some(true), ..Change::default() }).unwrap();
        clients.iter_mut().for_each(|client| client.send(&request("GET", "/home", &[])));
        wait_until("both requests to be in flight", || lb.backends[0].in_flight() == 2);
        server.change(&Change { stall: Some(false), extra_ms: Some(gap_ms), ..Change::default() }).unwrap();
        clients.iter_mut().for_each(|client| assert_eq!(client.answer().status(), 200));
        assert_eq!(log.lines(&lb).len(), 2, "there are two records to reuse");

        // The next request uses the first record and lasts for the gap. The second record stays unused meanwhile.
        assert_eq!(lb.client().get("/home?gap").status(), 200);
        let before = Timestamp::now();
        assert_eq!(lb.client().get("/home?late").status(), 200);
        let lines = log.lines(&lb);
        let late = lines.iter().find(|line| line.contains("?late")).unwrap();
        let stamp = match format {
            LogFormat::Json => parse(late.as_bytes())["ts"].as_str().unwrap().replace('Z', "+0000"),
            LogFormat::Text => late.split(['[', ']']).nth(1).unwrap().to_owned(),
        };
        let stamp = Timestamp::strptime(pattern, &stamp).unwrap();
        let unit = if format == LogFormat::Json { jiff::Unit::Millisecond } else { jiff::Unit::Second };
        let earliest = before.round(TimestampRound::new().smallest(unit).mode(RoundMode::Trunc)).unwrap();
        assert!(stamp >= earliest, "{late}: the request was sent at {before}");
    }
}

#[test]
fn no_byte_from_a_client_begins_a_line_or_ends_a_field() {
    let server = mock("1");
    for format in [LogFormat::Json, LogFormat::Text] {
        let log = Log::new(|log| log.format = format);
        let lb = log.start(Setup::of(&[&server]));
        let mut sent = 0;
        // A header value may have any byte except line ends and zero. In a path, the parser refuses most bytes.
        for byte in (1..=255_u8).filter(|byte| ![b'\r', b'\n'].contains(byte)) {
            let mut client = lb.client();
            let head: &[&[u8]] = &[
                b"GET /\"'%0a",
                &[byte],
                b"{}\\x HTTP/1.1\r\nhost: a\r\nuser-agent: a",
                &[byte],
                b"\",\"status\":1 b\r\n\r\n",
            ];
            client.send(&head.concat());
            let in_path = client.answer().status() != 400;
            sent += u64::from(in_path);
            let mut client = lb.client();
            client.send(
                &[b"GET /home HTTP/1.1\r\nhost: a\r\nuser-agent: \"a", &[byte][..], b"\",\"status\":1 b\r\n\r\n"]
                    .concat(),
            );
            // If the parser refuses the header, lb refuses the request, and it does not count as sent.
            sent += u64::from(client.answer().field("content-type").is_some());
        }
        let lines = log.lines(&lb);
        assert_eq!(lines.len() as u64, log.counts.written());
        assert!(lines.len() as u64 >= sent && sent > 255, "{} lines, {sent} requests", lines.len());
        for line in lines {
            assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line:?}");
            match format {
                LogFormat::Json => {
                    let line = parse(line.as_bytes());
                    assert!(line["status"].as_u64().unwrap() >= 200, "{line}");
                    match line["user_agent"].as_str() {
                        Some(agent) => assert!(agent.ends_with("\",\"status\":1 b"), "{line}"),
                        None => assert_eq!(line["error"], "bad_request", "{line}"),
                    }
                }
                // Every quote in the line belongs to the format.
                LogFormat::Text => assert_eq!(line.matches('"').count(), 2 * 10, "{line}"),
            }
        }
    }
}

#[test]
fn no_request_waits_for_a_reader_that_does_not_read_and_every_line_is_read_or_counted() {
    const REQUESTS: u64 = 12_000;
    let server = mock("1");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let log = Log::in_folder(folder, |log| log.path = Some(path.clone()));
    let lb = log.start(Setup::of(&[&server]));
    // More lines than pipe and queues hold. A response that waits for the log would never come.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = lb.client();
                (0..REQUESTS / 8).for_each(|_| assert_eq!(client.get("/home").status(), 200));
            });
        }
    });
    lb.comes_to_rest();
    assert!(log.dropped() > 0, "there were too few lines to fill the queues");
    assert!(!log.log.flush(std::time::Duration::ZERO), "the pipe has no reader yet");

    let (lines, read) = mpsc::channel();
    std::thread::spawn(move || {
        let reader = BufReader::new(std::fs::File::open(path).unwrap());
        reader.lines().map_while(Result::ok).try_for_each(|line| lines.send(line))
    });
    assert!(log.log.flush(PATIENCE), "the reader reads now");
    let (written, dropped) = (log.counts.written(), log.dropped());
    assert_eq!(written + dropped, REQUESTS);
    for _ in 0..written {
        let line = read.recv_timeout(PATIENCE).unwrap();
        assert_eq!(parse(line.as_bytes())["status"], 200, "{line}");
    }
    assert_eq!(lb.client().get("/home").status(), 200);
    assert!(log.log.flush(PATIENCE));
    assert_eq!(log.counts.written(), written + 1, "the log continues");
}

#[test]
fn a_full_disk_drops_lines_and_fails_no_request() {
    let server = mock("1");
    let log = Log::new(|log| log.path = Some("/dev/full".into()));
    let lb = log.start(Setup::of(&[&server]));
    let mut client = lb.client();
    (0..100).for_each(|_| assert_eq!(client.get("/home").status(), 200));
    lb.comes_to_rest();
    assert!(log.log.flush(PATIENCE));
    assert_eq!((log.counts.written(), log.counts.dropped_by_reason()), (0, [0, 100]));
}

#[test]
fn with_sampling_every_failure_is_logged_if_configured() {
    let server = mock("1");
    let drawn_and_failed = |always_errors| {
        let log = Log::new(|log| (log.sample, log.always_errors) = (0.1, always_errors));
        let lb = log.start(Setup::of(&[&server]).with(|setup| setup.workers = 1));
        let mut client = lb.client();
        for _ in 0..1000 {
            assert_eq!(client.get("/home").status(), 200);
        }
        for _ in 0..100 {
            assert_eq!(client.get("/status/500").status(), 500);
        }
        let lines = log.objects(&lb);
        let failed = lines.iter().filter(|line| line["status"] == 500).count();
        (lines.len() - failed, failed)
    };
    let (drawn, failed) = drawn_and_failed(true);
    // 100 expected, standard deviation 9.5.
    assert!((60..=140).contains(&drawn), "seed {SEED}: {drawn}");
    assert_eq!(failed, 100);
    let (drawn_again, failed) = drawn_and_failed(false);
    assert_eq!(drawn_again, drawn, "seed {SEED}: the same draws");
    assert!((1..=30).contains(&failed), "seed {SEED}: {failed}");
}

#[test]
fn a_file_that_was_moved_away_is_created_again_and_no_line_is_lost() {
    let server = mock("1");
    let log = Log::new(|_| {});
    let lb = log.start(Setup::of(&[&server]));
    let mut client = lb.client();
    client.get("/home?before");
    assert_eq!(log.lines(&lb).len(), 1);
    let moved = log.folder.path().join("access.log.1");
    std::fs::rename(log.path(), &moved).unwrap();
    client.get("/home?between");
    lb.comes_to_rest();
    assert!(log.log.flush(PATIENCE));
    log.log.reopen();
    wait_until("the file to be there again", || log.path().exists());
    client.get("/home?after");
    let after = log.objects(&lb);
    assert_eq!(after.iter().map(|line| line["path"].as_str().unwrap()).collect::<Vec<_>>(), ["/home?after"]);
    let before = std::fs::read_to_string(moved).unwrap();
    assert!(before.lines().count() == 2 && before.contains("?before") && before.contains("?between"), "{before}");
}

#[test]
fn dropping_the_last_handle_writes_the_last_lines() {
    let server = mock("1");
    let log = Log::new(|_| {});
    let mut lb = log.start(Setup::of(&[&server]));
    let mut client = lb.client();
    (0..500).for_each(|_| assert_eq!(client.get("/home").status(), 200));
    drop(client);
    lb.comes_to_rest();
    lb.drain(PATIENCE);
    let Log { folder, log, counts } = log;
    drop((log, lb));
    wait_until("all lines to be written", || counts.written() == 500);
    assert_eq!(std::fs::read_to_string(folder.path().join("access.log")).unwrap().lines().count(), 500);
}

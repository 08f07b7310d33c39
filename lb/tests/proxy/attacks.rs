//! Requests that two servers could read differently, and the bytes that a backend gets of each.
//!
//! Each [`Attack`] is one row of a table: the bytes of the client, the responses, and all bytes that the backend got.
//! The backend reads heads naively and records every byte. So the bytes differ if lb takes a request for a body or a
//! body for a request. Invariant: if lb leaves the connection open, the test sends one more request. The backend must
//! then see exactly this request after the rest, so no byte is left over.

mod chunks;
mod fields;
mod framing;
mod hosts;
mod targets;
mod upgrades;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use lb_test_support::{Client, Hostile, Wire, wait_until};

use crate::support::Setup;

/// One row. In `sends` and `seen`, a line ends with CR LF. `<LF>`, `<CR>`, `<NUL>`, `<VT>` and `<FF>` stand for one
/// byte (FF for 0xff).
pub(crate) struct Attack {
    /// The trick of the attack.
    aim: &'static str,
    sends: String,
    /// The status codes of the responses in order, and `end` if lb must close the connection after them.
    answers: &'static str,
    /// The bytes that the backend got, over all connections. `{fwd}` stands for the forwarded fields for the host `a`.
    seen: String,
}

/// A backend that records every byte. It returns 200, or 101 for an upgrade. On `/refuse` it never returns 101, on
/// `/force` always. On `/force` and `/other`, it switches to h2c.
struct Recorder {
    server: Hostile,
    seen: Arc<Mutex<Vec<u8>>>,
}

const FORWARDED: &str = "x-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: http\r\nx-forwarded-host: a\r\n";
const LAST: &str = "GET /last HTTP/1.1\r\nhost: a\r\n\r\n";

/// A row of which the backend must not see a byte.
fn refused(aim: &'static str, sends: &str, answers: &'static str) -> Attack {
    passes(aim, sends, answers, "")
}

fn passes(aim: &'static str, sends: &str, answers: &'static str, seen: &str) -> Attack {
    Attack { aim, sends: sends.to_owned(), answers, seen: seen.to_owned() }
}

/// Runs every row, then fails with all rows that went wrong.
#[track_caller]
fn run(attacks: Vec<Attack>) {
    run_with(attacks, |setup| setup);
}

#[track_caller]
fn run_with(attacks: Vec<Attack>, change: impl Fn(Setup) -> Setup) {
    let run = |attack| catch_unwind(AssertUnwindSafe(|| attack_once(attack, &change)));
    let wrong: Vec<String> =
        attacks.iter().filter_map(|attack| run(attack).unwrap_or_else(|_| Some(attack.aim.into()))).collect();
    assert!(wrong.is_empty(), "{} of {} rows went wrong:\n{}", wrong.len(), attacks.len(), wrong.join("\n"));
}

/// Runs one row. Returns the difference if there is one.
fn attack_once(attack: &Attack, change: impl Fn(Setup) -> Setup) -> Option<String> {
    let recorder = Recorder::start();
    let lb = change(Setup::new(&[recorder.server.addr]).with(|setup| setup.workers = 1)).start();
    let mut client = lb.client();
    // lb may refuse and close the connection before all bytes are sent.
    let _ = client.try_send(&bytes(&attack.sends));
    let expected: Vec<&str> = attack.answers.split_whitespace().collect();
    let mut answers = Vec::new();
    for wanted in &expected {
        if *wanted == "end" {
            let rest = client.rest();
            answers.push(if rest.is_empty() { "end".to_owned() } else { rest.escape_ascii().to_string() });
        } else {
            answers.push(
                client
                    .answer_to("GET")
                    .map_or_else(|broken| format!("{broken:?}"), |answer| answer.status().to_string()),
            );
        }
    }
    let mut wanted = bytes(&attack.seen);
    if !expected.contains(&"end") && !expected.contains(&"101") {
        answers.extend(last(&mut client));
        wanted.extend_from_slice(&bytes("GET /last HTTP/1.1\nhost: a\n{fwd}\n"));
    }
    drop(client);
    lb.comes_to_rest();
    let opened = lb.metric("lb_backend_connections_opened_total", &[]);
    drop(lb);
    let seen = recorder.all_seen(opened as usize);
    (answers != expected || seen != wanted).then(|| {
        let (aim, seen, wanted) = (attack.aim, seen.escape_ascii(), wanted.escape_ascii());
        format!("{aim}:\n  answers  {answers:?}\n  expected {expected:?}\n  seen     {seen}\n  expected {wanted}")
    })
}

/// Sends one more request on the same connection. `None` if its response is 200.
fn last(client: &mut Client) -> Option<String> {
    if client.try_send(LAST.as_bytes()).is_err() {
        return Some("closed".to_owned());
    }
    let answer = client.answer_to("GET").map(|answer| answer.status());
    (answer != Ok(200)).then(|| format!("last request: {answer:?}"))
}

/// The bytes for the text of a row.
fn bytes(text: &str) -> Vec<u8> {
    let mut text = text.replace('\n', "\r\n").replace("{fwd}", FORWARDED).into_bytes();
    for (word, byte) in [("<LF>", b'\n'), ("<CR>", b'\r'), ("<NUL>", 0), ("<VT>", 0x0b), ("<FF>", 0xff)] {
        while let Some(at) = text.windows(word.len()).position(|window| window == word.as_bytes()) {
            text.splice(at..at + word.len(), [byte]);
        }
    }
    text
}

#[test]
fn there_are_more_than_a_hundred_attacks() {
    let tables = [
        chunks::attacks(),
        fields::attacks(),
        framing::attacks(),
        hosts::attacks(),
        targets::attacks(),
        upgrades::attacks(),
    ];
    let aims: Vec<&str> = tables.iter().flatten().map(|attack| attack.aim).collect();
    let distinct = aims.iter().collect::<std::collections::BTreeSet<_>>().len();
    let twice = |aim: &&&str| aims.iter().filter(|other| other == aim).count() > 1;
    assert!(distinct == aims.len(), "{:?}", aims.iter().find(twice));
    assert!(distinct > 100, "{distinct}");
}

// === impl Recorder ===

impl Recorder {
    fn start() -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let own = seen.clone();
        let server = Hostile::start(move |_, wire| {
            while serve_one(wire, &own) {}
            own.lock().unwrap().extend(wire.rest());
        });
        Self { server, seen }
    }

    /// All bytes of this number of connections, which lb has closed.
    fn all_seen(self, connections: usize) -> Vec<u8> {
        wait_until("the backend to have read all bytes", || self.server.closed() == connections);
        drop(self.server);
        self.seen.lock().unwrap().clone()
    }
}

/// Reads one request naively, records it and responds. False at the end of the connection.
fn serve_one(wire: &mut Wire, seen: &Mutex<Vec<u8>>) -> bool {
    let Some(head) = wire.raw_until(b"\r\n\r\n") else { return false };
    seen.lock().unwrap().extend(&head);
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let field =
        |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned));
    let note = |bytes: Option<Vec<u8>>| {
        let bytes = bytes?;
        seen.lock().unwrap().extend(&bytes);
        Some(bytes)
    };
    if field("transfer-encoding").is_some() {
        loop {
            let Some(line) = note(wire.raw_until(b"\r\n")) else { return false };
            let size = String::from_utf8_lossy(&line);
            let Ok(size) = usize::from_str_radix(size.trim(), 16) else { return false };
            if note(wire.raw(size + 2)).is_none() {
                return false;
            }
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = field("content-length").and_then(|length| length.parse().ok())
        && note(wire.raw(length)).is_none()
    {
        return false;
    }
    let path = head.split(' ').nth(1).unwrap_or_default();
    let protocol = if ["/force", "/other"].contains(&path) { Some("h2c".to_owned()) } else { field("upgrade") };
    match protocol.filter(|_| path != "/refuse") {
        Some(protocol) => {
            wire.write(
                format!("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: {protocol}\r\n\r\n")
                    .as_bytes(),
            );
            false
        }
        None => {
            wire.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            true
        }
    }
}

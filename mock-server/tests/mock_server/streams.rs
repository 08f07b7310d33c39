//! Long bodies, broken bodies, tunnels.

use std::io::Write;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use lb_test_support::{Client, wait_until};
use mock_server::Options;

use crate::client::{get, send_get, start};

fn alphabet(len: usize) -> Vec<u8> {
    (b'a'..=b'z').cycle().take(len).collect()
}

#[test]
fn a_stream_has_exactly_its_bytes_in_both_framings() {
    let server = start(Options::default());
    for bytes in [0, 1, 25, 26, 27, 1000, 70_000, 3_000_000] {
        for chunk in [1 + bytes / 7, 16_384, 1 << 20] {
            for length in [0, 1] {
                let path = format!("/stream?bytes={bytes}&chunk={chunk}&length={length}");
                let answer = get(server.addr, &path);
                let declared = answer.header("content-length").map(str::to_owned);
                assert_eq!(declared.is_some(), length == 1 || bytes == 0, "{path}");
                assert!(answer.body == alphabet(bytes), "{path}: {} bytes", answer.body.len());
            }
        }
    }
}

#[test]
fn an_aborted_stream_ends_after_the_exact_number_of_bytes_without_its_proper_end() {
    let server = start(Options::default());
    for abort_after in [0, 1, 500, 99_999] {
        let mut client = Client::connect(server.addr);
        send_get(&mut client, &format!("/stream?bytes=100000&length=1&abort_after={abort_after}"));
        assert_eq!(client.head().expect("a head").header("content-length"), Some("100000"));
        assert!(client.rest_until_end() == alphabet(abort_after), "after {abort_after}");
    }
    let mut client = Client::connect(server.addr);
    send_get(&mut client, "/stream?bytes=100&chunk=100&abort_after=5");
    assert_eq!(client.head().expect("a head").header("transfer-encoding"), Some("chunked"));
    assert_eq!(String::from_utf8_lossy(&client.rest_until_end()), "5\r\nabcde\r\n");
}

#[test]
fn an_aborted_stream_ends_even_if_the_client_has_already_sent_more() {
    let server = start(Options::default());
    let mut client = Client::connect(server.addr);
    let request = "GET /stream?bytes=100&length=1&abort_after=5 HTTP/1.1\r\nhost: test\r\n\r\n";
    client.send(request.repeat(2).as_bytes());
    client.head().expect("a head");
    // Unread input makes the kernel send a reset, so the end may be an error. The test only needs an end.
    let rest = client.rest();
    assert!(rest.len() <= 5, "{}", String::from_utf8_lossy(&rest));
    wait_until("the connection's end", || server.stats().open_connections == 0);
}

#[test]
fn a_stream_pauses_between_chunks_and_only_there() {
    let server = start(Options::default());
    let start_time = Instant::now();
    let answer = get(server.addr, "/stream?bytes=30&chunk=10&interval_ms=20");
    assert_eq!(answer.body, alphabet(30));
    assert!(start_time.elapsed() >= Duration::from_millis(40));
    // A single chunk has no pause, so the interval of an hour does not matter.
    assert_eq!(get(server.addr, "/stream?bytes=10&chunk=10&interval_ms=3600000").body.len(), 10);
}

#[test]
fn a_stream_waits_for_its_reader() {
    let server = start(Options::default());
    let mut client = Client::connect(server.addr);
    send_get(&mut client, "/stream?bytes=1000000000000&length=1");
    client.head().expect("a head");
    client.raw(8 << 20);
    // Other clients are served meanwhile. The bytes made are those taken, plus those in socket buffers.
    for _ in 0..100 {
        assert_eq!(get(server.addr, "/home").status(), 200);
    }
    let sent = server.stats().body_bytes_sent;
    assert!(sent < 64 << 20, "{sent} bytes made for a reader of 8 MiB");
    drop(client);
    wait_until("the end of the stream", || server.stats().in_service == 0);
}

#[test]
fn a_worker_is_busy_until_its_last_byte_is_taken() {
    let server = start(Options { concurrency: 1, ..Options::default() });
    let mut streaming = Client::connect(server.addr);
    send_get(&mut streaming, "/stream?bytes=1000000000000");
    streaming.head().expect("a head");
    let mut waiting = Client::connect(server.addr);
    send_get(&mut waiting, "/home");
    wait_until("the second waits", || server.stats().queued == 1);
    drop(streaming);
    assert_eq!(waiting.answer().status(), 200);
}

#[test]
fn an_echo_returns_all_bytes_also_after_the_client_closed_its_half() {
    let server = start(Options { id: "e".into(), ..Options::default() });
    let mut client = Client::connect(server.addr);
    // The first bytes of the tunnel come with the head.
    client.send(b"GET /echo HTTP/1.1\r\nhost: test\r\nupgrade: echo\r\nconnection: upgrade\r\n\r\nearly ");
    let head = client.head().expect("a head");
    assert_eq!((head.status, head.header("upgrade"), head.header("x-server-id")), (101, Some("echo"), Some("e")));
    let bytes = alphabet(1_000_000);
    let mut half = client.stream.try_clone().expect("a half");
    let sender = std::thread::spawn(move || {
        half.write_all(&bytes).expect("sent");
        half.shutdown(Shutdown::Write).expect("half closed");
    });
    let echoed = client.rest_until_end();
    sender.join().expect("the sender");
    assert!(echoed.starts_with(b"early "), "{:?}", &echoed[..10]);
    assert!(echoed[6..] == alphabet(1_000_000));
    wait_until("the tunnel's end", || server.stats().open_connections == 0);
    let stats = server.stats();
    assert_eq!((stats.served, stats.in_progress, stats.body_bytes_sent), (1, 0, 1_000_006));
}

#[test]
fn echo_without_an_upgrade_is_426_and_says_to_what() {
    let server = start(Options::default());
    let answer = get(server.addr, "/echo");
    assert_eq!((answer.status(), answer.header("upgrade")), (426, Some("echo")));
}

//! A hundred pipelined requests: all get their response, in order, also after a half-close.

use lb_test_support::Client;

use crate::mirror::mirror;
use crate::support::{Balancer, Setup, strategy};

const SEED: u64 = 12;
const DEEP: usize = 100;

/// GETs and small POSTs in both framings, each with the expected response of the mirror.
fn requests(random: &mut fastrand::Rng) -> Vec<(Vec<u8>, String)> {
    let one = |number: usize| {
        let body: String = (0..random.usize(1..60)).map(|_| random.alphanumeric()).collect();
        match random.u8(..3) {
            0 => (format!("GET /{number} HTTP/1.1\r\nhost: a\r\n\r\n"), format!("GET /{number} "), String::new()),
            1 => (
                format!("POST /{number} HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}", body.len()),
                format!("POST /{number} "),
                body,
            ),
            _ => {
                let (first, second) = body.split_at(body.len() / 2);
                let chunk = |part: &str| match part {
                    "" => String::new(),
                    part => format!("{:x}\r\n{part}\r\n", part.len()),
                };
                let chunks = format!("{}{}0\r\n\r\n", chunk(first), chunk(second));
                let head = format!("POST /{number} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
                (head + &chunks, format!("POST /{number} "), body)
            }
        }
    };
    let whole = (0..DEEP).map(one);
    whole.map(|(bytes, line, body)| (bytes.into_bytes(), format!("{line}\0{body}"))).collect()
}

fn check(client: &mut Client, requests: &[(Vec<u8>, String)]) {
    for (number, (_, expected)) in requests.iter().enumerate() {
        let whole = client.whole("GET").unwrap_or_else(|broken| panic!("response {number}: {broken:?}"));
        assert!(whole.heads.len() == 1 && whole.heads[0].starts_with("HTTP/1.1 200 "), "{:?}", whole.heads);
        let words = String::from_utf8(whole.body).unwrap();
        let (line, body) = expected.split_once('\0').unwrap();
        assert!(
            words.starts_with(line) && words.split(" / ").nth(1) == Some(body),
            "{number}: {words} for {expected:?}"
        );
    }
}

/// Sends with `send`, then checks all responses. With `ends`, the client closes its sending half after the last
/// request.
fn pipelined(
    lb: &Balancer,
    random: &mut fastrand::Rng,
    ends: bool,
    send: impl FnOnce(&mut Client, &[u8], &mut fastrand::Rng),
) {
    let requests = requests(random);
    let bytes = requests.iter().flat_map(|(bytes, _)| bytes.clone()).collect::<Vec<u8>>();
    let mut client = lb.client();
    send(&mut client, &bytes, random);
    if ends {
        client.end_sending();
    }
    check(&mut client, &requests);
    if ends {
        assert_eq!(client.rest(), b"");
    } else {
        assert_eq!(client.get("/more").status(), 200, "the connection stays open");
    }
}

#[test]
fn a_hundred_pipelined_requests_get_their_responses_in_order() {
    println!("seed {SEED}");
    let mut random = fastrand::Rng::with_seed(SEED);
    // The second strategy holds the bodies.
    for name in ["round_robin", "prefix_affinity"] {
        all_in_order(&mut random, name);
    }
}

fn all_in_order(random: &mut fastrand::Rng, name: &str) {
    let server = mirror();
    let lb = Setup::new(&[server.addr]).with(|setup| setup.pools[0].strategy = strategy(name)).start();
    for _ in 0..5 {
        for ends in [false, true] {
            pipelined(&lb, random, ends, |client, bytes, _| client.send(bytes));
            pipelined(&lb, random, ends, |client, bytes, random| {
                let mut rest = bytes;
                while !rest.is_empty() {
                    let piece = random.usize(1..=300).min(rest.len());
                    client.send(&rest[..piece]);
                    rest = &rest[piece..];
                }
            });
        }
    }
    lb.comes_to_rest();
    assert_eq!(lb.ended_with(200), 20 * DEEP as u64 + 10);
    assert!(lb.metrics.pool_totals("default").errors_by_reason.is_empty());
}

#[test]
fn pipelined_requests_that_arrive_with_a_half_close_all_get_their_response() {
    let server = mirror();
    let lb = Setup::new(&[server.addr]).start();
    for deep in 2..6 {
        let mut client = lb.client();
        let bytes = lb_test_support::request("GET", "/", &[]).repeat(deep);
        client.send(&bytes);
        client.end_sending();
        for number in 0..deep {
            assert!(client.whole("GET").is_ok(), "response {number} of {deep}");
        }
        assert_eq!(client.rest(), b"");
    }
    lb.comes_to_rest();
    assert_eq!(lb.ended_with(200), 2 + 3 + 4 + 5);
}

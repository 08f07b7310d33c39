//! Bodies of random sizes in random chunks and pieces, in both directions at once. Every byte and trailer arrives, and
//! connections stay open.
//!
//! Why in addition to `split.rs`: these sizes are around the limits of buffers, where lb sends data in another way.

use std::io::Write;

use lb_test_support::{Hostile, request};

use crate::mirror::take_body;
use crate::support::Setup;

const SEED: u64 = 1207;
const ROUNDS: usize = 120;
/// Sizes at which lb changes its way: copy or share, gather or write alone, small or large reads.
const EDGES: [usize; 7] = [1, 16, 1024, 8 * 1024, 16 * 1024, 64 * 1024, 100_000];

fn size(random: &mut fastrand::Rng) -> usize {
    let edge = EDGES[random.usize(..EDGES.len())];
    (edge + random.usize(..3)).saturating_sub(1).max(1)
}

/// A chunked body of up to five chunks, its bytes decoded, and its trailers.
fn chunked(random: &mut fastrand::Rng) -> (Vec<u8>, Vec<u8>, Vec<String>) {
    let (mut wire, mut body) = (Vec::new(), Vec::new());
    for _ in 0..random.usize(..6) {
        let mut data = vec![0; size(random)];
        random.fill(&mut data);
        wire.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
        wire.extend_from_slice(&data);
        wire.extend_from_slice(b"\r\n");
        body.extend_from_slice(&data);
    }
    wire.extend_from_slice(b"0\r\n");
    let trailers: Vec<String> =
        (0..random.usize(..3)).map(|number| format!("x-t{number}: {}", random.u32(..))).collect();
    trailers.iter().for_each(|line| wire.extend_from_slice(format!("{line}\r\n").as_bytes()));
    wire.extend_from_slice(b"\r\n");
    (wire, body, trailers)
}

fn write_in_pieces(stream: &mut impl Write, wire: &[u8], random: &mut fastrand::Rng) {
    let mut rest = wire;
    while !rest.is_empty() {
        let piece = size(random).min(rest.len());
        stream.write_all(&rest[..piece]).unwrap();
        rest = &rest[piece..];
    }
}

#[test]
fn bodies_of_any_size_in_any_pieces_arrive_both_ways_at_once() {
    println!("seed {SEED}");
    // Responds while it reads. The path has the seed of both bodies.
    let server = Hostile::start(|_, wire| {
        while let Some(head) = wire.head() {
            let seed: u64 = head.split(['/', ' ']).find_map(|part| part.parse().ok()).unwrap();
            let mut writer = wire.clone_stream();
            let writing = std::thread::spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed + 1);
                let (body, ..) = chunked(&mut random);
                writer.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
                write_in_pieces(&mut writer, &body[..body.len() - 2], &mut random);
            });
            let (_, body, trailers) = chunked(&mut fastrand::Rng::with_seed(seed));
            let seen = take_body(wire, head).unwrap();
            assert!(seen.body == body && seen.trailers == trailers, "seed {seed}: the body differs");
            writing.join().unwrap();
            // The response ends only after the whole request, else lb could not reuse the connections.
            wire.write(b"\r\n");
        }
    });
    let lb = Setup::new(&[server.addr]).with(|setup| setup.workers = 1).start();
    let mut client = lb.client();
    let mut seeds = fastrand::Rng::with_seed(SEED);
    for round in 0..ROUNDS {
        let seed = seeds.u64(..1 << 40);
        let mut random = fastrand::Rng::with_seed(seed);
        let (body, ..) = chunked(&mut random);
        let mut writer = client.stream.try_clone().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let head = request("POST", &format!("/{seed}"), &["transfer-encoding: chunked"]);
                write_in_pieces(&mut writer, &[head, body].concat(), &mut random);
            });
            let whole = client.whole("POST").unwrap_or_else(|broken| panic!("round {round}, seed {seed}: {broken:?}"));
            let (_, body, trailers) = chunked(&mut fastrand::Rng::with_seed(seed + 1));
            assert!(whole.body == body && whole.trailers == trailers, "round {round}, seed {seed}: the body differs");
        });
    }
    lb.comes_to_rest();
    assert_eq!((lb.ended_with(200), server.accepted()), (ROUNDS as u64, 1));
}

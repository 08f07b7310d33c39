//! The cost of parsing, framing, decoding and writing HTTP/1.1 messages, with httparse for comparison.
//!
//! Run `cargo bench -p lb --bench http1`. Times depend on the machine and its load; compare rows of one run.

use std::hint::black_box;

use bytes::BytesMut;
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use http::Method;
use lb::http1::{
    BodyDecoder, Length, Limits, RequestHead, ResponseHead, Scan, of_request, of_response, take_request, take_response,
    write,
};

const LIMITS: Limits = Limits { head_bytes: 65_536, fields: 100 };
const SMALL: &[u8] = b"GET /home HTTP/1.1\r\nhost: lb\r\n\r\n";
const BROWSER: &[u8] = b"GET /app/index.html?session=12345 HTTP/1.1\r\nHost: shop.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\nReferer: https://shop.example.com/app/\r\nConnection: keep-alive\r\n\
    Cookie: id=0123456789abcdef0123456789abcdef; theme=dark; consent=1\r\nUpgrade-Insecure-Requests: 1\r\n\
    Sec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: same-origin\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: mock\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\
    Date: Sun, 29 Nov 2026 14:00:00 GMT\r\n\r\n";

fn main() {
    divan::main();
}

fn request(text: &str) -> &'static [u8] {
    if text == "small" { SMALL } else { BROWSER }
}

fn parsed(bytes: &[u8]) -> RequestHead {
    let mut head = RequestHead::default();
    take_request(&mut BytesMut::from(bytes), &mut Scan::default(), &LIMITS, &mut head).expect("it is a request");
    head
}

#[divan::bench(args = ["small", "browser"])]
fn request_head(bencher: Bencher<'_, '_>, text: &str) {
    let (bytes, mut head, mut read) = (request(text), RequestHead::default(), BytesMut::new());
    bencher.counter(BytesCount::of_slice(bytes)).bench_local(|| {
        read.reserve(4096);
        read.extend_from_slice(black_box(bytes));
        take_request(&mut read, &mut Scan::default(), &LIMITS, &mut head)
    });
}

#[divan::bench(args = ["small", "browser"])]
fn request_head_byte_by_byte(bencher: Bencher<'_, '_>, text: &str) {
    let (bytes, mut head, mut read) = (request(text), RequestHead::default(), BytesMut::new());
    bencher.counter(BytesCount::of_slice(bytes)).bench_local(|| {
        let mut scan = Scan::default();
        read.reserve(4096);
        for byte in black_box(bytes) {
            read.extend_from_slice(&[*byte]);
            let _ = black_box(take_request(&mut read, &mut scan, &LIMITS, &mut head));
        }
    });
}

/// httparse makes no copy of the values; lb's parser does.
#[divan::bench(args = ["small", "browser"])]
fn request_head_by_httparse(bencher: Bencher<'_, '_>, text: &str) {
    let bytes = request(text);
    bencher.counter(BytesCount::of_slice(bytes)).bench_local(|| {
        let mut fields = [const { std::mem::MaybeUninit::uninit() }; 100];
        let mut request = httparse::Request::new(&mut []);
        request.parse_with_uninit_headers(black_box(bytes), &mut fields).map(|status| status.is_complete())
    });
}

#[divan::bench(args = ["small", "browser"])]
fn request_framing(bencher: Bencher<'_, '_>, text: &str) {
    let head = parsed(request(text));
    bencher.bench_local(|| of_request(black_box(&head)));
}

#[divan::bench(args = ["small", "browser"])]
fn request_written(bencher: Bencher<'_, '_>, text: &str) {
    let (head, mut out) = (parsed(request(text)), Vec::new());
    bencher.bench_local(|| {
        out.clear();
        write::request(&mut out, &head.method, &head.target, &head.fields);
        out.len()
    });
}

#[divan::bench]
fn response_head_and_framing(bencher: Bencher<'_, '_>) {
    let (mut head, mut read) = (ResponseHead::default(), BytesMut::new());
    bencher.counter(BytesCount::of_slice(RESPONSE)).bench_local(|| {
        read.reserve(4096);
        read.extend_from_slice(black_box(RESPONSE));
        take_response(&mut read, &mut Scan::default(), &mut head).and_then(|_| of_response(&head, &Method::GET))
    });
}

/// 64 KiB of data in chunks of one size, all in the read buffer. Items are chunks.
#[divan::bench(args = [1, 16, 256, 4096, 65_536])]
fn chunks_of(bencher: Bencher<'_, '_>, size: usize) {
    let mut wire = Vec::new();
    for _ in 0..65_536 / size {
        write::chunk_begin(&mut wire, size);
        wire.extend(std::iter::repeat_n(b'x', size));
        wire.extend_from_slice(write::CHUNK_END);
    }
    wire.extend_from_slice(write::LAST_CHUNK);
    bencher.counter(ItemsCount::new(65_536 / size)).with_inputs(|| BytesMut::from(&wire[..])).bench_local_values(
        |mut read| {
            let mut decoder = BodyDecoder::new(Length::Chunked);
            while !decoder.is_done() {
                let _ = black_box(decoder.take(&mut read));
            }
            read
        },
    );
}

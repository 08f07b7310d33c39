//! A backend whose response describes the request that it got, however the bytes were split.
//!
//! Invariant: the response depends only on head, body and trailers of the request. So two requests that lb must treat
//! alike get the same response.

use lb_test_support::{Client, Hostile, Wire};

use crate::support::Balancer;

/// A request as a backend reads it.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<String>,
}

/// Another connection to a balancer with one worker. Its response shows that the worker has seen all earlier bytes.
///
/// The runtime polls connections in the order in which their bytes came, and this response takes a further round.
pub(crate) struct Probe(Client);

/// Serves every connection with [`Seen::response`].
pub(crate) fn mirror() -> Hostile {
    Hostile::start(|_, wire| {
        while let Some(seen) = take(wire) {
            wire.write(seen.response().as_bytes());
        }
    })
}

/// The next complete request; `None` at the end of the connection.
pub(crate) fn take(wire: &mut Wire) -> Option<Seen> {
    let head = wire.head()?;
    take_body(wire, head)
}

/// Reads body and trailers after a head that was already read.
pub(crate) fn take_body(wire: &mut Wire, head: String) -> Option<Seen> {
    let lower = head.to_ascii_lowercase();
    let field =
        |name: &str| lower.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
    let (mut body, mut trailers) = (Vec::new(), Vec::new());
    if let Some(length) = field("content-length:") {
        body = wire.raw(length.parse().unwrap())?;
    } else if field("transfer-encoding:").is_some() {
        loop {
            let size = usize::from_str_radix(&line(wire)?, 16).unwrap();
            if size == 0 {
                break;
            }
            body.extend_from_slice(&wire.raw(size)?);
            assert_eq!(line(wire)?, "", "a chunk has the length that it declares");
        }
        loop {
            match line(wire)? {
                line if line.is_empty() => break,
                line => trailers.push(line),
            }
        }
    }
    Some(Seen { head, body, trailers })
}

fn line(wire: &mut Wire) -> Option<String> {
    let line = wire.raw_until(b"\r\n")?;
    Some(String::from_utf8(line[..line.len() - 2].to_vec()).unwrap())
}

// === impl Seen ===

impl Seen {
    /// The request in one line. A response with this line and a fixed Date is always the same.
    pub(crate) fn words(&self) -> String {
        format!("{} / {} / {}", self.head.replace("\r\n", " | "), self.body.escape_ascii(), self.trailers.join(" | "))
    }

    pub(crate) fn response(&self) -> String {
        let words = self.words();
        let (date, length) = ("Thu, 01 Jan 1970 00:00:00 GMT", if self.is_head() { 0 } else { words.len() });
        let body = if self.is_head() { "" } else { &words };
        format!("HTTP/1.1 200 OK\r\ndate: {date}\r\nx-saw: {words}\r\ncontent-length: {length}\r\n\r\n{body}")
    }

    fn is_head(&self) -> bool {
        self.head.starts_with("HEAD ")
    }
}

// === impl Probe ===

impl Probe {
    pub(crate) fn new(lb: &Balancer) -> Self {
        Self(lb.client())
    }

    /// Returns when the worker has seen all earlier bytes. Needs a backend that responds to `/probe`.
    pub(crate) fn pass(&mut self) {
        assert_eq!(self.0.get("/probe").status(), 200);
    }
}

//! Runs the parsers over the bytes of one connection, in pieces, and records everything they return.

use bytes::BytesMut;
use http::Method;
use lb::http1::{
    BodyDecoder, Fields, Framing, Length, Limits, RequestHead, ResponseHead, Scan, of_request, of_response,
    take_request, take_response,
};

/// How the bytes are split into reads.
#[derive(Debug)]
pub enum Pieces {
    Whole,
    Bytes,
    Random(fastrand::Rng),
}

/// All messages of one connection, and why there are no more.
#[derive(Debug, PartialEq)]
pub struct Outcome<H> {
    pub messages: Vec<Message<H>>,
    pub end: End,
    /// Bytes that were not taken.
    pub left: usize,
}

#[derive(Debug, PartialEq)]
pub struct Message<H> {
    pub head: H,
    pub body: Vec<u8>,
    pub trailers: Option<Fields>,
    pub chunks: u64,
    pub is_complete: bool,
    /// Only the close of the connection completes it.
    pub needs_close: bool,
    /// Offset of the first byte after it.
    pub end: usize,
}

#[derive(Debug, PartialEq)]
pub enum End {
    /// More bytes are needed.
    More,
    /// The last message said that the connection ends.
    Closed,
    Refused(String),
}

/// The bytes of a connection, of which a part was read.
struct Feed<'a> {
    data: &'a [u8],
    fed: usize,
    pieces: Pieces,
    read: BytesMut,
}

pub fn requests(data: &[u8], pieces: Pieces, limits: &Limits) -> Outcome<RequestHead> {
    let mut feed = Feed::new(data, pieces);
    let (mut messages, mut scan) = (Vec::new(), Scan::default());
    let end = loop {
        let mut head = RequestHead::default();
        match feed.until(|read| take_request(read, &mut scan, limits, &mut head)) {
            Ok(true) => {}
            Ok(false) => break End::More,
            Err(refusal) => break End::Refused(refusal.sentence().to_owned()),
        }
        match of_request(&head) {
            Ok(framing) => match feed.message(head, framing, &mut messages) {
                Some(end) => break end,
                None => continue,
            },
            Err(refusal) => break End::Refused(refusal.sentence().to_owned()),
        }
    };
    Outcome { messages, end, left: feed.left() }
}

pub fn responses(data: &[u8], pieces: Pieces, method: &Method) -> Outcome<ResponseHead> {
    let mut feed = Feed::new(data, pieces);
    let (mut messages, mut scan) = (Vec::new(), Scan::default());
    let end = loop {
        let mut head = ResponseHead::default();
        match feed.until(|read| take_response(read, &mut scan, &mut head)) {
            Ok(true) => {}
            Ok(false) => break End::More,
            Err(error) => break End::Refused(error.0.to_owned()),
        }
        match of_response(&head, method) {
            Ok(framing) => match feed.message(head, framing, &mut messages) {
                Some(end) => break end,
                None => continue,
            },
            Err(error) => break End::Refused(error.0.to_owned()),
        }
    };
    Outcome { messages, end, left: feed.left() }
}

/// One chunked body.
pub fn body(data: &[u8], pieces: Pieces) -> Outcome<()> {
    let mut feed = Feed::new(data, pieces);
    let mut messages = Vec::new();
    let framing = Framing { body: Length::Chunked, keep_alive: false };
    let end = feed.message((), framing, &mut messages).unwrap_or(End::Closed);
    Outcome { messages, end, left: feed.left() }
}

// === impl Pieces ===

impl Pieces {
    pub fn random(seed: u64) -> Self {
        Self::Random(fastrand::Rng::with_seed(seed))
    }

    fn next(&mut self) -> usize {
        match self {
            Self::Whole => usize::MAX,
            Self::Bytes => 1,
            // Small pieces mostly, and some that span whole messages.
            Self::Random(random) => {
                let limit = [3, 20, 200, 20_000][random.usize(0..4)];
                random.usize(1..=limit)
            }
        }
    }
}

// === impl Feed ===

impl<'a> Feed<'a> {
    fn new(data: &'a [u8], pieces: Pieces) -> Self {
        Self { data, fed: 0, pieces, read: BytesMut::new() }
    }

    /// Reads a piece; false at the end.
    fn more(&mut self) -> bool {
        let rest = &self.data[self.fed..];
        let piece = &rest[..rest.len().min(self.pieces.next())];
        self.read.extend_from_slice(piece);
        self.fed += piece.len();
        !piece.is_empty()
    }

    fn left(&self) -> usize {
        self.data.len() - self.fed + self.read.len()
    }

    /// Calls `take` until it returns true or an error, or no bytes are left.
    fn until<E>(&mut self, mut take: impl FnMut(&mut BytesMut) -> Result<bool, E>) -> Result<bool, E> {
        while !take(&mut self.read)? {
            if !self.more() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Decodes the body and adds the message. Returns the connection's end if it ends here.
    fn message<H>(&mut self, head: H, framing: Framing, messages: &mut Vec<Message<H>>) -> Option<End> {
        let mut decoder = BodyDecoder::new(framing.body);
        let mut body = Vec::new();
        let mut end = loop {
            let here = self.read.len();
            match decoder.take(&mut self.read) {
                Ok(data) => {
                    assert!(data.len() <= here - self.read.len(), "more data than bytes");
                    assert!(!data.is_empty() || decoder.is_done() || decoder.exact() != Some(0));
                    body.extend_from_slice(&data);
                    if decoder.is_done() {
                        break None;
                    }
                    if data.is_empty() && !self.more() {
                        break Some(End::More);
                    }
                }
                Err(error) => {
                    assert_eq!(decoder.take(&mut self.read), Err(error), "an error comes again");
                    break Some(End::Refused(error.0.to_owned()));
                }
            }
        };
        let needs_close = end == Some(End::More) && decoder.at_eof();
        if (end.is_none() && !framing.keep_alive) || needs_close {
            end = Some(End::Closed);
        }
        let is_complete = decoder.is_done();
        let (trailers, chunks, at) = (decoder.take_trailers(), decoder.chunks(), self.data.len() - self.left());
        messages.push(Message { head, body, trailers, chunks, is_complete, needs_close, end: at });
        end
    }
}

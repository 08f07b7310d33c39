//! An HTTP/1.1 client by hand: a blocking socket, so that odd bytes can be sent and every byte of an answer is seen.
//!
//! Invariant: an answer is `Ok` only when it is whole by its own framing; what broke off is an error that says how much came.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// No wait is longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    /// Read and not yet taken.
    buffer: Vec<u8>,
    /// The lines behind the last chunk of the newest chunked body.
    pub(crate) trailers: Vec<String>,
}

/// A response with all that came for it, in words that do not depend on where its chunks were cut.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    /// The interim ones first.
    pub(crate) heads: Vec<String>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<String>,
}

/// Status line and header fields.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) version: String,
    pub(crate) fields: Vec<(String, String)>,
}

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    Length(u64),
    Chunked,
    Close,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: Head,
    pub(crate) framing: Framing,
    pub(crate) body: Vec<u8>,
}

/// Why there is no whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The connection ended before a byte of an answer.
    Silent,
    /// It ended, or was reset, behind so many bytes of the head or body.
    Short { what: &'static str, bytes: u64 },
}

/// A request without a body.
pub(crate) fn request(method: &str, path: &str, fields: &[&str]) -> Vec<u8> {
    let lines: String = fields.iter().map(|line| format!("{line}\r\n")).collect();
    format!("{method} {path} HTTP/1.1\r\nhost: lb.test\r\n{lines}\r\n").into_bytes()
}

/// A request with a body of declared length.
pub(crate) fn request_with(method: &str, path: &str, fields: &[&str], body: &[u8]) -> Vec<u8> {
    let length = format!("content-length: {}", body.len());
    let mut bytes = request(method, path, &[fields, &[&length]].concat());
    bytes.extend_from_slice(body);
    bytes
}

/// A JSON body.
pub(crate) fn parse(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(body)))
}

/// One chunk of a chunked body; the empty one is the end.
pub(crate) fn chunk(data: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{:x}\r\n", data.len()).into_bytes();
    bytes.extend_from_slice(data);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

// === impl Client ===

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap()
    }

    pub(crate) fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, buffer: Vec::new(), trailers: Vec::new() })
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends what the other side may no longer want.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub(crate) fn end_sending(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, &[])
    }

    pub(crate) fn ask(&mut self, method: &str, path: &str, fields: &[&str]) -> Answer {
        self.send(&request(method, path, fields));
        self.answer_to(method).unwrap_or_else(|broken| panic!("{method} {path}: {broken:?}"))
    }

    pub(crate) fn post(&mut self, path: &str, fields: &[&str], body: &[u8]) -> Answer {
        self.send(&request_with("POST", path, fields, body));
        self.answer()
    }

    pub(crate) fn answer(&mut self) -> Answer {
        self.answer_to("GET").unwrap()
    }

    /// The next final answer; interim ones are passed over.
    pub(crate) fn answer_to(&mut self, method: &str) -> Result<Answer, Broken> {
        let head = loop {
            let head = self.head()?;
            if head.status >= 200 || head.status == 101 {
                break head;
            }
        };
        let framing = head.framing(method);
        let mut body = Vec::new();
        self.body(framing, |bytes| body.extend_from_slice(bytes))?;
        Ok(Answer { head, framing, body })
    }

    /// The next response, interim ones and trailers included.
    pub(crate) fn whole(&mut self, method: &str) -> Result<Whole, Broken> {
        let (mut heads, mut body) = (Vec::new(), Vec::new());
        let framing = loop {
            let text = String::from_utf8(self.take_head()?).unwrap();
            let head = Head::parse(text.trim_end());
            heads.push(text);
            if head.status >= 200 {
                break head.framing(method);
            }
        };
        self.trailers.clear();
        self.body(framing, |bytes| body.extend_from_slice(bytes))?;
        Ok(Whole { heads, body, trailers: std::mem::take(&mut self.trailers) })
    }

    /// The next head, also an interim one.
    pub(crate) fn head(&mut self) -> Result<Head, Broken> {
        let head = self.take_head()?;
        Ok(Head::parse(std::str::from_utf8(&head[..head.len() - 4]).unwrap()))
    }

    /// The next head as it came.
    pub(crate) fn raw_head(&mut self) -> Vec<u8> {
        self.take_head().unwrap()
    }

    fn take_head(&mut self) -> Result<Vec<u8>, Broken> {
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at;
            }
            if !self.more() {
                let bytes = self.buffer.len() as u64;
                return Err(if bytes == 0 { Broken::Silent } else { Broken::Short { what: "head", bytes } });
            }
        };
        Ok(self.buffer.drain(..end + 4).collect())
    }

    /// Reads a body to its end, piece by piece.
    pub(crate) fn body(&mut self, framing: Framing, mut take: impl FnMut(&[u8])) -> Result<(), Broken> {
        let mut bytes = 0;
        match framing {
            Framing::None => Ok(()),
            Framing::Length(length) => self.exactly(length, &mut bytes, &mut take),
            Framing::Close => loop {
                bytes += self.buffer.len() as u64;
                take(&self.buffer);
                self.buffer.clear();
                match self.fill() {
                    Ok(0) => return Ok(()),
                    Ok(_) => {}
                    Err(_) => return Err(Broken::Short { what: "body", bytes }),
                }
            },
            Framing::Chunked => loop {
                let size = self.line(bytes)?;
                let size = u64::from_str_radix(size.split(';').next().unwrap().trim(), 16).unwrap();
                self.exactly(size, &mut bytes, &mut take)?;
                // After a chunk an empty line; after the last one trailers and then an empty line.
                self.trailers.clear();
                loop {
                    let line = self.line(bytes)?;
                    if line.is_empty() {
                        break;
                    }
                    self.trailers.push(line);
                }
                if size == 0 {
                    return Ok(());
                }
            },
        }
    }

    fn exactly(&mut self, length: u64, bytes: &mut u64, take: &mut impl FnMut(&[u8])) -> Result<(), Broken> {
        let mut left = length;
        while left > 0 {
            if self.buffer.is_empty() && !self.more() {
                return Err(Broken::Short { what: "body", bytes: *bytes });
            }
            let here = (self.buffer.len() as u64).min(left) as usize;
            take(&self.buffer[..here]);
            self.buffer.drain(..here);
            left -= here as u64;
            *bytes += here as u64;
        }
        Ok(())
    }

    fn line(&mut self, bytes: u64) -> Result<String, Broken> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..at + 2).collect();
                return Ok(String::from_utf8(line[..at].to_vec()).unwrap());
            }
            if !self.more() {
                return Err(Broken::Short { what: "body", bytes });
            }
        }
    }

    /// Exactly so many raw bytes, for tunnels.
    pub(crate) fn raw(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            assert!(self.more(), "only {} of {length} bytes came", self.buffer.len());
        }
        self.buffer.drain(..length).collect()
    }

    /// Waits for the end of the connection; answers what came before it.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.more() {}
        std::mem::take(&mut self.buffer)
    }

    /// Whether the other side says good-bye and still takes what is under way: a reset could overtake the answer.
    pub(crate) fn ends_well(&mut self) -> bool {
        self.buffer.is_empty()
            && matches!(self.fill(), Ok(0))
            && self.try_send(b"more").is_ok()
            && self.try_send(b"and more").is_ok()
    }

    /// False at the end of the connection or its reset.
    fn more(&mut self) -> bool {
        self.fill().is_ok_and(|bytes| bytes > 0)
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut block = [0; 65_536];
        match self.stream.read(&mut block) {
            Ok(bytes) => {
                self.buffer.extend_from_slice(&block[..bytes]);
                Ok(bytes)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("waited in vain for bytes"),
            Err(error) => Err(error),
        }
    }

    /// Goes away with a reset, as a crashed client's host does.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

// === impl Head ===

impl Head {
    pub(crate) fn parse(text: &str) -> Self {
        let mut lines = text.split("\r\n");
        let mut first = lines.next().unwrap().splitn(3, ' ');
        let version = first.next().unwrap().to_owned();
        let status = first.next().and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("no answer: {text:?}"));
        let fields = lines.map(|line| {
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no field: {line:?}"));
            (name.to_ascii_lowercase(), value.trim().to_owned())
        });
        Self { status, version, fields: fields.collect() }
    }

    /// All values of a field, joined.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let values: Vec<_> =
            self.fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    pub(crate) fn framing(&self, method: &str) -> Framing {
        if method == "HEAD" || matches!(self.status, 100..=199 | 204 | 304) {
            return Framing::None;
        }
        match (self.field("transfer-encoding"), self.field("content-length")) {
            (Some(coding), None) if coding == "chunked" => Framing::Chunked,
            (None, Some(length)) => Framing::Length(length.parse().unwrap()),
            (None, None) => Framing::Close,
            both => panic!("ambiguous framing: {both:?}"),
        }
    }
}

// === impl Answer ===

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.status
    }

    pub(crate) fn field(&self, name: &str) -> Option<String> {
        self.head.field(name)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// What `/headers` of the mock server saw of a field, all values joined.
    pub(crate) fn seen(&self, name: &str) -> Option<String> {
        let pairs: Vec<(String, String)> = serde_json::from_value(parse(&self.body)).unwrap();
        let values: Vec<_> = pairs.into_iter().filter(|(field, _)| field == name).map(|(_, value)| value).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// Asserts an answer of lb's own.
    #[track_caller]
    pub(crate) fn is_own(&self, status: u16, reason: &str) {
        assert_eq!((self.status(), self.field("x-lb-error").as_deref()), (status, Some(reason)), "{}", self.text());
        let body = parse(&self.body);
        assert_eq!(body["status"], "failure");
        assert!(body["message"].as_str().unwrap().starts_with("<Error> "), "{body}");
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

//! An HTTP/1.1 client by hand: a blocking socket, so that a test can send odd bytes and sees each byte of a response.
//!
//! Invariant: a response is `Ok` only when it is whole by its own framing. One that broke off is an error with the
//! number of bytes that came.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::message::{Answer, Framing, Head, request, request_with};
use crate::wait::PATIENCE;

/// One connection.
pub struct Client {
    pub stream: TcpStream,
    /// Read and not yet taken.
    buffer: Vec<u8>,
    /// The lines behind the last chunk of the newest chunked body.
    pub trailers: Vec<String>,
}

/// A response with all that came for it. Where its chunks were cut makes no difference.
#[derive(Debug, PartialEq, Eq)]
pub struct Whole {
    /// The interim ones first.
    pub heads: Vec<String>,
    pub body: Vec<u8>,
    pub trailers: Vec<String>,
}

/// Why there is no whole response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The connection ended before a byte of a response.
    Silent,
    /// It ended, or was reset, after this number of bytes of the head or body.
    Short { what: &'static str, bytes: u64 },
}

// === impl Client ===

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap()
    }

    pub fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, buffer: Vec::new(), trailers: Vec::new() })
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends bytes that the other side may refuse.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub fn end_sending(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Sends a GET and reads its response.
    pub fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, &[])
    }

    pub fn ask(&mut self, method: &str, path: &str, fields: &[&str]) -> Answer {
        self.send(&request(method, path, fields));
        self.answer_to(method).unwrap_or_else(|broken| panic!("{method} {path}: {broken:?}"))
    }

    pub fn post(&mut self, path: &str, fields: &[&str], body: &[u8]) -> Answer {
        self.send(&request_with("POST", path, fields, body));
        self.answer()
    }

    pub fn answer(&mut self) -> Answer {
        self.answer_to("GET").unwrap()
    }

    /// The next final response; interim ones are passed over.
    pub fn answer_to(&mut self, method: &str) -> Result<Answer, Broken> {
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
    pub fn whole(&mut self, method: &str) -> Result<Whole, Broken> {
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
    pub fn head(&mut self) -> Result<Head, Broken> {
        let head = self.take_head()?;
        Ok(Head::parse(std::str::from_utf8(&head[..head.len() - 4]).unwrap()))
    }

    /// The next head as it came.
    pub fn raw_head(&mut self) -> Vec<u8> {
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
    pub fn body(&mut self, framing: Framing, mut take: impl FnMut(&[u8])) -> Result<(), Broken> {
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
    pub fn raw(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            assert!(self.more(), "only {} of {length} bytes came", self.buffer.len());
        }
        self.buffer.drain(..length).collect()
    }

    /// All bytes up to the end of the connection, or to its reset.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.more() {}
        std::mem::take(&mut self.buffer)
    }

    /// The same for a connection that must end without a reset.
    #[track_caller]
    pub fn rest_until_end(&mut self) -> Vec<u8> {
        while self.fill().expect("an end without a reset") > 0 {}
        std::mem::take(&mut self.buffer)
    }

    /// Whether all bytes that have come were taken.
    pub fn is_silent(&mut self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let is_silent = self.stream.peek(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        self.stream.set_nonblocking(false).unwrap();
        is_silent && self.buffer.is_empty()
    }

    /// Whether the other side ends its half, and still takes bytes: a reset could overtake the response.
    pub fn ends_well(&mut self) -> bool {
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
        match read_some(&mut self.stream, &mut block) {
            Ok(bytes) => {
                self.buffer.extend_from_slice(&block[..bytes]);
                Ok(bytes)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("no bytes within {PATIENCE:?}"),
            Err(error) => Err(error),
        }
    }

    /// Ends the connection with a reset, as the host of a crashed client does.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// Reads once, and again if a signal came between: a socket with a time-out is never read again by the kernel itself. A
/// child of another test that ends sends such a signal.
pub(crate) fn read_some(stream: &mut TcpStream, block: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(block) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

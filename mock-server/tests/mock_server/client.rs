//! A plain HTTP/1.1 client on a blocking socket, so that tests see the bytes and not a library's reading of them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use mock_server::{MockServer, Options, Running};

/// No test waits longer for anything.
pub(crate) const BOUND: Duration = Duration::from_secs(30);

/// One connection.
pub(crate) struct Client {
    pub(crate) reader: BufReader<TcpStream>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// A server on any free port with a fixed seed.
pub(crate) fn start(options: Options) -> Running {
    MockServer::start(Options { seed: options.seed.or(Some(42)), ..options }).expect("a server")
}

/// One request on a connection of its own.
pub(crate) fn get(addr: SocketAddr, path: &str) -> Answer {
    let mut client = Client::connect(addr);
    client.send(&format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"));
    client.answer()
}

/// `POST /control` with a JSON body.
pub(crate) fn control(addr: SocketAddr, json: &str) -> Answer {
    let mut client = Client::connect(addr);
    let len = json.len();
    client.send(&format!("POST /control HTTP/1.1\r\nhost: test\r\ncontent-length: {len}\r\n\r\n{json}"));
    client.answer()
}

/// Waits until `claim` holds.
pub(crate) fn eventually(what: &str, mut claim: impl FnMut() -> bool) {
    let start = Instant::now();
    while !claim() {
        assert!(start.elapsed() < BOUND, "not within {BOUND:?}: {what}");
        std::thread::yield_now();
    }
}

// === impl Client ===

impl Client {
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).expect("a connection");
        stream.set_read_timeout(Some(BOUND)).expect("a bound");
        stream.set_nodelay(true).expect("no delay");
        Self { reader: BufReader::new(stream) }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    pub(crate) fn send(&mut self, bytes: &str) {
        self.stream().write_all(bytes.as_bytes()).expect("sent");
    }

    pub(crate) fn get(&mut self, path: &str) {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n"));
    }

    /// `GET /home` that keeps a worker busy for so long.
    pub(crate) fn get_for(&mut self, time: Duration) {
        let us = time.as_micros();
        self.send(&format!("GET /home HTTP/1.1\r\nhost: test\r\nx-service-time-us: {us}\r\n\r\n"));
    }

    /// The next answer whole, for a request that was no HEAD.
    pub(crate) fn answer(&mut self) -> Answer {
        let mut answer = self.head();
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let len = usize::from_str_radix(&self.line(), 16).expect("a chunk's length");
                let at = answer.body.len();
                answer.body.resize(at + len, 0);
                self.reader.read_exact(&mut answer.body[at..]).expect("a chunk");
                assert_eq!(self.line(), "", "the end of a chunk");
                if len == 0 {
                    break;
                }
            }
        } else if let Some(len) = answer.header("content-length") {
            answer.body = vec![0; len.parse().expect("a length")];
            self.reader.read_exact(&mut answer.body).expect("a body");
        }
        answer
    }

    /// The next answer's head alone.
    pub(crate) fn head(&mut self) -> Answer {
        let status_line = self.line();
        let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let mut headers = Vec::new();
        loop {
            let line = self.line();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(": ").expect("a header");
            headers.push((name.to_owned(), value.to_owned()));
        }
        Answer { status: status.unwrap_or_else(|| panic!("{status_line:?}")), headers, body: Vec::new() }
    }

    /// What is left until the server closes.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.reader.read_to_end(&mut rest).expect("an end");
        rest
    }

    /// Whether the server has sent nothing that was not read yet.
    pub(crate) fn is_silent(&mut self) -> bool {
        self.stream().set_nonblocking(true).expect("nonblocking");
        let silent = self.reader.fill_buf().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        self.stream().set_nonblocking(false).expect("blocking");
        silent
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("a line");
        line.strip_suffix("\r\n").unwrap_or_else(|| panic!("the connection ended: {line:?}")).to_owned()
    }
}

// === impl Answer ===

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

//! One connection to the target: a socket that never blocks, with at most one request on it.
//!
//! Invariants: no bytes of a response are stored, except the beginning of a head that arrives in pieces. If the server
//! closes an idle connection, that is not an error. A connection whose response did not end cleanly is not used again.

use std::io::{self, ErrorKind as IoError, Read, Write};
use std::net::{SocketAddr, TcpStream};

use socket2::{Domain, Protocol, Socket, Type};

use super::outcome::ErrorKind;
use super::recorder::Names;
use super::source::Due;
use super::timeouts::Phase;
use super::wire::{BadAnswer, Framing, parse};

#[derive(Debug)]
pub(super) struct Connection {
    socket: TcpStream,
    state: State,
    pub(super) request: Option<UnderWay>,
    /// Bytes of the request that the kernel had no room for.
    unwritten: Vec<u8>,
    /// The beginning of a head that is not complete.
    head: Vec<u8>,
    /// It has carried a complete response before.
    is_kept: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Connecting,
    /// No byte of the response has arrived, or there is no request.
    Quiet,
    /// Within a head.
    Head,
    Body {
        status: u16,
        backend: Option<u16>,
        framing: Framing,
        keep: bool,
    },
}

/// A request that has a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct UnderWay {
    pub(super) due: Due,
    /// When it got its connection. Its timeout runs from here.
    pub(super) taken_ns: u64,
    /// When its first byte was written; 0 before that.
    pub(super) sent_ns: u64,
    /// Bytes of its response.
    pub(super) bytes: u64,
    pub(super) is_repetition: bool,
}

/// The result of a read.
#[derive(Debug, PartialEq)]
pub(super) enum Received {
    /// Not complete yet.
    Nothing,
    Answer {
        status: u16,
        backend: Option<u16>,
        keep: bool,
    },
    /// The connection is closed, and it had no request.
    Gone,
    Failed(ErrorKind, String),
}

/// The context of a read.
pub(super) struct Reading<'a> {
    /// Shared by all connections of a thread.
    pub(super) buffer: &'a mut [u8],
    pub(super) names: &'a mut Names,
    pub(super) backend_header: &'a str,
    /// The request was a HEAD.
    pub(super) is_head: bool,
}

// === impl Connection ===

impl Connection {
    /// Begins to connect. The socket becomes writable when it is done.
    pub(super) fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&address.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        Ok(Self {
            socket: socket.into(),
            state: State::Connecting,
            request: None,
            unwritten: Vec::new(),
            head: Vec::new(),
            is_kept: false,
        })
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub(super) fn is_connecting(&self) -> bool {
        self.state == State::Connecting
    }

    /// The phase of its request.
    pub(super) fn phase(&self) -> Phase {
        match self.state {
            State::Connecting => Phase::Connect,
            State::Quiet if !self.unwritten.is_empty() => Phase::Send,
            State::Quiet | State::Head => Phase::Head,
            State::Body { .. } => Phase::Body,
        }
    }

    /// The server has responded on it before, and may have closed it since.
    pub(super) fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// Whether epoll must report when the socket is writable.
    pub(super) fn wants_to_write(&self) -> bool {
        self.is_connecting() || !self.unwritten.is_empty()
    }

    /// Called when a connecting socket is writable. Returns an error if it is not connected.
    pub(super) fn connected(&mut self) -> io::Result<()> {
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        self.state = State::Quiet;
        Ok(())
    }

    /// Writes a request. [`Self::write_on`] writes the part that the kernel does not take now.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = write(&self.socket, bytes)?;
        self.unwritten.extend_from_slice(&bytes[written..]);
        Ok(())
    }

    pub(super) fn write_on(&mut self) -> io::Result<()> {
        while !self.unwritten.is_empty() {
            match write(&self.socket, &self.unwritten)? {
                0 => break,
                written => drop(self.unwritten.drain(..written)),
            }
        }
        Ok(())
    }

    /// Reads the available bytes.
    pub(super) fn receive(&mut self, reading: &mut Reading<'_>) -> Received {
        loop {
            let length = match self.socket.read(reading.buffer) {
                Ok(0) => return self.end(),
                Ok(length) => length,
                Err(error) if error.kind() == IoError::WouldBlock => return Received::Nothing,
                Err(error) if error.kind() == IoError::Interrupted => continue,
                Err(_) if self.request.is_none() => return Received::Gone,
                Err(error) => return Received::Failed(ErrorKind::Reset, error.to_string()),
            };
            let Some(request) = &mut self.request else {
                return Received::Gone; // bytes without a request
            };
            request.bytes += length as u64;
            match self.take(length, reading) {
                Ok(Received::Nothing) if length == reading.buffer.len() => {}
                Ok(received) => return received,
                Err(error) => return Received::Failed(ErrorKind::BadAnswer, error.to_string()),
            }
        }
    }

    /// Processes the first `length` bytes of the buffer.
    fn take(&mut self, length: usize, reading: &mut Reading<'_>) -> Result<Received, BadAnswer> {
        let mut piece = &reading.buffer[..length];
        if matches!(self.state, State::Quiet | State::Head) {
            // Nearly always a head arrives in one piece, and is parsed in place.
            let is_first = self.head.is_empty();
            if !is_first {
                self.head.extend_from_slice(piece);
            }
            let bytes = if is_first { piece } else { &self.head[..] };
            let Some(head) = parse(bytes, reading.is_head, reading.backend_header)? else {
                if is_first {
                    self.head.extend_from_slice(piece);
                }
                self.state = State::Head;
                return Ok(Received::Nothing);
            };
            let backend = (!head.backend.is_empty()).then(|| reading.names.number(head.backend));
            self.state = State::Body { status: head.status, backend, framing: head.framing, keep: head.keep };
            // the bytes after the head came last, so they are at the end of this piece too
            let behind = bytes.len() - head.length;
            piece = &piece[piece.len() - behind..];
            self.head.clear();
        }
        let State::Body { status, backend, framing, keep } = &mut self.state else { return Ok(Received::Nothing) };
        let taken = framing.skip(piece)?;
        if !framing.is_done() {
            return Ok(Received::Nothing);
        }
        // with bytes after the response, or a response before the request was written, later responses would be
        // ambiguous
        let keep = *keep && taken == piece.len() && self.unwritten.is_empty();
        let received = Received::Answer { status: *status, backend: *backend, keep };
        self.state = State::Quiet;
        self.is_kept = true;
        Ok(received)
    }

    /// The server has closed.
    fn end(&mut self) -> Received {
        if self.request.is_none() {
            return Received::Gone;
        }
        match self.state {
            State::Body { status, backend, framing: Framing::UntilClose, .. } => {
                Received::Answer { status, backend, keep: false }
            }
            State::Connecting | State::Quiet => {
                Received::Failed(ErrorKind::Closed, "closed before any byte of the response".to_owned())
            }
            State::Head | State::Body { .. } => {
                Received::Failed(ErrorKind::Truncated, "closed within the response".to_owned())
            }
        }
    }
}

fn write(mut socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match socket.write(bytes) {
            Ok(written) => return Ok(written),
            Err(error) if error.kind() == IoError::WouldBlock => return Ok(0),
            Err(error) if error.kind() == IoError::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

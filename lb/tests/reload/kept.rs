//! A client with a keep-alive connection, and a guard that ends the threads of a test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use lb_test_support::PATIENCE;

/// A connection that is used for several requests, one after the other.
pub(crate) struct Kept(BufReader<TcpStream>);

/// Sets a flag when it is dropped, also by a test that fails. Threads of the test then end.
pub(crate) struct Ends<'a>(pub(crate) &'a AtomicBool);

// === impl Kept ===

impl Kept {
    pub(crate) fn connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Ok(Self(BufReader::new(stream)))
    }

    pub(crate) fn send(&mut self, path: &str, lines: &str) {
        let host = if lines.contains("host:") { "" } else { "host: lb.test\r\n" };
        let request = format!("GET {path} HTTP/1.1\r\n{host}{lines}\r\n");
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
    }

    /// Sends bytes through a tunnel.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    /// Reads a head. Returns the status and the declared length.
    pub(crate) fn head(&mut self) -> (u16, usize) {
        let (mut status, mut length) = (0, 0);
        loop {
            let mut line = String::new();
            assert_ne!(self.0.read_line(&mut line).unwrap(), 0, "the connection ended");
            if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                status = rest[..3].parse().unwrap();
            } else if let Some((_, value)) = line.to_lowercase().split_once("content-length: ") {
                length = value.trim().parse().unwrap();
            } else if line == "\r\n" {
                return (status, length);
            }
        }
    }

    pub(crate) fn body(&mut self, length: usize) -> Vec<u8> {
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        body
    }

    /// One request, which must succeed.
    pub(crate) fn get(&mut self) {
        self.send("/home", "");
        let (status, length) = self.head();
        assert_eq!((status, self.body(length).len()), (200, length));
    }
}

// === impl Ends ===

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

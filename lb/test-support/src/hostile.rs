//! Backends that misbehave: a listening socket, and a script that runs on a thread for each connection.
//!
//! Why scripts and no server: a server library sends no garbage, resets, silence or too many bytes. Invariant: a
//! dropped [`Hostile`] has closed its connections and ended its threads.

use std::collections::HashMap;
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::client::read_some;
use crate::wait::PATIENCE;

/// A backend that runs a script for each connection.
pub struct Hostile {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    accepted: AtomicUsize,
    closed: AtomicUsize,
    /// The heads that were read.
    heads: Mutex<Vec<String>>,
    /// Clones of the open connections, to end them with.
    sockets: Mutex<HashMap<usize, TcpStream>>,
}

/// One connection, as a script sees it.
pub struct Wire {
    /// Gone after a reset.
    stream: Option<TcpStream>,
    number: usize,
    buffer: Vec<u8>,
    shared: Arc<Shared>,
}

// === impl Hostile ===

impl Hostile {
    /// Runs `script` for each connection with its number, from 0. The connection is closed when it returns.
    pub fn start(script: impl Fn(usize, &mut Wire) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let (own, script) = (shared.clone(), Arc::new(script));
        let thread = std::thread::spawn(move || {
            let mut threads = Vec::new();
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                if own.stopping.load(SeqCst) {
                    break;
                }
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.set_nodelay(true).unwrap();
                let number = own.accepted.fetch_add(1, SeqCst);
                own.sockets.lock().unwrap().insert(number, stream.try_clone().unwrap());
                let (script, shared) = (script.clone(), own.clone());
                threads.push(std::thread::spawn(move || {
                    let mut wire = Wire { stream: Some(stream), number, buffer: Vec::new(), shared: shared.clone() };
                    script(number, &mut wire);
                    shared.sockets.lock().unwrap().remove(&number);
                    drop(wire);
                    shared.closed.fetch_add(1, SeqCst);
                }));
            }
            own.sockets.lock().unwrap().values().for_each(|socket| drop(socket.shutdown(Shutdown::Both)));
            threads.into_iter().for_each(|thread| drop(thread.join()));
        });
        Self { addr, shared, thread: Some(thread) }
    }

    /// Sends these bytes after each request, on every connection, and keeps the connection.
    pub fn answering(answer: &'static [u8]) -> Self {
        Self::start(move |_, wire| {
            while wire.head().is_some() {
                wire.write(answer);
            }
        })
    }

    /// Sends these bytes after the first request of each connection, and closes the connection.
    pub fn closing_after(answer: &'static [u8]) -> Self {
        Self::start(move |_, wire| {
            if wire.head().is_some() {
                wire.write(answer);
            }
        })
    }

    /// Connections taken so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(SeqCst)
    }

    /// Scripts that have ended.
    pub fn closed(&self) -> usize {
        self.shared.closed.load(SeqCst)
    }

    /// The heads read so far.
    pub fn heads(&self) -> Vec<String> {
        self.shared.heads.lock().unwrap().clone()
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.shared.stopping.store(true, SeqCst);
        let _ = TcpStream::connect(self.addr); // wakes the accepting thread
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

// === impl Wire ===

impl Wire {
    /// The next request's head, without the empty line; `None` at the connection's end.
    pub fn head(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..at + 4).collect();
                let head = String::from_utf8(head[..at].to_vec()).unwrap();
                self.shared.heads.lock().unwrap().push(head.clone());
                return Some(head);
            }
            if self.read() == 0 {
                return None;
            }
        }
    }

    /// The next bytes up to and with `marker`; `None` when the connection ends before.
    pub fn raw_until(&mut self, marker: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(marker.len()).position(|window| window == marker) {
                return Some(self.buffer.drain(..at + marker.len()).collect());
            }
            if self.read() == 0 {
                return None;
            }
        }
    }

    /// The next `length` bytes; `None` when the connection ends before.
    pub fn raw(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < length {
            if self.read() == 0 {
                return None;
            }
        }
        Some(self.buffer.drain(..length).collect())
    }

    /// All bytes up to the connection's end.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.read() > 0 {}
        std::mem::take(&mut self.buffer)
    }

    /// Waits for more bytes; 0 at the end.
    pub fn read(&mut self) -> usize {
        let mut block = [0; 65_536];
        let bytes = self.stream.as_mut().and_then(|stream| read_some(stream, &mut block).ok()).unwrap_or(0);
        self.buffer.extend_from_slice(&block[..bytes]);
        bytes
    }

    /// Reads until `marker` has come.
    pub fn until(&mut self, marker: &[u8]) -> Vec<u8> {
        while !self.buffer.windows(marker.len()).any(|window| window == marker) {
            if self.read() == 0 {
                break;
            }
        }
        std::mem::take(&mut self.buffer)
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.try_write(bytes);
    }

    /// False where the other side takes no more.
    pub fn try_write(&mut self, bytes: &[u8]) -> bool {
        self.stream.as_mut().is_some_and(|stream| stream.write_all(bytes).is_ok())
    }

    /// For a script that reads and writes at the same time.
    pub fn clone_stream(&self) -> TcpStream {
        self.stream.as_ref().unwrap().try_clone().unwrap()
    }

    /// Reads and drops all bytes until the other side is done.
    pub fn hold(&mut self) {
        while self.read() > 0 {
            self.buffer.clear();
        }
    }

    /// Waits without reading until the test is over: the buffers of the other side fill up.
    pub fn ignore(&mut self) {
        while !self.shared.stopping.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends the connection at once, with a reset.
    pub fn reset(&mut self) {
        self.shared.sockets.lock().unwrap().remove(&self.number); // the last descriptor's close resets
        if let Some(stream) = self.stream.take() {
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
}

//! Servers to send to, and plans that send.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use loadgen::load::{self, Arrivals, Outcome, Plan, Request, Segment, Stop, Target};
use mock_server::{MockServer, Options, Running};

/// Everything that has to happen happens within this, on any machine.
pub(crate) const BOUND: Duration = Duration::from_secs(30);

pub(crate) fn mock(options: Options) -> Running {
    // Both ends of every connection, of all tests that run side by side, are in this process.
    rlimit::increase_nofile_limit(u64::MAX).expect("the soft limit can be raised to the hard one");
    MockServer::start(options).expect("a mock server starts on a free port")
}

pub(crate) fn target(address: SocketAddr) -> Target {
    Target { addresses: vec![address], host: address.to_string() }
}

pub(crate) fn closed(address: SocketAddr, connections: usize, requests: u64, path: &str) -> Plan {
    let plan = Plan::new(target(address), Arrivals::Closed { connections }, Stop::AfterRequests(requests));
    Plan { requests: vec![Request::get(path)], ..plan }
}

pub(crate) fn open(address: SocketAddr, rps: f64, stop: Stop) -> Plan {
    Plan { requests: vec![Request::get("/home")], ..Plan::new(target(address), Arrivals::Constant { rps }, stop) }
}

/// Runs a plan to its end.
pub(crate) fn run(plan: Plan) -> Outcome {
    let outcome = load::start(plan).expect("the plan is sound").wait();
    outcome.warm_up.iter().chain(&outcome.segments).for_each(adds_up);
    outcome
}

/// The one segment of a run without cuts.
pub(crate) fn one(outcome: Outcome) -> Segment {
    assert_eq!(outcome.segments.len(), 1);
    outcome.segments.into_iter().next().expect("there is one")
}

/// Every request ends in exactly one way, and is in exactly the histograms that it belongs to.
pub(crate) fn adds_up(segment: &Segment) {
    let ends = segment.answered + segment.errors.total() + segment.unsent + segment.unfinished;
    assert_eq!(segment.due, ends, "{segment:?}");
    assert_eq!(segment.statuses.values().sum::<u64>(), segment.answered);
    assert_eq!((segment.latency.len(), segment.service.len()), (segment.ok(), segment.ok()));
    assert_eq!(segment.failed.len(), segment.failed_answers());
}

/// Waits until it is so far.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + BOUND;
    while !is_so() {
        assert!(Instant::now() < end, "not within {BOUND:?}: {what}");
        std::thread::yield_now();
    }
}

/// A server that does to each connection what the test says, one thread per connection.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Scripted {
    /// `serve` gets each connection and its number.
    pub(crate) fn start(serve: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, serve) = (stop.clone(), Arc::new(serve));
        let thread = std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                if stopped.load(SeqCst) {
                    return;
                }
                let (serve, stream) = (serve.clone(), stream.expect("a connection"));
                stream.set_read_timeout(Some(BOUND)).expect("a timeout can be set");
                std::thread::spawn(move || serve(stream, number));
            }
        });
        Self { address, stop, thread: Some(thread) }
    }

    /// Answers every request with these bytes, then does as `after` says.
    pub(crate) fn answering(answer: &'static [u8], after: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self::start(move |mut stream, _| {
            if read_head(&mut stream).is_some() {
                stream.write_all(answer).expect("the client reads");
                after(stream);
            }
        })
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        let _ = TcpStream::connect(self.address); // wakes the accepting thread
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Reads one request without a body; `None` at the end of the connection.
pub(crate) fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// Closes with a reset instead of an end.
pub(crate) fn reset(stream: TcpStream) {
    let socket = socket2::SockRef::from(&stream);
    socket.set_linger(Some(Duration::ZERO)).expect("linger can be set");
}

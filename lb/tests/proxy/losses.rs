//! Requests that wait for a backend when it is ejected: each gets another attempt, or goes on waiting.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use lb::config::RetryPolicy;
use lb_balance::Loss;
use lb_test_support::{Client, Hostile, Wire, chunk, request, wait_until};

use crate::support::{Balancer, DOWN, PoolSetup, Setup};

const FIRST: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirst";
const OTHER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nother";
/// The length of an upload.
const UPLOAD: usize = 200;

/// Two backends of which the first one that gets a request holds its response back.
struct Held {
    servers: [Hostile; 2],
    release: Sender<()>,
}

// === impl Held ===

impl Held {
    /// `begin` runs behind the head of the request that is held.
    fn start(begin: fn(&mut Wire)) -> Self {
        let (release, released) = channel();
        let first: Arc<Mutex<Option<Receiver<()>>>> = Arc::new(Mutex::new(Some(released)));
        let servers = [(); 2].map(|()| {
            let first = first.clone();
            Hostile::start(move |_, wire| {
                if wire.head().is_none() {
                    return;
                }
                let released = first.lock().unwrap().take();
                match released {
                    Some(released) => {
                        begin(wire);
                        let _ = released.recv();
                        wire.write(FIRST);
                    }
                    None => wire.write(OTHER),
                }
            })
        });
        Self { servers, release }
    }

    fn heads(&self) -> usize {
        self.servers.iter().map(|server| server.heads().len()).sum()
    }

    /// One worker in front of both, and the pool for its next generation.
    fn balancer(&self, change: impl FnOnce(&mut RetryPolicy)) -> (Balancer, PoolSetup) {
        let addresses = self.servers.each_ref().map(|server| server.addr);
        let setup = Setup::new(&addresses).with(|setup| setup.workers = 1).retry(change);
        let pool = setup.pools[0].clone();
        (setup.start(), pool)
    }
}

/// Ejects the backend that has a request in flight. Returns when the worker has polled that request again.
fn eject(lb: &Balancer, pool: &PoolSetup) {
    let busy = lb.backends.iter().find(|backend| backend.in_flight() > 0).unwrap();
    busy.set_eligibility(DOWN);
    busy.set_loss(Loss::Ejected);
    let number = lb.publish(std::slice::from_ref(pool));
    wait_until("the worker to follow", || lb.hall.is_taken_up(number));
    assert_eq!(lb.client().get("/").text(), "other");
}

/// Sends a request, ejects its backend, then lets that backend respond. Returns the text of the response.
fn ask(begin: fn(&mut Wire), change: impl FnOnce(&mut RetryPolicy), send: impl FnOnce(&mut Client)) -> String {
    let held = Held::start(begin);
    let (lb, pool) = held.balancer(change);
    let mut client = lb.client();
    send(&mut client);
    wait_until("the request to wait", || held.heads() == 1 && lb.backends.iter().any(|one| one.in_flight() == 1));
    eject(&lb, &pool);
    held.release.send(()).unwrap();
    let text = client.answer().text().to_owned();
    lb.comes_to_rest();
    text
}

fn get(client: &mut Client) {
    client.send(&request("GET", "/", &[]));
}

/// A PUT, of which the end is sent by [`put`] only if `is_whole`.
fn put(client: &mut Client, is_whole: bool) {
    client.send(&[request("PUT", "/", &["transfer-encoding: chunked"]), chunk(&[b'x'; UPLOAD])].concat());
    if is_whole {
        client.send(&chunk(b""));
    }
}

fn short(retry: &mut RetryPolicy) {
    retry.rules.replay_bytes = UPLOAD as u64 - 1;
}

#[test]
fn an_ejection_sends_a_waiting_request_to_another_backend() {
    let whole = |wire: &mut Wire| drop(wire.raw_until(b"\r\n0\r\n\r\n"));
    assert_eq!(ask(|_| {}, |_| {}, get), "other");
    assert_eq!(ask(whole, |_| {}, |client| put(client, true)), "other");
}

#[test]
fn an_ejection_ends_no_request_that_gets_no_other_attempt() {
    let hints = |wire: &mut Wire| wire.write(b"HTTP/1.1 103 Early Hints\r\n\r\n");
    let upload = |wire: &mut Wire| drop(wire.raw(UPLOAD));
    let whole = |wire: &mut Wire| drop(wire.raw_until(b"\r\n0\r\n\r\n"));
    assert_eq!(ask(|_| {}, |retry| retry.rules.on.timeout = false, get), "first");
    assert_eq!(ask(|_| {}, |retry| retry.rules.attempts = 1, get), "first");
    let no_budget = |retry: &mut RetryPolicy| (retry.budget.percent, retry.budget.reserve_per_s) = (0, 0);
    assert_eq!(ask(|_| {}, no_budget, get), "first");
    let hinted = |client: &mut Client| {
        get(client);
        assert_eq!(client.raw_head(), b"HTTP/1.1 103 Early Hints\r\n\r\n");
    };
    assert_eq!(ask(hints, |_| {}, hinted), "first");
    assert_eq!(ask(upload, short, |client| put(client, false)), "first");
    assert_eq!(ask(whole, short, |client| put(client, true)), "first", "an unkept body that has ended");
    assert_eq!(ask(|_| {}, |_| {}, |client| client.send(&request("POST", "/", &[]))), "first");
}

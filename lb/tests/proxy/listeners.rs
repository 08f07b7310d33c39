//! Listeners that a generation adds or removes: established connections are served, later ones are refused.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Instant;

use lb::generation::Generation;
use lb::listener::{self, Listener};
use lb_test_support::{Client, PATIENCE, mock, wait_until};

use crate::support::{Balancer, Setup};

const ROUNDS: usize = 3;
const LISTENERS: usize = 12;

fn publish(lb: &Balancer, listeners: Vec<Arc<Listener>>) {
    let current = lb.hall.current();
    let number = current.number + 1;
    lb.hall.publish(Generation {
        number,
        pools: current.pools.clone(),
        routes: Vec::new(),
        policies: current.policies.clone(),
        awaited: 0,
        listeners,
        settings: lb.settings.clone(),
        own_routes: None,
    });
    drop(current);
    wait_until("the workers to follow", || lb.hall.is_taken_up(number));
}

#[test]
fn connections_of_a_removed_listener_are_served() {
    let server = mock("1");
    let lb = Setup::of(&[&server]).start();
    let first = lb.hall.current().listeners.clone();
    let served = AtomicU64::new(0);
    for _ in 0..ROUNDS {
        let more = listener::open(&["127.0.0.1:0".parse().unwrap(); LISTENERS], &[]).unwrap();
        publish(&lb, [&first[..], &more].concat());
        let begun = Instant::now();
        let enough = served.load(SeqCst) + 20 * LISTENERS as u64;
        std::thread::scope(|scope| {
            for address in more.iter().map(|listener| listener.address()) {
                let served = &served;
                // One client connects during the request of the other, so the accept queue is rarely empty.
                for _ in 0..2 {
                    scope.spawn(move || {
                        while begun.elapsed() < PATIENCE
                            && let Ok(mut client) = Client::try_connect(address)
                        {
                            assert_eq!(client.get("/home").status(), 200);
                            served.fetch_add(1, SeqCst);
                        }
                    });
                }
            }
            wait_until("requests at all listeners", || served.load(SeqCst) >= enough);
            publish(&lb, first.clone());
        });
        wait_until("all listeners to be closed", || more.iter().all(|listener| listener.is_closed()));
        assert!(more.iter().all(|listener| TcpStream::connect(listener.address()).is_err()));
        assert!(lb.hall.take_free().iter().all(|generation| Arc::strong_count(generation) == 1));
    }
    assert_eq!(lb.client().get("/home").status(), 200);
    lb.comes_to_rest();
    assert_eq!((lb.ended_with(200), server.stats().requests), (served.load(SeqCst) + 1, served.load(SeqCst) + 1));
    let accepted = lb.metric("lb_client_connections_accepted_total", &[]);
    assert_eq!(accepted, (served.load(SeqCst) + 1) as f64);
}

//! Servers with a fixed seed, and the requests that these tests repeat.

use std::net::SocketAddr;
use std::time::Duration;

use lb_test_support::{Answer, Client, request, request_with};
use mock_server::{MockServer, Options, Running};

/// A server on any free port with a fixed seed.
pub(crate) fn start(options: Options) -> Running {
    MockServer::start(Options { seed: options.seed.or(Some(42)), ..options }).expect("a server")
}

/// One request on a connection of its own.
pub(crate) fn get(addr: SocketAddr, path: &str) -> Answer {
    Client::connect(addr).get(path)
}

/// `POST /control` with a JSON body.
pub(crate) fn control(addr: SocketAddr, json: &str) -> Answer {
    let mut client = Client::connect(addr);
    client.send(&request_with("POST", "/control", &[], json.as_bytes()));
    client.answer()
}

/// Sends a GET and does not wait for the response.
pub(crate) fn send_get(client: &mut Client, path: &str) {
    client.send(&request("GET", path, &[]));
}

/// Sends `GET /home` that keeps a worker busy for so long.
pub(crate) fn send_get_for(client: &mut Client, time: Duration) {
    client.send(&request("GET", "/home", &[&format!("x-service-time-us: {}", time.as_micros())]));
}

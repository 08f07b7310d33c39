//! Backends in the process of the test, and addresses without one.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use mock_server::{MockServer, Options, Running};

/// A mock server with this id, on a free port.
pub fn mock(id: &str) -> Running {
    mock_with(id, |_| {})
}

/// A mock server with other options: a fixed seed, and no grace at its end, unless `change` says otherwise.
pub fn mock_with(id: &str, change: impl FnOnce(&mut Options)) -> Running {
    let mut options = Options { id: id.to_owned(), seed: Some(1), grace: Duration::ZERO, ..Options::default() };
    change(&mut options);
    MockServer::start(options).unwrap_or_else(|error| panic!("{error}"))
}

/// An address without a listener: bound once and closed. The kernel hands other ports to the servers that a test starts
/// next.
pub fn closed_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

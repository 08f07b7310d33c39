//! What an exchange knows of the connection that it came by, whatever protocol that speaks.

use std::net::SocketAddr;

/// The other end of a client's connection.
#[derive(Clone, Debug)]
pub(in crate::proxy) struct Peer {
    pub(in crate::proxy) address: SocketAddr,
    /// Its IP address as text, made once: the value of `x-forwarded-for`.
    pub(in crate::proxy) text: Box<str>,
    /// The place of the listener by which it came.
    pub(in crate::proxy) listener: usize,
}

// === impl Peer ===

impl Peer {
    pub(in crate::proxy) fn new(address: SocketAddr, listener: usize) -> Self {
        Self { address, text: address.ip().to_canonical().to_string().into(), listener }
    }
}

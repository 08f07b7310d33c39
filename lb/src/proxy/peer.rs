//! The data of a client's connection for an exchange, for any protocol.

use std::net::SocketAddr;

use crate::generation::client_bytes;
use crate::http1::Fields;

/// The other end of a client's connection.
#[derive(Clone, Debug)]
pub(in crate::proxy) struct Peer {
    pub(in crate::proxy) address: SocketAddr,
    /// Its IP address as text.
    pub(in crate::proxy) text: Box<str>,
    /// Its IP address as strategies get it.
    pub(in crate::proxy) client: [u8; 16],
    /// The fields about the client that every backend gets: made once, because a connection may bring many requests.
    pub(in crate::proxy) forwarded: Fields,
    /// The place of its listener.
    pub(in crate::proxy) listener: usize,
}

// === impl Peer ===

impl Peer {
    pub(in crate::proxy) fn new(address: SocketAddr, listener: usize) -> Self {
        let text = address.ip().to_canonical().to_string().into_boxed_str();
        let forwarded = [("x-forwarded-for", &*text), ("x-forwarded-proto", "http")].into_iter().collect();
        Self { address, text, client: client_bytes(address.ip()), forwarded, listener }
    }
}

//! What an exchange knows of the connection that it came by, whatever protocol that speaks.

use std::net::SocketAddr;

use crate::http1::Fields;

/// The other end of a client's connection.
#[derive(Clone, Debug)]
pub(in crate::proxy) struct Peer {
    pub(in crate::proxy) address: SocketAddr,
    /// Its IP address as text.
    pub(in crate::proxy) text: Box<str>,
    /// What backends hear of it in any request: made once, as a connection may bring many.
    pub(in crate::proxy) forwarded: Fields,
    /// The place of the listener by which it came.
    pub(in crate::proxy) listener: usize,
}

// === impl Peer ===

impl Peer {
    pub(in crate::proxy) fn new(address: SocketAddr, listener: usize) -> Self {
        let text = address.ip().to_canonical().to_string().into_boxed_str();
        let forwarded = [("x-forwarded-for", &*text), ("x-forwarded-proto", "http")].into_iter().collect();
        Self { address, text, forwarded, listener }
    }
}

//! Routes on the proxy's port that lb answers itself: the data wing sends a [`Call`] and forwards the [`CallAnswer`].

use std::net::SocketAddr;

use bytes::Bytes;
use http::{StatusCode, request};
use tokio::sync::{mpsc, oneshot};

/// The paths that lb answers itself, and the receiver of their requests.
#[derive(Clone, Debug)]
pub struct OwnRoutes {
    /// Compared with the whole path.
    pub paths: &'static [&'static str],
    pub calls: mpsc::Sender<Call>,
}

/// A request for one of these paths, with its whole body.
#[derive(Debug)]
pub struct Call {
    pub head: request::Parts,
    pub body: Bytes,
    pub peer: SocketAddr,
    pub answer: oneshot::Sender<CallAnswer>,
}

/// The response to it: a JSON body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallAnswer {
    pub status: StatusCode,
    pub body: Bytes,
    /// For 405.
    pub allow: Option<&'static str>,
}

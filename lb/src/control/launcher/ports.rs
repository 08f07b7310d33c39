//! The ports of replicas: the next free one from `first_port` upward.
//!
//! Invariants: a port is reserved for one replica at a time, from before its process starts until after it has ended.
//! Ports of lb and of backends that lb did not launch are skipped, even without a listener.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};

use parking_lot::Mutex;

pub(super) struct Ports {
    host: IpAddr,
    /// 0 = any free one.
    first: u16,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    reserved: HashSet<u16>,
    others: HashSet<u16>,
}

// === impl Ports ===

impl Ports {
    pub(super) fn new(host: IpAddr, first: u16) -> Self {
        Self { host, first, state: Mutex::default() }
    }

    /// Replaces the set of ports that are not for replicas.
    pub(super) fn avoid(&self, others: impl Iterator<Item = u16>) {
        // 0 stands for any port, here and where lb listens.
        self.state.lock().others = others.filter(|port| *port != 0).collect();
    }

    /// A free port: `preferred` if it is free.
    pub(super) fn reserve(&self, preferred: Option<u16>) -> Result<SocketAddr, String> {
        let mut state = self.state.lock();
        let candidates = preferred.into_iter().chain(match self.first {
            // The kernel chooses. Several tries, because it may choose a port that is reserved and not yet in use.
            0 => std::iter::repeat_n(0, 64).collect::<Vec<_>>(),
            first => (first..=u16::MAX).collect(),
        });
        for candidate in candidates {
            if state.reserved.contains(&candidate) || state.others.contains(&candidate) {
                continue;
            }
            // Bound only for a moment: the process must bind it itself. If another program takes it first, the process
            // is started again on another port.
            match TcpListener::bind((self.host, candidate)).and_then(|listener| listener.local_addr()) {
                Ok(socket) if state.reserved.contains(&socket.port()) || state.others.contains(&socket.port()) => {}
                Ok(socket) => {
                    state.reserved.insert(socket.port());
                    return Ok(socket);
                }
                Err(error) if matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied) => {}
                Err(error) => return Err(format!("launcher.host {}: no port can be had there: {error}", self.host)),
            }
        }
        Err(format!("launcher.first_port {}: no port is free on {} from there on", self.first, self.host))
    }

    pub(super) fn release(&self, port: u16) {
        self.state.lock().reserved.remove(&port);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn the_next_free_port_is_taken_and_kept() {
        let busy = TcpListener::bind((HOST, 0)).unwrap();
        let first = busy.local_addr().unwrap().port();
        let ports = Ports::new(HOST, first);
        ports.avoid([first.saturating_add(1)].into_iter());
        let one = ports.reserve(None).unwrap().port();
        let two = ports.reserve(None).unwrap().port();
        assert!(one > first + 1, "{first} is in use, the next is somebody else's");
        assert!(two > one, "one port, one replica");
        ports.release(one);
        assert_eq!(ports.reserve(Some(one)).unwrap().port(), one, "the same one again where it is free");
        assert_ne!(ports.reserve(Some(one)).unwrap().port(), one);
    }

    #[test]
    fn zero_is_any_free_port() {
        let ports = Ports::new(HOST, 0);
        ports.avoid([0].into_iter());
        let one = ports.reserve(None).unwrap();
        let two = ports.reserve(None).unwrap();
        assert!(one.port() != 0 && two.port() != 0 && one != two);
    }

    #[test]
    fn a_foreign_host_is_an_error_and_no_endless_search() {
        let ports = Ports::new([192, 0, 2, 1].into(), 5001);
        assert!(ports.reserve(None).unwrap_err().contains("192.0.2.1"));
    }
}

//! A listening socket: open before it is accepted on, known by its address, closed by its taker.
//!
//! Why not the acceptor's own: control opens it, in a reload that may still be refused. It travels in a generation, and
//! the data wing accepts on it. Invariants:
//!
//! - One socket per address. SO_REUSEPORT would hide "port in use", reset queued connections on close and distribute
//!   few connections unevenly.
//! - From [`open`] on, clients that connect are not refused.
//! - The socket belongs to one taker. If it was never taken, it closes with its listener.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, TcpKeepalive, Type};
use tokio::sync::watch;

/// Connections that may wait to be accepted.
pub const BACKLOG: u16 = 4096;

#[derive(Debug)]
pub struct Listener {
    /// As configured; the port may be 0.
    asked: SocketAddr,
    address: SocketAddr,
    name: Arc<str>,
    socket: Mutex<Option<TcpListener>>,
    closed: watch::Sender<bool>,
}

/// Why lb cannot listen on an address.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(
        "proxy.listen {0} is in use by another process: stop it or choose another port (proxy.listen in the file, or --listen)"
    )]
    InUse(SocketAddr),
    #[error(
        "proxy.listen {address} overlaps with {own}, where this lb listens: new addresses are opened before old ones are closed, so \
         take {own} out with a reload of its own first, or restart"
    )]
    Overlaps { address: SocketAddr, own: SocketAddr },
    #[error(
        "proxy.listen {0} is not permitted: ports below 1024 need root or CAP_NET_BIND_SERVICE, which the service lb.service has; \
         or choose another port"
    )]
    Forbidden(SocketAddr),
    #[error("proxy.listen {0} cannot be listened on: {1}")]
    Other(SocketAddr, io::Error),
}

/// The listeners for `addresses`, in their order. Uses those of `current` with the same address, or any on a free port
/// for port 0; opens new ones for the rest. All or none.
pub fn open(addresses: &[SocketAddr], current: &[Arc<Listener>]) -> Result<Vec<Arc<Listener>>, BindError> {
    let matched = match_up(addresses, current).into_iter().zip(addresses);
    let listeners = matched.map(|(kept, address)| match kept {
        Some(kept) => Ok(kept),
        None => Listener::open(*address).map(Arc::new).map_err(|error| BindError::new(*address, error, current)),
    });
    listeners.collect()
}

/// Tests whether [`open`] would work, without effect on clients: it binds the addresses and closes them.
pub fn check(addresses: &[SocketAddr], current: &[Arc<Listener>]) -> Result<(), BindError> {
    let matched = match_up(addresses, current).into_iter().zip(addresses);
    let mut bound = Vec::new();
    for (_, address) in matched.filter(|(kept, _)| kept.is_none()) {
        bound.push(bind(*address).map_err(|error| BindError::new(*address, error, current))?);
    }
    Ok(())
}

/// From now on the kernel drops SYNs to this socket. Clients retransmit, and then find another socket or a closed port.
/// Connections whose handshake has begun still reach the queue. So a taker that accepts all of them before it closes
/// loses none.
pub fn turn_away(socket: &TcpListener) -> io::Result<()> {
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_SET: u16 = 0x45;
    const RETURN: u16 = 0x06;
    const TCP_FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    // The filter sees each segment from its TCP header on. 0 drops the segment; any other result keeps all of it.
    let drop_syn = [
        SockFilter::new(LOAD_BYTE, 0, 0, TCP_FLAGS),
        SockFilter::new(JUMP_IF_SET, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ];
    SockRef::from(socket).attach_filter(&drop_syn)
}

/// Enables keep-alive probes, after a minute of silence and then every 15 s. They find a peer that vanished (a crashed
/// host, a forgotten NAT entry) within 2 minutes. Connections inherit this from their listener.
pub fn keep_alive(socket: &Socket) -> io::Result<()> {
    let after = TcpKeepalive::new().with_time(Duration::from_secs(60));
    socket.set_tcp_keepalive(&after.with_interval(Duration::from_secs(15)).with_retries(4))
}

/// The listener of `current` for each address. Addresses with real ports are matched first, then configured ones with
/// port 0, so that no listener is used twice.
fn match_up(addresses: &[SocketAddr], current: &[Arc<Listener>]) -> Vec<Option<Arc<Listener>>> {
    let mut free: Vec<&Arc<Listener>> = current.iter().collect();
    let mut matched = vec![None; addresses.len()];
    let fits: [fn(&Listener) -> SocketAddr; 2] = [|listener| listener.address, |listener| listener.asked];
    for fit in fits {
        for (place, address) in matched.iter_mut().zip(addresses).filter(|(place, _)| place.is_none()) {
            if let Some(index) = free.iter().position(|listener| fit(listener) == *address) {
                *place = Some(free.remove(index).clone());
            }
        }
    }
    matched
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for old connections in TIME_WAIT. A port with a listener is still refused.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

// === impl Listener ===

impl Listener {
    fn open(asked: SocketAddr) -> io::Result<Self> {
        let socket = bind(asked)?;
        keep_alive(&socket)?;
        socket.listen(i32::from(BACKLOG))?;
        let socket = TcpListener::from(socket);
        let address = socket.local_addr()?;
        let name = address.to_string().into();
        Ok(Self { asked, address, name, socket: Mutex::new(Some(socket)), closed: watch::Sender::new(false) })
    }

    /// The address where it listens, port resolved.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Also the label of its series.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The socket, non-blocking. The first caller takes it, closes it and calls [`set_closed`](Self::set_closed).
    pub fn take(&self) -> Option<TcpListener> {
        self.socket.lock().take()
    }

    /// The taker has closed the socket: its address is free.
    pub fn set_closed(&self) {
        self.closed.send_replace(true);
    }

    pub fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Waits until the taker has closed the socket.
    pub async fn closed(&self) {
        // It exists as long as `self`.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }
}

// === impl BindError ===

impl BindError {
    fn new(address: SocketAddr, error: io::Error, current: &[Arc<Listener>]) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => {}
            io::ErrorKind::PermissionDenied => return Self::Forbidden(address),
            _ => return Self::Other(address, error),
        }
        let of_this_port = current.iter().find(|own| own.address.port() == address.port());
        match of_this_port {
            Some(own) => Self::Overlaps { address, own: own.address },
            None => Self::InUse(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any() -> SocketAddr {
        ([127, 0, 0, 1], 0).into()
    }

    fn open_one(address: SocketAddr) -> Arc<Listener> {
        open(&[address], &[]).unwrap().remove(0)
    }

    #[test]
    fn a_listener_is_kept_for_its_address_and_for_port_0() {
        let (one, two) = (open_one(any()), open_one(any()));
        let kept = |addresses: &[SocketAddr]| {
            let listeners = open(addresses, &[one.clone(), two.clone()]).unwrap();
            let number = |listener: &Arc<Listener>| [&one, &two].iter().position(|own| Arc::ptr_eq(own, listener));
            listeners.iter().map(number).collect::<Vec<_>>()
        };
        assert_eq!(kept(&[any(), any()]), [Some(0), Some(1)]);
        assert_eq!(kept(&[any()]), [Some(0)]);
        assert_eq!(kept(&[any(), any(), any()]), [Some(0), Some(1), None]);
        assert_eq!(kept(&[any(), one.address()]), [Some(1), Some(0)], "its own address goes before a port 0");
        assert_eq!(kept(&[two.address()]), [Some(1)]);
    }

    #[test]
    fn an_address_that_cannot_be_bound_is_named_and_nothing_stays_open() {
        let busy = TcpListener::bind(any()).unwrap();
        let taken = busy.local_addr().unwrap();
        let free = open_one(any()).address();
        for refused in [open(&[free, taken], &[]).map(drop), check(&[free, taken], &[])] {
            assert!(matches!(refused, Err(BindError::InUse(address)) if address == taken));
        }
        let forbidden = BindError::new(free, io::ErrorKind::PermissionDenied.into(), &[]);
        assert!(forbidden.to_string().contains("CAP_NET_BIND_SERVICE"), "{forbidden}");
        open_one(free);
        let own = open_one(any());
        let wide: SocketAddr = ([0, 0, 0, 0], own.address().port()).into();
        let error = open(&[wide], &[own]).map(drop).unwrap_err();
        assert!(matches!(error, BindError::Overlaps { address, .. } if address == wide), "{error}");
    }

    #[test]
    fn after_turn_away_new_clients_are_dropped_and_queued_ones_served() {
        use std::io::{Read, Write};
        let listener = open_one(any());
        let socket = listener.take().unwrap();
        let mut early = std::net::TcpStream::connect(listener.address()).unwrap();
        turn_away(&socket).unwrap();
        early.write_all(b"early").unwrap();
        let late = std::net::TcpStream::connect_timeout(&listener.address(), std::time::Duration::from_millis(50));
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let (mut accepted, _) = socket.accept().unwrap();
        accepted.set_nonblocking(false).unwrap();
        let mut heard = [0; 5];
        accepted.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"early");
        assert_eq!(socket.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn an_address_is_free_when_its_listener_is_dropped_and_a_check_takes_nothing() {
        let address = open_one(any()).address();
        check(&[address], &[]).unwrap();
        check(&[address], &[]).unwrap();
        let again = open_one(address);
        assert!(again.take().is_some() && again.take().is_none());
    }
}

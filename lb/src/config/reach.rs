//! Addresses that no backend may have: those where lb itself listens, and link-local ones, where clouds serve their
//! machines' credentials.
//!
//! Why by meaning and not by text: many spellings reach one socket (`0.0.0.0`, all of 127.0.0.0/8, `::ffff:127.0.0.1`,
//! a name). A backend that is lb makes each request call itself until all connections are used. Invariants: the same
//! rules hold for the file, for `/add` and for the changes kept from an earlier run. They hold for the place of health
//! checks, too: lb's own response would say that any backend is up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::validated::{Admin, Health, Proxy};

/// An address at which lb listens, with its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnAddress {
    pub key: &'static str,
    pub address: SocketAddr,
}

/// The rules of one lb.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    pub own: Vec<OwnAddress>,
    pub allow_link_local: bool,
}

// === impl Reach ===

impl Reach {
    /// The addresses of the configuration; a port of 0 in it is not known yet.
    pub fn of(proxy: &Proxy, admin: &Admin) -> Self {
        let proxies = proxy.listen.iter().map(|&address| OwnAddress { key: "proxy.listen", address });
        let own = proxies.chain([OwnAddress { key: "admin.listen", address: admin.listen }]).collect();
        Self { own, allow_link_local: proxy.allow_link_local }
    }

    /// Checks that `backend` is allowed, and the place of its checks; the error is a clause that follows a place.
    pub fn check(&self, backend: SocketAddr, health: &Health) -> Result<(), String> {
        self.check_address(backend)?;
        match health.port {
            Some(port) if health.enabled => self
                .check_address(health.target(backend))
                .map_err(|what| format!("its health checks go to port {port} (health.port): {what}")),
            _ => Ok(()),
        }
    }

    fn check_address(&self, backend: SocketAddr) -> Result<(), String> {
        if let Some(OwnAddress { key, address }) = self.own.iter().find(|own| leads_to(backend, own.address)) {
            return Err(format!("{backend} is where lb itself listens ({key} {address}): it would call itself"));
        }
        if !self.allow_link_local && is_link_local(backend.ip()) {
            return Err(format!(
                "{backend} is a link-local or metadata address, where clouds serve credentials: set proxy.allow_link_local = true if it is meant"
            ));
        }
        Ok(())
    }
}

/// Whether a connection to `backend` on this machine reaches, or may reach, the socket at `listen`.
fn leads_to(backend: SocketAddr, listen: SocketAddr) -> bool {
    // Port 0 means any port, which is not known yet.
    if backend.port() != listen.port() || listen.port() == 0 {
        return false;
    }
    let (to, at) = (backend.ip().to_canonical(), listen.ip().to_canonical());
    match () {
        () if to == at => true,
        () if at.is_unspecified() => is_of_this_machine(to),
        // A connection to 0.0.0.0 reaches 127.0.0.1. The routing of the other loopback addresses is unknown.
        () => is_loopback(to) && is_loopback(at),
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified()
}

/// Only an address of an interface can be bound, unless ip_nonlocal_bind is set, as on failover pairs.
fn is_of_this_machine(ip: IpAddr) -> bool {
    let is_set = |family| {
        let setting = std::fs::read_to_string(format!("/proc/sys/net/{family}/ip_nonlocal_bind"));
        setting.is_ok_and(|setting| setting.trim() != "0")
    };
    let may_bind_to_any = is_set(if ip.is_ipv4() { "ipv4" } else { "ipv6" });
    is_loopback(ip) || UdpSocket::bind((ip, 0)).is_ok() && (!may_bind_to_any || is_own_source(ip))
}

/// Whether the kernel would send from `ip` to `ip`. Connecting a datagram socket sends nothing. Misses the second and
/// further addresses of one network, which the kernel reaches from the first.
fn is_own_source(ip: IpAddr) -> bool {
    let any: IpAddr = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((ip, 1))?;
        socket.local_addr()
    });
    source.is_ok_and(|source| source.ip() == ip)
}

/// 169.254.0.0/16 and fe80::/10, and the other addresses where clouds serve credentials.
fn is_link_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_link_local() || METADATA_V4.contains(&ip),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || METADATA_V6.contains(&ip),
    }
}

/// Alibaba Cloud's metadata server, Azure's WireServer.
const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16)];
/// The metadata servers of AWS (instances; EKS pods) and of Google Cloud.
const METADATA_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn says(listen: &str, backend: &str, allow_link_local: bool) -> Option<String> {
        let own = vec![OwnAddress { key: "proxy.listen", address: listen.parse().unwrap() }];
        Reach { own, allow_link_local }.check_address(backend.parse().unwrap()).err()
    }

    #[test]
    fn every_address_that_reaches_a_listener_is_refused() {
        for (listen, backends) in [
            (
                "127.0.0.1:1",
                &["127.0.0.1:1", "127.0.0.2:1", "0.0.0.0:1", "[::ffff:127.0.0.1]:1", "[::1]:1", "[::]:1"][..],
            ),
            ("0.0.0.0:1", &["127.0.0.1:1", "127.9.9.9:1", "0.0.0.0:1", "[::ffff:0.0.0.0]:1", "[::1]:1"]),
            ("[::]:1", &["127.0.0.1:1", "[::1]:1", "[::]:1", "0.0.0.0:1"]),
            ("[::1]:1", &["[::1]:1", "[::]:1", "127.0.0.1:1"]),
            ("10.1.2.3:1", &["10.1.2.3:1", "[::ffff:10.1.2.3]:1"]),
        ] {
            for backend in backends {
                assert!(says(listen, backend, false).is_some_and(|said| said.contains("itself")), "{listen} {backend}");
            }
            for backend in ["127.0.0.1:2", "10.9.9.9:1", "192.0.2.1:1", "[2001:db8::1]:1"] {
                assert_eq!(says(listen, backend, false), None, "{listen} {backend}");
            }
        }
        assert_eq!(says("127.0.0.1:0", "127.0.0.1:1", false), None);
        assert_eq!(says("10.1.2.3:1", "127.0.0.1:1", false), None, "another interface");
    }

    #[test]
    fn an_address_that_can_be_bound_is_not_always_ours() {
        assert!(is_own_source(Ipv4Addr::LOCALHOST.into()));
        for foreign in ["198.51.100.7", "2001:db8::7"] {
            assert!(!is_own_source(foreign.parse().unwrap()), "{foreign}");
        }
    }

    #[test]
    fn link_local_addresses_need_a_setting() {
        for backend in [
            "169.254.169.254:80",
            "169.254.0.1:1",
            "[fe80::1]:80",
            "[febf::1]:80",
            "[::ffff:169.254.1.1]:1",
            "[fd00:ec2::254]:80",
            "100.100.100.200:80",
            "[::ffff:168.63.129.16]:80",
        ] {
            assert!(says("127.0.0.1:1", backend, false).is_some_and(|said| said.contains("allow_link_local")));
            assert_eq!(says("127.0.0.1:1", backend, true), None);
        }
        for backend in
            ["169.253.255.255:80", "[fec0::1]:80", "[fd00::1]:80", "100.100.100.201:80", "[fd00:ec2::253]:80"]
        {
            assert_eq!(says("127.0.0.1:1", backend, false), None, "{backend}");
        }
    }
}

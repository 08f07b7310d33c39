//! The small values of a configuration, each with its own parser and error texts.
//!
//! They are separate because the admin API takes the same values from the network. An id that the file may not contain
//! must not enter by `POST /add` either. Errors are plain sentences without a place; the caller adds the place.
//!
//! Invariants: ids are safe as label values, file names and log fields. A [`Secret`] never prints.

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use super::error::choices;

/// The longest id that a backend, pool or strategy may have, in bytes.
pub const ID_BYTES_MAX: usize = 64;
/// The heaviest weight a backend may have.
pub const WEIGHT_MAX: u16 = 256;

/// A block of addresses such as `10.0.0.0/8`; a bare address is a block of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpNetwork {
    pub address: IpAddr,
    /// Leading bits that have to agree, 0..=32 for IPv4 and 0..=128 for IPv6.
    pub prefix: u8,
}

/// Text that must not reach a log: `Debug` prints `***`, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

// === check functions ===

/// Checks that `id` may name a backend: 1 to 64 bytes of `[A-Za-z0-9 ._:-]`.
pub fn check_id(id: &str) -> Result<(), String> {
    if id.is_empty() || id.len() > ID_BYTES_MAX {
        return Err(format!("an id has 1 to {ID_BYTES_MAX} bytes, this one has {}", id.len()));
    }
    match id.chars().find(|c| !(c.is_ascii_alphanumeric() || " ._:-".contains(*c))) {
        Some(wrong) => Err(format!("an id is made of letters, digits and ` ._:-`, not of {wrong:?}")),
        None => Ok(()),
    }
}

/// Converts `weight` into a backend's weight, 0 (no new request) to 256.
pub fn check_weight(weight: i64) -> Result<u16, String> {
    u16::try_from(weight)
        .ok()
        .filter(|weight| *weight <= WEIGHT_MAX)
        .ok_or_else(|| format!("a weight is a whole number from 0 to {WEIGHT_MAX}, not {weight}"))
}

/// Checks that `level` is a filter of log lines.
pub(super) fn check_level(level: &str) -> Result<(), String> {
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    // A bare word that is no level would be read as the name of a module, and all other modules would log nothing.
    if !level.contains('[') {
        let stray = level
            .split(',')
            .map(str::trim)
            .find(|part| !part.contains('=') && !levels.contains(&part.to_ascii_lowercase().as_str()));
        if let Some(stray) = stray {
            return Err(format!("{stray:?} is not a level{}", choices(stray, "Levels", &levels)));
        }
    }
    match tracing_subscriber::EnvFilter::builder().parse(level) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{level:?}: {error}")),
    }
}

/// A protocol that `Upgrade` may name, without a version (RFC 9110 §7.8). HTTP itself is refused: its requests would
/// bypass routes, limits and forwarded headers.
pub(super) fn check_upgrade(name: &str) -> Result<String, String> {
    let is_of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(is_of_token) {
        return Err(format!("{name:?} is not the name of a protocol without version, such as \"websocket\""));
    }
    let lower = name.to_ascii_lowercase();
    if ["h2c", "h2", "http", "tls"].contains(&&*lower) {
        return Err(format!(
            "{name:?} would carry requests past routes, limits and forwarded headers; leave it out: clients then go on in HTTP/1.1"
        ));
    }
    Ok(lower)
}

/// Converts `IP:port` or `name:port` into a socket address. A name is resolved once by the system, which blocks. The
/// first IPv4 address is used, else the first address.
pub fn resolve_address(address: &str) -> Result<SocketAddr, String> {
    if let Ok(socket) = address.parse::<SocketAddr>() {
        return nonzero_port(socket);
    }
    let shape = || format!("{address:?} is not IP:port or name:port, such as \"127.0.0.1:5001\"");
    let (name, port) = address.rsplit_once(':').ok_or_else(shape)?;
    let port: u16 = port.parse().map_err(|_| shape())?;
    // A second colon means an IPv6 address without its brackets, which no resolver would interpret correctly.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > 253 || !name.bytes().all(plain) {
        return Err(shape());
    }
    let answers: Vec<SocketAddr> = (name, port)
        .to_socket_addrs()
        .map_err(|error| format!("the name {name:?} could not be resolved: {error}"))?
        .collect();
    let first = answers.iter().find(|answer| answer.is_ipv4()).or(answers.first());
    let first = first.ok_or_else(|| format!("the name {name:?} has no address"))?;
    nonzero_port(*first)
}

fn nonzero_port(socket: SocketAddr) -> Result<SocketAddr, String> {
    if socket.port() == 0 {
        return Err(format!("{socket} has port 0, and nothing can be reached there"));
    }
    Ok(socket)
}

// === impl IpNetwork ===

impl IpNetwork {
    /// Whether `ip` lies in this block. An IPv4 address written as IPv6 (`::ffff:10.0.0.1`) counts as IPv4, because a
    /// dual-stack socket reports its clients like that.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, ip.to_canonical()) {
            (IpAddr::V4(block), IpAddr::V4(ip)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix.min(32))).unwrap_or(0);
                (block.to_bits() ^ ip.to_bits()) & mask == 0
            }
            (IpAddr::V6(block), IpAddr::V6(ip)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix.min(128))).unwrap_or(0);
                (block.to_bits() ^ ip.to_bits()) & mask == 0
            }
            _ => false,
        }
    }
}

impl FromStr for IpNetwork {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shape = || format!("{text:?} is not a network such as \"10.0.0.0/8\" or an address \"10.0.0.1\"");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| shape())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(digits) => digits.parse::<u8>().map_err(|_| shape())?,
        };
        if prefix > bits {
            return Err(format!("{text:?}: the prefix of such an address is at most {bits}"));
        }
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for IpNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

// === impl Secret ===

impl Secret {
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for the one place that compares it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_take_the_stated_alphabet_and_no_more() {
        for id in ["b1", "Server 1", "a.b_c:d-e", &"x".repeat(64)] {
            assert_eq!(check_id(id), Ok(()), "{id}");
        }
        for id in ["", "a/b", "a\nb", "ä", "a\"b", &"x".repeat(65)] {
            assert!(check_id(id).is_err(), "{id}");
        }
    }

    #[test]
    fn weights_run_from_0_to_256() {
        assert_eq!(check_weight(0), Ok(0));
        assert_eq!(check_weight(256), Ok(256));
        for weight in [-1, 257, 65_536, i64::MAX, i64::MIN] {
            assert!(check_weight(weight).is_err(), "{weight}");
        }
    }

    #[test]
    fn literal_addresses_need_no_resolver() {
        assert_eq!(resolve_address("127.0.0.1:5001"), Ok(([127, 0, 0, 1], 5001).into()));
        assert_eq!(resolve_address("[::1]:80").map(|a| a.is_ipv6()), Ok(true));
        for wrong in ["", ":", "5001", "127.0.0.1", "::1:80", "a b:1", "127.0.0.1:0", "x:70000"] {
            assert!(resolve_address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_network_contains_its_block_and_nothing_else() {
        let check =
            |network: &str, ip: &str| -> bool { network.parse::<IpNetwork>().unwrap().contains(ip.parse().unwrap()) };
        assert!(check("10.0.0.0/8", "10.255.1.2"));
        assert!(check("10.1.2.3/8", "10.255.1.2"), "host bits are ignored");
        assert!(!check("10.0.0.0/8", "11.0.0.0"));
        assert!(check("0.0.0.0/0", "255.1.2.3"));
        assert!(!check("0.0.0.0/0", "::1"));
        assert!(check("10.0.0.1", "10.0.0.1") && !check("10.0.0.1", "10.0.0.2"));
        assert!(check("10.0.0.0/8", "::ffff:10.0.0.1"));
        assert!(check("fd00::/8", "fdff::1") && !check("fd00::/8", "fe00::1"));
        assert!(check("::/0", "fe00::1"));
        for wrong in ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/-1", "10.0/8"] {
            assert!(wrong.parse::<IpNetwork>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?}", Secret::new("hunter2".into())), "***");
    }
}

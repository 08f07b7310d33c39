//! From a strategy's pick to a backend, with the pool's list and its fallback.
//!
//! Both wings use it: a worker for each request, and control for an explanation. So an explanation shows the pick that
//! a worker would make.

use std::net::IpAddr;

use http::Method;
use lb_balance::{Choice, Chooser, Unchosen};
use lb_strategy_host::{Decision, Lookup, Part, PickRequest};

use super::{PoolGeneration, without_port};
use crate::http1::{Fields, Target};

/// The parts of a request that strategies may look up.
#[derive(Clone, Copy, Debug)]
pub struct RequestParts<'a> {
    pub method: &'a Method,
    pub target: &'a Target,
    pub fields: &'a Fields,
    /// The client's address as IPv6; IPv4 is mapped.
    pub client: &'a [u8; 16],
    /// The held part of the body.
    pub body: &'a [u8],
}

/// An address as strategies get it: the 16 bytes of IPv6, where IPv4 is mapped.
pub fn client_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

// === impl PoolGeneration ===

impl PoolGeneration {
    /// The backend for `request`. `ask` asks the picker, `has_room` is about the backend at an index.
    #[inline]
    pub fn choose(
        &self,
        request: &PickRequest<'_>,
        has_room: impl Fn(usize) -> bool,
        ask: impl FnMut(&PickRequest<'_>) -> Decision,
    ) -> Result<Choice, Unchosen> {
        self.chooser().choose(request, has_room, ask)
    }

    /// The same after [`Unchosen::Wait`], if the pool has no queue.
    pub fn choose_without_queue(
        &self,
        request: &PickRequest<'_>,
        has_room: impl Fn(usize) -> bool,
    ) -> Result<Choice, Unchosen> {
        self.chooser().choose_without_queue(request, has_room)
    }

    /// Whether the backend at `index` may get a request that has tried `tried`, without a pick of the strategy.
    pub fn may_serve(&self, index: usize, tried: &[u32]) -> bool {
        self.backends[index].is_eligible() && !tried.contains(&(index as u32))
    }

    #[inline]
    fn chooser(&self) -> Chooser<'_> {
        Chooser {
            backends: &self.backends,
            fallback: self.fallback,
            cursor: &self.fallback_cursor,
            wants_hash: self.wants.hash,
        }
    }
}

// === impl RequestParts ===

impl Lookup for RequestParts<'_> {
    fn header(&self, name: &[u8], nth: usize) -> Option<&[u8]> {
        let mut named = self.fields.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        named.nth(nth).map(|(_, value)| value)
    }

    fn part(&self, part: Part) -> Option<&[u8]> {
        match part {
            Part::Method => Some(self.method.as_str().as_bytes()),
            Part::Path if self.target.path_and_query().is_empty() => Some(b"/"),
            Part::Path => Some(self.target.path_and_query().as_bytes()),
            Part::Host => {
                let field = || std::str::from_utf8(self.fields.get(b"host")?).ok();
                self.target.authority().or_else(field).map(|host| without_port(host).as_bytes())
            }
            Part::Client => Some(self.client),
            Part::Body => Some(self.body).filter(|body| !body.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: [u8; 16] = [7; 16];

    fn parts<'a>(target: &'a Target, fields: &'a Fields) -> RequestParts<'a> {
        RequestParts { method: &Method::POST, target, fields, client: &CLIENT, body: b"" }
    }

    #[test]
    fn a_strategy_finds_method_path_host_and_client() {
        let fields = [("host", "shop.example:8080")].into_iter().collect();
        let found = |text: &str, part| {
            let mut target = Target::default();
            target.set(text).unwrap();
            parts(&target, &fields).part(part).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        };
        assert_eq!(found("/a?b=1", Part::Method).as_deref(), Some("POST"));
        assert_eq!(found("/a?b=1", Part::Path).as_deref(), Some("/a?b=1"));
        assert_eq!(found("http://other.example:81", Part::Path).as_deref(), Some("/"));
        assert_eq!(found("/a", Part::Host).as_deref(), Some("shop.example"));
        assert_eq!(found("http://other.example:81/x", Part::Host).as_deref(), Some("other.example"));
        assert_eq!(parts(&Target::default(), &Fields::new()).part(Part::Host), None);
        assert_eq!(parts(&Target::default(), &fields).part(Part::Client), Some(&CLIENT[..]));
        assert_eq!(parts(&Target::default(), &fields).part(Part::Body), None);
    }

    #[test]
    fn an_address_becomes_sixteen_bytes() {
        assert_eq!(client_bytes([192, 0, 2, 7].into()), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7]);
        assert_eq!(client_bytes("2001:db8::1".parse().unwrap())[..4], [0x20, 1, 0xd, 0xb8]);
    }

    #[test]
    fn a_strategy_finds_every_value_of_a_name_in_any_case() {
        let fields = [("Host", "a"), ("x-key", "1"), ("X-Key", "2"), ("x-keys", "3")].into_iter().collect();
        let target = Target::default();
        let lookup = parts(&target, &fields);
        for name in [&b"x-key"[..], b"X-KEY"] {
            let found = [0, 1, 2].map(|nth| lookup.header(name, nth));
            assert_eq!(found, [Some(&b"1"[..]), Some(b"2"), None]);
        }
        assert_eq!(
            [&b"x"[..], b"", b"\xff", b"host"].map(|name| lookup.header(name, 0)),
            [None, None, None, Some(&b"a"[..])]
        );
    }
}

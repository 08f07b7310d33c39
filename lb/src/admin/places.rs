//! The limits on connections to the admin port: in all, from one address, and some reserved for probes and scrapes.
//!
//! At a limit, a new connection takes the place of an idle one. Otherwise silent clients could hold all places, and
//! probes and scrapes would fail as if lb were down. A connection is idle before its first request and between two
//! requests. It is also idle while its response to a wrong token is delayed. A connection with a request in progress
//! keeps its place. If no connection is idle, the new one gets a reserved place, which serves only probes and scrapes.
//!
//! Invariant: dropping a [`Place`] frees it, once.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

const PLACES: usize = 512;
/// The limit for one address. A browser uses six, a scraper one.
const PER_ADDRESS: usize = 64;
/// Additional places for probes and scrapes.
const RESERVED: usize = 32;

#[derive(Default)]
pub(super) struct Places {
    table: Arc<Mutex<Table>>,
}

#[derive(Default)]
struct Table {
    /// Grows with every change, so the oldest entry has the lowest number.
    now: u64,
    taken: BTreeMap<u64, Taken>,
}

struct Taken {
    /// See [`source_of`].
    source: IpAddr,
    is_reserved: bool,
    /// `None`: it is busy.
    idle: Option<Idle>,
    leave: Arc<Notify>,
}

/// Why a place is idle, and since which [`Table::now`]. The lowest value loses its place first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Idle {
    /// Its response to a wrong token is delayed.
    HeldBack(u64),
    Waiting(u64),
}

/// The place of one connection.
pub(super) struct Place {
    id: u64,
    is_reserved: bool,
    leave: Arc<Notify>,
    table: Arc<Mutex<Table>>,
}

/// The address that limits count by. Addresses that one client can choose freely count as one: all of loopback, and an
/// IPv6 network of 64 bits.
pub(super) fn source_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        ip if ip.is_loopback() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        ip => ip,
    }
}

// === impl Places ===

impl Places {
    /// A place for a connection from `ip`, possibly that of an idle connection. `None` if all places that it may have
    /// are busy, the reserved ones included.
    pub(super) fn take(&self, ip: IpAddr) -> Option<Place> {
        let mut table = self.table.lock();
        let source = source_of(ip);
        let from_there = |taken: &Taken| !taken.is_reserved && taken.source == source;
        let is_reserved = match () {
            () if table.count(from_there) >= PER_ADDRESS => !table.clear(from_there),
            () if table.count(|taken| !taken.is_reserved) >= PLACES => !table.clear(|taken| !taken.is_reserved),
            () => false,
        };
        let is_kept = |taken: &Taken| taken.is_reserved;
        if is_reserved && table.count(is_kept) >= RESERVED && !table.clear(is_kept) {
            return None;
        }
        let (id, leave) = (table.tick(), Arc::new(Notify::new()));
        table.taken.insert(id, Taken { source, is_reserved, idle: Some(Idle::Waiting(id)), leave: leave.clone() });
        Some(Place { id, is_reserved, leave, table: self.table.clone() })
    }
}

// === impl Table ===

impl Table {
    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    fn count(&self, of: impl Fn(&Taken) -> bool) -> usize {
        self.taken.values().filter(|taken| of(taken)).count()
    }

    /// Frees one idle place that `of` selects: a held-back one if there is one, else the one idle for longest. Returns
    /// whether there was one.
    fn clear(&mut self, of: impl Fn(&Taken) -> bool) -> bool {
        let idle = self.taken.iter().filter(|(_, taken)| of(taken)).filter_map(|(id, taken)| Some((taken.idle?, *id)));
        let longest = idle.min().and_then(|(_, id)| self.taken.remove(&id));
        longest.inspect(|taken| taken.leave.notify_one()).is_some()
    }
}

// === impl Place ===

impl Place {
    /// Whether it serves only probes and scrapes.
    pub(super) fn is_reserved(&self) -> bool {
        self.is_reserved
    }

    /// A request is in progress.
    pub(super) fn set_busy(&self) {
        self.set(|_| None);
    }

    /// lb waits for the client.
    pub(super) fn set_idle(&self) {
        self.set(|now| Some(Idle::Waiting(now)));
    }

    /// The response to a wrong token is delayed. Such a place is taken first, so guesses displace only other guesses.
    pub(super) fn set_held_back(&self) {
        self.set(|now| Some(Idle::HeldBack(now)));
    }

    /// Returns when another connection has taken the place.
    pub(super) async fn lost(&self) {
        self.leave.notified().await;
    }

    fn set(&self, idle: impl Fn(u64) -> Option<Idle>) {
        let mut table = self.table.lock();
        let now = table.tick();
        if let Some(taken) = table.taken.get_mut(&self.id) {
            taken.idle = idle(now);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.table.lock().taken.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Whether the connection has lost its place.
    fn is_out(place: &Place) -> bool {
        !place.table.lock().taken.contains_key(&place.id)
    }

    #[test]
    fn addresses_that_one_client_can_choose_count_as_one() {
        for (one, other) in [("127.0.0.1", "127.3.4.5"), ("::1", "::ffff:127.0.0.1"), ("2001:db8::1", "2001:db8::ffff")]
        {
            assert_eq!(source_of(ip(one)), source_of(ip(other)), "{one} {other}");
        }
        for (one, other) in [("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8:0:1::1"), ("10.0.0.1", "127.0.0.1")] {
            assert_ne!(source_of(ip(one)), source_of(ip(other)), "{one} {other}");
        }
    }

    #[test]
    fn a_new_connection_takes_the_place_of_the_one_idle_for_longest() {
        let places = Places::default();
        let silent: Vec<_> = (0..PER_ADDRESS).map(|_| places.take(ip("127.0.0.1")).unwrap()).collect();
        silent[0].set_busy();
        silent[1].set_busy();
        silent[1].set_idle();
        let elsewhere = places.take(ip("10.0.0.1")).unwrap();
        let next = places.take(ip("127.0.0.9")).unwrap();
        assert!(is_out(&silent[2]) && !next.is_reserved());
        assert!(!is_out(&silent[0]) && !is_out(&silent[1]) && !is_out(&elsewhere));
    }

    #[test]
    fn guesses_take_only_the_places_of_other_guesses() {
        let places = Places::default();
        let waiting = places.take(ip("127.0.0.1")).unwrap();
        let guess = || places.take(ip("127.0.0.1")).inspect(Place::set_held_back).unwrap();
        let guesses: Vec<_> = (0..3 * PER_ADDRESS).map(|_| guess()).collect();
        assert!(!is_out(&waiting) && guesses.iter().all(|guess| !guess.is_reserved()));
        assert_eq!(guesses.iter().filter(|guess| !is_out(guess)).count(), PER_ADDRESS - 1, "the newest ones");
        assert!(guesses[2 * PER_ADDRESS + 1..].iter().all(|guess| !is_out(guess)));
    }

    #[test]
    fn when_all_are_busy_a_connection_gets_a_reserved_place_and_then_none() {
        let places = Places::default();
        let busy = || places.take(ip("10.0.0.1")).inspect(Place::set_busy);
        let all: Vec<_> = (0..PER_ADDRESS).map(|_| busy().unwrap()).collect();
        assert!(all.iter().all(|place| !place.is_reserved()));
        let kept: Vec<_> = (0..RESERVED).map(|_| busy().unwrap()).collect();
        assert!(kept.iter().all(Place::is_reserved));
        assert!(busy().is_none());
        kept[3].set_idle();
        assert!(places.take(ip("10.0.0.1")).is_some_and(|place| place.is_reserved()) && is_out(&kept[3]));
        drop(all);
        assert!(places.take(ip("10.0.0.1")).is_some_and(|place| !place.is_reserved()));
    }

    #[test]
    fn many_addresses_together_cannot_exceed_the_limit_in_all() {
        let places = Places::default();
        let from = |number: usize| places.take(Ipv4Addr::from_bits(0x0a00_0000 + number as u32).into());
        let all: Vec<_> = (0..PLACES + RESERVED).map(|number| from(number).inspect(Place::set_busy).unwrap()).collect();
        assert_eq!(all.iter().filter(|place| place.is_reserved()).count(), RESERVED);
        assert!(from(PLACES + RESERVED).is_none());
    }
}

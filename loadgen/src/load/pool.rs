//! The connections of one sending thread, and their registration with epoll.
//!
//! Idle connections are used in turn, the longest idle first, so every connection gets its share. If a target assigns
//! connections to its threads, the load looks like that of many clients.
//!
//! Invariant: a token always names the same connection; events of a closed one are ignored.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::connection::Connection;

/// Names a connection: its place, and how often that place has been reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    place: u32,
    take: u32,
}

#[derive(Debug)]
pub(super) struct ConnectionPool {
    epoll: OwnedFd,
    places: Vec<Place>,
    free: Vec<u32>,
    idle: VecDeque<Token>,
    open: usize,
}

#[derive(Debug, Default)]
struct Place {
    take: u32,
    connection: Option<Box<Connection>>,
    writes: bool,
}

const READ: EventFlags = EventFlags::IN.union(EventFlags::RDHUP);
const READ_AND_WRITE: EventFlags = READ.union(EventFlags::OUT);

// === impl Token ===

impl Token {
    pub(super) fn of(data: EventData) -> Self {
        let data = data.u64();
        Self { place: data as u32, take: (data >> 32) as u32 }
    }

    fn data(self) -> EventData {
        EventData::new_u64(u64::from(self.take) << 32 | u64::from(self.place))
    }
}

// === impl ConnectionPool ===

impl ConnectionPool {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, places: Vec::new(), free: Vec::new(), idle: VecDeque::new(), open: 0 })
    }

    pub(super) fn epoll(&self) -> &OwnedFd {
        &self.epoll
    }

    /// The number of connections.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    pub(super) fn connect(&mut self, address: SocketAddr) -> io::Result<Token> {
        let connection = Connection::open(address)?;
        let number = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            (self.places.len() - 1) as u32
        });
        let place = &mut self.places[number as usize];
        let token = Token { place: number, take: place.take };
        if let Err(error) = epoll::add(&self.epoll, connection.socket(), token.data(), READ_AND_WRITE) {
            self.free.push(number);
            return Err(error.into());
        }
        *place = Place { take: place.take, connection: Some(Box::new(connection)), writes: true };
        self.open += 1;
        Ok(token)
    }

    /// `None` if it is closed.
    pub(super) fn get(&mut self, token: Token) -> Option<&mut Connection> {
        let place = self.places.get_mut(token.place as usize).filter(|place| place.take == token.take)?;
        place.connection.as_deref_mut()
    }

    /// Registers the events that the connection waits for.
    pub(super) fn update(&mut self, token: Token) -> io::Result<()> {
        let Some(place) = self.places.get_mut(token.place as usize).filter(|place| place.take == token.take) else {
            return Ok(());
        };
        let Some(connection) = &place.connection else { return Ok(()) };
        let writes = connection.wants_to_write();
        if writes != place.writes {
            place.writes = writes;
            let flags = if writes { READ_AND_WRITE } else { READ };
            epoll::modify(&self.epoll, connection.socket(), token.data(), flags)?;
        }
        Ok(())
    }

    pub(super) fn close(&mut self, token: Token) {
        let Some(place) = self.places.get_mut(token.place as usize).filter(|place| place.take == token.take) else {
            return;
        };
        // closing removes it from epoll too, because no other descriptor refers to the socket
        if place.connection.take().is_some() {
            place.take = place.take.wrapping_add(1);
            self.free.push(token.place);
            self.open -= 1;
        }
    }

    /// Marks the connection as free for another request.
    pub(super) fn park(&mut self, token: Token) {
        self.idle.push_back(token);
    }

    /// Whether there is a connection without a request.
    pub(super) fn has_idle(&mut self) -> bool {
        while let Some(token) = self.idle.front().copied() {
            if self.get(token).is_some() {
                return true;
            }
            self.idle.pop_front();
        }
        false
    }

    /// Takes a connection without a request.
    pub(super) fn unpark(&mut self) -> Option<Token> {
        if self.has_idle() { self.idle.pop_front() } else { None }
    }

    /// The connections that satisfy `condition`.
    pub(super) fn find(&self, condition: impl Fn(&Connection) -> bool) -> Vec<Token> {
        let numbered = (0..).zip(&self.places);
        let held = numbered.filter(|(_, place)| place.connection.as_deref().is_some_and(&condition));
        held.map(|(number, place)| Token { place: number, take: place.take }).collect()
    }
}

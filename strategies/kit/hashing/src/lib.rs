//! What several hash strategies share, so that each has only its own algorithm in its file.
//!
//! | module | has |
//! |---|---|
//! | `mix` | a hash of two numbers, and a number in (0, 1) from a hash |
//! | `ring` | the circle of points of consistent hashing |
//! | `scores` | the scores of weighted rendezvous hashing, and the backend with the best one |
//! | `spare` | where a key goes if its own backend may not serve |
//! | `prime` | whether a number is prime, and the next prime |
//! | `kept` | what was computed from a list, kept while its members are the same |
//!
//! Invariants: every result depends only on the arguments. So it is the same on every machine, after each restart and
//! in any order of the list. Backends are known by their id, the hash of the name. Nothing that a pick calls allocates,
//! locks or makes system calls.

mod kept;
mod mix;
mod prime;
mod ring;
mod scores;
mod spare;

pub use kept::Kept;
pub use mix::{mix, part_of, unit};
pub use prime::{is_prime, next_prime};
pub use ring::Ring;
pub use scores::{elect, score};
pub use spare::{Choice, SPARES, choose, may_serve};

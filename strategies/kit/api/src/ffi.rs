//! Where raw pointers become safe types ([`lent`]) and a [`Strategy`](crate::Strategy) becomes a table of C functions ([`hooks`]).
//!
//! The only `unsafe` of the crate lives below here and in `export`. It rests on one promise of the host, written in
//! `lb_strategy.h`: whatever is lent to a call is valid for that call.

pub mod hooks;
pub mod lent;

//! The admin port: the HTTP interface for operators, scripts, probes and scrapers.
//!
//! It calls control through its [`Handle`](crate::control::Handle) and reads the hall; it decides nothing about
//! backends itself. It runs on the control runtime, so a slow admin client never delays a proxied request.
//!
//! Invariants: a change is made only for a request that passed the `guard`. Every failure is compact JSON with a
//! sentence in it. Nothing here outlives [`Server`].

mod answer;
mod api;
mod backends;
mod brake;
mod events;
mod explain;
mod guard;
mod health;
mod index;
mod openapi;
mod overriding;
mod page;
mod places;
mod query;
mod reload;
mod server;
mod session;
mod strategies;
mod tick;

pub use guard::visitors_only;
pub use server::{BindError, Listener, Server, Shared, bind};

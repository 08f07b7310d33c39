//! The load engine against real servers: what it sends, what it counts, when it ends.
//!
//! One binary, so that it links once. Servers are `mock-server` in-process, and a scripted one for what no good server does.
//! Nothing here depends on speed: counts are exact, times are lower bounds, and what has to happen first is waited for.

mod answers;
mod ends;
mod lateness;
mod open_loop;
mod program;
mod segments;
mod stored;
mod support;
mod timeouts;
mod view;

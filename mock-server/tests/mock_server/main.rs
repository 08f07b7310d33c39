//! Tests of the server over real sockets, in-process and as the program.
//!
//! One binary, so that it links once. Claims about time are lower bounds, which hold on any machine. Tests wait for
//! events (`wait_until`) and never sleep.

mod answers;
mod client;
mod faults;
mod lifecycle;
mod load;
mod program;
mod service;
mod streams;

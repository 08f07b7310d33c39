//! The server as its users meet it: over real sockets, in-process and as the program.
//!
//! One binary, so that it links once. Claims about time are lower bounds only, which hold on any machine; what has to happen
//! first is waited for (`wait_until`), never slept for.

mod answers;
mod client;
mod faults;
mod lifecycle;
mod program;
mod service;
mod streams;

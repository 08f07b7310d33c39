//! The control wing as a whole: started with real plugins, sockets and processes, looked at through the hall.

mod commands;
mod harness;
mod health;
mod launcher;
mod overlay;
mod publishing;
mod start;

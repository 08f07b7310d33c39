//! The control wing as a whole, with real plugins, sockets and processes. Tests read its state from the `Hall`.

mod checks;
mod commands;
mod harness;
mod health;
mod labels;
mod launcher;
mod overlay;
mod publishing;
mod shares;
mod start;

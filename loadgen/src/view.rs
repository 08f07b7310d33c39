//! The live view of a load. On a terminal it is a picture of a few lines that changes in place; otherwise it is a line
//! from time to time.
//!
//! The code that runs a load sets facts on the [`Board`]: arm, phase, next event, handle of the load. A thread of the
//! [`View`] takes them as a [`Status`], plain data of one moment, and draws it. Drawing is a pure function of the
//! status and the size of the terminal, so tests can read the picture.
//!
//! Invariants: sending threads do not use the view; it reads the counts that they report every 100 ms. The terminal is
//! restored, also after a panic. The last picture stays above later output.

mod board;
mod draw;
mod inline;
mod lines;
mod runner;
mod status;
mod terminal;

pub use board::{Board, Facts, Member, Underway};
pub use draw::{draw, height};
pub use lines::line;
pub use runner::View;
pub use status::{Arm, BackendRow, Flow, Left, Next, Precision, Progress, Status};
pub use terminal::Form;

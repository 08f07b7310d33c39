//! What a person sees while a load goes on: on a terminal a picture of a few lines that changes in place, elsewhere lines now and then.
//!
//! Way of a fact: who runs a load tells the [`Board`] (which arm, which phase, what comes next, the load's handle); a thread of the
//! [`View`] takes it as a [`Status`], plain data of this moment, and draws that. Drawing is a pure function of the status and the
//! size of the terminal, so that tests read the picture.
//!
//! Invariants: sending threads never meet the view (it reads what they bring every 100 ms anyway, and less often than that); the
//! terminal is left as it was found, also after a panic; the last picture stays above whatever is printed next.

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
pub use status::{Arm, Backend, Flow, Left, Next, Precision, Progress, Status};
pub use terminal::Form;

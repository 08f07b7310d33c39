//! Experiments on a real lb with real mock servers: the files that they leave, and how they end.

mod ends;
mod faults;
mod files;
mod mistakes;
mod operator;
mod runs;
mod safeguards;
mod support;

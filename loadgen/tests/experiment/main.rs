//! Experiments on a real lb with real mock servers: what they leave behind, and how they end.

mod ends;
mod faults;
mod files;
mod mistakes;
mod operator;
mod runs;
mod support;

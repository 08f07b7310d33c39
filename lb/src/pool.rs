//! The parts of the crate `lb-balance` that `lb` uses, and the key of an HTTP request.
//!
//! The other modules of `lb` name these parts through this module, so one place lists them. `key` implements
//! [`KeyedRequest`](lb_balance::KeyedRequest) for HTTP requests.

pub mod key;

pub use lb_balance::{Backend, Eligibility, Key, Load};

//! What decides where a request goes, under lb's names: the parts of the crate `lb-balance`, and how a key is taken from a request.
//!
//! Why a module for names that another crate has: the modules of `lb` say in one place what they take from it, and a request of HTTP
//! meets [`KeyedRequest`](lb_balance::KeyedRequest) here.

pub mod key;

pub use lb_balance::{Backend, Eligibility, Key};

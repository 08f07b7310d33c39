//! tel

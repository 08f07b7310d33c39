//! Properties of `lb::http1` that need many inputs.
//!
//! The result does not depend on how the input is split. Mangled input causes no panic. Other parsers agree, except for
//! the listed differences. The checks are those of the fuzz targets (`fuzz/src`), included as source. Every seed is
//! fixed and printed.

#[allow(unreachable_pub, reason = "the fuzz targets use it as a library")]
#[path = "../../../fuzz/src/lib.rs"]
mod checks;

mod corpus;
mod differences;
mod mangled;

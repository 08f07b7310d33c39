//! The command `loadgen`.

fn main() {}

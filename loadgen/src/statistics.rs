//! What may be concluded from numbers: pure functions, no clock, no file.

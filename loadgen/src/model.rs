//! The plain data of an experiment: what is stored, and what reports are made from.
